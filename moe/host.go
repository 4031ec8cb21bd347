package moe

import (
	"context"
	"math"

	"github.com/marlingen/marlingen/runtime"
)

// host runs an expert in plain Go. Both x and the result are [rows, hidden];
// the assignments' probabilities are not in it. Sums are in float64, and do not
// depend on the number of workers.
func host(ctx context.Context, w runtime.Workers, codec Codec, data []byte, e *Expert, x []float32) ([]float32, error) {
	rows := len(x) / e.Gate.In
	h, y := make([]float32, rows*e.Gate.Out), make([]float32, rows*e.Down.Out)
	weights := make([][2][]float32, w.Workers())
	for i := range weights {
		weights[i] = [2][]float32{make([]float32, max(e.Gate.In, e.Down.In)), make([]float32, e.Up.In)}
	}
	eachOutput(ctx, w, e.Gate.Out, func(worker, o int) {
		gate, up := weights[worker][0][:e.Gate.In], weights[worker][1]
		codec.Row(gate, data, e.Gate, o)
		codec.Row(up, data, e.Up, o)
		for r := range rows {
			in := x[r*e.Gate.In:][:e.Gate.In]
			h[r*e.Gate.Out+o] = float32(silu(dot(gate, in)) * dot(up, in))
		}
	})
	eachOutput(ctx, w, e.Down.Out, func(worker, o int) {
		down := weights[worker][0][:e.Down.In]
		codec.Row(down, data, e.Down, o)
		for r := range rows {
			y[r*e.Down.Out+o] = float32(dot(down, h[r*e.Down.In:][:e.Down.In]))
		}
	})
	return y, ctx.Err()
}

// silu returns x·sigmoid(x), exactly.
func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

// eachOutput calls f with every o from 0 to n-1, or until ctx ends.
func eachOutput(ctx context.Context, w runtime.Workers, n int, f func(worker, o int)) {
	const chunk = 16
	w.Each((n+chunk-1)/chunk, func(worker, i int) {
		if ctx.Err() != nil {
			return
		}
		for o := chunk * i; o < min(chunk*(i+1), n); o++ {
			f(worker, o)
		}
	})
}

// dot returns the dot product of a and b, summed in float64.
func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return (s0 + s1) + (s2 + s3)
}
