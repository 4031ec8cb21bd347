package trellis

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/x448/float16"
)

// Options say how to quantise.
type Options struct {
	// Hessian is the second moment of the inputs: weights' errors count by what
	// they do to the outputs. Nil counts all alike, and each for itself.
	Hessian *Hessian

	// Stage is the last stage of what is done with a Hessian.
	Stage Stage

	// Workers bounds the goroutines; 0 stands for one per processor. The
	// result does not depend on it.
	Workers int
}

// A Stage is how far quantising with a Hessian goes. Only Complete is of use,
// except to measure what each stage gains.
type Stage uint8

// The stages.
const (
	Complete Stage = iota // all that there is
	Scaling               // su and steps fitted, every weight rounded for itself
	Feedback              // that, and weights rounded after the errors of those before them
)

// Quantize stores w, row-major [out, in], with indices of the given width.
//
// Without a Hessian it searches, for each output and group of inputs, the step
// that makes the squared error smallest after rounding to fp16. su is one and
// sv a power of two. The same input gives the same bytes on every machine.
//
// With one it minimises the squared error of the outputs, and su varies. The
// same input gives the same bytes on one machine; those of processors of
// different kinds may differ, as their sums do in the last bits.
//
// It is an error if a weight is not finite or too large for the format; what
// is too small for it becomes zero. If ctx ends, Quantize returns its cause.
func Quantize(ctx context.Context, w []float32, out, in int, bits uint8, opt Options) (*Tensor, error) {
	if err := CheckShape(bits, out, in); err != nil {
		return nil, err
	}
	if err := checkWeights(w, out, in, bits); err != nil {
		return nil, err
	}
	workers := opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	t := newTensor(bits, out, in)
	if h := opt.Hessian; h != nil {
		if h.in != in {
			return nil, fmt.Errorf("the second moment of %d inputs for a matrix of %d×%d", h.in, out, in)
		}
		if err := calibrate(ctx, t, w, h, opt.Stage, workers); err != nil {
			return nil, err
		}
		return t, nil
	}

	one := float16.Fromfloat32(1)
	for i := range t.SU {
		t.SU[i] = one
	}
	err := parallel(ctx, workers, out, func() func(int) {
		q := quantizer{tensor: t, indices: make([]uint8, in), search: newSearch(bits, thorough)}
		return func(o int) { q.row(w[o*in:(o+1)*in], o) }
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// parallel does the jobs from 0 to n, each by one of so many workers, unless
// ctx ends.
func parallel(ctx context.Context, workers, n int, worker func() func(job int)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			do := worker()
			for ctx.Err() == nil {
				job := int(next.Add(1)) - 1
				if job >= n {
					return
				}
				do(job)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// checkWeights reports the weights that cannot be stored.
func checkWeights(w []float32, out, in int, bits uint8) error {
	if len(w) != out*in {
		return fmt.Errorf("%d weights for a matrix of %d×%d", len(w), out, in)
	}
	first, others := -1, 0
	for at, x := range w {
		if x >= -largest && x <= largest {
			continue
		}
		if first >= 0 {
			others++
			continue
		}
		first = at
	}
	if first < 0 {
		return nil
	}
	err := fmt.Errorf("row %d, column %d: weight %v cannot be stored with %d bits", first/in, first%in, w[first], bits)
	if others > 0 {
		err = fmt.Errorf("%w, nor can %d others", err, others)
	}
	return err
}

// largest bounds the weights that can be stored: with sv at its largest power
// of two, twice as much is still a step of fp16.
const largest = 1 << (maxExponent + 14)

// A quantizer is the scratch memory of one worker.
type quantizer struct {
	tensor  *Tensor
	indices []uint8 // of a row
	search  *search
}

// row quantises row o. Rows share no byte of the tensor.
func (q *quantizer) row(w []float32, o int) {
	t := q.tensor
	unit := t.normalize(w, o)
	for g := range groups(t.In) {
		from, to := g*Group, min((g+1)*Group, t.In)
		q.search.load(w[from:to], unit, nil)
		t.Scales[g*t.Out+o] = q.search.best()
		q.search.nearest(q.indices[from:to], t.Scales[g*t.Out+o])
	}
	packRow(t.Indices, q.indices, int(t.Bits), o)
}

// normalize sets sv of row o, and returns one over it.
func (t *Tensor) normalize(w []float32, o int) float64 {
	var top float32
	for _, x := range w {
		top = max(top, abs(x))
	}
	move := exponent(float64(top))
	t.SV[o] = float16.Fromfloat32(float32(math.Ldexp(1, move)))
	return math.Ldexp(1, -move)
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
