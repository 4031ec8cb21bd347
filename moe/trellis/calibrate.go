package trellis

import (
	"context"
	"math"
	"slices"

	"github.com/x448/float16"
)

const (
	rows    = 16   // that are quantised together
	samples = 32   // rows that the choice of su is made with
	passes  = 8    // of a descent over indices, at most
	bound   = 1e-3 // of what an index must gain, in units of its step's error
	limit   = 64   // of su, and one over it
)

// A calibration minimises tr(e·H·eᵀ) for e = W−Q. In turn, each never making
// it worse, it moves indices with the steps and su fixed, steps with the
// indices and su fixed, and su with both fixed. It starts from what error
// feedback makes: each weight is rounded after the errors of those before it
// have been made up for, as far as it can. That is E. Frantar et al., "GPTQ",
// 2022, in the form of J. Chee et al., "QuIP", 2023, algorithm LDLQ.
type calibration struct {
	h      *Hessian
	tensor *Tensor
	stage  Stage
	each   func(n int, worker func() func(i int)) error

	w      []float32 // over sv, [out, in]
	su, sv []float32
	steps  []float32 // [out, groups]
	points []float32 // index − (2^bits − 1)/2, [out, in]
}

// calibrate sets t to w, for inputs with the second moment h.
func calibrate(ctx context.Context, t *Tensor, w []float32, h *Hessian, stage Stage, workers int) error {
	c := &calibration{
		h: h, tensor: t, stage: stage,
		each: func(n int, worker func() func(int)) error { return parallel(ctx, workers, n, worker) },

		w:      make([]float32, t.Out*t.In),
		su:     make([]float32, t.In),
		sv:     make([]float32, t.Out),
		steps:  make([]float32, t.Out*groups(t.In)),
		points: make([]float32, t.Out*t.In),
	}
	for o := range t.Out {
		row := w[o*t.In : (o+1)*t.In]
		unit := t.normalize(row, o)
		c.sv[o] = t.SV[o].Float32()
		for i, x := range row {
			c.w[o*t.In+i] = float32(float64(x) * unit)
		}
	}
	if err := c.chooseSU(); err != nil {
		return err
	}
	if stage != Complete {
		if err := c.blocks(c.all(), (*block).start); err != nil {
			return err
		}
		c.store()
		return nil
	}
	start := func(b *block) {
		b.start()
		b.descend()
		b.refit()
		b.descend()
		b.refit()
	}
	if err := c.blocks(c.all(), start); err != nil {
		return err
	}
	if err := c.refitSU(); err != nil {
		return err
	}
	finish := func(b *block) {
		b.descend()
		b.refit()
		b.descend()
	}
	if err := c.blocks(c.all(), finish); err != nil {
		return err
	}
	c.store()
	return nil
}

// chooseSU sets su to the power of √(r/√left) that is best of a few, for a
// sample of rows, where r is the root mean square of the input's weights: its
// step should grow with its weights and shrink with what their errors do.
func (c *calibration) chooseSU() error {
	t := c.tensor
	squares := make([]float64, t.In)
	var mean float64
	for at, x := range c.w {
		square := math.Pow(float64(x)*float64(c.sv[at/t.In]), 2)
		squares[at%t.In] += square
		mean += square / float64(t.In)
	}
	shape := make([]float64, t.In) // logarithm
	var middle float64
	for i, square := range squares {
		square = max(square, 1e-4*mean, math.SmallestNonzeroFloat64)
		shape[i] = math.Log(square)/4 - math.Log(c.h.left[i])/8
		middle += shape[i] / float64(t.In)
	}
	var some []int
	for k := range min(samples, t.Out) {
		some = append(some, k*t.Out/min(samples, t.Out))
	}
	least := math.Inf(1)
	var best []float32
	for _, power := range []float64{0, 0.5, 1, 2} {
		for i := range c.su {
			f := math.Exp(power * (shape[i] - middle))
			c.su[i] = round(min(max(f, 1./limit), limit)).Float32()
		}
		sum, err := c.error(some)
		if err != nil {
			return err
		}
		if sum < least {
			least, best = sum, slices.Clone(c.su)
		}
	}
	c.su = best
	return nil
}

// error returns the error of the given rows after feedback.
func (c *calibration) error(some []int) (sum float64, err error) {
	sums := make([]float64, c.tensor.Out)
	err = c.blocks(some, func(b *block) {
		b.start()
		b.gradient()
		for r, o := range b.rows {
			e, g := b.row(b.e, r), b.row(b.g, r)
			for i := range e {
				sums[o] += float64(e[i]) * float64(g[i])
			}
			sums[o] *= float64(c.sv[o]) * float64(c.sv[o])
		}
	})
	for _, s := range sums {
		sum += s
	}
	return sum, err
}

// refitSU moves su to where the error is smallest with the indices and steps
// as they are. There it is a quadratic function of su, with the matrix
// (CᵀC)⊙H for C = points·steps·sv, and the slope Σ (e·H)⊙C over all rows.
func (c *calibration) refitSU() error {
	t := c.tensor
	scaled := make([]float32, t.In*t.Out) // C, [in, out]
	slopes := make([]float32, t.Out*t.In)
	if err := c.blocks(c.all(), func(b *block) {
		b.gradient()
		for r, o := range b.rows {
			g := b.row(b.g, r)
			for i := range g {
				x := c.points[o*t.In+i] * c.steps[o*groups(t.In)+i/Group] * c.sv[o]
				scaled[i*t.Out+o] = x
				slopes[o*t.In+i] = g[i] * c.sv[o] * x
			}
		}
	}); err != nil {
		return err
	}
	slope := make([]float64, t.In)
	for at, s := range slopes {
		slope[at%t.In] += float64(s)
	}

	m := make([]float32, t.In*t.In)
	if err := c.each(t.In/Tile, func() func(int) {
		return func(k int) {
			from := k * Tile
			times(general(m[from*t.In:], Tile, t.In, t.In),
				general(scaled[from*t.Out:], Tile, t.Out, t.Out), general(scaled, t.In, t.Out, t.Out))
			for at := from * t.In; at < (from+Tile)*t.In; at++ {
				m[at] *= c.h.h[at]
			}
		}
	}); err != nil {
		return err
	}
	relax(c.su, m, slope, 1./limit, limit)
	return nil
}

// relax moves fp16 numbers from x to x+d, one after another, to where
// dᵀ·m·d − 2·slopeᵀ·d is smallest and they are between least and most.
func relax(x, m []float32, slope []float64, least, most float64) {
	const sweeps = 10
	n := len(x)
	left := make([]float32, n)
	for i, s := range slope {
		left[i] = float32(s)
	}
	for range sweeps {
		moved := false
		for i := range x {
			row := m[i*n : (i+1)*n]
			if row[i] <= 0 {
				continue
			}
			to := float64(x[i]) + float64(left[i])/float64(row[i])
			d := round(min(max(to, least), most)).Float32() - x[i]
			if !(d*(2*left[i]-d*row[i]) > 0) {
				continue
			}
			x[i] += d
			axpy(-d, row, left)
			moved = true
		}
		if !moved {
			break
		}
	}
}

// store sets the tensor's components.
func (c *calibration) store() {
	t := c.tensor
	for i, f := range c.su {
		t.SU[i] = float16.Fromfloat32(f)
	}
	mid := float32(int(1)<<t.Bits-1) / 2
	indices := make([]uint8, t.In)
	for o := range t.Out {
		for i := range indices {
			indices[i] = uint8(c.points[o*t.In+i] + mid)
		}
		packRow(t.Indices, indices, int(t.Bits), o)
		for g := range groups(t.In) {
			t.Scales[g*t.Out+o] = float16.Fromfloat32(c.steps[o*groups(t.In)+g])
		}
	}
}

// all returns the numbers of all rows.
func (c *calibration) all() []int {
	all := make([]int, c.tensor.Out)
	for o := range all {
		all[o] = o
	}
	return all
}

// blocks calls do with blocks of the given rows, in any order.
func (c *calibration) blocks(some []int, do func(b *block)) error {
	return c.each((len(some)+rows-1)/rows, func() func(int) {
		b := newBlock(c)
		return func(i int) {
			b.rows = some[i*rows : min((i+1)*rows, len(some))]
			do(b)
		}
	})
}
