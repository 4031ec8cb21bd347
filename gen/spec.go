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
	ThreadgroupBytes At[int]            `yaml:"threadgroup_bytes"`
	Residents        At[int]            `yaml:",omitempty"`
	Constants        map[string]At[int] `yaml:",omitempty"`
}

// A FamilySpec is a file of specs/families.
type FamilySpec struct {
	Family      At[string]
	Doc         At[string]
	Word        At[string] // that stands for the family in symbols; may be empty
	Target      At[string] // that it is tuned for
	Rows        At[runtime.Range]
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
	}
	s.Digest = hex.EncodeToString(l.digest.Sum(nil))
	return s, l.errs.err()
}

type loader struct {
	root   fs.FS
	digest hash.Hash
	errs   Complaints
}

// load reads the files that match glob.
func load[T any](l *loader, glob string) map[string]T {
	files, err := fs.Glob(l.root, glob)
	if err != nil || len(files) == 0 {
		l.errs.errorf(Pos{glob, 1}, "there is no such file")
	}
	all := map[string]T{}
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
