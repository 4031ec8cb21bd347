package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

// ReadManifest returns the manifest among sources, in manifest.json. The error
// names each source that is not the one it lists.
func ReadManifest(sources fs.FS) (Manifest, error) {
	const name = "manifest.json"
	var m Manifest
	data, err := fs.ReadFile(sources, name)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	var errs []error
	if m.Sum() != m.Digest {
		errs = append(errs, fmt.Errorf("%s: its digest is not that of what it lists", name))
	}
	for _, s := range m.Sources {
		text, err := fs.ReadFile(sources, s.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != s.SHA256 {
			errs = append(errs, fmt.Errorf("%s is not the file that %s lists", s.Name, name))
		}
	}
	return m, errors.Join(errs...)
}
