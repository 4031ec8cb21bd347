package checkpoint

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/moe/trellis"
)

// A plan says where the weights of one layer lie.
type plan struct {
	file         string // for errors that are no tensor's
	weight, bias *located
	quantised    *projection // router, if weight is nil
	experts      []expert    // routed, then the shared one if there is one
	shared       bool
	relaid       string // why the parts cannot be used where they lie
}

// An expert is a codec and three projections: gate, up and down.
type expert struct {
	codec       string
	projections [3]projection
}

// A projection is a matrix and its parts, in the codec's order.
type projection struct {
	module  string
	bits    uint8
	out, in int
	parts   []part
	older   bool // parts is the result of reencode
}

// A part is one component of a projection.
type part struct {
	tensor *located
	size   int // as the codec stores it
}

// A planner collects the tensors of a layer and what is wrong with them.
type planner struct {
	*Checkpoint
	faults
	rest map[string]bool // tensors that nothing has asked for
}

// plan finds the tensors of layer n and checks that there are no others.
func (c *Checkpoint) plan(n int) (*plan, error) {
	switch {
	case c.closed.Load():
		return nil, &Error{File: c.home, Err: os.ErrClosed}
	case n < 0 || n >= c.Config.Layers:
		return nil, &Error{File: c.home, Err: fmt.Errorf("layer %d is not in 0..%d", n, c.Config.Layers-1)}
	case c.Config.LayerTypes[n] != Sparse:
		return nil, &Error{File: c.home, Err: fmt.Errorf("layer %d is %s", n, c.Config.LayerTypes[n])}
	}
	p := &planner{Checkpoint: c, rest: make(map[string]bool)}
	for _, name := range c.layers[n] {
		p.rest[name] = true
	}
	mlp := fmt.Sprintf("%s%d.mlp.", layerPrefix, n)

	l := &plan{file: c.home, shared: c.Config.SharedExperts > 0}
	p.router(l, mlp+"gate")
	for e := range c.Config.Experts {
		l.experts = append(l.experts, p.expert(fmt.Sprintf("%sexperts.%d.", mlp, e)))
	}
	if l.shared {
		l.experts = append(l.experts, p.expert(mlp+"shared_experts."))
	}
	for _, name := range c.layers[n] {
		if p.rest[name] {
			t := c.tensors[name]
			p.add(t.file, t.Name, "is no part of an MoE layer with %d experts and %d shared", c.Config.Experts, c.Config.SharedExperts)
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	l.relaid = l.misaligned()
	return l, nil
}

// take returns a tensor of the layer, or nil.
func (p *planner) take(name string) *located {
	delete(p.rest, name)
	return p.tensors[name]
}

// want checks the type and shape of t.
func (p *planner) want(t *located, shape []int, types ...DType) bool {
	mistakes := len(p.faults)
	if !slices.Contains(types, t.DType) {
		p.add(t.file, t.Name, "dtype is %s, want %s", t.DType, oneOf(types))
	}
	if !slices.Equal(t.Shape, shape) {
		p.add(t.file, t.Name, "shape is %v, want %v", t.Shape, shape)
	}
	return len(p.faults) == mistakes
}

func oneOf(types []DType) string {
	var s []string
	for _, t := range types {
		s = append(s, string(t))
	}
	if len(s) == 1 {
		return s[0]
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}

func (p *planner) router(l *plan, module string) {
	shape := []int{p.Config.Experts, p.Config.Hidden}
	l.weight = p.take(module + ".weight")
	quantised := p.older && p.has(module)
	switch {
	case l.weight != nil:
		p.want(l.weight, shape, BF16, F16, F32)
		if quantised {
			p.components(module) // the weight itself is better
		}
	case quantised:
		q := p.olderProjection(module, shape[0], shape[1])
		l.quantised = &q
	default:
		p.add(p.home, module+".weight", "is missing")
	}
	bias := module + ".e_score_correction_bias"
	if l.bias = p.take(bias); l.bias != nil {
		p.want(l.bias, shape[:1], BF16, F16, F32)
	} else if !p.older {
		p.add(p.home, bias, "is missing")
	}
}

func (p *planner) expert(prefix string) expert {
	var e expert
	var codecs [3]string
	hidden, intermediate := p.Config.Hidden, p.Config.Intermediate
	for i, m := range []struct {
		name    string
		out, in int
	}{
		{"gate_proj", intermediate, hidden},
		{"up_proj", intermediate, hidden},
		{"down_proj", hidden, intermediate},
	} {
		codecs[i], e.projections[i] = p.projection(prefix+m.name, m.out, m.in)
	}
	e.codec = codecs[0]
	if !slices.Contains(codecs[:], "") && (codecs[0] != codecs[1] || codecs[0] != codecs[2]) {
		t := e.projections[0].parts[0].tensor
		p.add(t.file, strings.TrimSuffix(prefix, "."), "its projections have codecs %s, %s and %s; they must share one", codecs[0], codecs[1], codecs[2])
	}
	return e
}

// projection finds the parts of a module of [out, in]. The codec is empty if
// they are not usable.
func (p *planner) projection(module string, out, in int) (codec string, q projection) {
	weight, quantised := p.take(module+".weight"), p.has(module)
	switch {
	case weight != nil && quantised:
		p.add(weight.file, weight.Name, "is there quantised too")
		p.components(module)
	case weight != nil:
		if !p.want(weight, []int{out, in}, BF16, F16, F32) {
			return "", q
		}
		c, _ := weight.DType.codec()
		return c.Name(), projection{module: module, bits: c.Bits(), out: out, in: in, parts: []part{{weight, len(weight.Data)}}}
	case quantised && p.older:
		q = p.olderProjection(module, out, in)
	case quantised:
		q = p.trellis(module, out, in)
	default:
		p.add(p.home, module+".weight", "is missing")
	}
	if q.parts == nil {
		return "", q
	}
	return trellis.Codec{}.Name(), q
}

// has reports whether there is any component of a quantised module.
func (p *planner) has(module string) bool {
	for _, c := range trellis.Components {
		if p.tensors[module+"."+c.String()] != nil {
			return true
		}
	}
	return false
}

// components returns the components of a quantised module, or reports those
// that are missing.
func (p *planner) components(module string) (ts [len(trellis.Components)]*located, ok bool) {
	file := p.home
	for _, c := range trellis.Components {
		if ts[c] = p.take(module + "." + c.String()); ts[c] != nil {
			file = ts[c].file
		}
	}
	ok = true
	for _, c := range trellis.Components {
		if ts[c] == nil {
			p.add(file, module+"."+c.String(), "is missing, but other components of the module are there")
			ok = false
		}
	}
	return ts, ok
}

// trellisType returns the type of c's elements.
func trellisType(c trellis.Component) DType {
	if c == trellis.Indices {
		return U8
	}
	return F16
}

// trellis finds the parts of a quantised module. On a mistake, the projection
// has none.
func (p *planner) trellis(module string, out, in int) projection {
	q := projection{module: module, out: out, in: in}
	ts, ok := p.components(module)
	if !ok {
		return q
	}
	// The width is told by the last dimension of the indices alone.
	indices := ts[trellis.Indices]
	last := 0
	if len(indices.Shape) == 3 {
		last = indices.Shape[2]
	}
	if last%32 != 0 || last < 32*trellis.MinBits || last > 32*trellis.MaxBits {
		p.add(indices.file, indices.Name, "shape is %v, want [%d %d 32·bits] with bits in %d..%d",
			indices.Shape, out/trellis.Tile, in/trellis.Tile, trellis.MinBits, trellis.MaxBits)
		return q
	}
	q.bits = uint8(last / 32)
	if err := trellis.CheckShape(q.bits, out, in); err != nil {
		p.add(indices.file, indices.Name, "%w", err)
		return q
	}
	var parts []part
	for _, c := range trellis.Components {
		ok = p.want(ts[c], c.Shape(q.bits, out, in), trellisType(c)) && ok
		parts = append(parts, part{ts[c], len(ts[c].Data)})
	}
	if ok {
		q.parts = parts
	}
	return q
}
