//go:build linux

package cuda_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/kernels"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// lacking is a library without the kernels of some kinds.
type lacking struct {
	runtime.Library
	kinds []runtime.Kind
}

func (l lacking) Availability() runtime.Availability {
	have := maps.Clone(l.Library.Availability())
	for _, k := range table.Kernels {
		for _, kind := range l.kinds {
			if k.Kind == kind && k.Pass != runtime.Combine {
				delete(have, k.Symbol)
			}
		}
	}
	return have
}

// shipped returns the shipped model, and reference activations.
func shipped(t *testing.T) (*checkpoint.Checkpoint, *checkpoint.Tensors) {
	t.Helper()
	model := marlingen.GlmTinyMixed()
	c, err := checkpoint.OpenFS(model)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	data, err := fs.ReadFile(model, "reference.safetensors")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "reference.safetensors")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	tensors, err := checkpoint.OpenTensors(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tensors.Close()) })
	return c, tensors
}

// The layers of the shipped model give what its record says, on every kind of
// kernel, and on none.
func TestLayers(t *testing.T) {
	c, tensors := shipped(t)
	each(t, func(t *testing.T, dev *cuda.Device) {
		lib := load(t, dev, generated.Sources)
		for _, test := range []struct {
			name      string
			missing   []runtime.Kind
			fallbacks bool
			hosts     bool
		}{
			{"all kernels", nil, false, false},
			{"no fairway", []runtime.Kind{runtime.Fairway}, true, false},
			{"generic kernels", []runtime.Kind{runtime.Fairway, runtime.Tuple}, true, false},
			{"the host", []runtime.Kind{runtime.Fairway, runtime.Tuple, runtime.Generic}, true, true},
		} {
			t.Run(test.name, func(t *testing.T) {
				for _, n := range c.MoELayers() {
					w, err := c.Layer(n)
					require.NoError(t, err)
					record, err := replay.Read(tensors, n, c.Config)
					require.NoError(t, err)
					r, err := replay.Run(t.Context(), n, w, moe.Options{
						Device: dev, Library: lacking{lib, test.missing}, Table: table, Codecs: []moe.Codec{trellis.Codec{}},
					}, record, 2)
					require.NoError(t, err)
					require.NoError(t, r.Faults())
					require.Zero(t, r.Misrouted)
					require.Less(t, r.Deviation, 1e-5)
					require.Equal(t, test.hosts, len(r.Plan.Host) > 0)
					require.Equal(t, test.fallbacks, len(r.Snapshot.Fallbacks) > 0)
					require.Positive(t, r.Snapshot.Launches[generated.MoeCombine])
				}
			})
		}
	})
}

// A token takes one graph, and gives what it gives in any other way.
func TestDecoder(t *testing.T) {
	c, tensors := shipped(t)
	n := c.MoELayers()[0]
	w, err := c.Layer(n)
	require.NoError(t, err)
	record, err := replay.Read(tensors, n, c.Config)
	require.NoError(t, err)
	each(t, func(t *testing.T, dev *cuda.Device) {
		lib := load(t, dev, generated.Sources)
		o := moe.Options{Device: dev, Library: lib, Table: table, Codecs: []moe.Codec{trellis.Codec{}}}
		byHost, err := moe.NewLayer(w, o)
		require.NoError(t, err)
		o.RouteOnDevice = true
		decoder, err := moe.NewLayer(w, o)
		require.NoError(t, err)
		tokens := func(first, end int) []float32 { return record.In[first*w.Hidden : end*w.Hidden] }
		same := func(x []float32) {
			t.Helper()
			want, err := byHost.Forward(t.Context(), x)
			require.NoError(t, err)
			got, err := decoder.Forward(t.Context(), x)
			require.NoError(t, err)
			require.Less(t, oracle.Distance(oracle.Floats(got), oracle.Floats(want)), 1e-5)
			require.Equal(t, byHost.Counters().Reset().Assignments, decoder.Counters().Snapshot().Assignments)
		}
		for i := range 10 {
			same(tokens(i, i+1))
			slots := w.Router.TopK + 1
			s := decoder.Counters().Reset()
			require.Equal(t, map[string]uint64{
				generated.MoeRoute: 1, single(t, runtime.GateUp): 1, single(t, runtime.Down): 1, generated.MoeCombine: 1,
			}, s.Launches)
			require.Empty(t, s.Fallbacks)
			require.Equal(t, slots, int(sum(s.Assignments)))
			if i == 4 { // whose buffers are larger
				same(tokens(10, 40))
				decoder.Counters().Reset()
			}
		}
		x := slices.Clone(tokens(0, 1))
		x[3] = float32(math.NaN())
		_, err = decoder.Forward(t.Context(), x)
		require.ErrorContains(t, err, "router: a weight of token 0 is NaN")
		same(tokens(11, 12))

		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = decoder.Forward(canceled, tokens(0, 1))
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, errors.Join(byHost.Close(), decoder.Close()))
	})
}

func sum[K comparable](m map[K]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// Graphs of a small layer, through all that the bench does.
func TestGraphs(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		o := bench.GraphOptions{
			Device: dev, Library: load(t, dev, generated.Sources), Table: table, Codecs: []moe.Codec{trellis.Codec{}},
			Shape:   bench.Shape{Hidden: 64, Intermediate: 48, Experts: 8, TopK: 2},
			Mixes:   []bench.Mix{bench.Uniform(runtime.BitTuple{Gate: 6, Up: 2, Down: 3}), bench.Distinct(8)},
			Batches: []int{1, 5, 40}, Layers: 3, Known: 2, Tolerance: replay.OutputTolerance, Rounds: 2, Samples: 2, Time: time.Microsecond, Copy: 1 << 20, Seed: 1,
		}
		steps := 0
		o.Progress = func(done, total int) {
			steps++
			require.Equal(t, steps, done)
			require.Equal(t, 18, total)
		}
		report, err := bench.RunGraphs(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, 18, steps)
		require.Len(t, report.Results, 6)
		require.Positive(t, report.CopyGBs)
		one := report.Results[0]
		require.Equal(t, 3, one.Launches, "gate_up, down, combine")
		expert := 11*64*48/8 + 2*(2*48+2*64) + 2*64 + 3*2*(64+48)
		require.InDelta(t, 2*expert, one.Bytes, 0.1*float64(expert), "two experts of a token")
		for _, r := range report.Results {
			for _, times := range []bench.GraphTimes{r.Graph, r.Forward} {
				low, high := times.Tenths()
				require.Positive(t, low)
				require.LessOrEqual(t, low, times.Median())
				require.GreaterOrEqual(t, high, times.Median())
				require.Len(t, times.Rounds, 2)
			}
			require.Less(t, r.Deviation, replay.OutputTolerance)
		}

		// Graphs launch what the host never sees: as often as they were replayed.
		var d result.Document
		require.NoError(t, report.Fill(&d))
		require.NoError(t, d.CheckMeasured())
		require.Len(t, d.Cells, 12, "replayed graphs, and forwards")
		forwards := uint64(0)
		for _, r := range report.Results {
			forwards += uint64(len(r.Forward.All))
		}
		require.Equal(t, forwards, d.Counters.Forwards)
		combined := d.Counters.Launches[generated.MoeCombine]
		require.Greater(t, combined, forwards, "graphs have one for each layer, too")
		require.Zero(t, (combined-forwards)%3, "all three layers are in a graph")

		o.Override, o.Mixes, o.Batches, o.Progress = single(t, runtime.GateUp), o.Mixes[:1], []int{1}, nil
		report, err = bench.RunGraphs(t.Context(), o)
		require.NoError(t, err)
		require.Len(t, report.Results, 2)
		require.Equal(t, []string{"", o.Override}, []string{report.Results[0].Override, report.Results[1].Override})
		require.Positive(t, report.Counters.Launches[o.Override])
		d = result.Document{}
		require.NoError(t, report.Fill(&d))
		require.NoError(t, d.CheckMeasured())
		require.Equal(t, "graph/6_2_3/experts:8/batch:1/overridden", d.Cells[2].Name)
		require.Equal(t, o.Override, d.Cells[2].Labels["kernels"])

		o.Override, o.Batches = "", []int{1}
		o.Tolerance = 0
		_, err = bench.RunGraphs(t.Context(), o)
		require.ErrorContains(t, err, "6_2_3, batch 1: layer 0: token 0 is ")
		require.ErrorContains(t, err, "from the oracle's; the tolerance is 0e+00")
	})
}

// Replayed graphs of single kernels, each held to the oracle and counted.
func TestTimedKernels(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		b, err := kernels.New(kernels.Options{Device: dev, Library: load(t, dev, generated.Sources), Table: table, Memory: 30_000, Seed: 1})
		require.NoError(t, err)
		defer func() { require.NoError(t, b.Close()) }()
		tuple := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
		for _, rows := range []int{1, 5, 40} {
			for _, k := range table.Kernels {
				if k.Pass != runtime.GateUp && k.Pass != runtime.Down || !k.Rows.Contains(rows) || !k.Runs(tuple) {
					continue
				}
				r, err := b.Prepare(t.Context(), kernels.Case{
					Kernels: []*runtime.Kernel{k}, Hidden: 64, Intermediate: 48, TopK: 2, Experts: kernels.Even([]runtime.BitTuple{tuple, tuple}, rows),
				})
				require.NoError(t, err, k.Symbol)
				ms, err := r.Sample(t.Context(), time.Microsecond)
				require.NoError(t, err)
				require.Positive(t, ms[0])
				launches := r.Counts().Launches[k.Symbol]
				require.Zero(t, launches%uint64(r.Sets))
				require.GreaterOrEqual(t, launches, uint64(r.Sets*len(ms)))
				require.Equal(t, launches*uint64(2*rows), r.Counts().Assignments[tuple])
				require.NoError(t, r.Close())
			}
		}
	})
}
