package gen

import (
	"fmt"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// A Model is what the specs mean: every kernel, checked and named, in the very
// values that the generated Go holds. The emitters read nothing else.
type Model struct {
	Libraries []*Library
	Codecs    []*runtime.Codec
	Profiles  []*runtime.Profile
	Stale     Complaints // about what was tuned with other specs or templates, and is left out
	Digest    string     // of the specs
}

// Table returns the table that the model means.
func (m *Model) Table() *runtime.Table {
	t := &runtime.Table{Codecs: m.Codecs}
	for _, l := range m.Libraries {
		t.Kernels = append(t.Kernels, l.Kernels()...)
	}
	return t
}

// A Library is one generated source: the bodies of a family for a codec, or of
// the helpers.
type Library struct {
	Name      string // of its files, without ending
	Doc       string
	Spec      string   // the file that asks for it
	Templates []string // files of templates/, in order
	At        Pos      // that names them
	Codec     *Codec   // nil for the helpers
	Bodies    []*Body
	Passes    []*Body // that the templates have functions for, if they are more than Bodies
}

// Kernels returns the kernels of l, in the order of its source.
func (l *Library) Kernels() []*runtime.Kernel {
	var ks []*runtime.Kernel
	for _, b := range l.Bodies {
		ks = append(ks, b.Kernels...)
	}
	return ks
}

// A Codec is a row of the table, and what its kernels are made from besides.
type Codec struct {
	*runtime.Codec
	Type string // its class template
	At   []Pos  // of each tuple
}

// A Body is a row of the table, and what its kernels are made from besides.
type Body struct {
	*runtime.Body
	Weights   []string // projections that it reads
	Constants []Constant
	Word      string // of the device that it was tuned on, if it is one device's
	At        Pos
	Kernels   []*runtime.Kernel
}

// A Constant is a number that a spec gives and a template sees.
type Constant struct {
	Name  string
	Value int
}

// Type returns the name of the struct that holds b's constants.
func (b *Body) Type() string {
	if b.Family == "" {
		return string(b.Pass) + "_constants"
	}
	name := fmt.Sprintf("%s_%s_%s", b.Codec, b.Family, b.Pass)
	if b.Word != "" {
		name += "_" + b.Word
	}
	return name
}

// symbol returns the name of a kernel. Nothing takes names apart.
func symbol(codec, family, what string, pass runtime.Pass) string {
	parts := []string{"moe", codec, "swiglu"}
	for _, word := range []string{family, what} {
		if word != "" {
			parts = append(parts, word)
		}
	}
	if pass != runtime.GateUp {
		parts = append(parts, string(pass))
	}
	return strings.Join(parts, "_")
}

// widths returns the widths of t's projections among the given ones.
func widths(t runtime.BitTuple, projections []string) []uint8 {
	var ws []uint8
	for _, p := range projections {
		switch p {
		case "gate":
			ws = append(ws, t.Gate)
		case "up":
			ws = append(ws, t.Up)
		case "down":
			ws = append(ws, t.Down)
		}
	}
	return ws
}
