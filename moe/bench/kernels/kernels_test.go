package kernels_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/bench/kernels"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// open returns a bench on the cpu device, whose launches go through tamper.
func open(t *testing.T, precision cpu.Precision, tamper func(runtime.Launch) runtime.Launch) *kernels.Bench {
	t.Helper()
	device := cpu.New(cpu.Options{Workers: 1, Precision: precision})
	library, err := device.Load(t.Context(), generated.Table, generated.Sources)
	require.NoError(t, err)
	b, err := kernels.New(kernels.Options{
		Device: device, Library: tampered{library, tamper}, Table: generated.Table, Memory: 200_000, Seed: 1,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// tampered is a library whose queues launch something else.
type tampered struct {
	runtime.Library
	with func(runtime.Launch) runtime.Launch
}

func (l tampered) NewQueue() (runtime.Queue, error) {
	q, err := l.Library.NewQueue()
	return tamperedQueue{q, l.with}, err
}

type tamperedQueue struct {
	runtime.Queue
	with func(runtime.Launch) runtime.Launch
}

func (q tamperedQueue) Launch(l runtime.Launch) error {
	if q.with != nil {
		if l = q.with(l); l.Kernel == nil {
			return nil
		}
	}
	return q.Queue.Launch(l)
}

var (
	a = runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
	b = runtime.BitTuple{Gate: 6, Up: 3, Down: 4}
	c = runtime.BitTuple{Gate: 8, Up: 7, Down: 5} // of no spec
)

// of returns the kernels that may run a tuple in a pass.
func of(t *testing.T, pass runtime.Pass, tuple runtime.BitTuple, rows int) (ks []*runtime.Kernel) {
	t.Helper()
	for _, k := range generated.Table.Kernels {
		if k.Pass == pass && k.Rows.Contains(rows) && k.Runs(tuple) {
			ks = append(ks, k)
		}
	}
	require.NotEmpty(t, ks)
	return ks
}

func caseOf(ks []*runtime.Kernel, experts ...kernels.Expert) kernels.Case {
	return kernels.Case{Kernels: ks, Hidden: 144, Intermediate: 80, TopK: 2, Experts: experts}
}

// Each kind of kernel in each family, at odd sizes, in both precisions.
func TestSample(t *testing.T) {
	for _, precision := range []cpu.Precision{cpu.Exact, cpu.Fast} {
		bench := open(t, precision, nil)
		for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
			for _, rows := range []int{1, 2, 7, 17, 40} {
				for _, k := range of(t, pass, a, rows) {
					run, err := bench.Prepare(t.Context(), caseOf([]*runtime.Kernel{k}, kernels.Even([]runtime.BitTuple{a, a, a}, rows)...))
					require.NoError(t, err, k.Symbol)
					ms, err := run.Sample(t.Context(), 0)
					require.NoError(t, err)
					require.Len(t, ms, 1)
					require.Positive(t, ms[0])
					many, err := run.Sample(t.Context(), time.Millisecond)
					require.NoError(t, err)
					calls := uint64(1 + len(many))
					require.Equal(t, kernels.Counts{
						Launches:    map[string]uint64{k.Symbol: calls},
						Assignments: map[runtime.BitTuple]uint64{a: 3 * calls * uint64(rows)},
					}, run.Counts())

					columns, matrices, widths, in := 80, 2, 6+2, 144*(3*rows+1)/2 // tokens of two experts each
					if pass == runtime.Down {
						columns, matrices, widths, in = 144, 1, 3, 80*3*rows
					}
					require.Equal(t, float64(matrices*3*rows*144*80), run.MACs)
					indices := float64(3 * widths * 144 * 80 / 8)
					require.Greater(t, run.WeightBytes, indices)
					require.Less(t, run.WeightBytes, 1.2*indices)
					require.Greater(t, run.Bytes, run.WeightBytes+float64(4*columns*3*rows))
					require.LessOrEqual(t, run.Bytes, run.WeightBytes+float64(4*in+4*columns*3*rows)+3*3*48+float64(16*3*rows), "descriptors and lists are small")
					require.Greater(t, run.Sets, 1, "the memory has room for more than one")
					require.GreaterOrEqual(t, run.Checked, 2*rows*columns)
					require.Positive(t, run.Deviation)
					require.NoError(t, run.Close())
				}
			}
		}
	}
}

// Kernels that share a case each run the experts that they can.
func TestSharedCase(t *testing.T) {
	bench := open(t, cpu.Exact, nil)
	mixed := []kernels.Expert{{a, 3}, {b, 9}, {c, 2}, {a, 16}, {b, 2}}
	for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
		var ks []*runtime.Kernel
		for _, kind := range []runtime.Kind{runtime.Tuple, runtime.Fairway, runtime.Generic} {
			for _, k := range of(t, pass, a, 3) {
				if k.Kind == kind {
					ks = append(ks, k)
				}
			}
		}
		kinds := map[runtime.Kind]int{}
		run, err := bench.Prepare(t.Context(), caseOf(ks, mixed...))
		require.NoError(t, err)
		_, err = run.Sample(t.Context(), 0)
		require.NoError(t, err)
		counts := run.Counts()
		for symbol, n := range counts.Launches {
			kinds[generated.Table.Kernel(symbol).Kind] += int(n)
		}
		require.Equal(t, map[runtime.Kind]int{runtime.Tuple: 1, runtime.Fairway: 1, runtime.Generic: 1}, kinds)
		require.Equal(t, map[runtime.BitTuple]uint64{a: 19, b: 11, c: 2}, counts.Assignments)
		require.NoError(t, run.Close())
	}
}

// What a wrong kernel does is seen before it is timed.
func TestWrongKernels(t *testing.T) {
	for name, f := range map[string]struct {
		tamper func(runtime.Launch) runtime.Launch
		want   string
	}{
		"nothing is done": {func(runtime.Launch) runtime.Launch { return runtime.Launch{} }, "row 0, column 0 is NaN"},
		"the last entry of the work list is left out": {func(l runtime.Launch) runtime.Launch {
			l.Shape.Items--
			l.Args[0].Bytes = runtime.AppendShape(nil, l.Shape)
			return l
		}, "is NaN"},
		"the experts of another order": {func(l runtime.Launch) runtime.Launch {
			for i, b := range l.Kernel.Bindings {
				if b.Name == "experts" {
					content := make([]byte, l.Args[i].Buffer.Size())
					_, _ = l.Args[i].Buffer.ReadAt(content, 0)
					half := len(content) / 2
					_, _ = l.Args[i].Buffer.WriteAt(append(append([]byte{}, content[half:]...), content[:half]...), 0)
				}
			}
			return l
		}, "of the terms; the tolerance is 1e-05"},
		"the next row's input": {func(l runtime.Launch) runtime.Launch {
			for i, b := range l.Kernel.Bindings {
				if b.Name == "token" || b.Name == "prob" {
					var word [4]byte
					_, _ = l.Args[i].Buffer.ReadAt(word[:], 4)
					_, _ = l.Args[i].Buffer.WriteAt(word[:], 0)
				}
			}
			return l
		}, "its row 0, column "},
	} {
		t.Run(name, func(t *testing.T) {
			bench := open(t, cpu.Exact, f.tamper)
			for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
				_, err := bench.Prepare(t.Context(), caseOf(of(t, pass, a, 7)[:1], kernels.Even([]runtime.BitTuple{a, a}, 7)...))
				require.ErrorContains(t, err, f.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	bench := open(t, cpu.Exact, nil)
	decode := of(t, runtime.GateUp, a, 1)[:1]
	for want, c := range map[string]kernels.Case{
		"a case of 0 kernels and 1 experts":                 caseOf(nil, kernels.Expert{a, 1}),
		"cannot run gate_up of trellis 6_2_3 with 2 rows: ": caseOf(decode, kernels.Expert{a, 2}),
		"it was compiled for [6_2_3]":                       caseOf(decode, kernels.Expert{b, 1}),
		"want the same for all, gate_up or down":            caseOf(append(of(t, runtime.Down, a, 1), decode...), kernels.Expert{a, 1}),
		"does not fit into 0 MB":                            caseOf(decode, kernels.Even(slices.Repeat([]runtime.BitTuple{a}, 600), 1)...),
		"hidden 144, intermediate 81: want multiples of 16": {Kernels: decode, Hidden: 144, Intermediate: 81, TopK: 1, Experts: []kernels.Expert{{a, 1}}},
		"top-0":              {Kernels: decode, Hidden: 144, Intermediate: 80, Experts: []kernels.Expert{{a, 1}}},
		"is not the table's": caseOf([]*runtime.Kernel{{Body: decode[0].Body, Kind: runtime.Generic, Symbol: decode[0].Symbol}}, kernels.Expert{a, 1}),
	} {
		_, err := bench.Prepare(t.Context(), c)
		require.ErrorContains(t, err, want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	run, err := bench.Prepare(ctx, caseOf(decode, kernels.Expert{a, 1}))
	require.NoError(t, err)
	cancel()
	_, err = run.Sample(ctx, time.Hour)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, run.Counts().Launches, "nothing was timed")
	require.NoError(t, run.Close())
	_, err = bench.Prepare(ctx, caseOf(decode, kernels.Expert{a, 1}))
	require.ErrorIs(t, err, context.Canceled)
}
