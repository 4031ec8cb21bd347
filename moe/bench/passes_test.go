package bench_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

var tuple623 = runtime.BitTuple{Gate: 6, Up: 2, Down: 3}

// smallKernels returns options for two tuples at two numbers of rows.
func smallKernels(t *testing.T) bench.KernelOptions {
	t.Helper()
	o := small(t)
	return bench.KernelOptions{
		Variants: o.Sweeps[0].Variants, Shape: bench.Shape{Hidden: 64, Intermediate: 48, Experts: 8, TopK: 2},
		Mix: bench.Mix{Name: "two", Tuples: func(n int) (ts []runtime.BitTuple) {
			for i := range n {
				ts = append(ts, []runtime.BitTuple{tuple623, {Gate: 6, Up: 3, Down: 4}}[i%2])
			}
			return ts
		}},
		Passes: []runtime.Pass{runtime.GateUp, runtime.Down}, Rows: []int{1, 3}, Memory: 300_000, Rounds: 2, Time: time.Microsecond, Seed: 1,
	}
}

func TestRunKernels(t *testing.T) {
	o := smallKernels(t)
	steps := 0
	o.Progress = func(done, total int) {
		steps++
		require.Equal(t, steps, done)
		require.LessOrEqual(t, done, total)
	}
	d := result.Document{Level: result.Kernels}
	require.NoError(t, bench.RunKernels(t.Context(), o, &d))
	require.NoError(t, d.CheckMeasured())
	require.Equal(t, 3*len(d.Cells), steps, "a check and two rounds each")
	require.Len(t, d.Cells, 2*2*(2+1)*2, "for each tuple, and both: kernels of a tuple, and the fairway kernel")
	for _, c := range d.Cells {
		l := c.Labels
		require.Len(t, c.RoundsMS, 2, c.Name)
		require.Equal(t, map[string]string{"1": "2", "3": "8"}[l["rows"]], l["experts"], "top-k experts of a token, or all")
		require.Contains(t, []string{"tuple", "fairway"}, l["kind"])
		require.Contains(t, []string{bench.Selected, bench.Other}, l["variant"])
		matrices := map[string]int{"gate_up": 2, "down": 1}[l["pass"]]
		experts, err := strconv.Atoi(l["experts"])
		require.NoError(t, err)
		rows, err := strconv.Atoi(l["rows"])
		require.NoError(t, err)
		require.Equal(t, float64(matrices*experts*rows*64*48), c.Metrics["macs"])
		require.InDelta(t, c.Metrics["floor_ms"]/c.MS.Median, c.Metrics["fraction"], 1e-9)
	}
	require.Equal(t, "gate_up/rows:1/6_2_3/"+generated.MoeTrellisSwigluDecode623+"/threads:1/exact", d.Cells[0].Name)
	require.Equal(t, "two", d.Cells[4].Labels["tuple"])
	require.Equal(t, bench.Selected, d.Cells[4].Labels["variant"])
	require.Equal(t, "fairway", d.Cells[4].Labels["kind"], "what tuples share a launch of")
	require.Equal(t, "gate_up/rows:1/two/each_tuple/threads:1/exact", d.Cells[5].Name)
	require.Positive(t, d.Counters.Launches[generated.MoeTrellisSwigluDecode634Down])
	require.Positive(t, d.Counters.Assignments[tuple623])
}

// A kernel that is asked for runs where it can, next to what is selected.
func TestKernelOverride(t *testing.T) {
	o := smallKernels(t)
	ask := func(symbol string) (result.Document, error) {
		v := *o.Variants[0]
		v.Override = symbol
		o.Variants = []*bench.Variant{&v}
		var d result.Document
		err := bench.RunKernels(t.Context(), o, &d)
		return d, err
	}
	d, err := ask(generated.MoeTrellisSwigluDecodeDown)
	require.NoError(t, err)
	overridden := 0
	for _, c := range d.Cells {
		if c.Labels["variant"] == bench.Overridden {
			overridden++
			require.Equal(t, generated.MoeTrellisSwigluDecodeDown, c.Labels["kernels"])
			require.Equal(t, "1", c.Labels["rows"])
		}
	}
	require.Equal(t, 3, overridden, "of each tuple and of both")

	_, err = ask("moe_no_such")
	require.ErrorContains(t, err, "moe_no_such cannot run gate_up of trellis 6_2_3 with 1 rows: the table has no kernel of this name")
	_, err = ask(generated.MoeTrellisSwigluDecode444)
	require.ErrorContains(t, err, "it was compiled for [4_4_4]")
	o = smallKernels(t)
	o.Variants = small(t, generated.MoeTrellisSwigluDecode).Sweeps[0].Variants
	_, err = ask(generated.MoeTrellisSwigluDecode)
	require.ErrorContains(t, err, "it is missing on this device")

	// Layers run it too, or refuse it.
	layers := small(t)
	v := *layers.Sweeps[0].Variants[0]
	v.Override = generated.MoeTrellisSwigluDecode
	layers.Sweeps[0].Variants = append(layers.Sweeps[0].Variants, &v)
	layers.Sweeps[0].Cases = layers.Sweeps[0].Cases[:1]
	layers.Sweeps[0].Cases[0].Batches = []int{1}
	report, err := bench.Run(t.Context(), layers)
	require.NoError(t, err)
	d = result.Document{}
	require.NoError(t, report.Fill(&d))
	require.NoError(t, d.CheckMeasured())
	require.Equal(t, []string{"small/6_2_3/experts:8/batch:1/threads:1/exact/selected", "small/6_2_3/experts:8/batch:1/threads:1/exact/overridden"},
		[]string{d.Cells[0].Name, d.Cells[1].Name})
	require.Equal(t, v.Override, d.Cells[1].Labels["kernels"])
	require.Positive(t, d.Counters.Launches[v.Override])
	v.Override = generated.MoeTrellisSwigluDecode444
	_, err = bench.Run(t.Context(), layers)
	require.ErrorContains(t, err, "it was compiled for [4_4_4]")
}

// A run that ends early leaves what it has.
func TestRunKernelsInterrupted(t *testing.T) {
	o := smallKernels(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(done, total int) {
		if done == total/2 {
			cancel()
		}
	}
	var d result.Document
	require.ErrorIs(t, bench.RunKernels(ctx, o, &d), context.Canceled)
	require.NotEmpty(t, d.Cells)
	require.Less(t, len(d.Cells), 24)

	o = smallKernels(t)
	o.Memory = 1000
	require.ErrorContains(t, bench.RunKernels(t.Context(), o, &d), "does not fit into 0 MB")
}
