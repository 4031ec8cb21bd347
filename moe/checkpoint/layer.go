package checkpoint

import (
	"fmt"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/trellis"
)

// misaligned says why the parts cannot be used where they lie, or nothing if
// they can.
func (l *plan) misaligned() string {
	for _, e := range l.experts {
		for _, q := range e.projections {
			if q.older {
				return "the experts are in the older layout"
			}
			for i, s := range q.parts {
				align := s.tensor.DType.Size()
				if e.codec == (trellis.Codec{}).Name() && trellis.Component(i) == trellis.Indices {
					align = trellis.Align
				}
				if s.tensor.at%align != 0 {
					return fmt.Sprintf("%s: %s is not at a multiple of %d bytes", s.tensor.file, s.tensor.Name, align)
				}
			}
		}
	}
	return ""
}

// window sets the experts and data of w: the pages of data that the parts are
// in.
func (l *plan) window(w *moe.Weights, data []byte) {
	from, to := len(data), 0
	for q := range l.projections {
		for _, s := range q.parts {
			from, to = min(from, s.tensor.at), max(to, s.tensor.at+s.size)
		}
	}
	from -= from % pages(1)
	to = pages(to)
	w.Data = data[from:to:to]
	l.describe(w, func(s part) int { return s.tensor.at - from })
}

// relay sets the experts and data of w: memory that the parts are copied to,
// each to a multiple of 64 bytes.
func (l *plan) relay(w *moe.Weights) error {
	end := 0
	place := func(s part) int {
		at := (end + 63) &^ 63
		end = at + s.size
		return at
	}
	for q := range l.projections {
		for _, s := range q.parts {
			place(s)
		}
	}
	w.Data = buffer(end)

	var f faults
	end = 0
	for q := range l.projections {
		parts, err := q.stored()
		if err != nil {
			f.add(q.parts[0].tensor.file, q.module, "%w", err)
			continue
		}
		for i, s := range q.parts {
			at := place(s)
			copy(w.Data[at:end], parts[i])
		}
	}
	end = 0
	l.describe(w, place)
	return f.err()
}

// projections calls yield with all projections, in their order.
func (l *plan) projections(yield func(*projection) bool) {
	for i := range l.experts {
		for k := range l.experts[i].projections {
			if !yield(&l.experts[i].projections[k]) {
				return
			}
		}
	}
}

// stored returns the parts of q as their codec stores them.
func (q *projection) stored() ([][]byte, error) {
	var parts [][]byte
	if !q.older {
		for _, s := range q.parts {
			parts = append(parts, s.tensor.Data)
		}
		return parts, nil
	}
	t, err := q.reencode()
	if err != nil {
		return nil, err
	}
	for _, c := range trellis.Components {
		parts = append(parts, t.Part(c))
	}
	return parts, nil
}

// describe sets the experts of w, whose parts lie where place says. It asks
// for the parts in their order.
func (l *plan) describe(w *moe.Weights, place func(part) int) {
	matrix := func(q *projection) moe.Matrix {
		m := moe.Matrix{Bits: q.bits, Out: q.out, In: q.in}
		for _, s := range q.parts {
			m.Parts = append(m.Parts, moe.Span{Offset: place(s), Size: s.size})
		}
		return m
	}
	for i := range l.experts {
		e := &l.experts[i]
		m := moe.Expert{Codec: e.codec}
		m.Gate, m.Up, m.Down = matrix(&e.projections[0]), matrix(&e.projections[1]), matrix(&e.projections[2])
		if l.shared && i == len(l.experts)-1 {
			w.Shared = &m
		} else {
			w.Experts = append(w.Experts, m)
		}
	}
}

// router returns the router of a layer.
func (c *Checkpoint) router(l *plan) (moe.Router, error) {
	r := moe.Router{
		Bias:       make([]float32, c.Config.Experts),
		TopK:       c.Config.TopK,
		Groups:     c.Config.Groups,
		TopKGroups: c.Config.TopKGroups,
		Normalize:  c.Config.Normalize,
		Scale:      float32(c.Config.Scale),
	}
	var err error
	if l.weight != nil {
		if r.Weight, err = l.weight.float32s(); err != nil {
			return r, &Error{File: l.weight.file, Tensor: l.weight.Name, Err: err}
		}
	} else if r.Weight, err = l.quantised.dequantize(); err != nil {
		return r, &Error{File: l.quantised.parts[0].tensor.file, Tensor: l.quantised.module, Err: err}
	}
	if l.bias != nil {
		if r.Bias, err = l.bias.float32s(); err != nil {
			return r, &Error{File: l.bias.file, Tensor: l.bias.Name, Err: err}
		}
	}
	return r, nil
}
