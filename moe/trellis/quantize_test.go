package trellis_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/stretchr/testify/require"
)

func gaussian(out, in int, deviation float64) []float32 {
	r := rand.New(rand.NewPCG(20, 26))
	w := make([]float32, out*in)
	for i := range w {
		w[i] = float32(deviation * r.NormFloat64())
	}
	return w
}

// relative returns the root of Σ (w − v)² / Σ w².
func relative(w, v []float32) float64 {
	var d, n float64
	for i := range w {
		d += math.Pow(float64(w[i])-float64(v[i]), 2)
		n += math.Pow(float64(w[i]), 2)
	}
	return math.Sqrt(d / n)
}

// optimum returns the relative error, on a normal distribution, of the best
// uniform mid-rise grid of 2^bits points.
func optimum(bits uint8) float64 {
	// second returns the integral of (x − c)²·φ(x) from a to b.
	second := func(a, b, c float64) float64 {
		phi := func(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }
		p := (math.Erfc(a/math.Sqrt2) - math.Erfc(b/math.Sqrt2)) / 2
		xb := 0.0
		if !math.IsInf(b, 1) {
			xb = b * phi(b)
		} else {
			b = 40
		}
		return p*(1+c*c) + a*phi(a) - xb - 2*c*(phi(a)-phi(b))
	}
	loss := func(step float64) float64 {
		var sum float64
		half := 1 << (bits - 1)
		for k := range half {
			end := float64(k+1) * step
			if k == half-1 {
				end = math.Inf(1)
			}
			sum += 2 * second(float64(k)*step, end, (float64(k)+0.5)*step)
		}
		return sum
	}
	lo, hi := 1e-3, 2.0
	for range 100 {
		a, b := lo+(hi-lo)/3, hi-(hi-lo)/3
		if loss(a) < loss(b) {
			hi = b
		} else {
			lo = a
		}
	}
	return math.Sqrt(loss(lo))
}

func TestQuantizeGaussian(t *testing.T) {
	// J. Max, "Quantizing for minimum distortion", 1960, table II.
	for bits, want := range map[uint8]float64{2: 0.1188, 3: 0.03744, 4: 0.01154, 5: 0.003495} {
		require.InEpsilon(t, want, math.Pow(optimum(bits), 2), 0.001, "%d bits", bits)
	}

	// What fitting the grid to each group of 128 should reach; with more
	// bits, that is better than one grid for the whole distribution.
	fitted := map[uint8]float64{2: 0.347, 3: 0.192, 4: 0.101, 6: 0.026}

	const out, in = 64, 2048
	w := gaussian(out, in, 0.02)
	for bits := uint8(trellis.MinBits); bits <= trellis.MaxBits; bits++ {
		tensor, err := trellis.Quantize(context.Background(), w, out, in, bits, trellis.Options{})
		require.NoError(t, err)
		v, err := tensor.Dequantize()
		require.NoError(t, err)
		got, best := relative(w, v), optimum(bits)
		t.Logf("%d bits: relative error %.5f; the best single grid has %.5f", bits, got, best)
		require.LessOrEqual(t, got, 1.02*best, "%d bits", bits)
		if want, ok := fitted[bits]; ok {
			require.LessOrEqual(t, got, 1.02*want, "%d bits", bits)
		}
	}
}

// TestQuantizeBest compares the search with an exhaustive one over all steps.
func TestQuantizeBest(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const out, in, rows = 16, 128, 4
	for _, c := range []struct {
		name string
		draw func() float64
	}{
		{"normal", r.NormFloat64},
		{"laplace", func() float64 { return r.ExpFloat64() * float64(2*r.IntN(2)-1) }},
		{"uniform", func() float64 { return 2*r.Float64() - 1 }},
		{"outliers", func() float64 { return r.NormFloat64() * math.Pow(10, 2*math.Floor(1.01*r.Float64())) }},
		{"signs", func() float64 { return float64(2*r.IntN(2) - 1) }},
	} {
		w := make([]float32, out*in)
		for i := range w {
			w[i] = float32(c.draw())
		}
		for bits := uint8(2); bits <= 5; bits++ {
			tensor, err := trellis.Quantize(context.Background(), w, out, in, bits, trellis.Options{})
			require.NoError(t, err)
			v, err := tensor.Dequantize()
			require.NoError(t, err)
			var best float64
			for o := range rows {
				best += exhaustive(w[o*in:(o+1)*in], bits)
			}
			// Rounding the step to fp16 costs a relative error of 2^-11.
			got, zero := loss(w[:rows*in], v), loss(w[:rows*in], make([]float32, rows*in))
			require.LessOrEqual(t, got, 1.02*best+0x1p-22*zero, "%s, %d bits", c.name, bits)
		}
	}
}

func loss(w, v []float32) (sum float64) {
	for i := range w {
		sum += math.Pow(float64(w[i])-float64(v[i]), 2)
	}
	return sum
}

func exhaustive(w []float32, bits uint8) float64 {
	var most float64
	for _, x := range w {
		most = max(most, math.Abs(float64(x)))
	}
	best := math.Inf(1)
	half := float64(int(1) << (bits - 1))
	for step := most * 0.001; step < 2*most; step *= 1.005 {
		var sum float64
		for _, x := range w {
			q := min(max(math.Floor(float64(x)/step), -half), half-1) + 0.5
			sum += math.Pow(float64(x)-q*step, 2)
		}
		best = min(best, sum)
	}
	return best
}

func TestQuantizeRange(t *testing.T) {
	const out, in = 16, 144
	for _, deviation := range []float64{1e-7, 1e-5, 1e-3, 1, 1e4, 1e7} {
		w := gaussian(out, in, deviation)
		clear(w[:in])                 // a row of zeros
		clear(w[3*in+128 : 3*in+144]) // a group of zeros
		for _, bits := range []uint8{2, 5, 8} {
			tensor, err := trellis.Quantize(context.Background(), w, out, in, bits, trellis.Options{})
			require.NoError(t, err)
			v, err := tensor.Dequantize()
			require.NoError(t, err)
			require.Less(t, relative(w, v), 1.02*optimum(bits), "deviation %g, %d bits", deviation, bits)
			require.Equal(t, w[:in], v[:in])
			require.Equal(t, w[3*in+128:3*in+144], v[3*in+128:3*in+144])
		}
	}
}

func TestQuantizeWorkers(t *testing.T) {
	w := gaussian(48, 272, 1)
	one, err := trellis.Quantize(context.Background(), w, 48, 272, 3, trellis.Options{Workers: 1})
	require.NoError(t, err)
	seven, err := trellis.Quantize(context.Background(), w, 48, 272, 3, trellis.Options{Workers: 7})
	require.NoError(t, err)
	require.Equal(t, one, seven)
}

func TestQuantizeErrors(t *testing.T) {
	ctx := context.Background()
	w := gaussian(16, 32, 1)
	_, err := trellis.Quantize(ctx, w, 16, 24, 3, trellis.Options{})
	require.ErrorContains(t, err, "in is 24, not a positive multiple of 16")
	_, err = trellis.Quantize(ctx, w, 16, 16, 3, trellis.Options{})
	require.ErrorContains(t, err, "512 weights for a matrix of 16×16")
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e30} {
		w[5*32+9], w[6*32] = float32(bad), float32(bad)
		_, err = trellis.Quantize(ctx, w, 16, 32, 3, trellis.Options{})
		require.ErrorContains(t, err, "row 5, column 9: weight ")
		require.ErrorContains(t, err, "nor can 1 others")
	}

	ctx, cancel := context.WithCancelCause(ctx)
	reason := errors.New("enough")
	cancel(reason)
	_, err = trellis.Quantize(ctx, gaussian(16, 32, 1), 16, 32, 3, trellis.Options{})
	require.ErrorIs(t, err, reason)
}
