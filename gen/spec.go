package gen

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"gopkg.in/yaml.v3"

	"github.com/marlingen/marlingen/runtime"
)

// Specs is what the files under specs/ say, as written, by file.
type Specs struct {
	Passes   map[string]PassesSpec // one file
	Families map[string]FamilySpec
	Codecs   map[string]CodecSpec
	Targets  map[string]TargetSpec
	Profiles map[string]ProfileSpec
	Tuned    map[string]TunedSpec
	Digest   string // SHA-256 of the names and contents of the files
}

// A PassesSpec is specs/passes.yaml.
type PassesSpec struct {
	Passes []PassSpec
}

// A PassSpec is a pass and its calling convention.
type PassSpec struct {
	Pass     At[runtime.Pass]
	Doc      At[string]
	Weights  []At[string] `yaml:",omitempty"` // projections that it reads; none for a helper
	Bindings []BindingSpec
	Kernel   *HelperSpec `yaml:",omitempty"` // the one kernel of a helper; families make the others
}

// A BindingSpec is an argument of every kernel of a pass.
type BindingSpec struct {
	Name   At[string]
	Type   At[string]
	Access At[runtime.Access]
}

// A HelperSpec is the one kernel of a pass that reads no weights.
type HelperSpec struct {
	Symbol     At[string]
	LaunchSpec `yaml:",inline"`
}

// A LaunchSpec says how a body is launched. The divisors of its grid and the
// numbers that its template sees are its constants.
type LaunchSpec struct {
	Grid             []At[string]
	Threads          At[int]
	ThreadgroupBytes At[Formula]            `yaml:"threadgroup_bytes"` // of the tile, threads and constants
	Residents        At[int]                `yaml:",omitempty"`
	Constants        map[string]At[Formula] `yaml:",omitempty"` // numbers, or formulas of those that are numbers
}

// A FamilySpec is a file of specs/families.
type FamilySpec struct {
	Family      At[string]
	Doc         At[string]
	Word        At[string] // that stands for the family in symbols; may be empty
	Target      At[string] // that it is tuned for
	Rows        At[runtime.Range]
	LayerRows   At[int] `yaml:"layer_rows,omitempty"` // of all experts together, at most: it goes before families for more
	Codecs      []At[string]
	Template    At[string] // a file of templates/families, without .metal
	Accumulator At[string]
	Prefer      struct{ Alone, Shared []At[runtime.Kind] }
	Passes      []FamilyPassSpec
}

// A FamilyPassSpec is the body that a family has for a pass.
type FamilyPassSpec struct {
	Pass       At[runtime.Pass]
	Tile       At[int]
	LaunchSpec `yaml:",inline"`
	Knobs      map[string][]At[int] `yaml:",omitempty"` // tile, threads, residents or constants, and the values that a tuner may try
}

// Number returns the number that a knob of p turns: its tile, threads or
// residents, or a constant. It reports false for what is no number of p.
func (p *FamilyPassSpec) Number(knob string) (int, bool) {
	switch knob {
	case "tile":
		return p.Tile.V, p.Tile.Line != 0
	case "threads":
		return p.Threads.V, p.Threads.Line != 0
	case "residents":
		return p.Residents.V, p.Residents.Line != 0
	}
	return p.Constants[knob].V.literal()
}

// A CodecSpec is a file of specs/codecs.
type CodecSpec struct {
	Codec      At[string]
	Doc        At[string]
	Type       At[string] // its class template in templates/codecs
	Widths     []At[uint8]
	Components []ComponentSpec
	Tuples     []At[runtime.BitTuple] `yaml:",omitempty"`
}

// A ComponentSpec is a tensor of a projection.
type ComponentSpec struct{ Name, Type At[string] }

// A TargetSpec is a file of specs/targets: a kind of GPU, whose limits kernels keep.
type TargetSpec struct {
	Target           At[string]
	Doc              At[string]
	Threads          At[int]
	ThreadgroupBytes At[int] `yaml:"threadgroup_bytes"`
	Buffers          At[int]
}

// A ProfileSpec is a file of specs/profiles.
type ProfileSpec struct {
	Profile At[string]
	Doc     At[string]
	Shape   struct {
		Hidden, Intermediate, Experts At[int]
		TopK                          At[int] `yaml:"top_k"`
	}
	Codec  At[string]
	Shared At[runtime.BitTuple]
	Mix    []struct {
		Tuple   At[runtime.BitTuple]
		Experts At[int]
	}
	Bench *BenchSpec `yaml:",omitempty"`
}

// A BenchSpec says what is worth measuring of a profile.
type BenchSpec struct {
	Rows    []At[int] // of an expert, for kernels
	Batches []At[int] // tokens at once, for prefill
}

// A TunedSpec is a file of specs/tuned: what was measured to be best on one
// device. marlingen tune writes it.
type TunedSpec struct {
	Device   At[string] // as it names itself
	Driver   At[string] // as the device says
	Word     At[string] // that stands for the device in symbols
	Target   At[string] // that its kernels are tuned for
	Codec    At[string]
	Families []TunedFamilySpec
}

// A TunedFamilySpec is what a device does better with than with a family's spec.
type TunedFamilySpec struct {
	Family  At[string] // a file of specs/families, without .yaml
	Source  At[string] // SHA-256 of what was tuned: Library.Source
	Profile At[string] // that was measured
	Time    At[string] // of the run, in UTC
	Run     At[string] // id
	Commit  At[string] `yaml:",omitempty"` // of the command that ran
	Passes  []TunedPassSpec
}

// A TunedPassSpec holds what is other than in the spec, and why.
type TunedPassSpec struct {
	Pass    At[runtime.Pass]
	Numbers map[string]At[int] `yaml:",omitempty"` // knobs of the family's pass
	Alone   At[runtime.Kind]   `yaml:",omitempty"` // preferred for a launch of one tuple
	Shared  At[runtime.Kind]   `yaml:",omitempty"` // preferred for a launch that tuples share
	Gains   []GainSpec
}

// A GainSpec is a measurement that something else than the spec's is better.
type GainSpec struct {
	Of     At[string]  // numbers, alone or shared
	Before At[float64] // median of a launch as in the spec, ms
	After  At[float64] // median of a launch as here, ms
	Gain   At[float64] // part of the time that is saved at least
	Noise  At[float64] // part of the time by which the spec's launch differs from itself
	Rounds At[int]     // that both were measured in, in turns
}

// Load reads the specs below root. Its error is Complaints: every line that it
// cannot read. The specs are then what could be read.
func Load(root fs.FS) (Specs, error) {
	l := loader{root: root, digest: sha256.New()}
	s := Specs{
		Passes:   load[PassesSpec](&l, "specs/passes.yaml"),
		Families: load[FamilySpec](&l, "specs/families/*.yaml"),
		Codecs:   load[CodecSpec](&l, "specs/codecs/*.yaml"),
		Targets:  load[TargetSpec](&l, "specs/targets/*.yaml"),
		Profiles: load[ProfileSpec](&l, "specs/profiles/*.yaml"),
		Tuned:    loadAny[TunedSpec](&l, tunedGlob),
	}
	s.Digest = hex.EncodeToString(l.digest.Sum(nil))
	return s, l.errs.err()
}

type loader struct {
	root   fs.FS
	digest hash.Hash
	errs   Complaints
}

// load reads the files that match glob, of which there has to be one.
func load[T any](l *loader, glob string) map[string]T {
	all := loadAny[T](l, glob)
	if len(all) == 0 {
		l.errs.errorf(Pos{glob, 1}, "there is no such file")
	}
	return all
}

// loadAny reads the files that match glob, if there are any.
func loadAny[T any](l *loader, glob string) map[string]T {
	all := map[string]T{}
	files, err := fs.Glob(l.root, glob)
	if err != nil {
		l.errs.errorf(Pos{glob, 1}, "%v", err)
	}
	for _, file := range files {
		src, err := fs.ReadFile(l.root, file)
		if err != nil {
			l.errs.errorf(Pos{file, 1}, "%v", err)
			continue
		}
		fmt.Fprintf(l.digest, "%s %d\n%s", file, len(src), src)
		v, err := read[T](src)
		if err != nil {
			l.errs.yaml(file, err)
		}
		all[file] = v
	}
	return all
}

// read decodes the one YAML document that src holds.
func read[T any](src []byte) (v T, err error) {
	d := yaml.NewDecoder(bytes.NewReader(src))
	d.KnownFields(true)
	if err := d.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		return v, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return v, errors.New("there is more than one YAML document")
	}
	return v, nil
}
