package checkpoint

import (
	"strings"

	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/trellis"
)

// The older layout spells a module's name with __ for each dot, and with or
// without its weight at the end. Its components are
//
//	<name>__indices  U8   [1 + n]             the width, then the tiles
//	<name>__scales   F32  [ceil(in/128), out]
//	<name>__su       F32  [in]
//	<name>__sv       F32  [out]
//
// and its grid is 1.24371088 times as wide. What is not quantised may lie in a
// file of its own that the index does not list.

const (
	olderGrid = 1.24371088
	olderBase = "base_weights.safetensors"
)

var olderWarnings = []string{
	"older layout: a 128-point Hadamard transform was applied to the quantised weights, and nothing undoes it",
	"older layout: the router's e_score_correction_bias was dropped; experts are chosen by their scores alone",
}

// isOlder reports whether only the older layout has such a name.
func isOlder(name string) bool { return strings.HasSuffix(name, "__indices") }

// currentName returns the name that a tensor has in the current layout.
func currentName(name string) string {
	for _, c := range trellis.Components {
		if module, ok := strings.CutSuffix(name, "__"+c.String()); ok {
			module = strings.TrimSuffix(module, "__weight")
			return strings.ReplaceAll(module, "__", ".") + "." + c.String()
		}
	}
	if !strings.Contains(name, ".") {
		return strings.ReplaceAll(name, "__", ".")
	}
	return name
}

// olderProjection finds the components of a module in the older layout. On a
// mistake, the projection has no parts.
func (p *planner) olderProjection(module string, out, in int) projection {
	q := projection{module: module, out: out, in: in, older: true}
	ts, ok := p.components(module)
	if !ok {
		return q
	}
	indices := ts[trellis.Indices]
	if indices.DType != U8 || len(indices.Shape) != 1 || len(indices.Data) == 0 {
		p.add(indices.file, indices.Name, "is %s %v, want U8 [1 + n]", indices.DType, indices.Shape)
		return q
	}
	q.bits = indices.Data[0]
	if err := trellis.CheckShape(q.bits, out, in); err != nil {
		p.add(indices.file, indices.Name, "%w", err)
		return q
	}
	if n, want := len(indices.Data)-1, trellis.Indices.Size(q.bits, out, in); n != want {
		p.add(indices.file, indices.Name, "its first byte says %d bits, which take %d bytes, but %d follow", q.bits, want, n)
		ok = false
	}
	var parts []part
	for _, c := range trellis.Components {
		if c != trellis.Indices {
			ok = p.want(ts[c], c.Shape(q.bits, out, in), F32) && ok
		}
		parts = append(parts, part{ts[c], c.Size(q.bits, out, in)})
	}
	if ok {
		q.parts = parts
	}
	return q
}

// reencode returns a projection of the older layout as one of the current.
func (q *projection) reencode() (*trellis.Tensor, error) {
	var factors [len(trellis.Components)][]float32
	for _, c := range trellis.Components[trellis.Scales:] {
		data := q.parts[c].tensor.Data
		factors[c] = make([]float32, len(data)/4)
		dense.F32.Decode(factors[c], data)
	}
	for i := range factors[trellis.Scales] {
		factors[trellis.Scales][i] *= olderGrid
	}
	return trellis.New(q.bits, q.out, q.in, q.parts[trellis.Indices].tensor.Data[1:],
		factors[trellis.Scales], factors[trellis.SU], factors[trellis.SV])
}

func (q *projection) dequantize() ([]float32, error) {
	t, err := q.reencode()
	if err != nil {
		return nil, err
	}
	return t.Dequantize()
}
