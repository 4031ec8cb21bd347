package trellis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/x448/float16"
)

// Options say how to quantise.
type Options struct {
	// Moments holds the second moment E[x²] of each input, [in]: errors of an
	// input's weights count in proportion. Nil counts all alike.
	Moments []float64

	// Workers bounds the goroutines; 0 stands for one per processor. The
	// result does not depend on it.
	Workers int
}

// Quantize stores w, row-major [out, in], with indices of the given width. For
// each output and group of inputs it searches the step that makes the squared
// error, weighted with opt.Moments, smallest after rounding to fp16. su is one
// and sv a power of two. The same input gives the same bytes on every machine.
//
// It is an error if a weight is not finite or too large for the format; what
// is too small for it becomes zero. If ctx ends, Quantize returns its cause.
func Quantize(ctx context.Context, w []float32, out, in int, bits uint8, opt Options) (*Tensor, error) {
	if err := CheckShape(bits, out, in); err != nil {
		return nil, err
	}
	if err := errors.Join(checkWeights(w, out, in, bits), checkMoments(opt.Moments, in)); err != nil {
		return nil, err
	}
	t := newTensor(bits, out, in)
	one := float16.Fromfloat32(1)
	for i := range t.SU {
		t.SU[i] = one
	}

	workers := opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, out) {
		wg.Go(func() {
			q := quantizer{tensor: t, moments: opt.Moments, indices: make([]uint8, in), search: newSearch(bits)}
			for ctx.Err() == nil {
				o := int(next.Add(1)) - 1
				if o >= out {
					return
				}
				q.row(w[o*in:(o+1)*in], o)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return t, nil
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

// checkMoments reports the first moment that is no moment.
func checkMoments(moments []float64, in int) error {
	if moments != nil && len(moments) != in {
		return fmt.Errorf("%d moments for %d inputs", len(moments), in)
	}
	for i, m := range moments {
		if !(m >= 0) || math.IsInf(m, 0) {
			return fmt.Errorf("moment %v of input %d is not a finite number ≥ 0", m, i)
		}
	}
	return nil
}

// A quantizer is the scratch memory of one worker.
type quantizer struct {
	tensor  *Tensor
	moments []float64
	indices []uint8 // of a row
	search  *search
}

// row quantises row o. Rows share no byte of the tensor.
func (q *quantizer) row(w []float32, o int) {
	t := q.tensor
	var top float32
	for _, x := range w {
		top = max(top, abs(x))
	}
	move := exponent(float64(top))
	t.SV[o] = float16.Fromfloat32(float32(math.Ldexp(1, move)))
	unit := math.Ldexp(1, -move)
	for g := range groups(t.In) {
		from, to := g*Group, min((g+1)*Group, t.In)
		var moments []float64
		if q.moments != nil {
			moments = q.moments[from:to]
		}
		q.search.load(w[from:to], unit, moments)
		t.Scales[g*t.Out+o] = q.search.best()
		q.search.nearest(q.indices[from:to], t.Scales[g*t.Out+o])
	}
	packRow(t.Indices, q.indices, int(t.Bits), o)
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
