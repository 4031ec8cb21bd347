package bench_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// small returns options for two small cases, on a library that lacks kernels.
func small(t *testing.T, missing ...string) bench.Options {
	t.Helper()
	device := cpu.New(cpu.Options{Workers: 1})
	library, err := device.Load(t.Context(), generated.Table, generated.Sources)
	require.NoError(t, err)
	shape := bench.Shape{Hidden: 64, Intermediate: 48, Experts: 8, TopK: 2}
	return bench.Options{
		Codecs: []moe.Codec{trellis.Codec{}},
		Memory: 1 << 20, Layers: 3, Rounds: 2, Time: time.Millisecond, Known: 2, Seed: 1,
		Sweeps: []bench.Sweep{{
			Name: "small",
			Cases: []bench.Case{
				{Mix: bench.Uniform(runtime.BitTuple{Gate: 6, Up: 2, Down: 3}), Shape: shape, Batches: []int{1, 5}},
				{Mix: bench.Distinct(8), Shape: shape, Batches: []int{1, 40}},
			},
			Variants: []*bench.Variant{{Precision: "exact", Threads: 1, Device: device, Library: lacking{library, missing}, Table: generated.Table, Tolerance: 1e-5}},
		}},
	}
}

// lacking is a library without some kernels.
type lacking struct {
	runtime.Library
	missing []string
}

func (l lacking) Availability() runtime.Availability {
	have := maps.Clone(l.Library.Availability())
	for _, symbol := range l.missing {
		delete(have, symbol)
	}
	return have
}

func TestRun(t *testing.T) {
	o := small(t)
	steps := 0
	o.Progress = func(done, total int) {
		steps++
		require.Equal(t, steps, done)
		require.Equal(t, 12, total)
	}
	report, err := bench.Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, 12, steps)
	require.GreaterOrEqual(t, report.Others, -1.0)
	require.LessOrEqual(t, report.Others, 1.0)
	require.Len(t, report.Limits, 1)
	require.Equal(t, 5, report.Limits[0].Samples, "before each case of each round, and after")
	require.Len(t, report.Results, 4)
	for i, want := range []struct {
		mix           string
		tuples, batch int
	}{{"6_2_3", 1, 1}, {"6_2_3", 1, 5}, {"8 tuples", 8, 1}, {"8 tuples", 8, 40}} {
		r := report.Results[i]
		require.Equal(t, want.mix, r.Mix)
		require.Equal(t, want.tuples, r.Tuples)
		require.Equal(t, want.batch, r.Batch)
		require.Equal(t, 3, r.Layers)
		require.GreaterOrEqual(t, r.Calls, 4)
		require.Equal(t, float64(want.batch*2*3*64*48), r.MACs)
		require.Positive(t, r.Bytes)
		require.Positive(t, r.FloorMS)
		require.LessOrEqual(t, r.BestMS, r.MS)
		require.Less(t, r.Deviation, 1e-5)
	}
	expert := 11*64*48/8 + 2*(2*48+2*64) + 2*64 + 3*2*(64+48)
	router := 4 * 8 * 64
	require.InDelta(t, 2*expert+router, report.Results[0].Bytes, 0.1*float64(expert), "two experts of a token")
}

// A report's document holds what every call took and did.
func TestFill(t *testing.T) {
	report, err := bench.Run(t.Context(), small(t))
	require.NoError(t, err)
	var d result.Document
	require.NoError(t, report.Fill(&d))
	calls, rows := uint64(0), uint64(0)
	names := map[string]bool{}
	for i, r := range report.Results {
		calls += uint64(r.Calls)
		rows += uint64(r.Calls * r.Batch * 2)
		c := d.Cells[i]
		names[c.Name] = true
		require.Equal(t, r.Calls, c.Samples)
		require.Equal(t, r.BestMS, c.MS.Min)
		require.Len(t, c.RoundsMS, 2)
		require.InDelta(t, r.MS, (c.RoundsMS[0]+c.RoundsMS[1])/2, 1e-12)
		require.Equal(t, r.Mix, c.Labels["mix"])
		require.InDelta(t, r.Bytes/c.MS.Median/1e6, c.Metrics["gb_s"], 1e-9)
		require.InDelta(t, r.FloorMS/c.MS.Median, c.Metrics["fraction"], 1e-9)
	}
	require.Len(t, names, 4)
	require.Contains(t, names, "small/8_tuples/experts:8/batch:40/threads:1/exact")
	require.Equal(t, calls, d.Counters.Forwards, "of what was timed, and nothing else")
	counted := uint64(0)
	for _, n := range d.Counters.Assignments {
		counted += n
	}
	require.Equal(t, rows, counted)
	require.Len(t, d.Counters.Assignments, 8)
	require.NotEmpty(t, d.Counters.Fallbacks, "seven of eight tuples are in no spec")
	require.True(t, d.Correctness.Passed)
	require.Equal(t, 2*2+1+1, d.Correctness.Checked, "two tokens of each batch that has two")
	require.Equal(t, 1e-5, d.Correctness.Tolerance)

	report.Results[0].Deviation = 2e-5
	d = result.Document{}
	require.NoError(t, report.Fill(&d))
	require.False(t, d.Correctness.Passed)
	require.Equal(t, 2e-5, d.Correctness.Worst)
}

func TestRunRefuses(t *testing.T) {
	_, err := bench.Run(t.Context(), small(t, generated.MoeTrellisSwigluDecode623Down))
	require.ErrorContains(t, err, "6_2_3, batch 1, 1 threads, exact: fallback of 6_2_3 in down: tuple → ")

	_, err = bench.Run(t.Context(), small(t, generated.MoeCombine))
	require.ErrorContains(t, err, "fallback of 0_0_0 in combine: helper → host, missing")

	o := small(t)
	o.Sweeps[0].Variants[0].Tolerance = 0
	_, err = bench.Run(t.Context(), o)
	require.ErrorContains(t, err, "from the oracle's; the tolerance is 0e+00")

	o = small(t)
	o.Memory = 3 << 19
	o.Sweeps[0].Cases[0].Shape.Experts = 1 << 10
	_, err = bench.Run(t.Context(), o)
	require.ErrorContains(t, err, "does not fit into 1 MB")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bench.Run(ctx, small(t))
	require.ErrorIs(t, err, context.Canceled)
}

func TestDistinct(t *testing.T) {
	for _, n := range []int{1, 2, 8, 64} {
		seen := map[runtime.BitTuple]int{}
		bits := 0
		for _, tuple := range bench.Distinct(n).Tuples(64) {
			seen[tuple]++
			bits += int(tuple.Gate) + int(tuple.Up) + int(tuple.Down)
		}
		require.Len(t, seen, n)
		require.InDelta(t, 11, float64(bits)/64, 0.3)
		require.Equal(t, 64/n, seen[runtime.BitTuple{Gate: 6, Up: 2, Down: 3}])
	}
}

// skipping is a library whose queues leave out launches of a pass.
type skipping struct {
	runtime.Library
	pass runtime.Pass
}

func (l skipping) NewQueue() (runtime.Queue, error) {
	q, err := l.Library.NewQueue()
	return skippingQueue{q, l.pass}, err
}

type skippingQueue struct {
	runtime.Queue
	pass runtime.Pass
}

func (q skippingQueue) Launch(l runtime.Launch) error {
	if l.Kernel.Pass == q.pass {
		return nil
	}
	return q.Queue.Launch(l)
}

// Kernels that do nothing are fast, and nobody hears how fast.
func TestRunChecks(t *testing.T) {
	for pass, what := range map[runtime.Pass]string{
		runtime.GateUp: "the output is ", runtime.Down: "the output is ", runtime.Combine: "output 0 of token 0 is NaN",
	} {
		o := small(t)
		v := o.Sweeps[0].Variants[0]
		v.Library = skipping{v.Library, pass}
		_, err := bench.Run(t.Context(), o)
		require.ErrorContains(t, err, "6_2_3, batch 1, 1 threads, exact: "+what, pass)
	}

	o := smallKernels(t)
	v := o.Variants[0]
	v.Library = skipping{v.Library, runtime.Down}
	d := result.Document{Level: result.Kernels}
	require.ErrorContains(t, bench.RunKernels(t.Context(), o, &d), "down of 6_2_3, 1 rows, "+generated.MoeTrellisSwigluDecode623Down+
		", 1 threads, exact: set 0, expert 0 of 6_2_3: its row 0, column 0 is NaN")
	require.Len(t, d.Cells, 12, "gate_up's")
	for _, c := range d.Cells {
		require.Equal(t, "gate_up", c.Labels["pass"])
	}
}
