package oracle

import (
	"math"
	"runtime"
	"sync"
)

// A Vector holds values and, for each, the magnitude that its error is judged
// against.
type Vector struct{ Value, Magnitude []float64 }

func newVector(n int) Vector {
	return Vector{Value: make([]float64, n), Magnitude: make([]float64, n)}
}

// add adds scale·w to v.
func (v Vector) add(scale float64, w Vector) {
	for i := range v.Value {
		v.Value[i] += scale * w.Value[i]
		v.Magnitude[i] += math.Abs(scale) * w.Magnitude[i]
	}
}

// A Matrix is a dense weight matrix.
type Matrix struct {
	Out, In int
	W       []float64 // [Out, In], row by row
}

// Row returns row o, the In weights of one output.
func (m Matrix) Row(o int) []float64 { return m.W[o*m.In : (o+1)*m.In] }

// Times returns m·x, for x of In elements; the magnitudes are Σ|w·x|.
func (m Matrix) Times(x []float64) Vector {
	y := newVector(m.Out)
	for o := range m.Out {
		for i, w := range m.Row(o) {
			product := w * x[i]
			y.Value[o] += product
			y.Magnitude[o] += math.Abs(product)
		}
	}
	return y
}

// Distance returns ‖got − want‖ / ‖want‖.
func Distance(got, want []float64) float64 {
	var diff, size float64
	for i, w := range want {
		d := got[i] - w
		diff += d * d
		size += w * w
	}
	return math.Sqrt(diff / size)
}

// Floats returns x as float64.
func Floats(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// parallel calls f(0), …, f(n-1) on all processors.
func parallel(n int, f func(int)) {
	var wg sync.WaitGroup
	workers := min(n, runtime.GOMAXPROCS(0))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}
