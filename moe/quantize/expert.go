package quantize

import (
	"context"
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

// An expert holds the weights of one: gate, up and down.
type expert struct {
	name        string
	projections [3]projection // whose widths are of no meaning
	weights     [3]blas32.General
}

// read returns expert e of a layer of c.
func read(c *checkpoint.Checkpoint, layer, e int) (*expert, error) {
	x := &expert{name: prefix(c.Config, layer, e), projections: projections(c.Config, runtime.BitTuple{})}
	for i, p := range x.projections {
		w, err := c.Float32s(x.name+p.name+".weight", p.out, p.in)
		if err != nil {
			return nil, err
		}
		x.weights[i] = matrix(p.out, p.in, w)
	}
	return x, nil
}

func matrix(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// times returns x·wᵀ, [rows, out].
func times(x, w blas32.General) blas32.General {
	y := matrix(x.Rows, w.Rows, make([]float32, x.Rows*w.Rows))
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, x, w, 0, y)
	return y
}

// hidden returns silu(x·gateᵀ) ⊙ (x·upᵀ), [rows, intermediate].
func hidden(gate, up blas32.General) blas32.General {
	h := matrix(gate.Rows, gate.Cols, make([]float32, len(gate.Data)))
	model.SwiGLU(h.Data, gate.Data, up.Data)
	return h
}

// quantise returns projection i with weights of the given width.
func (x *expert) quantise(ctx context.Context, i int, bits uint8, o trellis.Options) (*trellis.Tensor, error) {
	p := x.projections[i]
	t, err := trellis.Quantize(ctx, x.weights[i].Data, p.out, p.in, bits, o)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", x.name, p.name, err)
	}
	return t, nil
}

// decode returns the weights of t.
func decode(t *trellis.Tensor) (blas32.General, error) {
	w, err := t.Dequantize()
	return matrix(t.Out, t.In, w), err
}

// rows are the tokens that an expert gets, each with the weight that its output
// has.
type rows struct {
	token  []int
	weight []float32
}

// of returns the rows of x, [tokens, hidden].
func (r *rows) of(x []float32, hidden int) blas32.General {
	m := matrix(len(r.token), hidden, make([]float32, 0, len(r.token)*hidden))
	for _, t := range r.token {
		m.Data = append(m.Data, x[t*hidden:][:hidden]...)
	}
	return m
}

// some returns at most n of r, evenly spaced.
func (r *rows) some(n int) *rows {
	if len(r.token) <= n {
		return r
	}
	s := &rows{}
	for i := range n {
		at := i * len(r.token) / n
		s.token, s.weight = append(s.token, r.token[at]), append(s.weight, r.weight[at])
	}
	return s
}

// moment returns the second moment of x, each row of which counts as much as
// the square of its weight: errors of an output count so in a layer's output.
func (r *rows) moment(x blas32.General) (*trellis.Hessian, error) {
	const block = 4096 // rows at once
	n := x.Cols
	sum := blas64.General{Rows: n, Cols: n, Stride: n, Data: make([]float64, n*n)}
	for from := 0; from < x.Rows; from += block {
		to := min(from+block, x.Rows)
		scaled := blas64.General{Rows: to - from, Cols: n, Stride: n, Data: make([]float64, 0, (to-from)*n)}
		for i := from; i < to; i++ {
			for _, v := range x.Data[i*x.Stride:][:n] {
				scaled.Data = append(scaled.Data, float64(v)*float64(r.weight[i]))
			}
		}
		blas64.Gemm(blas.Trans, blas.NoTrans, 1, scaled, scaled, 1, sum)
	}
	// Both halves are sums of the same products, in orders that may differ.
	for i := range n {
		for j := range i {
			sum.Data[i*n+j] = sum.Data[j*n+i]
		}
	}
	return trellis.NewHessian(n, sum.Data, x.Rows)
}

// addTo adds the outputs y of r's rows, by their weights, to out, the sums of
// all experts, [tokens, hidden].
func (r *rows) addTo(out []float32, y blas32.General) {
	for i, t := range r.token {
		sum := out[t*y.Cols:][:y.Cols]
		for j, v := range y.Data[i*y.Stride:][:y.Cols] {
			sum[j] += r.weight[i] * v
		}
	}
}
