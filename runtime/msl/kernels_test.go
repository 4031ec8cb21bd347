package msl_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime/msl"
)

// The kernels of the generated sources are those of the table, read without a
// compiler.
func TestKernels(t *testing.T) {
	t.Setenv("MARLINGEN_CLANG", "none")
	for _, source := range generated.Manifest.Sources {
		text, err := generated.Sources.ReadFile(source.Name)
		require.NoError(t, err)
		var want []string
		for _, k := range generated.All.Kernels {
			if k.Source == source.Name {
				want = append(want, k.Symbol)
			}
		}
		have, err := msl.Kernels(t.Context(), source.Name, string(text))
		require.NoError(t, err)
		require.ElementsMatch(t, want, have, source.Name)
	}

	symbols, err := msl.Kernels(t.Context(), "a.metal", `
template <typename T> [[kernel]] void scale(device T* x) { x[0] *= 2; }
template [[host_name("scale_float")]] [[kernel]] void scale<float>(device float*);
kernel void copy(device float* x) {}
// kernel void comment() {}
void helper() {}`)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"scale_float", "copy"}, symbols)

	_, err = msl.Kernels(t.Context(), "a.metal", "kernel int a() { return 1; }")
	require.ErrorContains(t, err, "kernels return void")
	var absent *msl.ToolchainError
	_, err = msl.Kernels(t.Context(), "a.metal", "#define K kernel void\nK a() {}")
	require.ErrorAs(t, err, &absent, "macros take a preprocessor")
}
