package gen

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

const tunedGlob = "specs/tuned/*.yaml"

// What can be better than a spec's.
const (
	GainNumbers = "numbers"
	GainAlone   = "alone"
	GainShared  = "shared"
)

var gains = []string{GainNumbers, GainAlone, GainShared}

// Source returns the SHA-256 of what l's kernels are made of and how they are
// launched: of its Metal text but for the lines that it is said to come from, and
// of its rows. What was measured of kernels holds for this digest.
func (l *Library) Source(templates fs.FS) (string, error) {
	text, err := metal(l, templates)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(lineMarks.ReplaceAll(text, nil))
	for _, b := range l.Bodies {
		fmt.Fprintln(h, b.Pass, b.Rows, b.LayerRows, b.Tile, b.Grid, b.Threads, b.ThreadgroupBytes, b.Residents)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

var lineMarks = regexp.MustCompile(`(?m)^#line .*$`)

// Family returns the library of a family's file, without .yaml, for a codec, or nil.
func (m *Model) Family(codec, file string) *Library {
	i := slices.IndexFunc(m.Libraries, func(l *Library) bool {
		return l.Codec != nil && l.Codec.Name == codec && l.Spec == familyFile(file)
	})
	if i < 0 {
		return nil
	}
	return m.Libraries[i]
}

func familyFile(name string) string { return "specs/families/" + name + ".yaml" }

var deviceWord = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

// tuned adds to m what a file of specs/tuned says.
func (x *expander) tuned(m *Model, templates fs.FS, file string, spec TunedSpec) {
	at := Pos{file, cmp.Or(spec.Device.Line, 1)}
	before := len(x.errs)
	need(x, at, "device", spec.Device)
	need(x, at, "driver", spec.Driver)
	need(x, at, "word", spec.Word)
	need(x, at, "codec", spec.Codec)
	x.target(at, spec.Target)
	if spec.Word.Line != 0 && !deviceWord.MatchString(spec.Word.V) {
		x.errs.errorf(Pos{file, spec.Word.Line}, "word %q is no word for symbols: write a-z, 0-9, and _ between them", spec.Word.V)
	}
	for other, o := range sorted(x.specs.Tuned) {
		if other < file && (o.Device.V == spec.Device.V && o.Driver.V == spec.Driver.V) {
			x.errs.errorf(at, "%s is about the same device and driver", other)
		}
	}
	if len(x.errs) > before {
		return
	}
	var seen []string
	for _, f := range spec.Families {
		at := Pos{file, cmp.Or(f.Family.Line, f.Source.Line, 1)}
		l := m.Family(spec.Codec.V, f.Family.V)
		switch {
		case l == nil:
			x.errs.errorf(at, "there is no %s for codec %s", familyFile(f.Family.V), spec.Codec.V)
			continue
		case slices.Contains(seen, f.Family.V):
			x.errs.errorf(at, "family %s is there twice", f.Family.V)
			continue
		case x.specs.Families[l.Spec].Target.V != spec.Target.V:
			x.errs.errorf(at, "%s is for target %s", l.Spec, x.specs.Families[l.Spec].Target.V)
			continue
		}
		seen = append(seen, f.Family.V)
		source, err := l.Source(templates)
		if err != nil {
			continue // of which Render tells more
		}
		if source != f.Source.V {
			m.Stale.errorf(Pos{file, cmp.Or(f.Source.Line, at.Line)}, "family %s was tuned with another spec or template, and is left out; run marlingen tune on %s again",
				f.Family.V, spec.Device.V)
			continue
		}
		x.tunedFamily(m, l, file, spec, f)
	}
}

// tunedFamily adds what f says of a family whose own library is of.
func (x *expander) tunedFamily(m *Model, of *Library, file string, spec TunedSpec, f TunedFamilySpec) {
	family := x.specs.Families[of.Spec]
	family.Word.V = strings.Trim(family.Word.V+"_"+spec.Word.V, "_")
	l := &Library{
		Name:      of.Name + "_" + spec.Word.V,
		Doc:       fmt.Sprintf("%s As tuned on %s.", of.Doc, spec.Device.V),
		Spec:      file,
		Templates: of.Templates,
		At:        Pos{file, f.Family.Line},
		Codec:     of.Codec,
		Passes:    of.Bodies,
	}
	for i, p := range f.Passes {
		at := Pos{file, cmp.Or(p.Pass.Line, f.Family.Line)}
		j := slices.IndexFunc(family.Passes, func(launch FamilyPassSpec) bool { return launch.Pass.V == p.Pass.V })
		b := slices.IndexFunc(of.Bodies, func(b *Body) bool { return b.Pass == p.Pass.V })
		if j < 0 || b < 0 {
			x.errs.errorf(at, "family %s has no pass %q", f.Family.V, p.Pass.V)
			continue
		}
		if slices.ContainsFunc(f.Passes[:i], func(o TunedPassSpec) bool { return o.Pass.V == p.Pass.V }) {
			x.errs.errorf(at, "pass %s is there twice", p.Pass.V)
			continue
		}
		usual := of.Bodies[b]
		alone := x.first(file, "alone", p.Alone, usual.Alone)
		shared := x.first(file, "shared", p.Shared, usual.Shared)
		if len(p.Gains) == 0 {
			x.errs.errorf(at, "it has no gains: what was measured to be better")
		}
		if len(p.Numbers) == 0 {
			usual.Orders = append(usual.Orders, runtime.Order{Device: spec.Device.V, Driver: spec.Driver.V, Alone: alone, Shared: shared})
			continue
		}
		before := len(x.errs)
		launch := x.turned(file, at.Line, family.Passes[j], p.Numbers)
		if len(x.errs) > before {
			continue
		}
		tuned := x.familyBody(l, x.passes[p.Pass.V], file, family, launch)
		tuned.Word, tuned.Device, tuned.Driver = spec.Word.V, spec.Device.V, spec.Driver.V
		tuned.Alone, tuned.Shared = alone, shared
	}
	if len(l.Bodies) > 0 {
		m.Libraries = append(m.Libraries, l)
	}
}

// first returns an order with another kind first, if one is given.
func (x *expander) first(file, field string, kind At[runtime.Kind], order []runtime.Kind) []runtime.Kind {
	if kind.Line == 0 {
		return order
	}
	i := slices.Index(order, kind.V)
	if i < 0 {
		x.errs.errorf(Pos{file, kind.Line}, "%s %q is not in the family's order; write one of %s", field, kind.V, list(order))
		return order
	}
	return slices.Insert(slices.Delete(slices.Clone(order), i, i+1), 0, kind.V)
}

// turned returns a pass with other numbers, all of it on one line of a file.
func (x *expander) turned(file string, line int, p FamilyPassSpec, numbers map[string]At[int]) FamilyPassSpec {
	for knob, v := range sorted(numbers) {
		if !slices.ContainsFunc(p.Knobs[knob], func(o At[int]) bool { return o.V == v.V }) {
			x.errs.errorf(Pos{file, v.Line}, "%s is no knob of the family's pass that can be %d", knob, v.V)
		}
	}
	turned := p.With(values(numbers))
	turned.move(line)
	return turned
}

func values(numbers map[string]At[int]) map[string]int {
	vs := map[string]int{}
	for knob, v := range numbers {
		vs[knob] = v.V
	}
	return vs
}

// With returns p with other values of some of its knobs. It has no knobs itself.
func (p FamilyPassSpec) With(numbers map[string]int) FamilyPassSpec {
	p.Constants = maps.Clone(p.Constants)
	p.Knobs = nil
	for knob, v := range numbers {
		switch knob {
		case "tile":
			p.Tile.V = v
		case "threads":
			p.Threads.V = v
		case "residents":
			p.Residents.V = v
		default:
			f := p.Constants[knob]
			f.V = Formula(fmt.Sprint(v))
			p.Constants[knob] = f
		}
	}
	return p
}

// move says that all of p is on one line.
func (p *FamilyPassSpec) move(line int) {
	p.Pass.Line, p.Tile.Line, p.Threads.Line, p.ThreadgroupBytes.Line = line, line, line, line
	if p.Residents.Line != 0 {
		p.Residents.Line = line
	}
	p.Grid = slices.Clone(p.Grid)
	for i := range p.Grid {
		p.Grid[i].Line = line
	}
	for name, f := range p.Constants {
		f.Line = line
		p.Constants[name] = f
	}
}

// DeviceWord returns a word for a device in symbols, and in the name of its file
// of specs/tuned.
func DeviceWord(device string) string {
	words := regexp.MustCompile(`[a-z0-9]+`).FindAllString(strings.ToLower(device), -1)
	return strings.Join(words, "_")
}

// TunedFile returns the file of specs/tuned for a device.
func TunedFile(device string) string {
	return path.Join(path.Dir(tunedGlob), DeviceWord(device)+".yaml")
}

// Try returns the library that numbers of a family's pass would make if they were
// in specs/tuned: that pass alone, for the codec, with the numbers in the symbols
// in place of a device. Its error is Complaints: why the generator refuses them.
func (s Specs) Try(templates fs.FS, codec, family string, pass runtime.Pass, numbers map[string]int) (*Library, error) {
	const file = "specs/tuned/candidate.yaml"
	s.Tuned = nil
	usual, err := Expand(s, templates)
	if err != nil {
		return nil, err
	}
	l := usual.Family(codec, family)
	if l == nil {
		return nil, fmt.Errorf("there is no %s for codec %s", familyFile(family), codec)
	}
	source, err := l.Source(templates)
	if err != nil {
		return nil, err
	}
	written := map[string]At[int]{}
	var words []string
	for knob, v := range sorted(numbers) {
		written[knob] = at(v)
		words = append(words, fmt.Sprintf("%s_%d", knob, v))
	}
	s.Tuned = map[string]TunedSpec{file: {
		Device: at("candidate"), Driver: at("candidate"), Word: at(strings.Join(words, "_")),
		Target: at(s.Families[l.Spec].Target.V), Codec: at(codec),
		Families: []TunedFamilySpec{{
			Family: at(family), Source: at(source),
			Passes: []TunedPassSpec{{Pass: at(pass), Numbers: written, Gains: []GainSpec{{}}}},
		}},
	}}
	m, err := Expand(s, templates)
	if err != nil {
		return nil, err
	}
	if l = m.Libraries[len(m.Libraries)-1]; l.Spec != file {
		return nil, fmt.Errorf("a candidate needs a number")
	}
	return l, nil
}

// at is a value that no line has written.
func at[T any](v T) At[T] { return At[T]{v, 1} }

// Text returns l's Metal source, and its name.
func (l *Library) Text(templates fs.FS) (name string, text []byte, err error) {
	text, err = metal(l, templates)
	return l.metalName(), text, err
}

// Format writes a file of specs/tuned.
func (s TunedSpec) Format() []byte {
	var b strings.Builder
	field := func(indent, name, value string) { fmt.Fprintf(&b, "%s%s: %s\n", indent, name, value) }
	text := func(indent, name string, v At[string]) { field(indent, name, strconv.Quote(v.V)) }
	b.WriteString(SpecKind{Name: "tuned", Glob: tunedGlob}.FirstLine() + "\n")
	b.WriteString("# Written by marlingen tune, which measured it; write nothing into it by hand.\n")
	text("", "device", s.Device)
	text("", "driver", s.Driver)
	field("", "word", s.Word.V)
	field("", "target", s.Target.V)
	field("", "codec", s.Codec.V)
	b.WriteString("families:\n")
	for _, f := range s.Families {
		field("  - ", "family", f.Family.V)
		text("    ", "source", f.Source)
		text("    ", "profile", f.Profile)
		text("    ", "time", f.Time)
		text("    ", "run", f.Run)
		if f.Commit.V != "" {
			text("    ", "commit", f.Commit)
		}
		b.WriteString("    passes:\n")
		for _, p := range f.Passes {
			field("      - ", "pass", string(p.Pass.V))
			if len(p.Numbers) > 0 {
				var numbers []string
				for knob, v := range sorted(p.Numbers) {
					numbers = append(numbers, fmt.Sprintf("%s: %d", knob, v.V))
				}
				field("        ", "numbers", "{"+strings.Join(numbers, ", ")+"}")
			}
			if p.Alone.V != "" {
				field("        ", "alone", string(p.Alone.V))
			}
			if p.Shared.V != "" {
				field("        ", "shared", string(p.Shared.V))
			}
			b.WriteString("        gains:\n")
			for _, g := range p.Gains {
				fmt.Fprintf(&b, "          - {of: %s, before: %.6f, after: %.6f, gain: %.4f, noise: %.4f, rounds: %d}\n",
					g.Of.V, g.Before.V, g.After.V, g.Gain.V, g.Noise.V, g.Rounds.V)
			}
		}
	}
	return []byte(b.String())
}
