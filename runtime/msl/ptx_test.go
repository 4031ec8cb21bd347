package msl_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

// TestPTX compiles a source; generated holds what ships to more.
func TestPTX(t *testing.T) {
	text, err := fs.ReadFile(generated.Sources, "helpers.metal")
	require.NoError(t, err)
	kernels := helpers().Kernels
	ptx, err := msl.PTX(t.Context(), "helpers.metal", string(text), kernels)
	skip(t, err)
	for _, k := range kernels {
		require.Contains(t, string(ptx), ".entry "+k.Symbol+"(")
	}
	again, err := msl.PTX(t.Context(), "helpers.metal", string(text), kernels)
	require.NoError(t, err)
	require.Equal(t, string(ptx), string(again))
}

// What a text lacks, or has in another way than its row, is no entry.
func TestPTXErrors(t *testing.T) {
	const text = `#include <metal_stdlib>
using namespace metal;
kernel void twice(device const float* x [[buffer(0)]], device float* y [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) { y[i] = 2.0f * x[i]; }
`
	row := func(symbol string, bindings ...runtime.Binding) []*runtime.Kernel {
		return []*runtime.Kernel{{Body: &runtime.Body{Threads: 32, Bindings: bindings}, Symbol: symbol}}
	}
	x := runtime.Binding{Name: "x", Type: "float", Access: runtime.Read}
	y := runtime.Binding{Name: "y", Type: "float", Access: runtime.Write}
	ptx, err := msl.PTX(t.Context(), "t.metal", text, row("twice", x, y))
	skip(t, err)
	require.Contains(t, string(ptx), "st.global")
	for want, c := range map[string]struct {
		text    string
		kernels []*runtime.Kernel
	}{
		"there is no kernel thrice":                          {text, row("thrice", x, y)},
		"kernel twice has 2 buffers, and its row 1 bindings": {text, row("twice", x)},
		"kernel twice has buffer(0) x, and its row y":        {text, row("twice", y, x)},
		"t.metal:3:": {strings.Replace(text, "x[i]", "z[i]", 1), row("twice", x, y)},
	} {
		_, err := msl.PTX(t.Context(), "t.metal", c.text, c.kernels)
		require.ErrorAs(t, err, new(*msl.PTXError))
		require.ErrorContains(t, err, want)
	}
}
