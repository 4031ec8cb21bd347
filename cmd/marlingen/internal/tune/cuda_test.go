//go:build linux

package tune

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
	"github.com/marlingen/marlingen/runtime/cuda/double"
	"github.com/marlingen/marlingen/templates"
)

// On a stand-in for NVIDIA's driver, which complains of a launch that is not as
// the very candidate's row says: every candidate is compiled to PTX, loaded and
// launched in its own geometry, and one that the compiler refuses is left out.
func TestTuneCUDA(t *testing.T) {
	needClang(t)
	specs, profile := project(t, "cuda_decode",
		"threads: [128, 192, 256, 384, 512], outputs: [16, 32, 48, 64], splits: [2, 3, 4, 6, 8, 12, 16], residents: [1, 2, 3, 4, 6], steps: [1, 2, 3, 4], sets: [1, 2]",
		"outputs: [32, 48, 64], threads: [128, 384]")
	table := &runtime.Table{}
	for _, outputs := range []int{32, 64} {
		p := point{"outputs": outputs, "threads": 384}
		l, err := specs.Try(templates.FS, "trellis", "cuda_decode", runtime.Down, p)
		require.NoError(t, err)
		table.Kernels = append(table.Kernels, l.Kernels()...)
		table.Codecs = append(table.Codecs, l.Codec.Codec)
	}
	d := double.New(t, table)
	device, err := cuda.Open(cuda.Options{Library: d.Path})
	require.NoError(t, err)
	defer func() { require.NoError(t, device.Close()) }()

	results, err := Run(t.Context(), Options{
		Device: device, Target: runtime.CUDA, Specs: specs, Templates: templates.FS, Profile: profile,
		Families: []string{"cuda_decode"}, Passes: []runtime.Pass{runtime.Down}, Memory: 1e6, Most: 8, Journal: memory(),
	})
	require.NoError(t, err)
	o := results[0].Contests["numbers"]
	require.Equal(t, 2, o.Tried)
	require.Equal(t, "outputs=32 threads=384", o.Other)
	require.Positive(t, o.Before)
	require.Positive(t, o.After)
	require.Len(t, o.Refused, 4)
	require.Contains(t, o.Refused["outputs=32 threads=128"], "the compiler: trellis_cuda_decode_outputs_32_threads_128.metal: ")
	require.Contains(t, o.Refused["outputs=32 threads=128"], "whole lines")
}
