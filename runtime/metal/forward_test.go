//go:build darwin || linux

package metal_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/kernels"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
)

// forwards runs batches of tokens through the layers of the shipped model, and
// returns the outputs and what was counted.
func forwards(t *testing.T, dev runtime.Device, lib runtime.Library) (outs [][]float32, snapshots []moe.Snapshot) {
	t.Helper()
	model, err := checkpoint.Open("../../testdata/glm-tiny-mixed")
	require.NoError(t, err)
	defer func() { require.NoError(t, model.Close()) }()
	for _, n := range model.MoELayers() {
		weights, err := model.Layer(n)
		require.NoError(t, err)
		layer, err := moe.NewLayer(weights, moe.Options{
			Device: dev, Library: lib, Table: generated.Table, Codecs: []moe.Codec{trellis.Codec{}},
		})
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(uint64(n), 7))
		for _, tokens := range batches() {
			x := make([]float32, tokens*weights.Hidden)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			out, err := layer.Forward(t.Context(), x)
			require.NoError(t, err)
			outs = append(outs, out)
		}
		snapshots = append(snapshots, layer.Counters().Snapshot())
		require.NoError(t, layer.Close())
	}
	return outs, snapshots
}

func batches() []int {
	if racing {
		return []int{1, 7}
	}
	return []int{1, 2, 7, 33, 100}
}

// requireForward holds a device to the cpu device on a real model: to a fraction
// of the norm of each output.
func requireForward(t *testing.T, dev runtime.Device, lib runtime.Library, fraction float64) (forwardsDone int, snapshots []moe.Snapshot) {
	t.Helper()
	host := cpu.New(cpu.Options{})
	want, _ := forwards(t, host, load(t, host, generated.Table, generated.Sources))
	have, snapshots := forwards(t, dev, lib)
	require.Len(t, have, len(want))
	for i := range want {
		var difference, norm float64
		for j := range want[i] {
			difference += math.Pow(float64(have[i][j])-float64(want[i][j]), 2)
			norm += math.Pow(float64(want[i][j]), 2)
		}
		require.Positive(t, norm)
		require.LessOrEqual(t, math.Sqrt(difference), fraction*math.Sqrt(norm), "forward %d", i)
	}
	return len(want), snapshots
}

// A layer is one submission, its weights where they are mapped, and of the cpu
// device's bits, since the fake computes with it.
func TestForward(t *testing.T) {
	dev, rt := openFake(t, fake.Options{})
	lib := load(t, dev, generated.Table, generated.Sources)
	n, snapshots := requireForward(t, dev, lib, 0)
	for _, s := range snapshots {
		require.Empty(t, s.Fallbacks)
	}
	require.Equal(t, n, rt.Sent("commit")-rt.Sent("requestResidency")-rt.Sent("removeAllocation:"), "command buffers: a residency set is committed, too")
	require.Equal(t, n, rt.Sent("waitUntilCompleted"))
	require.Equal(t, len(snapshots), rt.Sent("newBufferWithBytesNoCopy:length:options:deallocator:"))
	require.Empty(t, rt.Violations())
}

// Kernels that Metal refuses, or that take the GPU down, are stepped down from.
func TestForwardFallback(t *testing.T) {
	broken := generated.MoeTrellisSwigluDecodeFairway
	for name, fail := range map[string]func(selector, what string) string{
		"a source does not compile": func(selector, what string) string {
			if selector == "newLibraryWithSource:options:error:" && kernelIn(what, broken) {
				return "program_source:1:1: error: not today"
			}
			return ""
		},
		"a pipeline is refused": func(selector, what string) string {
			if selector == "newComputePipelineStateWithFunction:error:" && what == broken {
				return "Compiler encountered an internal error"
			}
			return ""
		},
		"a launch takes the GPU down": func(selector, what string) string {
			if selector == "commit" && what == broken {
				return "Caused GPU Address Fault Error"
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			dev, _ := openFake(t, fake.Options{Fail: fail})
			_, snapshots := requireForward(t, dev, load(t, dev, generated.Table, generated.Sources), 1e-6)
			for _, s := range snapshots {
				require.NotEmpty(t, s.Fallbacks)
			}
		})
	}
}

// Single kernels are timed by the GPU's clock.
func TestTimedKernels(t *testing.T) {
	dev, rt := openFake(t, fake.Options{})
	lib := load(t, dev, generated.Table, generated.Sources)
	b, err := kernels.New(kernels.Options{Device: dev, Library: lib, Table: generated.Table, Memory: 30_000, Seed: 1})
	require.NoError(t, err)
	tuple := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
	r, err := b.Prepare(t.Context(), kernels.Case{
		Kernels: []*runtime.Kernel{generated.Table.Kernel(generated.MoeTrellisSwigluDecode623Down)},
		Hidden:  64, Intermediate: 48, TopK: 2, Experts: kernels.Even([]runtime.BitTuple{tuple, tuple}, 1),
	})
	require.NoError(t, err)
	ms, err := r.Sample(t.Context(), 1)
	require.NoError(t, err)
	require.Positive(t, ms[0])
	require.Positive(t, r.Counts().Launches[generated.MoeTrellisSwigluDecode623Down])
	require.NoError(t, r.Close())
	require.NoError(t, b.Close())
	require.Empty(t, rt.Violations())
}
