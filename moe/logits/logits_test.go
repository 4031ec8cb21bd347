package logits

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// All loops of the machine find the same bits, which are right.
func TestTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	defer func(old loop) { lanes = old }(lanes)
	var m Multiplier
	for _, size := range []struct{ rows, n int }{
		{1, 1}, {3, 8}, {4, 7}, {4, 8}, {5, 9}, {8, 16}, {64, 80}, {7, 2048}, {160, 333},
	} {
		t.Run(fmt.Sprintf("%d rows of %d", size.rows, size.n), func(t *testing.T) {
			x, w := random(r, size.n), random(r, size.rows*size.n)
			want := make([]float32, size.rows)
			lanes = portable
			m.Times(want, x, w)
			for i := range want {
				var sum, magnitude float64
				for j, v := range w[i*size.n:][:size.n] {
					sum += float64(v) * float64(x[j])
					magnitude += math.Abs(float64(v) * float64(x[j]))
				}
				require.InDelta(t, sum, want[i], 1e-7*magnitude)
			}
			for name, own := range all() {
				lanes = own
				got := make([]float32, size.rows)
				m.Times(got, x, w)
				require.Equal(t, want, got, name)
			}
		})
	}
}

func TestTimesKeepsMemory(t *testing.T) {
	var m Multiplier
	dst, x, w := make([]float32, 64), make([]float32, 96), make([]float32, 64*96)
	require.Zero(t, testing.AllocsPerRun(10, func() { m.Times(dst, x, w) }))
}

// A token of GLM-4.7-Flash.
func BenchmarkTimes(b *testing.B) {
	const experts, hidden = 64, 2048
	r := rand.New(rand.NewPCG(3, 4))
	dst, x, w := make([]float32, experts), random(r, hidden), random(r, experts*hidden)
	var m Multiplier
	b.SetBytes(4 * experts * hidden)
	for b.Loop() {
		m.Times(dst, x, w)
	}
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}
