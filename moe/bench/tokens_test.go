package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// tiny returns options for the shipped model, as its kernels are selected and on
// each of the given ones.
func tiny(t *testing.T, overrides ...string) bench.TokenOptions {
	t.Helper()
	c, err := checkpoint.Open("../../testdata/glm-tiny-mixed")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	device := cpu.New(cpu.Options{Workers: 1})
	library, err := device.Load(t.Context(), generated.Table, generated.Sources)
	require.NoError(t, err)
	o := bench.TokenOptions{
		Name: "tiny", Layers: c.MoELayers(), Prompts: [][]int32{{1, 2, 3, 4, 5}}, Tokens: 3, Rounds: 2, Known: 1, Seed: 1,
	}
	for _, n := range o.Layers {
		w, err := c.Layer(n)
		require.NoError(t, err)
		o.Weights = append(o.Weights, w)
	}
	for _, override := range append([]string{""}, overrides...) {
		v := &bench.ModelVariant{Override: override, Precision: "exact", Tolerance: 1e-4, Counters: new(moe.Counters)}
		v.Model, err = model.Open(c, model.Options{MoE: moe.Options{
			Device: device, Library: library, Table: generated.Table, Codecs: []moe.Codec{trellis.Codec{}}, Counters: v.Counters, KernelOverride: override,
		}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, v.Model.Close()) })
		o.Variants = append(o.Variants, v)
		v.Prompter = o.Variants[0].Model
	}
	return o
}

func TestRunTokens(t *testing.T) {
	o := tiny(t, generated.MoeTrellisSwigluDecodeDown)
	steps := 0
	o.Progress = func(done, total int) {
		steps++
		require.Equal(t, steps, done)
		require.Equal(t, 2+2*3, total)
	}
	d := result.Document{Level: result.Models}
	require.NoError(t, bench.RunTokens(t.Context(), o, &d))
	require.NoError(t, d.CheckMeasured())
	require.Equal(t, 8, steps)
	require.Len(t, d.Cells, 2)
	require.Equal(t, "tiny/prompt:5/tokens:3/exact/selected", d.Cells[0].Name)
	require.Equal(t, "tiny/prompt:5/tokens:3/exact/overridden", d.Cells[1].Name)
	require.Equal(t, uint64(2*2*3*len(o.Layers)), d.Counters.Forwards, "the tokens that were timed, and not those of the prompt")
	require.Positive(t, d.Counters.Launches[generated.MoeTrellisSwigluDecodeDown])
	for _, c := range d.Cells {
		require.Equal(t, 2*3, c.Samples)
		require.Len(t, c.RoundsMS, 2)
		require.InDelta(t, 1e3/c.MS.Median, c.Metrics["tokens_s"], 1e-9)
		require.Positive(t, c.Metrics["bytes"])
	}
	rows := uint64(0)
	for _, n := range d.Counters.Assignments {
		rows += n
	}
	slots := o.Weights[0].Router.TopK + 1
	require.Equal(t, uint64(2*2*3*len(o.Layers)*slots), rows)

	// Prompts alone.
	o = tiny(t)
	o.Tokens, o.Time, o.Prompts = 0, time.Microsecond, [][]int32{{1, 2, 3}, {1, 2, 3, 4, 5, 6, 7}}
	d = result.Document{Level: result.Models}
	require.NoError(t, bench.RunTokens(t.Context(), o, &d))
	require.NoError(t, d.CheckMeasured())
	require.Equal(t, "tiny/prompt:7/tokens:0/exact", d.Cells[1].Name)
	require.Equal(t, "7", d.Cells[1].Labels["batch"])
	require.InDelta(t, 7e3/d.Cells[1].MS.Median, d.Cells[1].Metrics["tokens_s"], 1e-9)
}

func TestRunTokensRefuses(t *testing.T) {
	var d result.Document
	o := tiny(t)
	o.Variants[0].Tolerance = 0
	require.ErrorContains(t, bench.RunTokens(t.Context(), o, &d), "from the oracle's; the tolerance is 0e+00")
	require.False(t, d.Correctness.Passed)
	require.Error(t, d.CheckMeasured())

	o = tiny(t)
	o.Tokens = o.Variants[0].Model.MaxPositions()
	require.ErrorContains(t, bench.RunTokens(t.Context(), o, &d), "max_position_embeddings")

	// Counters that stay at zero.
	o = tiny(t)
	o.Variants[0].Counters = new(moe.Counters)
	require.ErrorContains(t, bench.RunTokens(t.Context(), o, &d), "tiny/prompt:5/tokens:3/exact: 0 forwards of experts and 0 rows were counted in 3 tokens")

	o = tiny(t)
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(int, int) { cancel() }
	require.ErrorIs(t, bench.RunTokens(ctx, o, &d), context.Canceled)
}
