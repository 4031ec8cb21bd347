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
	defer func(old loops) { machine = old }(machine)
	var m Multiplier
	for _, size := range []struct{ tokens, rows, n int }{
		{1, 1, 1}, {2, 3, 8}, {4, 4, 7}, {5, 4, 8}, {6, 5, 9}, {8, 8, 16}, {3, 64, 80}, {7, 7, 2048}, {9, 160, 333}, {13, 10, 1100}, {131, 9, 520},
	} {
		t.Run(fmt.Sprintf("%+v", size), func(t *testing.T) {
			x, w := random(r, size.tokens*size.n), random(r, size.rows*size.n)
			want := make([]float32, size.tokens*size.rows)
			machine = portable
			m.Times(want, x, w, size.n, serial(1))
			for i := range want {
				var sum, magnitude float64
				token := x[i/size.rows*size.n:]
				for j, v := range w[i%size.rows*size.n:][:size.n] {
					sum += float64(v) * float64(token[j])
					magnitude += math.Abs(float64(v) * float64(token[j]))
				}
				require.InDelta(t, sum, want[i], 1e-7*magnitude)
			}
			for name, own := range all() {
				machine = own
				got := make([]float32, len(want))
				m.Times(got, x, w, size.n, serial(1+r.IntN(4)))
				require.Equal(t, want, got, name)
			}
		})
	}
}

func TestTimesKeepsMemory(t *testing.T) {
	var m Multiplier
	dst, x, w := make([]float32, 5*64), make([]float32, 5*96), make([]float32, 64*96)
	require.Zero(t, testing.AllocsPerRun(10, func() { m.Times(dst, x, w, 96, serial(2)) }))
}

// serial are workers that take turns.
type serial int

func (s serial) Workers() int { return int(s) }

func (s serial) Each(n int, task func(worker, i int)) {
	for i := range n {
		task(i%int(s), i)
	}
}

// Tokens of GLM-4.7-Flash.
func BenchmarkTimes(b *testing.B) {
	const experts, hidden = 64, 2048
	r := rand.New(rand.NewPCG(3, 4))
	w := random(r, experts*hidden)
	var m Multiplier
	for _, tokens := range []int{1, 4, 256} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			dst, x := make([]float32, tokens*experts), random(r, tokens*hidden)
			for b.Loop() {
				m.Times(dst, x, w, hidden, serial(1))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tokens), "ns/token")
		})
	}
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}
