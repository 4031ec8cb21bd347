package cpu

import (
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu/simd"
)

// group is the number of inputs that share a step.
const group = 16 * simd.Group

// The parts of a trellis matrix.
const (
	indices = iota
	scales
	su
	sv
	parts
)

// W[o,i] = (index − (2^bits − 1)/2) · scales[i/128, o] · su[i] · sv[o], with the
// indices in tiles of 16 outputs by 16 inputs. su goes into the inputs, once
// for each row; the step into the sum of a group; sv into the whole.
var trellis = &codec{
	name: "trellis",
	parts: []part{
		indices: {runtime.Component{Name: "indices", Type: "uchar"}, rowAlign, func(bits, out, in uint64) uint64 { return out / 16 * (in / 16) * 32 * bits }},
		scales:  {runtime.Component{Name: "scales", Type: "half"}, halfAlign, func(_, out, in uint64) uint64 { return groups(in) * out * 2 }},
		su:      {runtime.Component{Name: "su", Type: "half"}, halfAlign, func(_, _, in uint64) uint64 { return in * 2 }},
		sv:      {runtime.Component{Name: "sv", Type: "half"}, halfAlign, func(_, out, _ uint64) uint64 { return out * 2 }},
	},
	widths:   []uint8{2, 3, 4, 5, 6, 7, 8},
	multiple: 16,
}

// rowAlign returns what the 2·bits bytes of an output in a tile are aligned to:
// kernels load them in the largest pieces of up to 8 bytes that fit.
func rowAlign(bits uint64) uint64 { return min(8, 2*bits&-(2*bits)) }

func halfAlign(uint64) uint64 { return 2 }

func groups[T int | uint64](in T) T { return (in + group - 1) / group }

// digits returns the bytes of an activation.
func (e engine) digits() int {
	if e.exact {
		return 4
	}
	return 1
}

// metas returns the floats that describe a group of activations of one row.
func (e engine) metas() int {
	if e.exact {
		return 3
	}
	return 2
}

// A rowBlock is rows of activations that are multiplied together. See package
// simd for what is in it.
type rowBlock struct {
	rows int
	acts []int8    // rows × inputs × digits
	meta []float32 // groups × rows × metas
}

// take takes the first n rows from b, with room for their activations.
func (b *rowBlock) take(n int) rowBlock {
	acts, meta := len(b.acts)/b.rows*n, len(b.meta)/b.rows*n
	first := rowBlock{n, b.acts[:acts], b.meta[:meta]}
	b.rows, b.acts, b.meta = b.rows-n, b.acts[acts:], b.meta[meta:]
	return first
}

// load makes the activations of b for m, from the inputs of its rows.
func (e engine) load(b rowBlock, m *matrix, inputs []*float32) {
	quantize := e.set.Quantize
	if e.exact {
		quantize = e.set.QuantizeExact
	}
	quantize(&b.acts[0], &b.meta[0], &inputs[0], &m.parts[su][0], int(m.bits), b.rows, m.in/16)
}

// A matmul is rows of activations times a matrix.
type matmul struct {
	projection int // of the pass
	matrix     *matrix
	blocks     []rowBlock
	plan       plan
}

// A plan is how to multiply so many rows with the strips of a matrix.
type plan struct {
	multiply []simd.Multiplier // by rows
	spread   simd.Spreader     // if a panel is wanted
	lead     int               // rows that spread multiplies
}

// plan returns how to multiply rows with weights of a width.
func (e engine) plan(bits uint8, rows int) plan {
	switch {
	case e.exact && rows < e.set.PanelRowsExact:
		return plan{multiply: e.set.DotExact[bits]}
	case e.exact:
		return plan{e.set.MultiplyExact[bits], e.set.SpreadExact[bits], e.set.SpreadRowsExact}
	case rows < e.set.PanelRows:
		return plan{multiply: e.set.Dot[bits]}
	}
	return plan{e.set.Multiply[bits], e.set.Spread[bits], e.set.SpreadRows}
}

// block returns the number of rows of the next block, when some are left of the
// rows of a segment. They are the same for all widths: those that a panel is made
// with, if any, and then blocks of about the same size.
func (e engine) block(rows, left int) int {
	p := e.plan(8, rows)
	if left == rows && p.lead > 0 {
		return p.lead
	}
	most := len(p.multiply) - 1
	return left / ((left + most - 1) / most)
}

// panelTiles is the number of tiles that are decoded into a panel and multiplied
// with all rows before the next: it stays in the first-level cache.
const panelTiles = 4 * simd.Group

type panel = [simd.PanelHead + 256*panelTiles]byte

// strip sets y, which has all rows of a matmul, to outputs 16·n to 16·n+15,
// before sv.
func (e engine) strip(y [][strip]float32, of *matmul, n int, next *lookahead, to *panel) {
	m, p := of.matrix, &of.plan
	tiles, tile := m.in/16, 32*int(m.bits)
	w := &m.parts[indices][n*tiles*tile]
	steps, stride := &m.parts[scales][2*strip*n], 2*m.out
	some := panelTiles
	if p.spread == nil {
		some = tiles
	}
	clear(y)
	digits, metas := e.digits(), e.metas()
	for t := 0; t < tiles; t += some {
		n, g := min(some, tiles-t), t/simd.Group
		from, steps, first := offset(w, t*tile), offset(steps, g*stride), 0
		for i := range of.blocks {
			b := &of.blocks[i]
			acts, meta := &b.acts[t*16*b.rows*digits], &b.meta[g*b.rows*metas]
			if i == 0 && p.spread != nil {
				at, rest := next.at[of.projection]+uintptr(64*t), next.rest[of.projection]+uintptr(64*t)
				p.spread(&to[0], &y[0], from, acts, meta, steps, stride, n, at, rest, 64*tiles)
				from, first = &to[0], p.lead
				if p.lead > 0 {
					continue
				}
			}
			ahead := next.rest[of.projection]
			switch {
			case p.spread != nil:
				ahead = next.take(n * simd.Ahead)
			case b.rows*digits == 1:
				ahead = next.at[of.projection]
			}
			p.multiply[b.rows](&y[first], from, acts, meta, steps, stride, n, ahead)
			first += b.rows
		}
	}
}

// A lookahead is the indices of the next strip of all projections, which are
// fetched while this one is multiplied: what a set's decoders do not fetch, its
// multipliers with a panel do, one after another.
type lookahead struct {
	at   [2]uintptr
	size [2]int
	off  int
	rest [2]uintptr // what a projection's multiplier or spreader fetches besides simd.Own
}

// evenRows is the number of rows from which on multiplying takes longer than
// reading, unless indices are wide.
const evenRows = 8

// strip looks ahead from strip n of the matrices, which has so many rows, to a
// strip of others or of the same.
func (l *lookahead) strip(n int, ms []matrix, rows int, to []matrix, at int) {
	l.off = 0
	var none [2]uintptr // what is there to fetch where nothing need be: the strip that is multiplied
	for p := range ms {
		m := &ms[p]
		l.size[p] = m.in * 2 * int(m.bits)
		none[p] = address(m.parts[indices]) + uintptr(n*l.size[p])
		l.at[p] = address(to[p].parts[indices]) + uintptr(at*to[p].in*2*int(to[p].bits))
		l.rest[p] = l.at[p] + uintptr(simd.Own(int(m.bits), m.in/16))
		if m.bits == 2 {
			l.rest[p] = none[p]
		}
	}
	if len(ms) == 1 {
		l.at[1], l.size[1] = l.at[0]+uintptr(l.size[0]), l.size[0]
		return
	}
	// A multiplier of 2 bits has nothing besides, and leaves memory idle.
	for p := range ms {
		if other := 1 - p; ms[p].bits == 2 && ms[other].bits > 2 && rows >= evenRows {
			l.rest[p], l.rest[other] = l.rest[other], none[other]
		}
	}
}

// take returns where the next n bytes are.
func (l *lookahead) take(n int) uintptr {
	off := l.off
	l.off += n
	if off < l.size[0] {
		return l.at[0] + uintptr(off)
	}
	return l.at[1] + uintptr(off-l.size[0])
}

func offset(p *byte, n int) *byte { return (*byte)(unsafe.Add(unsafe.Pointer(p), n)) }
