package moe_test

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// tolerance bounds an output's error, relative to the magnitude of its sums.
const tolerance = 1e-5

// A model is random weights and the oracle's form of them.
type model struct {
	moe.Weights
	ideal oracle.Layer
}

// newModel returns a layer with an expert for each of tuples. Its codec is
// trellis, but bf16 for the tuple 16_16_16.
func newModel(t *testing.T, r *rand.Rand, hidden, intermediate int, tuples []runtime.BitTuple, shared bool, topK int) *model {
	t.Helper()
	m := &model{Weights: moe.Weights{Hidden: hidden, Intermediate: intermediate}}
	routed := len(tuples)
	if shared {
		routed--
	}
	m.Router = randomRouter(r, routed, hidden)
	m.Router.TopK = topK
	m.ideal.Router = oracleRouter(m.Router, hidden)
	for i, tuple := range tuples {
		var e moe.Expert
		var o oracle.Expert
		for _, p := range []struct {
			to      *moe.Matrix
			ideal   *oracle.Matrix
			bits    uint8
			out, in int
		}{
			{&e.Gate, &o.Gate, tuple.Gate, intermediate, hidden},
			{&e.Up, &o.Up, tuple.Up, intermediate, hidden},
			{&e.Down, &o.Down, tuple.Down, hidden, intermediate},
		} {
			if p.bits == 16 {
				e.Codec = dense.BF16.Name()
				m.addDense(r, p.to, p.ideal, p.out, p.in)
			} else {
				e.Codec = "trellis"
				m.addTrellis(t, r, p.to, p.ideal, p.bits, p.out, p.in)
			}
		}
		if shared && i == routed {
			m.Shared, m.ideal.Shared = &e, &o
		} else {
			m.Experts, m.ideal.Experts = append(m.Experts, e), append(m.ideal.Experts, o)
		}
	}
	return m
}

func (m *model) addTrellis(t *testing.T, r *rand.Rand, to *moe.Matrix, ideal *oracle.Matrix, bits uint8, out, in int) {
	indices := make([]uint8, out*in)
	for i := range indices {
		indices[i] = uint8(r.IntN(1 << bits))
	}
	packed, err := trellis.Pack(indices, bits, out, in)
	require.NoError(t, err)
	factors := func(n int, size float64) []float32 {
		fs := make([]float32, n)
		for i := range fs {
			fs[i] = float32(size * (0.5 + r.Float64()))
		}
		return fs
	}
	step := 4 / math.Sqrt(float64(in)) / float64(int(1)<<bits)
	tensor, err := trellis.New(bits, out, in, packed, factors((in+127)/128*out, step), factors(in, 1), factors(out, 1))
	require.NoError(t, err)
	m.Data, *to = tensor.AppendTo(m.Data)
	part := func(i int) []byte { return to.Parts[i].Of(m.Data) }
	*ideal, err = oracle.Trellis(int(bits), out, in, part(0), part(1), part(2), part(3))
	require.NoError(t, err)
}

func (m *model) addDense(r *rand.Rand, to *moe.Matrix, ideal *oracle.Matrix, out, in int) {
	m.Data = append(m.Data, make([]byte, -len(m.Data)&63)...)
	*to = moe.Matrix{Bits: 16, Out: out, In: in, Parts: []moe.Span{{Offset: len(m.Data), Size: 2 * out * in}}}
	*ideal = oracle.Matrix{Out: out, In: in, W: make([]float64, out*in)}
	for i := range ideal.W {
		top := math.Float32bits(float32(r.NormFloat64()/math.Sqrt(float64(in)))) >> 16
		m.Data = append(m.Data, byte(top), byte(top>>8))
		ideal.W[i] = float64(math.Float32frombits(top << 16))
	}
}

// tuplesOf parses tuples.
func tuplesOf(t *testing.T, names ...string) []runtime.BitTuple {
	t.Helper()
	var tuples []runtime.BitTuple
	for _, name := range names {
		tuple, err := runtime.ParseBitTuple(name)
		require.NoError(t, err)
		tuples = append(tuples, tuple)
	}
	return tuples
}

// options returns options for the cpu device, through faults.
func options(t *testing.T, f faults) moe.Options {
	t.Helper()
	device := cpu.New(cpu.Options{})
	library, err := device.Load(context.Background(), generated.Table, generated.Sources)
	require.NoError(t, err)
	return moe.Options{
		Device: device, Library: faultyLibrary{library, f}, Table: generated.Table,
		Codecs: []moe.Codec{trellis.Codec{}, dense.BF16},
	}
}

// requireForward runs x through m and compares with the oracle. It returns
// what was counted.
func requireForward(t *testing.T, m *model, o moe.Options, x []float32) moe.Snapshot {
	t.Helper()
	layer, err := moe.NewLayer(m.Weights, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, layer.Close()) }()
	out, err := layer.Forward(context.Background(), x)
	require.NoError(t, err)
	requireClose(t, m, x, out)

	snapshot := layer.Counters().Snapshot()
	again, err := layer.Forward(context.Background(), x)
	require.NoError(t, err)
	require.Equal(t, out, again, "run to run")
	return snapshot
}

func requireClose(t *testing.T, m *model, x, out []float32) {
	t.Helper()
	var tokens [][]float64
	for i := 0; i < len(x); i += m.Hidden {
		tokens = append(tokens, oracle.Floats(x[i:i+m.Hidden]))
	}
	want, choices, err := m.ideal.Forward(tokens)
	require.NoError(t, err)
	for token, v := range want {
		if choices[token].Margin < 1e-6 {
			continue // float32 may route otherwise
		}
		for i := range v.Value {
			got := float64(out[token*m.Hidden+i])
			if math.Abs(got-v.Value[i]) > tolerance*v.Magnitude[i] || math.IsNaN(got) {
				t.Fatalf("token %d, output %d: %v, want %v ± %v", token, i, got, v.Value[i], tolerance*v.Magnitude[i])
			}
		}
	}
}

func TestForward(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	listed := func(n int) []runtime.BitTuple {
		var tuples []runtime.BitTuple
		for i := range n { // groups are not contiguous
			tuples = append(tuples, generated.Table.Codecs[0].Tuples[i*5%8])
		}
		return tuples
	}
	different := func(n int) []runtime.BitTuple {
		var tuples []runtime.BitTuple
		for i := range n {
			tuples = append(tuples, runtime.BitTuple{Gate: uint8(2 + i%7), Up: uint8(2 + i/7%7), Down: uint8(2 + (i+i/7)%7)})
		}
		return tuples
	}
	for _, test := range []struct {
		name                 string
		hidden, intermediate int
		tuples               []runtime.BitTuple
		shared               bool
		topK                 int
		tokens               []int
	}{
		{"one token", 80, 48, listed(9), true, 4, []int{1}},
		{"some tokens", 144, 112, listed(9), true, 4, []int{1, 2, 3, 5, 17, 64, 200}},
		{"all tuples different", 80, 48, different(40), true, 6, []int{1, 7, 100}},
		{"one expert", 48, 80, listed(1), false, 1, []int{1, 2, 16, 17, 33, 70}},
		{"not quantised", 80, 48, tuplesOf(t, "16_16_16", "16_16_16", "16_16_16"), true, 1, []int{1, 40}},
		{"some not quantised", 80, 48, tuplesOf(t, "6_2_3", "16_16_16", "7_7_7", "6_2_3", "4_4_4"), true, 2, []int{1, 40}},
		{"many experts", 16, 16, different(300), false, 8, []int{1, 300}},
		{"most tokens", 16, 16, listed(5), true, 2, []int{moe.MaxTokens}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel(t, r, test.hidden, test.intermediate, test.tuples, test.shared, test.topK)
			slots := test.topK
			if test.shared {
				slots++
			}
			for i, tokens := range test.tokens {
				o := options(t, faults{})
				o.RouteOnDevice = i%2 == 1 || len(test.tokens) == 1
				s := requireForward(t, m, o, randomInput(r, tokens*test.hidden))
				require.Equal(t, o.RouteOnDevice, s.Launches[generated.MoeRoute] == 1)
				var rows uint64
				for _, n := range s.Assignments {
					rows += n
				}
				require.Equal(t, uint64(tokens*slots), rows, "%d tokens: each assignment once", tokens)
				require.Equal(t, uint64(1), s.Forwards)
			}
		})
	}
}

// Launches follow the families that the rows need, not the tuples.
func TestLaunchesDoNotGrowWithTuples(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	tuples := generated.Table.Codecs[0].Tuples
	x := randomInput(r, 64)
	for n := 4; n <= len(tuples); n++ {
		m := newModel(t, r, 64, 32, tuples[:n], false, n) // every expert has one row
		s := requireForward(t, m, options(t, faults{}), x)
		require.Equal(t, map[string]uint64{
			generated.MoeTrellisSwigluDecodeFairway:     1,
			generated.MoeTrellisSwigluDecodeFairwayDown: 1,
			generated.MoeCombine:                        1,
		}, s.Launches)
		require.Empty(t, s.Fallbacks)
	}
}

// Experts that nobody chose take no part.
func TestUnchosenExperts(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "4_4_4", "7_7_7", "6_2_3"), false, 1)
	m.Router.Bias[1] = 10
	m.ideal.Router.Bias[1] = 10
	s := requireForward(t, m, options(t, faults{}), randomInput(r, 20*64))
	require.Equal(t, map[runtime.BitTuple]uint64{{Gate: 4, Up: 4, Down: 4}: 20}, s.Assignments)
	require.Equal(t, uint64(1), s.Launches[generated.MoeTrellisSwiglu444])
}

func TestNewLayerErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "4_4_4"), true, 1)
	for want, edit := range map[string]func(*moe.Weights){
		"expert 0: gate: [32, 64]; want [48, 64]": func(w *moe.Weights) { w.Intermediate = 48 },
		"expert 1: up: 3 components; codec tre":   func(w *moe.Weights) { w.Shared.Up.Parts = w.Shared.Up.Parts[:3] },
		"expert 0: down: bytes":                   func(w *moe.Weights) { w.Experts[0].Down.Parts[0].Offset = len(w.Data) },
		"router: 63 weights for 1 experts":        func(w *moe.Weights) { w.Router.Weight = w.Router.Weight[1:] },
		"a router of 1 experts for 0":             func(w *moe.Weights) { w.Experts = nil },
		"a layer of 0 hidden":                     func(w *moe.Weights) { w.Hidden = 0 },
	} {
		w := m.Weights
		w.Experts = append([]moe.Expert(nil), w.Experts...)
		shared := *w.Shared
		w.Shared = &shared
		for i := range w.Experts {
			w.Experts[i].Down.Parts = append([]moe.Span(nil), w.Experts[i].Down.Parts...)
		}
		edit(&w)
		_, err := moe.NewLayer(w, options(t, faults{}))
		require.ErrorContains(t, err, want)
	}
	o := options(t, faults{})
	o.KernelOverride = "moe_typo"
	_, err := moe.NewLayer(m.Weights, o)
	require.ErrorContains(t, err, "kernel override moe_typo")
}

// Layers can share the buffer of their weights, which outlives them.
func TestSharedWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "4_4_4"), true, 1)
	o := options(t, faults{})
	var err error
	o.Weights, err = o.Device.Wrap(m.Data)
	require.NoError(t, err)
	for range 2 {
		requireForward(t, m, o, randomInput(r, 3*64))
	}
	require.NoError(t, o.Weights.Close())
	o.Weights, err = o.Device.NewBuffer(len(m.Data) - 1)
	require.NoError(t, err)
	_, err = moe.NewLayer(m.Weights, o)
	require.ErrorContains(t, err, "for weights of")
}

func TestRouteOnDevice(t *testing.T) {
	r := rand.New(rand.NewPCG(29, 30))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "4_4_4", "6_2_3"), true, 1)
	o := options(t, faults{missing: []string{generated.MoeRoute}})
	o.RouteOnDevice = true
	_, err := moe.NewLayer(m.Weights, o)
	require.ErrorContains(t, err, "routing on the device: ")

	o = options(t, faults{launch: []string{generated.MoeRoute}})
	o.RouteOnDevice = true
	s := requireForward(t, m, o, randomInput(r, 5*64))
	require.Equal(t, map[moe.Fallback]uint64{{
		Pass: runtime.Route, From: runtime.Helper, To: moe.Host, Reason: runtime.ReasonLaunch,
	}: 1}, s.Fallbacks)
	require.Zero(t, s.Launches[generated.MoeRoute])

	o = options(t, faults{})
	o.RouteOnDevice = true
	layer, err := moe.NewLayer(m.Weights, o)
	require.NoError(t, err)
	x := randomInput(r, 2*64)
	x[64] = float32(math.NaN())
	_, err = layer.Forward(t.Context(), x)
	require.ErrorContains(t, err, "router: a weight of token 1 is NaN")
	require.NoError(t, layer.Close())
}

func TestForwardErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "4_4_4"), false, 1)
	layer, err := moe.NewLayer(m.Weights, options(t, faults{}))
	require.NoError(t, err)
	ctx := context.Background()
	for _, n := range []int{0, 63, 65, 64 * (moe.MaxTokens + 1)} {
		_, err := layer.Forward(ctx, make([]float32, n))
		require.ErrorContains(t, err, "want 1 to 4096 tokens of 64", n)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = layer.Forward(canceled, randomInput(r, 64))
	require.ErrorIs(t, err, context.Canceled)
	x := randomInput(r, 5*64)
	out, err := layer.Forward(ctx, x)
	require.NoError(t, err, "a canceled forward leaves the layer usable")
	requireClose(t, m, x, out)

	require.NoError(t, layer.Close())
	require.NoError(t, layer.Close())
	_, err = layer.Forward(ctx, x)
	require.ErrorContains(t, err, "the layer is closed")
}

func TestForwardConcurrently(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "4_4_4", "7_7_7"), true, 2)
	layer, err := moe.NewLayer(m.Weights, options(t, faults{}))
	require.NoError(t, err)
	defer func() { require.NoError(t, layer.Close()) }()
	inputs := [][]float32{randomInput(r, 64), randomInput(r, 9*64), randomInput(r, 40*64)}
	outputs := make([][]float32, len(inputs))
	var wg sync.WaitGroup
	for i, x := range inputs {
		wg.Go(func() {
			for range 10 {
				outputs[i], _ = layer.Forward(context.Background(), x)
				layer.Counters().Snapshot()
			}
		})
	}
	wg.Wait()
	for i, x := range inputs {
		requireClose(t, m, x, outputs[i])
	}
	require.Equal(t, uint64(30), layer.Counters().Reset().Forwards)
	s := layer.Counters().Snapshot()
	require.Equal(t, uint64(1), s.Epoch)
	require.Zero(t, s.Forwards)
	require.Empty(t, s.Launches)
}

func TestKernelOverride(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	m := newModel(t, r, 64, 32, tuplesOf(t, "6_2_3", "6_2_3"), false, 1)
	o := options(t, faults{})
	o.KernelOverride = generated.MoeTrellisSwigluDecode
	s := requireForward(t, m, o, randomInput(r, 64))
	require.Equal(t, uint64(1), s.Launches[generated.MoeTrellisSwigluDecode])
	require.Equal(t, uint64(1), s.Launches[generated.MoeTrellisSwigluDecode623Down], "the other pass is not overridden")
	require.Empty(t, s.Fallbacks, "asked for")

	layer, err := moe.NewLayer(m.Weights, o)
	require.NoError(t, err)
	_, err = layer.Forward(context.Background(), randomInput(r, 40*64))
	var refused *runtime.OverrideError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "it is for 1 rows of an expert")
}
