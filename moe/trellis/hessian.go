package trellis

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/mat"
)

// A Hessian is the second moment H = Σ x·xᵀ of the inputs x of a matrix W, by
// which errors count: a Q in W's place makes the squared error
// tr((W−Q)·H·(W−Q)ᵀ) in the outputs. It is prepared once for any number of
// matrices with these inputs, and safe for concurrent use.
type Hessian struct {
	in   int
	mean float64   // of the diagonal
	h    []float32 // H over mean, shrunk, row-major [in, in]

	// h has a factorisation by which the error e of a row counts
	//
	//	e·h·eᵀ = Σ left[p]·(e[p] + Σ feedback[p,q]·e[q])²  with q < p
	//
	// where p and q are places in order, which begins with the inputs of the
	// largest moments.
	order    []int
	feedback []float32 // row-major [in, in], below the diagonal
	left     []float64 // by input, not by place
}

// dependence says how many samples tell as much as one independent one would.
// Measured: neighbours in a text resemble one another.
const dependence = 10

// NewHessian returns the Hessian of in inputs: values is the sum, or the mean,
// of x·xᵀ over so many samples x, row-major [in, in].
//
// Few samples say little about so many directions. Therefore the values are
// shrunk towards a multiple of the identity, as far as the number of samples
// calls for; without samples, or if all of them are zero, all inputs count
// alike. The estimate is that of O. Ledoit and M. Wolf, "A well-conditioned
// estimator for large-dimensional covariance matrices", 2004, for a normal
// distribution.
//
// It is an error if values is not finite, symmetric to about 1e-6 and positive
// semidefinite.
func NewHessian(in int, values []float64, samples int) (*Hessian, error) {
	if err := checkHessian(in, values, samples); err != nil {
		return nil, err
	}
	h := &Hessian{in: in, h: make([]float32, in*in), order: make([]int, in), feedback: make([]float32, in*in), left: make([]float64, in)}
	for i := range in {
		h.mean += values[i*in+i] / float64(in)
		h.order[i] = i
	}
	if h.mean == 0 {
		h.mean, samples = 1, 0
	}
	shrink := shrinkage(in, values, h.mean, samples)
	for at, v := range values {
		v = (1 - shrink) * (v / h.mean)
		if at%in == at/in {
			v += shrink
		}
		h.h[at] = float32(v)
	}
	slices.SortStableFunc(h.order, func(i, j int) int { return cmp.Compare(h.h[j*in+j], h.h[i*in+i]) })
	if err := h.factor(); err != nil {
		return nil, err
	}
	return h, nil
}

// shrinkage returns the share of the identity, between 0 and 1, where mean is
// that of the diagonal of values.
func shrinkage(in int, values []float64, mean float64, samples int) float64 {
	if samples == 0 {
		return 1
	}
	var square float64 // tr(H²), of an H whose trace is in
	for _, v := range values {
		square += (v / mean) * (v / mean)
	}
	n := float64(in)
	noise := dependence * (square + n*n) / float64(samples)
	// What is left then is still solvable in float32.
	const least = 1e-3
	return max(noise/(noise+max(square-n, 0)), least)
}

// factor sets feedback and left.
func (h *Hessian) factor() error {
	// Uᵀ·U has the last row with but one element, so that its places run
	// against those of order.
	n := h.in
	s := mat.NewSymDense(n, nil)
	for p, i := range h.order {
		for q, j := range h.order[:p+1] {
			s.SetSym(n-1-p, n-1-q, float64(h.h[i*n+j]))
		}
	}
	var c mat.Cholesky
	if !c.Factorize(s) {
		return errNotPositive
	}
	u := c.RawU()
	for p, i := range h.order {
		diagonal := u.At(n-1-p, n-1-p)
		h.left[i] = diagonal * diagonal
		for q := range p {
			h.feedback[p*n+q] = float32(u.At(n-1-p, n-1-q) / diagonal)
		}
	}
	return nil
}

func checkHessian(in int, values []float64, samples int) error {
	if in <= 0 || len(values) != in*in {
		return fmt.Errorf("a second moment of %d numbers for %d inputs, want %d×%d", len(values), in, in, in)
	}
	if samples < 0 {
		return fmt.Errorf("a second moment of %d samples", samples)
	}
	for at, v := range values {
		i, j := at/in, at%in
		if math.IsNaN(v) || math.Abs(v) > math.MaxFloat64/float64(in) {
			return fmt.Errorf("the second moment of inputs %d and %d is %v", i, j, v)
		}
		if i == j && v < 0 {
			return fmt.Errorf("the second moment of input %d is %v, less than zero", i, v)
		}
	}
	for i := range in {
		for j := range i {
			a, b := values[i*in+j], values[j*in+i]
			most := math.Sqrt(values[i*in+i]) * math.Sqrt(values[j*in+j])
			if math.Abs(a-b) > 1e-6*most {
				return fmt.Errorf("the second moment is not symmetric: %v for inputs %d and %d, %v for %d and %d", a, i, j, b, j, i)
			}
			if math.Abs(a) > (1+1e-6)*most {
				return fmt.Errorf("%w: %v for inputs %d and %d", errNotPositive, a, i, j)
			}
		}
	}
	return nil
}

var errNotPositive = errors.New("the second moment is not positive semidefinite")

// Error returns tr((W−Q)·H·(W−Q)ᵀ) for W, row-major [out, in], stored as t,
// with the H of NewHessian after shrinking. Its relative error is about 1e-5.
func (h *Hessian) Error(w []float32, t *Tensor) (float64, error) {
	if t.In != h.in || len(w) != t.Out*t.In {
		return 0, fmt.Errorf("%d weights for a matrix of %d×%d with the second moments of %d inputs", len(w), t.Out, t.In, h.in)
	}
	e, err := t.Dequantize()
	if err != nil {
		return 0, err
	}
	for at := range e {
		e[at] = w[at] - e[at]
	}
	g := make([]float32, rows*h.in)
	var sum float64
	for from := 0; from < len(e); from += len(g) {
		part := e[from:min(from+len(g), len(e))]
		h.times(g, part)
		for at, x := range part {
			sum += float64(x) * float64(g[at])
		}
	}
	return sum * h.mean, nil
}

// times sets dst to x·h, both row-major [at most rows, in].
func (h *Hessian) times(dst, x []float32) {
	times(general(dst, len(x)/h.in, h.in, h.in), general(x, len(x)/h.in, h.in, h.in), general(h.h, h.in, h.in, h.in))
}

// times sets dst to a·bᵀ, in parts that blas32 does not spread over goroutines.
func times(dst, a, b blas32.General) {
	const part = 128
	for from := 0; from < b.Rows; from += part {
		n := min(part, b.Rows-from)
		blas32.Gemm(blas.NoTrans, blas.Trans, 1, a, general(b.Data[from*b.Stride:], n, b.Cols, b.Stride),
			0, general(dst.Data[from:], dst.Rows, n, dst.Stride))
	}
}

func general(data []float32, rows, cols, stride int) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: stride, Data: data}
}

// axpy adds a·x to y.
func axpy(a float32, x, y []float32) { blas32.Axpy(a, vector(x), vector(y)) }

func dot(x, y []float32) float32 { return blas32.Dot(vector(x), vector(y)) }

func vector(data []float32) blas32.Vector {
	return blas32.Vector{N: len(data), Inc: 1, Data: data}
}
