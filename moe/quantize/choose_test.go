package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is chosen fits, and no single exchange that fits makes it better; the
// harm is near the least that trying everything finds.
func TestChoose(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	near, possible := 0, 0
	for range 300 {
		choices := make([][]choice, 1+r.IntN(6))
		most := 0
		for i := range choices {
			large := 0
			for range 1 + r.IntN(5) {
				c := choice{bytes: 1 + r.IntN(50), harm: r.Float64() * math.Pow(10, 3*r.Float64())}
				choices[i] = append(choices[i], c)
				large = max(large, c.bytes)
			}
			most += large
		}
		bytes := r.IntN(most + 10)
		chosen, least := choose(choices, bytes)
		best := exhaust(choices, bytes)
		if least > bytes {
			require.Nil(t, chosen)
			require.True(t, math.IsInf(best, 1))
			continue
		}
		possible++
		total, harm := 0, 0.0
		for i, k := range chosen {
			total += choices[i][k].bytes
			harm += choices[i][k].harm
		}
		require.LessOrEqual(t, total, bytes)
		require.GreaterOrEqual(t, harm, best-1e-9)
		for i, k := range chosen {
			for _, c := range choices[i] {
				fits := total-choices[i][k].bytes+c.bytes <= bytes
				require.False(t, fits && c.harm < choices[i][k].harm, "expert %d could do better", i)
			}
		}
		if harm <= best*1.05+1e-9 {
			near++
		}
	}
	require.Greater(t, near, possible*3/4)
}

// exhaust returns the least harm of all choices that fit.
func exhaust(choices [][]choice, bytes int) float64 {
	if bytes < 0 {
		return math.Inf(1)
	}
	if len(choices) == 0 {
		return 0
	}
	best := math.Inf(1)
	for _, c := range choices[0] {
		best = min(best, c.harm+exhaust(choices[1:], bytes-c.bytes))
	}
	return best
}

func TestDivergence(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		n := 2 + r.IntN(50)
		p, q := make([]float32, n), make([]float32, n)
		for i := range p {
			p[i], q[i] = float32(r.NormFloat64()*5), float32(r.NormFloat64()*5)
		}
		softmax := func(x []float32) []float64 {
			var s float64
			y := make([]float64, n)
			for i, v := range x {
				y[i] = math.Exp(float64(v))
				s += y[i]
			}
			for i := range y {
				y[i] /= s
			}
			return y
		}
		ps, qs := softmax(p), softmax(q)
		want := 0.0
		for i := range ps {
			want += ps[i] * math.Log(ps[i]/qs[i])
		}
		require.InEpsilon(t, want, kl(p, q), 1e-6)
		require.InDelta(t, 0, kl(p, p), 1e-12)
		shifted := slices.Clone(p)
		for i := range shifted {
			shifted[i] += 3
		}
		require.InDelta(t, 0, kl(p, shifted), 1e-5)
	}
}
