package gen

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// The words that specs may use, besides the names that they give themselves.
var (
	dims         = []runtime.Dim{runtime.One, runtime.Tokens, runtime.Experts, runtime.Hidden, runtime.Intermediate, runtime.Rows, runtime.Items}
	kinds        = []runtime.Kind{runtime.Tuple, runtime.Fairway, runtime.Generic}
	accesses     = []runtime.Access{runtime.Constant, runtime.Read, runtime.Write}
	bindingTypes = []string{"Shape", "Routing", "Work", "Expert", "float", "half", "uint", "uchar"}
	constants    = []string{"Shape", "Routing"} // types that are passed by value
	partTypes    = []string{"uchar", "ushort", "uint", "half", "float"}
	projections  = []string{"gate", "up", "down"}
	accumulators = []string{"float"}
	helpers      = []runtime.Pass{runtime.Route, runtime.Count, runtime.Prefix, runtime.Scatter, runtime.Combine}
	expertPasses = []runtime.Pass{runtime.GateUp, runtime.Down}
)

// An expander gathers the model of s, and every complaint.
type expander struct {
	specs   Specs
	partial bool // some lines could not be read; what is missing may be there
	errs    Complaints
	passes  map[runtime.Pass]pass
	codecs  map[string]*Codec
	symbols map[string]Pos
}

// A pass is a PassSpec and its file.
type pass struct {
	PassSpec
	file string
}

// Expand returns the model of s. Of what was tuned it has what was tuned with
// these specs and templates. Its error is Complaints: every line that asks for
// what there is not.
func Expand(s Specs, templates fs.FS) (*Model, error) {
	model, errs := expand(s, templates, false)
	return model, errs.err()
}

func expand(s Specs, templates fs.FS, partial bool) (*Model, Complaints) {
	x := &expander{
		specs: s, partial: partial,
		passes:  map[runtime.Pass]pass{},
		codecs:  map[string]*Codec{},
		symbols: map[string]Pos{},
	}
	m := &Model{Digest: s.Digest}
	x.readPasses()
	for file, spec := range sorted(s.Codecs) {
		if c := x.codec(file, spec); c != nil {
			m.Codecs = append(m.Codecs, c.Codec)
		}
	}
	m.Libraries = append(m.Libraries, x.helpers())
	for file, spec := range sorted(s.Families) {
		if len(spec.Codecs) == 0 {
			x.errs.errorf(Pos{file, cmp.Or(spec.Family.Line, 1)}, "codecs is missing")
		}
		for _, name := range spec.Codecs {
			at := Pos{file, name.Line}
			if codec, ok := x.codecs[name.V]; ok {
				m.Libraries = append(m.Libraries, x.family(file, spec, codec))
			} else if !partial {
				x.errs.errorf(at, "no codec is called %q; there are %s", name.V, list(slices.Sorted(maps.Keys(x.codecs))))
			}
		}
	}
	x.proveRows()
	for file, spec := range sorted(s.Profiles) {
		m.Profiles = append(m.Profiles, x.profile(file, spec))
	}
	if !partial && len(x.errs) == 0 {
		for file, spec := range sorted(s.Tuned) {
			x.tuned(m, templates, file, spec)
		}
	}
	return m, x.errs
}

// readPasses checks the calling conventions.
func (x *expander) readPasses() {
	for file, spec := range sorted(x.specs.Passes) {
		for _, p := range spec.Passes {
			at := Pos{file, p.Pass.Line}
			want(x, at, "pass", p.Pass, slices.Concat(helpers, expertPasses))
			need(x, at, "doc", p.Doc)
			if _, twice := x.passes[p.Pass.V]; twice {
				x.errs.errorf(at, "pass %s is there twice", p.Pass.V)
			}
			x.passes[p.Pass.V] = pass{p, file}

			reads := slices.Contains(expertPasses, p.Pass.V)
			if reads != (len(p.Weights) > 0) || reads == (p.Kernel != nil) {
				x.errs.errorf(at, "pass %s needs %s", p.Pass.V, map[bool]string{
					true:  "the weights that it reads, and no kernel: families make them",
					false: "a kernel, and no weights",
				}[reads])
			}
			for _, w := range p.Weights {
				want(x, Pos{file, w.Line}, "weights", w, projections)
			}
			for i, b := range p.Bindings {
				at := Pos{file, cmp.Or(b.Name.Line, b.Type.Line, b.Access.Line, at.Line)}
				need(x, at, "name", b.Name)
				want(x, at, "type", b.Type, bindingTypes)
				want(x, at, "access", b.Access, accesses)
				if slices.Contains(constants, b.Type.V) != (b.Access.V == runtime.Constant) {
					x.errs.errorf(at, "a %s cannot have access %s; constants are of type %s", b.Type.V, b.Access.V, list(constants))
				}
				for _, earlier := range p.Bindings[:i] {
					if earlier.Name.V == b.Name.V {
						x.errs.errorf(at, "%s is bound twice", b.Name.V)
					}
				}
			}
		}
	}
}

func (x *expander) codec(file string, spec CodecSpec) *Codec {
	at := Pos{file, cmp.Or(spec.Codec.Line, 1)}
	need(x, at, "codec", spec.Codec)
	need(x, at, "doc", spec.Doc)
	need(x, at, "type", spec.Type)
	c := &Codec{
		Codec: &runtime.Codec{Name: spec.Codec.V, Doc: spec.Doc.V, Spec: file},
		Type:  spec.Type.V,
	}
	if len(spec.Widths) == 0 || len(spec.Components) == 0 {
		x.errs.errorf(at, "a codec needs widths and components")
	}
	for _, w := range spec.Widths {
		switch { // one digit: see goName and widthsOf
		case w.V < 1 || w.V > 9:
			x.errs.errorf(Pos{file, w.Line}, "width %d is not in 1..9", w.V)
		case slices.Contains(c.Widths, w.V):
			x.errs.errorf(Pos{file, w.Line}, "width %d is there twice", w.V)
		}
		c.Widths = append(c.Widths, w.V)
	}
	for _, part := range spec.Components {
		at := Pos{file, cmp.Or(part.Name.Line, part.Type.Line, at.Line)}
		need(x, at, "name", part.Name)
		want(x, at, "type", part.Type, partTypes)
		c.Components = append(c.Components, runtime.Component{Name: part.Name.V, Type: part.Type.V})
	}
	first := map[runtime.BitTuple]int{}
	for _, t := range spec.Tuples {
		at := Pos{file, t.Line}
		if t.V == (runtime.BitTuple{}) {
			continue // could not be read
		}
		if line, twice := first[t.V]; twice {
			x.errs.errorf(at, "tuple %v is on line %d already", t.V, line)
			continue
		}
		first[t.V] = t.Line
		for _, w := range widths(t.V, projections) {
			if !slices.Contains(c.Widths, w) {
				x.errs.errorf(at, "%v: codec %s has no %d-bit weights", t.V, c.Name, w)
			}
		}
		c.Tuples = append(c.Tuples, t.V)
		c.At = append(c.At, at)
	}
	if x.codecs[c.Name] != nil {
		x.errs.errorf(at, "codec %s is in %s already", c.Name, x.codecs[c.Name].Spec)
		return nil
	}
	x.codecs[c.Name] = c
	return c
}

// helpers returns the library of the passes that read no weights.
func (x *expander) helpers() *Library {
	l := &Library{Name: "helpers", Doc: "The passes around the experts: routing, grouping and the sum over slots."}
	for _, name := range helpers {
		p, ok := x.passes[name]
		if !ok || p.Kernel == nil {
			if !ok && !x.partial {
				x.errs.errorf(Pos{"specs/passes.yaml", 1}, "there is no pass %s", name)
			}
			continue
		}
		l.Spec, l.At = p.file, Pos{p.file, p.Pass.Line}
		l.Templates = append(l.Templates, fmt.Sprintf("passes/%s.metal", name))
		b := x.body(p, Pos{p.file, cmp.Or(p.Kernel.Symbol.Line, p.Pass.Line)}, p.Kernel.LaunchSpec, At[int]{}, "")
		need(x, b.At, "symbol", p.Kernel.Symbol)
		b.Accumulator = accumulators[0]
		b.Source = l.metalName()
		x.kernel(b, runtime.Helper, nil, p.Kernel.Symbol.V, b.At)
		l.Bodies = append(l.Bodies, b)
	}
	return l
}

// family returns the library of a family for one of its codecs.
func (x *expander) family(file string, spec FamilySpec, codec *Codec) *Library {
	at := Pos{file, cmp.Or(spec.Family.Line, 1)}
	need(x, at, "family", spec.Family)
	need(x, at, "doc", spec.Doc)
	need(x, at, "rows", spec.Rows)
	if spec.LayerRows.Line != 0 {
		x.positive(at, "layer_rows", spec.LayerRows)
	}
	need(x, at, "template", spec.Template)
	want(x, at, "accumulator", spec.Accumulator, accumulators)
	if spec.Word.Line == 0 {
		x.errs.errorf(at, "word is missing; write \"\" for a family that adds none to symbols")
	}
	x.target(at, spec.Target)
	l := &Library{
		Name:      codec.Name + "_" + strings.TrimSuffix(path.Base(file), ".yaml"),
		Doc:       spec.Doc.V,
		Spec:      file,
		Templates: []string{fmt.Sprintf("codecs/%s.metal", codec.Name), fmt.Sprintf("families/%s.metal", spec.Template.V)},
		At:        Pos{file, cmp.Or(spec.Template.Line, at.Line)},
		Codec:     codec,
	}
	for _, name := range expertPasses {
		i := slices.IndexFunc(spec.Passes, func(p FamilyPassSpec) bool { return p.Pass.V == name })
		p, known := x.passes[name]
		if i < 0 || !known {
			if !x.partial {
				x.errs.errorf(at, "family %s has no pass %s", spec.Family.V, name)
			}
			continue
		}
		b := x.familyBody(l, p, file, spec, spec.Passes[i])
		b.Alone = x.preference(file, at, "alone", spec.Prefer.Alone)
		b.Shared = x.preference(file, at, "shared", spec.Prefer.Shared)
	}
	for i, p := range spec.Passes {
		at := Pos{file, p.Pass.Line}
		want(x, at, "pass", p.Pass, expertPasses)
		for _, earlier := range spec.Passes[:i] {
			if earlier.Pass.V == p.Pass.V {
				x.errs.errorf(at, "pass %s is there twice", p.Pass.V)
			}
		}
	}
	return l
}

// familyBody adds the body of a pass to a family's library, with its kernels and
// without its preference.
func (x *expander) familyBody(l *Library, p pass, file string, spec FamilySpec, launch FamilyPassSpec) *Body {
	codec, name := l.Codec, p.Pass.V
	b := x.body(p, Pos{file, launch.Pass.Line}, launch.LaunchSpec, launch.Tile, spec.Target.V)
	b.Codec = codec.Name
	b.Family = spec.Family.V
	b.Source = l.metalName()
	b.Rows = spec.Rows.V
	b.LayerRows = spec.LayerRows.V
	b.Tile = launch.Tile.V
	b.Accumulator = spec.Accumulator.V
	x.positive(b.At, "tile", launch.Tile)
	if b.Grid[0] != (runtime.Axis{Dim: runtime.Items, Per: 1}) && len(launch.Grid) > 0 {
		x.errs.errorf(Pos{file, launch.Grid[0].Line}, "the first axis of a grid over experts is items, not %v", b.Grid[0])
	}
	b.Constants = append([]Constant{{"tile", launch.Tile.V}}, b.Constants...)
	x.knobs(file, launch)

	for i, t := range codec.Tuples {
		x.kernel(b, runtime.Tuple, []runtime.BitTuple{t}, symbol(codec.Name, spec.Word.V, t.String(), name), codec.At[i])
	}
	x.kernel(b, runtime.Generic, nil, symbol(codec.Name, spec.Word.V, "", name), b.At)
	if len(codec.Tuples) > 0 {
		x.kernel(b, runtime.Fairway, codec.Tuples, symbol(codec.Name, spec.Word.V, "fairway", name), b.At)
	}
	l.Bodies = append(l.Bodies, b)
	return b
}

// preference checks an order of kinds.
func (x *expander) preference(file string, at Pos, field string, spec []At[runtime.Kind]) []runtime.Kind {
	if len(spec) == 0 {
		x.errs.errorf(at, "prefer.%s is missing", field)
	}
	var order []runtime.Kind
	for _, kind := range spec {
		at := Pos{file, kind.Line}
		want(x, at, field, kind, kinds)
		if slices.Contains(order, kind.V) {
			x.errs.errorf(at, "%s is in %s twice", kind.V, field)
		}
		order = append(order, kind.V)
	}
	return order
}

// target checks that there is one of this name.
func (x *expander) target(at Pos, name At[string]) {
	need(x, at, "target", name)
	var names []string
	for _, t := range sorted(x.specs.Targets) {
		names = append(names, t.Target.V)
	}
	if name.Line != 0 && !x.partial && !slices.Contains(names, name.V) {
		x.errs.errorf(Pos{at.File, name.Line}, "no target is called %q; there are %s", name.V, list(names))
	}
}

// body returns what the kernels of pass p have in common when launched so, with a
// tile if they have one, on a target, or on every one if it is empty.
func (x *expander) body(p pass, at Pos, spec LaunchSpec, tile At[int], target string) *Body {
	bytes, constants := x.numbers(at, spec, tile)
	b := &Body{
		Body: &runtime.Body{
			Pass:             p.Pass.V,
			Doc:              p.Doc.V,
			Target:           target,
			Threads:          spec.Threads.V,
			ThreadgroupBytes: bytes,
			Residents:        spec.Residents.V,
		},
		At: at,
	}
	for _, w := range p.Weights {
		b.Weights = append(b.Weights, w.V)
	}
	for _, s := range p.Bindings {
		b.Bindings = append(b.Bindings, runtime.Binding{Name: s.Name.V, Type: s.Type.V, Access: s.Access.V})
	}
	b.Constants = []Constant{{"threads", spec.Threads.V}, {"threadgroup_bytes", bytes}}
	for name, value := range sorted(constants) {
		b.Constants = append(b.Constants, Constant{name, value})
	}
	b.Grid = x.grid(at, spec, constants)
	b.Spec = at.String()
	x.positive(at, "threads", spec.Threads)
	if spec.Residents.Line != 0 {
		x.positive(Pos{at.File, spec.Residents.Line}, "residents", spec.Residents)
	}
	need(x, at, "threadgroup_bytes", spec.ThreadgroupBytes)
	x.limits(b, spec)
	return b
}

// numbers returns the threadgroup memory and the constants of a launch, which
// may be formulas.
func (x *expander) numbers(at Pos, spec LaunchSpec, tile At[int]) (bytes int, constants map[string]int) {
	names := map[string]int{"threads": spec.Threads.V}
	if tile.Line != 0 {
		names["tile"] = tile.V
	}
	constants = map[string]int{}
	for name, f := range sorted(spec.Constants) {
		if n, ok := f.V.literal(); ok {
			names[name] = n
		}
		if slices.Contains([]string{"tile", "threads", "threadgroup_bytes", "residents"}, name) {
			x.errs.errorf(Pos{at.File, f.Line}, "%s is a field of its own", name)
		}
	}
	for name, f := range sorted(spec.Constants) {
		n, err := f.V.value(names)
		switch {
		case f.Line == 0 || err == nil && n < 1:
			x.errs.errorf(Pos{at.File, cmp.Or(f.Line, at.Line)}, "%s is %d; want at least 1", name, n)
		case err != nil:
			x.errs.errorf(Pos{at.File, f.Line}, "%s: %v", name, err)
		}
		constants[name] = max(n, 1)
	}
	maps.Copy(names, constants)
	if spec.ThreadgroupBytes.Line != 0 {
		var err error
		if bytes, err = spec.ThreadgroupBytes.V.value(names); err != nil {
			x.errs.errorf(Pos{at.File, spec.ThreadgroupBytes.Line}, "threadgroup_bytes: %v", err)
		}
	}
	return bytes, constants
}

// knobs checks what a tuner may turn.
func (x *expander) knobs(file string, spec FamilyPassSpec) {
	for name, values := range sorted(spec.Knobs) {
		at := Pos{file, spec.Pass.Line}
		if len(values) > 0 {
			at.Line = values[0].Line
		}
		now, ok := spec.Number(name)
		if !ok {
			x.errs.errorf(at, "%s is no number of the pass that can be turned: write tile, threads, residents or a constant that is no formula", name)
			continue
		}
		for i, v := range values {
			x.positive(at, name, v)
			if slices.ContainsFunc(values[:i], func(o At[int]) bool { return o.V == v.V }) {
				x.errs.errorf(Pos{file, v.Line}, "%s has %d twice", name, v.V)
			}
		}
		if !slices.ContainsFunc(values, func(v At[int]) bool { return v.V == now }) {
			x.errs.errorf(at, "%s is %d, which is not among the values to try", name, now)
		}
	}
}

// limits holds b against its target, or every one.
func (x *expander) limits(b *Body, spec LaunchSpec) {
	at := func(line int) Pos { return Pos{b.At.File, cmp.Or(line, b.At.Line)} }
	if b.Threads%32 != 0 {
		x.errs.errorf(at(spec.Threads.Line), "%d threads are no whole number of simdgroups of 32", b.Threads)
	}
	for file, t := range sorted(x.specs.Targets) {
		if b.Target != "" && b.Target != t.Target.V {
			continue
		}
		if b.Threads > t.Threads.V {
			x.errs.errorf(at(spec.Threads.Line), "%d threads, but target %s has %d (%s:%d)",
				b.Threads, t.Target.V, t.Threads.V, file, t.Threads.Line)
		}
		if b.ThreadgroupBytes < 0 || b.ThreadgroupBytes > t.ThreadgroupBytes.V {
			x.errs.errorf(at(spec.ThreadgroupBytes.Line), "%d bytes of threadgroup memory, but target %s has %d (%s:%d)",
				b.ThreadgroupBytes, t.Target.V, t.ThreadgroupBytes.V, file, t.ThreadgroupBytes.Line)
		}
		if len(b.Bindings) > t.Buffers.V {
			x.errs.errorf(b.At, "%d arguments, but target %s has %d (%s:%d)",
				len(b.Bindings), t.Target.V, t.Buffers.V, file, t.Buffers.Line)
		}
	}
}

// grid resolves axes such as intermediate/outputs, where outputs is a number
// or one of the constants.
func (x *expander) grid(at Pos, spec LaunchSpec, constants map[string]int) (grid [3]runtime.Axis) {
	if len(spec.Grid) != len(grid) {
		x.errs.errorf(at, "grid has %d axes; want %d", len(spec.Grid), len(grid))
		return grid
	}
	for i, axis := range spec.Grid {
		dim, by, divided := strings.Cut(axis.V, "/")
		per := 1
		if c, ok := constants[by]; ok {
			per = c
		} else if n, err := strconv.Atoi(by); err == nil {
			per = n
		} else if divided {
			per = 0
		}
		if !slices.Contains(dims, runtime.Dim(dim)) || per < 1 {
			x.errs.errorf(Pos{at.File, axis.Line}, "%q is not an axis; write one of %s, or divide it by a number or a constant, as in hidden/outputs",
				axis.V, list(dims))
			per = 1
		}
		grid[i] = runtime.Axis{Dim: runtime.Dim(dim), Per: uint32(per)}
	}
	return grid
}

// kernel adds a kernel to b.
func (x *expander) kernel(b *Body, kind runtime.Kind, tuples []runtime.BitTuple, symbol string, at Pos) {
	if other, taken := x.symbols[symbol]; taken {
		x.errs.errorf(b.At, "symbol %s is taken by %v; give the family another word", symbol, other)
	}
	x.symbols[symbol] = b.At
	b.Kernels = append(b.Kernels, &runtime.Kernel{Body: b.Body, Kind: kind, Tuples: tuples, Symbol: symbol, Line: at.String()})
}

// proveRows checks, for each codec and target, that every number of rows from 1
// on has one family and no second, in layers of any size and of each size that
// families are limited to. A target for which a codec has no family has none
// of its kernels.
func (x *expander) proveRows() {
	if x.partial {
		return
	}
	for _, codec := range slices.Sorted(maps.Keys(x.codecs)) {
		for _, t := range sorted(x.specs.Targets) {
			x.proveTarget(codec, t.Target.V)
		}
	}
}

// proveTarget does so for one codec and target.
func (x *expander) proveTarget(codec, target string) {
	type claim struct {
		runtime.Range
		layer  int // rows of a layer, at most
		family string
		at     Pos
	}
	var claims, limited []claim
	for file, spec := range sorted(x.specs.Families) {
		if spec.Target.V == target && slices.ContainsFunc(spec.Codecs, func(c At[string]) bool { return c.V == codec }) {
			c := claim{spec.Rows.V, spec.LayerRows.V, spec.Family.V, Pos{file, cmp.Or(spec.Rows.Line, 1)}}
			if spec.LayerRows.Line != 0 {
				limited = append(limited, c)
			} else {
				claims = append(claims, c)
			}
		}
	}
	if slices.ContainsFunc(slices.Concat(claims, limited), func(c claim) bool { return c.Min < 1 }) {
		return // a family without rows is complained of as such
	}
	byRows := func(a, b claim) int { return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.Min, b.Min)) }
	slices.SortStableFunc(limited, byRows)
	for i := 1; i < len(limited); i++ {
		c, before := limited[i], limited[i-1]
		if c.layer == before.layer && (before.Max == 0 || c.Min <= before.Max) {
			x.errs.errorf(c.at, "%v rows of %s overlap with family %s, which has %v (%v), both in layers of up to %d rows",
				c.Range, codec, before.family, before.Range, before.at, c.layer)
		}
	}
	slices.SortStableFunc(claims, byRows)
	next, open := 1, true // the first row count without a family, if any is left
	for i, c := range claims {
		switch {
		case !open || c.Min < next:
			x.errs.errorf(c.at, "%v rows of %s overlap with family %s, which has %v (%v)",
				c.Range, codec, claims[i-1].family, claims[i-1].Range, claims[i-1].at)
		case c.Min > next:
			x.errs.errorf(c.at, "no family has %v rows of %s", runtime.Range{Min: next, Max: c.Min - 1}, codec)
		}
		open = open && c.Max != 0
		next = max(next, c.Max+1)
	}
	if len(claims) == 0 && len(limited) > 0 {
		last := limited[len(limited)-1]
		x.errs.errorf(last.at, "no family has rows of %s in layers of more than %d rows", codec, last.layer)
	}
	if open && len(claims) > 0 {
		x.errs.errorf(claims[len(claims)-1].at, "no family has %d or more rows of %s; write %d..", next, codec, claims[len(claims)-1].Min)
	}
}

func (x *expander) profile(file string, spec ProfileSpec) *runtime.Profile {
	at := Pos{file, cmp.Or(spec.Profile.Line, 1)}
	need(x, at, "profile", spec.Profile)
	need(x, at, "doc", spec.Doc)
	need(x, at, "shared", spec.Shared)
	x.positive(at, "shape.hidden", spec.Shape.Hidden)
	x.positive(at, "shape.intermediate", spec.Shape.Intermediate)
	x.positive(at, "shape.experts", spec.Shape.Experts)
	x.positive(at, "shape.top_k", spec.Shape.TopK)
	for _, size := range []At[int]{spec.Shape.Hidden, spec.Shape.Intermediate} {
		if size.V%16 != 0 {
			x.errs.errorf(Pos{file, size.Line}, "%d is not a multiple of 16", size.V)
		}
	}
	if spec.Shape.TopK.V > spec.Shape.Experts.V {
		x.errs.errorf(Pos{file, spec.Shape.TopK.Line}, "top_k is %d of %d experts", spec.Shape.TopK.V, spec.Shape.Experts.V)
	}
	p := &runtime.Profile{
		Name: spec.Profile.V, Doc: spec.Doc.V,
		Hidden: spec.Shape.Hidden.V, Intermediate: spec.Shape.Intermediate.V,
		Experts: spec.Shape.Experts.V, TopK: spec.Shape.TopK.V,
		Codec: spec.Codec.V, Shared: spec.Shared.V, Spec: file,
	}
	codec := x.codecs[spec.Codec.V]
	if codec == nil && !x.partial {
		x.errs.errorf(Pos{file, cmp.Or(spec.Codec.Line, at.Line)}, "no codec is called %q", spec.Codec.V)
	}
	check := func(t At[runtime.BitTuple]) {
		for _, w := range widths(t.V, projections) {
			if codec != nil && t.V != (runtime.BitTuple{}) && !slices.Contains(codec.Widths, w) {
				x.errs.errorf(Pos{file, t.Line}, "%v: codec %s has no %d-bit weights", t.V, codec.Name, w)
			}
		}
	}
	check(spec.Shared)
	sum := 0
	for _, share := range spec.Mix {
		at := Pos{file, cmp.Or(share.Tuple.Line, share.Experts.Line, at.Line)}
		need(x, at, "tuple", share.Tuple)
		x.positive(at, "experts", share.Experts)
		check(share.Tuple)
		sum += share.Experts.V
		p.Mix = append(p.Mix, runtime.Share{Tuple: share.Tuple.V, Experts: share.Experts.V})
	}
	if sum != p.Experts {
		x.errs.errorf(at, "the mix has %d experts; the shape has %d", sum, p.Experts)
	}
	if spec.Bench != nil {
		p.Bench.Rows = x.ascending(at, "bench.rows", spec.Bench.Rows)
		p.Bench.Batches = x.ascending(at, "bench.batches", spec.Bench.Batches)
	}
	return p
}

// ascending returns numbers that are there, positive, and each larger than the
// one before.
func (x *expander) ascending(at Pos, field string, ns []At[int]) (values []int) {
	if len(ns) == 0 {
		x.errs.errorf(at, "%s is missing", field)
	}
	last := 0
	for _, n := range ns {
		x.positive(at, field, n)
		if n.V >= 1 && n.V <= last {
			x.errs.errorf(Pos{at.File, n.Line}, "%s has %d after %d; want them ascending", field, n.V, last)
		}
		last = max(last, n.V)
		values = append(values, n.V)
	}
	return values
}

// need complains about a field that is not there.
func need[T any](x *expander, at Pos, field string, v At[T]) {
	if v.Line == 0 {
		x.errs.errorf(at, "%s is missing", field)
	}
}

// want complains about a field that is not there, or is no known word.
func want[T ~string](x *expander, at Pos, field string, v At[T], words []T) {
	need(x, at, field, v)
	if v.Line != 0 && !slices.Contains(words, v.V) {
		x.errs.errorf(Pos{at.File, v.Line}, "%s %q is unknown; write one of %s", field, v.V, list(words))
	}
}

// positive complains about a number that is not there, or is not positive.
func (x *expander) positive(at Pos, field string, v At[int]) {
	need(x, at, field, v)
	if v.Line != 0 && v.V < 1 {
		x.errs.errorf(Pos{at.File, v.Line}, "%s is %d; want at least 1", field, v.V)
	}
}

// sorted ranges over m in the order of its keys.
func sorted[T any](m map[string]T) func(yield func(string, T) bool) {
	return func(yield func(string, T) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// list writes words as a list.
func list[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
