package model

import (
	"context"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// A matrix is a linear layer's weight, [out, in].
type matrix blas32.General

// apply returns x·mᵀ, [rows, out], for x of [rows, in].
func (m matrix) apply(x []float32) []float32 {
	rows := len(x) / m.Cols
	y := dense(rows, m.Rows, make([]float32, rows*m.Rows))
	product(y, dense(rows, m.Cols, x), blas.Trans, blas32.General(m))
	return y.Data
}

// dense returns data as a matrix.
func dense(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// columns returns columns from to to of m.
func columns(m blas32.General, from, to int) blas32.General {
	m.Data, m.Cols = m.Data[from:], to-from
	return m
}

// product sets c to a·b, or to a·bᵀ if how is blas.Trans.
func product(c, a blas32.General, how blas.Transpose, b blas32.General) {
	blas32.Gemm(blas.NoTrans, how, 1, a, b, 0, c)
}

// A norm is a root-mean-square layer norm.
type norm struct {
	weight  []float32
	epsilon float64
}

// apply replaces each row of x by its norm.
func (n norm) apply(x []float32) { n.rows(x, len(n.weight)) }

// rows replaces the start of each row of x, which begin stride apart, by its
// norm.
func (n norm) rows(x []float32, stride int) {
	for ; len(x) > 0; x = x[stride:] {
		row := x[:len(n.weight)]
		var sum float64
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		scale := float32(1 / math.Sqrt(sum/float64(len(row))+n.epsilon))
		for i, w := range n.weight {
			row[i] *= scale * w
		}
	}
}

// SwiGLU sets dst to silu(gate) ⊙ up.
func SwiGLU(dst, gate, up []float32) {
	for i, v := range gate {
		dst[i] = float32(float64(v)/(1+math.Exp(-float64(v)))) * up[i]
	}
}

// An mlp is a feed-forward network that all tokens take: down(silu(gate x) ⊙
// (up x)).
type mlp struct {
	gate, up, down matrix
}

// Forward implements feedForward.
func (m *mlp) Forward(ctx context.Context, x []float32) ([]float32, error) {
	h := m.gate.apply(x)
	SwiGLU(h, h, m.up.apply(x))
	return m.down.apply(h), ctx.Err()
}

// Close implements feedForward.
func (m *mlp) Close() error { return nil }
