package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A Manifest identifies a set of generated files.
type Manifest struct {
	Digest  string   `json:"digest"`  // of everything below
	Specs   string   `json:"specs"`   // SHA-256 of the specs
	Sources []Source `json:"sources"` // by name
}

// A Source is a generated Metal file.
type Source struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Sum returns the digest that m ought to have.
func (m Manifest) Sum() string {
	h := sha256.New()
	fmt.Fprintln(h, m.Specs)
	for _, s := range m.Sources {
		fmt.Fprintln(h, s.Name, s.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}
