package quantize_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/quantize"
	"github.com/marlingen/marlingen/moe/tokenizer"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

const source = "../../testdata/glm-tiny"

// slow is true with the race detector.
var slow bool

func open(t *testing.T, dir string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// glm47 returns the plan of profile glm47.
func glm47(t *testing.T, c *checkpoint.Checkpoint) quantize.Plan {
	t.Helper()
	i := slices.IndexFunc(generated.Profiles, func(p *runtime.Profile) bool { return p.Name == "glm47" })
	require.GreaterOrEqual(t, i, 0)
	return quantize.Spread(c, generated.Profiles[i])
}

// calibration returns some windows of the text that the shipped checkpoint is
// calibrated with; all of them if windows is 0.
func calibration(t *testing.T, c *checkpoint.Checkpoint, windows int) *quantize.Calibration {
	t.Helper()
	device := cpu.New(cpu.Options{})
	library, err := device.Load(t.Context(), generated.Table, generated.Sources)
	require.NoError(t, err)
	m, err := model.Open(c, model.Options{
		MoE: moe.Options{
			Device: device, Library: library, Table: generated.Table,
			Codecs: []moe.Codec{trellis.Codec{}, dense.BF16, dense.F16, dense.F32},
		},
		Frequencies: model.RoundedFrequencies, // as in the record
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	tok, err := tokenizer.Open(source + "/tokenizer.json")
	require.NoError(t, err)
	text, err := os.ReadFile("../../testdata/calibration.txt")
	require.NoError(t, err)
	ids, err := tok.Encode(string(text))
	require.NoError(t, err)
	cal := &quantize.Calibration{Model: m}
	for w := range slices.Chunk(ids, 512) {
		if windows == 0 || len(cal.Windows) < windows {
			cal.Windows = append(cal.Windows, w)
		}
	}
	return cal
}

// The checkpoint that marlingen brings along is what quantize makes of its
// source: everything but the experts to the byte, and the experts but for
// indices that float32 sums in another order may tip.
func TestShipped(t *testing.T) {
	if slow || testing.Short() {
		t.Skip("a minute and more with the race detector; the same code runs in TestCalibrated")
	}
	const shipped = "../../testdata/glm-tiny-mixed"
	c := open(t, source)
	out := filepath.Join(t.TempDir(), "out")
	calls := 0
	require.NoError(t, quantize.Write(t.Context(), c, source, out, glm47(t, c), quantize.Options{
		Calibration: calibration(t, c, 0),
		Progress: func(done, total int) {
			calls++
			require.Equal(t, calls, done)
			require.Equal(t, 3*17, total)
		},
	}))
	require.Equal(t, 3*17, calls)

	want, err := os.ReadDir(shipped)
	require.NoError(t, err)
	got, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	size := 0
	for _, e := range want {
		a, err := os.ReadFile(filepath.Join(shipped, e.Name()))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(out, e.Name()))
		require.NoError(t, err)
		require.True(t, e.Name() == "model.safetensors" || bytes.Equal(a, b), "%s differs; make testdata writes it anew", e.Name())
		size += len(a)
	}
	require.Less(t, size, 9_000_000)

	have, anew := open(t, shipped), open(t, out)
	require.Equal(t, anew.Names(), have.Names())
	changed, all := 0, 0
	for _, name := range have.Names() {
		a, _ := have.Tensor(name)
		b, _ := anew.Tensor(name)
		require.Equal(t, b.Shape, a.Shape, name)
		if c, ok := c.Tensor(name); ok {
			require.Equal(t, c.Data, a.Data, name)
			continue
		}
		for i := range a.Data {
			if all++; a.Data[i] != b.Data[i] {
				changed++
			}
		}
	}
	require.LessOrEqual(t, changed, all/100, "bytes of experts differ; make testdata writes them anew")
}

// Reading a text while quantising spares what the text needs, the same way
// every time.
func TestCalibrated(t *testing.T) {
	if slow {
		t.Skip("minutes with the race detector; TestInterrupted runs the same code for a while")
	}
	c := open(t, source)
	cal := calibration(t, c, 6)
	held := cal.Windows[4:]
	cal.Windows = cal.Windows[:4]
	three := runtime.BitTuple{Gate: 3, Up: 3, Down: 3}
	plan := quantize.Spread(c, &runtime.Profile{Experts: 1, Mix: []runtime.Share{{Tuple: three, Experts: 1}}, Shared: three})
	dir := t.TempDir()
	write := func(name string, cal *quantize.Calibration) string {
		out := filepath.Join(dir, name)
		require.NoError(t, quantize.Write(t.Context(), c, source, out, plan, quantize.Options{Calibration: cal}))
		return out
	}
	loss := func(dir string) float64 {
		m := calibration(t, open(t, dir), 0).Model
		var l model.Likelihood
		for _, ids := range held {
			w, err := m.Likelihood(t.Context(), ids)
			require.NoError(t, err)
			l.Add(w)
		}
		return l.NLL / float64(l.Tokens)
	}
	calibrated := write("calibrated", cal)
	require.Less(t, loss(calibrated), loss(write("plain", nil)))
	a, err := os.ReadFile(filepath.Join(calibrated, "model.safetensors"))
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(write("again", cal), "model.safetensors"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b))
}

// Interrupted while it reads, Write leaves nothing behind.
func TestInterrupted(t *testing.T) {
	c := open(t, source)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	err := quantize.Write(ctx, c, source, filepath.Join(dir, "out"), glm47(t, c), quantize.Options{
		Calibration: calibration(t, c, 2),
		Progress: func(done, _ int) {
			if done == 5 {
				cancel()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A budget is kept and used, and one that is too small is refused with what it
// would take.
func TestAllocate(t *testing.T) {
	c := open(t, source)
	cal := calibration(t, c, 2)
	three, mixed, four := runtime.BitTuple{Gate: 3, Up: 3, Down: 3}, runtime.BitTuple{Gate: 3, Up: 4, Down: 3}, runtime.BitTuple{Gate: 4, Up: 4, Down: 4}
	tuples := []runtime.BitTuple{three, mixed, four}
	if !slow {
		s, err := quantize.Measure(t.Context(), c, cal, tuples, nil)
		require.NoError(t, err)
		for _, bits := range []float64{3.35, 3.5, 3.7, 4.3, 9} {
			plan, err := s.Allocate(tuples, bits)
			require.NoError(t, err)
			require.LessOrEqual(t, plan.BitsPerWeight(c), bits)
			require.Greater(t, plan.BitsPerWeight(c), min(bits-0.05, 4.3))
			_, weights := plan.Size(c)
			require.Equal(t, 3*17*3*256*128, weights)
			for _, layer := range c.MoELayers() {
				require.Len(t, plan[layer], 17)
			}
			routed, _ := plan.Tuples(c)
			require.Equal(t, bits == 9, routed[four] == 48)
		}
		_, err = s.Allocate(tuples, 2)
		require.ErrorContains(t, err, "2.000 bits per weight are too few: the smallest of the tuples takes 3.3")
		_, err = s.Allocate([]runtime.BitTuple{{Gate: 3, Up: 3, Down: 5}}, 4)
		require.ErrorContains(t, err, "tuple 3_3_5: width 5 has not been measured")
	}

	cal.Windows = nil
	_, err := quantize.Measure(t.Context(), c, cal, tuples, nil)
	require.ErrorContains(t, err, "the text to calibrate with is empty")
	cal.Windows = [][]int32{{1, 2, 3}, {4, 2048}}
	_, err = quantize.Measure(t.Context(), c, cal, tuples, nil)
	require.ErrorContains(t, err, "window 1: token 1 of the input is 2048")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	cal.Windows = cal.Windows[:1]
	_, err = quantize.Measure(canceled, c, cal, tuples, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// What is not an expert's stays as it is; what is, lies aligned.
func TestOthersUnchanged(t *testing.T) {
	src := open(t, source)
	out := filepath.Join(t.TempDir(), "new", "out")
	tuples := &runtime.Profile{Experts: 1, Mix: []runtime.Share{{Tuple: runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, Experts: 1}}, Shared: runtime.BitTuple{Gate: 8, Up: 7, Down: 5}}
	require.NoError(t, quantize.Write(context.Background(), src, source, out, quantize.Spread(src, tuples), quantize.Options{}))
	got := open(t, out)
	require.NoError(t, got.Check())
	kept := 0
	for _, name := range src.Names() {
		want, _ := src.Tensor(name)
		if have, ok := got.Tensor(name); ok {
			kept++
			require.Equal(t, want.DType, have.DType, name)
			require.Equal(t, want.Shape, have.Shape, name)
			require.Equal(t, want.Data, have.Data, name)
		}
	}
	require.Equal(t, len(src.Names())-3*17*3, kept)
	for _, n := range got.MoELayers() {
		why, err := got.Relaid(n)
		require.NoError(t, err)
		require.Empty(t, why, "used where it lies")
		w, err := got.Layer(n)
		require.NoError(t, err)
		for i := range w.Experts {
			require.Equal(t, "6_2_3", w.Experts[i].Tuple().String())
		}
		require.Equal(t, "8_7_5", w.Shared.Tuple().String())
	}
}

// A failure leaves nothing behind, and what was there untouched.
func TestErrors(t *testing.T) {
	src := open(t, source)
	good := &runtime.Profile{Experts: 1, Mix: []runtime.Share{{Tuple: runtime.BitTuple{Gate: 2, Up: 2, Down: 2}, Experts: 1}}, Shared: runtime.BitTuple{Gate: 2, Up: 2, Down: 2}}
	canceled, cancel := context.WithCancel(context.Background())

	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	require.NoError(t, os.Mkdir(full, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(full, "mine"), nil, 0o644))
	err := quantize.Write(canceled, src, source, full, quantize.Spread(src, good), quantize.Options{})
	require.ErrorContains(t, err, "exists and is not empty")

	err = quantize.Write(canceled, src, source, filepath.Join(dir, "out"), quantize.Spread(src, good), quantize.Options{
		Progress: func(done, _ int) {
			if done == 10 {
				cancel()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)

	bad := *good
	bad.Shared = runtime.BitTuple{Gate: 9, Up: 2, Down: 1}
	err = quantize.Write(context.Background(), src, source, filepath.Join(dir, "out"), quantize.Spread(src, &bad), quantize.Options{})
	require.ErrorContains(t, err, "model.layers.1.mlp.shared_experts.gate_proj: width 9 is not in 2..8")
	require.ErrorContains(t, err, "model.layers.3.mlp.shared_experts.down_proj: width 1 is not in 2..8")

	mixed := open(t, "../../testdata/glm-tiny-mixed")
	err = quantize.Write(context.Background(), mixed, "../../testdata/glm-tiny-mixed", filepath.Join(dir, "out"), quantize.Spread(mixed, good), quantize.Options{})
	require.ErrorContains(t, err, "quantised already")

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "full, and nothing else")
}
