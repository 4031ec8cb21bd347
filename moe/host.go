package moe

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
)

// host runs an expert in plain Go. Both x and the result are [rows, hidden];
// the assignments' probabilities are not in it. Sums are in float64, and do not
// depend on the number of workers.
func host(ctx context.Context, workers int, codec Codec, data []byte, e *Expert, x []float32) ([]float32, error) {
	rows := len(x) / e.Gate.In
	h := make([]float32, rows*e.Gate.Out)
	err := eachOutput(ctx, workers, e.Gate.Out, func() func(int) {
		gate, up := make([]float32, e.Gate.In), make([]float32, e.Up.In)
		return func(o int) {
			codec.Row(gate, data, e.Gate, o)
			codec.Row(up, data, e.Up, o)
			for r := range rows {
				in := x[r*e.Gate.In:][:e.Gate.In]
				h[r*e.Gate.Out+o] = float32(silu(dot(gate, in)) * dot(up, in))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	y := make([]float32, rows*e.Down.Out)
	return y, eachOutput(ctx, workers, e.Down.Out, func() func(int) {
		down := make([]float32, e.Down.In)
		return func(o int) {
			codec.Row(down, data, e.Down, o)
			for r := range rows {
				y[r*e.Down.Out+o] = float32(dot(down, h[r*e.Down.In:][:e.Down.In]))
			}
		}
	})
}

// silu returns x·sigmoid(x), exactly.
func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

// eachOutput calls a function that worker makes for each goroutine with every
// o from 0 to n-1.
func eachOutput(ctx context.Context, workers, n int, worker func() func(o int)) error {
	const chunk = 16
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, (n+chunk-1)/chunk) {
		wg.Go(func() {
			f := worker()
			for ctx.Err() == nil {
				end := int(next.Add(chunk))
				if end-chunk >= n {
					return
				}
				for o := end - chunk; o < min(end, n); o++ {
					f(o)
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
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
