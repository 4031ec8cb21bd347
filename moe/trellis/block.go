package trellis

import "math"

// A block is some rows of a calibration, with scratch memory. Rows do not
// depend on one another.
type block struct {
	*calibration
	rows   []int
	search *search
	half   float32   // number of points above zero
	e, g   []float32 // W−Q and (W−Q)·H, [rows, in]
	part   []float32 // product, [rows, Group]
	ws     []float32 // [in]
	ms     []float64 // [in]
}

func newBlock(c *calibration) *block {
	in, e := c.tensor.In, thorough
	if c.tensor.Bits <= 4 {
		e = quick // refitting makes up for it
	}
	return &block{
		calibration: c,
		search:      newSearch(c.tensor.Bits, e),
		half:        float32(int(1) << (c.tensor.Bits - 1)),
		e:           make([]float32, rows*in),
		g:           make([]float32, rows*in),
		part:        make([]float32, rows*Group),
		ws:          make([]float32, in),
		ms:          make([]float64, in),
	}
}

// row returns row r of x, [rows, in].
func (b *block) row(x []float32, r int) []float32 {
	in := b.tensor.In
	return x[r*in : (r+1)*in]
}

// nearest returns the grid point nearest to x.
func (b *block) nearest(x float32) float32 {
	return min(max(float32(math.Floor(float64(x))), -b.half), b.half-1) + 0.5
}

// start searches steps, and rounds the weights with feedback.
func (b *block) start() {
	in, h := b.tensor.In, b.h
	for _, o := range b.rows {
		for i, f := range b.su {
			b.ws[i] = b.w[o*in+i] / f
			b.ms[i] = h.left[i] * float64(f) * float64(f)
		}
		for g := range groups(in) {
			from, to := g*Group, min((g+1)*Group, in)
			b.search.load(b.ws[from:to], 1, b.ms[from:to])
			b.steps[o*groups(in)+g] = b.search.best().Float32()
		}
	}

	// e is in h.order here.
	for from := 0; from < in; from += Group {
		to := min(from+Group, in)
		times(general(b.part, len(b.rows), to-from, Group), general(b.e, len(b.rows), from, in),
			general(h.feedback[from*in:], to-from, from, in))
		for r, o := range b.rows {
			e := b.row(b.e, r)
			for p := from; p < to; p++ {
				i := h.order[p]
				back := b.part[r*Group+p-from]
				near := h.feedback[p*in+from : p*in+p]
				for q, x := range e[from:p] {
					back += x * near[q]
				}
				if b.stage == Scaling {
					back = 0
				}
				w, step := b.w[o*in+i], b.steps[o*groups(in)+i/Group]*b.su[i]
				point := float32(0.5)
				if step > 0 {
					point = b.nearest((w + back) / step)
				}
				b.points[o*in+i] = point
				e[p] = w - point*step
			}
		}
	}
}

// gradient sets e and g.
func (b *block) gradient() {
	in := b.tensor.In
	for r, o := range b.rows {
		e := b.row(b.e, r)
		for i := range e {
			e[i] = b.w[o*in+i] - b.points[o*in+i]*b.steps[o*groups(in)+i/Group]*b.su[i]
		}
	}
	b.h.times(b.g, b.e[:len(b.rows)*in])
}

// descend moves indices, one after another, to where the error is smallest,
// until none moves. It leaves g up to date.
func (b *block) descend() {
	b.gradient()
	in := b.tensor.In
	for range passes {
		moved := false
		for i, f := range b.su {
			row := b.h.h[i*in : (i+1)*in]
			for r, o := range b.rows {
				step := b.steps[o*groups(in)+i/Group] * f
				if step == 0 {
					continue
				}
				point := &b.points[o*in+i]
				x := b.g[r*in+i] / (step * row[i])
				// The error falls by (2x−d)·d in units of step²·H[i,i].
				d := b.nearest(*point+x) - *point
				if (2*x-d)*d <= bound {
					continue
				}
				*point += d
				axpy(-d*step, row, b.row(b.g, r))
				moved = true
			}
		}
		if !moved {
			return
		}
	}
}

// refit moves the steps to where the error is smallest with the indices as
// they are. g must be up to date, and is not afterwards.
func (b *block) refit() {
	in, n := b.tensor.In, groups(b.tensor.In)
	q := b.e // points·su
	slope := make([]float64, rows*n)
	for r, o := range b.rows {
		row, g := b.row(q, r), b.row(b.g, r)
		for i := range row {
			row[i] = b.points[o*in+i] * b.su[i]
			slope[r*n+i/Group] += float64(row[i]) * float64(g[i])
		}
	}
	m := make([]float32, rows*n*n)
	for j := range n {
		for k := range j + 1 {
			jn, kn := min(Group, in-j*Group), min(Group, in-k*Group)
			times(general(b.part, len(b.rows), jn, Group), general(q[k*Group:], len(b.rows), kn, in),
				general(b.h.h[j*Group*in+k*Group:], jn, kn, in))
			for r := range b.rows {
				s := dot(b.part[r*Group:][:jn], b.row(q, r)[j*Group:][:jn])
				m[(r*n+j)*n+k], m[(r*n+k)*n+j] = s, s
			}
		}
	}
	for r, o := range b.rows {
		relax(b.steps[o*n:(o+1)*n], m[r*n*n:(r+1)*n*n], slope[r*n:(r+1)*n], 0, 65504)
	}
}
