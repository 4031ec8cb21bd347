package trellis_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/stretchr/testify/require"
)

// outputError returns the mean over the rows x of x, [rows, in], of the squared
// error |(W−Q)·x|², from the format's formula.
func outputError(w []float32, t *trellis.Tensor, x []float64) (sum float64) {
	e := make([]float64, t.In)
	for o := range t.Out {
		for i := range e {
			e[i] = float64(w[o*t.In+i]) - weight(t, o, i)
		}
		for at := 0; at < len(x); at += t.In {
			var y float64
			for i, v := range x[at : at+t.In] {
				y += e[i] * v
			}
			sum += y * y
		}
	}
	return sum / float64(len(x)/t.In)
}

// moment returns the mean of x·xᵀ over the rows of x, [rows, in].
func moment(x []float64, in int) []float64 {
	h := make([]float64, in*in)
	n := len(x) / in
	for t := range n {
		row := x[t*in : (t+1)*in]
		for i, a := range row {
			for j, b := range row {
				h[i*in+j] += a * b / float64(n)
			}
		}
	}
	return h
}

// correlated returns samples of inputs that go up and down with a few causes,
// some of them much more than others.
func correlated(r *rand.Rand, n, in int) []float64 {
	const causes = 12
	mix := make([]float64, causes*in)
	for at := range mix {
		mix[at] = r.NormFloat64() * math.Exp(r.NormFloat64())
	}
	x := make([]float64, n*in)
	for t := range n {
		row := x[t*in : (t+1)*in]
		for i := range row {
			row[i] = r.NormFloat64()
		}
		for c := range causes {
			f := r.NormFloat64()
			for i := range row {
				row[i] += f * mix[c*in+i]
			}
		}
	}
	return x
}

func identity(in int) []float64 {
	h := make([]float64, in*in)
	for i := range in {
		h[i*in+i] = 1
	}
	return h
}

func quantize(t *testing.T, w []float32, out, in int, bits uint8, h *trellis.Hessian) *trellis.Tensor {
	t.Helper()
	q, err := trellis.Quantize(context.Background(), w, out, in, bits, trellis.Options{Hessian: h})
	require.NoError(t, err)
	return q
}

func newHessian(t *testing.T, in int, values []float64, samples int) *trellis.Hessian {
	t.Helper()
	h, err := trellis.NewHessian(in, values, samples)
	require.NoError(t, err)
	return h
}

// layerInputs returns a matrix of an expert of glm-tiny and the inputs that
// it has for the 64 tokens of the reference, were all routed to it.
func layerInputs(t *testing.T, layer, expert int, name string) (w []float32, x []float64, out, in int) {
	t.Helper()
	const dir = "../../testdata/glm-tiny/"
	open := func(file string) *checkpoint.Tensors {
		ts, err := checkpoint.OpenTensors(dir + file)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, ts.Close()) })
		return ts
	}
	model, reference := open("model.safetensors"), open("reference.safetensors")
	read := func(name string) (w []float32, out, in int) {
		tensor, ok := model.Lookup(fmt.Sprintf("model.layers.%d.mlp.experts.%d.%s.weight", layer, expert, name))
		require.True(t, ok)
		require.Equal(t, checkpoint.BF16, tensor.DType)
		for at := 0; at < len(tensor.Data); at += 2 {
			w = append(w, math.Float32frombits(uint32(tensor.Data[at])<<16|uint32(tensor.Data[at+1])<<24))
		}
		return w, tensor.Shape[0], tensor.Shape[1]
	}
	f, _, err := reference.Float32(fmt.Sprintf("layers.%d.moe.in", layer))
	require.NoError(t, err)
	for _, v := range f {
		x = append(x, float64(v))
	}
	w, out, in = read(name)
	if name != "down_proj" {
		return w, x, out, in
	}
	gate, n, hidden := read("gate_proj")
	up, _, _ := read("up_proj")
	var inner []float64
	for t := range len(x) / hidden {
		for k := range n {
			var g, u float64
			for i, v := range x[t*hidden : (t+1)*hidden] {
				g += v * float64(gate[k*hidden+i])
				u += v * float64(up[k*hidden+i])
			}
			inner = append(inner, g/(1+math.Exp(-g))*u)
		}
	}
	return w, inner, out, in
}

// TestCalibrated compares output errors with and without a Hessian, on real
// weights and inputs: those that it is of, and others.
func TestCalibrated(t *testing.T) {
	const seen = 48
	for _, c := range []struct {
		name         string
		seen, others float64 // bounds of the ratio, for every width
	}{
		{"gate_proj", 0.200, 0.57},
		{"down_proj", 0.490, 0.80},
	} {
		for bits := uint8(2); bits <= 8; bits++ {
			var logs [2]float64
			const layers = 3
			for layer := 1; layer <= layers; layer++ {
				w, x, out, in := layerInputs(t, layer, 5*layer, c.name)
				plain := quantize(t, w, out, in, bits, nil)
				tuned := quantize(t, w, out, in, bits, newHessian(t, in, moment(x[:seen*in], in), seen))
				for k, part := range [][]float64{x[:seen*in], x[seen*in:]} {
					ratio := outputError(w, tuned, part) / outputError(w, plain, part)
					if k == 0 {
						require.Less(t, ratio, 1.0, "layer %d, %s, %d bits", layer, c.name, bits)
					}
					logs[k] += math.Log(ratio) / layers
				}
			}
			a, b := math.Exp(logs[0]), math.Exp(logs[1])
			t.Logf("%s, %d bits: %.3f of the error for inputs seen, %.3f for others", c.name, bits, a, b)
			require.Less(t, a, c.seen, "%s, %d bits", c.name, bits)
			require.Less(t, b, c.others, "%s, %d bits", c.name, bits)
		}
	}
}

func TestHessianError(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, shape := range [][2]int{{16, 16}, {48, 144}, {32, 272}} {
		out, in := shape[0], shape[1]
		w, x := gaussian(out, in, 0.02), correlated(r, 2*in, in)
		values := moment(x, in)
		var mean float64
		for i := range in {
			mean += values[i*in+i] / float64(in)
		}
		q := quantize(t, w, out, in, 3, nil)
		v, err := q.Dequantize()
		require.NoError(t, err)
		alike, given := mean*loss(w, v), outputError(w, q, x)
		var last float64
		for _, samples := range []int{0, 100, 10_000, 1 << 40} {
			got, err := newHessian(t, in, values, samples).Error(w, q)
			require.NoError(t, err)
			share := (got - given) / (alike - given) // of the identity
			switch samples {
			case 0:
				require.InEpsilon(t, alike, got, 1e-5)
			case 1 << 40:
				require.InDelta(t, 0.001, share, 1e-4)
			default:
				require.Less(t, share, last)
			}
			last = share
		}
		// Nothing but the unit of the values changes that of the error.
		sums := make([]float64, len(values))
		for at := range values {
			sums[at] = 1e9 * values[at]
		}
		a, err := newHessian(t, in, values, 1000).Error(w, q)
		require.NoError(t, err)
		b, err := newHessian(t, in, sums, 1000).Error(w, q)
		require.NoError(t, err)
		require.InEpsilon(t, 1e9*a, b, 1e-5)
	}

	h := newHessian(t, 32, identity(32), 10)
	_, err := h.Error(make([]float32, 16*16), quantize(t, make([]float32, 16*16), 16, 16, 3, nil))
	require.ErrorContains(t, err, "256 weights for a matrix of 16×16 with the second moments of 32 inputs")
	_, err = h.Error(make([]float32, 16*16), quantize(t, make([]float32, 16*32), 16, 32, 3, nil))
	require.ErrorContains(t, err, "256 weights for a matrix of 16×32")
}

// TestCalibratedShapes holds results for all kinds of moments to the format,
// and to being no worse than those without a Hessian.
func TestCalibratedShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, shape := range [][2]int{{16, 16}, {16, 144}, {80, 272}} {
		out, in := shape[0], shape[1]
		deep := correlated(r, 3*in, in)
		unused := correlated(r, 3*in, in)
		for at := range unused {
			if at%in%3 == 0 {
				unused[at] = 0
			}
		}
		outlier := correlated(r, 3*in, in)
		for at := 5; at < len(outlier); at += in {
			outlier[at] *= 1000
		}
		for name, c := range map[string]struct {
			values  []float64
			samples int
		}{
			"none":     {identity(in), 0},
			"zero":     {make([]float64, in*in), 100},
			"identity": {identity(in), 100},
			"tiny":     {moment(scaled(deep, 1e-150), in), 1000},
			"rank one": {moment(deep[:in], in), 1},
			"certain":  {moment(deep[:in], in), 1 << 40},
			"singular": {moment(deep[:in/2*in], in), in / 2},
			"regular":  {moment(deep, in), 3 * in},
			"unused":   {moment(unused, in), 3 * in},
			"outlier":  {moment(outlier, in), 3 * in},
		} {
			h := newHessian(t, in, c.values, c.samples)
			for _, bits := range []uint8{2, 4, 7} {
				w := gaussian(out, in, 0.02)
				if bits == 4 {
					clear(w[:in])
					for o := range out {
						clear(w[o*in : o*in+10])
					}
				}
				tuned := quantize(t, w, out, in, bits, h)
				require.NoError(t, tuned.Check())
				data, m := tuned.AppendTo(nil)
				require.NoError(t, trellis.Codec{}.Check(m, len(data)))
				for i, f := range tuned.SU {
					require.True(t, f.Float32() >= 1./64 && f.Float32() <= 64, "su[%d] is %v", i, f)
				}
				for _, s := range tuned.Scales {
					require.True(t, s.Float32() >= 0 && s.IsFinite(), "scale %v", s)
				}
				before, err := h.Error(w, quantize(t, w, out, in, bits, nil))
				require.NoError(t, err)
				after, err := h.Error(w, tuned)
				require.NoError(t, err)
				require.LessOrEqual(t, after, before, "%s, %d×%d, %d bits", name, out, in, bits)
			}
		}
	}
}

func scaled(x []float64, f float64) []float64 {
	y := make([]float64, len(x))
	for at := range x {
		y[at] = f * x[at]
	}
	return y
}

func TestCalibratedRange(t *testing.T) {
	const out, in = 16, 144
	h := newHessian(t, in, moment(correlated(rand.New(rand.NewPCG(15, 16)), 500, in), in), 500)
	for _, deviation := range []float64{1e-7, 1e-5, 1e-3, 1, 1e4, 1e7} {
		w := gaussian(out, in, deviation)
		clear(w[:in])
		for _, bits := range []uint8{2, 5, 8} {
			tuned := quantize(t, w, out, in, bits, h)
			v, err := tuned.Dequantize()
			require.NoError(t, err)
			require.Equal(t, w[:in], v[:in])
			before, err := h.Error(w, quantize(t, w, out, in, bits, nil))
			require.NoError(t, err)
			after, err := h.Error(w, tuned)
			require.NoError(t, err)
			require.Less(t, after, before, "deviation %g, %d bits", deviation, bits)
		}
	}
}

// TestCalibratedWorkers uses one Hessian from several goroutines.
func TestCalibratedWorkers(t *testing.T) {
	const out, in = 80, 272
	w := gaussian(out, in, 1)
	h := newHessian(t, in, moment(correlated(rand.New(rand.NewPCG(17, 18)), 500, in), in), 500)
	want := quantize(t, w, out, in, 3, h)
	for _, workers := range []int{1, 2, 7} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			got, err := trellis.Quantize(context.Background(), w, out, in, 3, trellis.Options{Hessian: h, Workers: workers})
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestHessianErrors(t *testing.T) {
	with := func(changes ...float64) []float64 {
		h := identity(16)
		for k := 0; k < len(changes); k += 3 {
			h[int(changes[k])*16+int(changes[k+1])] = changes[k+2]
		}
		return h
	}
	indefinite := identity(16) // each pair alone could be
	for _, at := range []int{0*16 + 1, 1*16 + 2, 0*16 + 2} {
		indefinite[at], indefinite[at%16*16+at/16] = -0.9, -0.9
	}
	for _, c := range []struct {
		values  []float64
		samples int
		want    string
	}{
		{identity(15), 10, "225 numbers for 16 inputs, want 16×16"},
		{identity(16), -1, "a second moment of -1 samples"},
		{with(3, 4, math.NaN()), 10, "of inputs 3 and 4 is NaN"},
		{with(3, 4, math.Inf(-1)), 10, "of inputs 3 and 4 is -Inf"},
		{with(3, 3, -1), 10, "of input 3 is -1, less than zero"},
		{with(3, 4, 0.5), 10, "not symmetric: 0 for inputs 4 and 3, 0.5 for 3 and 4"},
		{with(3, 4, 2, 4, 3, 2), 10, "not positive semidefinite: 2 for inputs 4 and 3"},
		{indefinite, 1 << 40, "not positive semidefinite"},
	} {
		_, err := trellis.NewHessian(16, c.values, c.samples)
		require.ErrorContains(t, err, c.want)
	}
	_, err := trellis.NewHessian(0, nil, 0)
	require.ErrorContains(t, err, "for 0 inputs")

	h := newHessian(t, 16, identity(16), 10)
	_, err = trellis.Quantize(context.Background(), gaussian(16, 32, 1), 16, 32, 3, trellis.Options{Hessian: h})
	require.ErrorContains(t, err, "the second moment of 16 inputs for a matrix of 16×32")

	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("enough")
	cancel(reason)
	_, err = trellis.Quantize(ctx, gaussian(16, 16, 1), 16, 16, 3, trellis.Options{Hessian: h})
	require.ErrorIs(t, err, reason)
}
