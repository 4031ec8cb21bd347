//go:build linux

package cuda_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
)

// lacking is a library without the kernels of some kinds.
type lacking struct {
	runtime.Library
	kinds []runtime.Kind
}

func (l lacking) Availability() runtime.Availability {
	have := maps.Clone(l.Library.Availability())
	for _, k := range generated.Table.Kernels {
		for _, kind := range l.kinds {
			if k.Kind == kind && k.Pass != runtime.Combine {
				delete(have, k.Symbol)
			}
		}
	}
	return have
}

// The layers of the shipped model give what its record says, on every kind of
// kernel, and on none.
func TestLayers(t *testing.T) {
	model := marlingen.GlmTinyMixed()
	c, err := checkpoint.OpenFS(model)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	data, err := fs.ReadFile(model, "reference.safetensors")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "reference.safetensors")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	tensors, err := checkpoint.OpenTensors(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, tensors.Close()) }()
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
						Device: dev, Library: lacking{lib, test.missing}, Table: generated.Table, Codecs: []moe.Codec{trellis.Codec{}},
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

// Graphs of a small layer, through all that the bench does.
func TestGraphs(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		o := bench.GraphOptions{
			Device: dev, Library: load(t, dev, generated.Sources), Table: generated.Table, Codecs: []moe.Codec{trellis.Codec{}},
			Shape:   bench.Shape{Hidden: 64, Intermediate: 48, Experts: 8, TopK: 2},
			Mixes:   []bench.Mix{bench.Uniform(runtime.BitTuple{Gate: 6, Up: 2, Down: 3}), bench.Distinct(8)},
			Batches: []int{1, 5, 40}, Layers: 3, Known: 2, Tolerance: 1e-5, Samples: 3, Time: time.Microsecond, Copy: 1 << 20, Seed: 1,
		}
		steps := 0
		o.Progress = func(done, total int) {
			steps++
			require.Equal(t, steps, done)
			require.Equal(t, 12, total)
		}
		report, err := bench.RunGraphs(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, 12, steps)
		require.Len(t, report.Results, 6)
		require.Positive(t, report.CopyGBs)
		one := report.Results[0]
		require.Equal(t, 3, one.Launches, "gate_up, down, combine")
		expert := 11*64*48/8 + 2*(2*48+2*64) + 2*64 + 3*2*(64+48)
		require.InDelta(t, 2*expert, one.Bytes, 0.1*float64(expert), "two experts of a token")
		for _, r := range report.Results {
			require.Positive(t, r.US)
			require.LessOrEqual(t, r.LowUS, r.US)
			require.GreaterOrEqual(t, r.HighUS, r.US)
			require.Less(t, r.Deviation, 1e-5)
		}
		o.Tolerance, o.Progress = 0, nil
		_, err = bench.RunGraphs(t.Context(), o)
		require.ErrorContains(t, err, "6_2_3, batch 1: layer 0: token 0 is ")
		require.ErrorContains(t, err, "from the oracle's; the tolerance is 0e+00")
	})
}
