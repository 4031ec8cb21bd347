package msl_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

func TestMissingCompiler(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("there is no device to open")
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv("MARLINGEN_CLANG", "")
	_, err := msl.Open(t.Context(), msl.Options{})
	require.ErrorAs(t, err, new(*msl.ToolchainError))
	assert.ErrorContains(t, err, "install one with: apt install clang-19")
	_, err = msl.Check(t.Context(), "x.metal", "")
	require.ErrorAs(t, err, new(*msl.ToolchainError))

	t.Setenv("MARLINGEN_CLANG", filepath.Join(t.TempDir(), "my-clang"))
	_, err = msl.Open(t.Context(), msl.Options{})
	assert.ErrorContains(t, err, "my-clang")
}

func TestOldCompiler(t *testing.T) {
	if goruntime.GOOS == "windows" {
		t.Skip("a shell script stands in for clang")
	}
	old := filepath.Join(t.TempDir(), "clang")
	require.NoError(t, os.WriteFile(old, []byte("#!/bin/sh\necho 'Debian clang version 14.0.6'\n"), 0o700))
	t.Setenv("MARLINGEN_CLANG", old)
	_, err := msl.Check(t.Context(), "x.metal", "")
	assert.ErrorContains(t, err, "version 14, and the first that will do is 17")
}

// helpers is the table of one source.
func helpers() *runtime.Table {
	t := &runtime.Table{Codecs: generated.Table.Codecs}
	for _, k := range generated.Table.Kernels {
		if k.Source == "helpers.metal" {
			t.Kernels = append(t.Kernels, k)
		}
	}
	return t
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	load := func() time.Duration {
		dev := open(t, msl.Options{CacheDir: dir})
		begin := time.Now()
		lib, err := dev.Load(t.Context(), helpers(), generated.Sources)
		require.NoError(t, err)
		for _, k := range helpers().Kernels {
			assert.Equal(t, runtime.Present, lib.Availability().Of(k).State)
		}
		return time.Since(begin)
	}
	var wg sync.WaitGroup
	for range 3 { // at once, as processes would
		wg.Go(func() { load() })
	}
	wg.Wait()
	assert.Less(t, load(), 100*time.Millisecond, "what is in the cache is not compiled again")

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		prefix, _, _ := strings.Cut(e.Name(), "-")
		names = append(names, prefix)
	}
	assert.Equal(t, []string{"kernels", "msl", "runner"}, names, "one of each, and nothing temporary")
}

// TestAvailability spoils one kernel after another.
func TestAvailability(t *testing.T) {
	dev := open(t, msl.Options{})
	text, err := fs.ReadFile(generated.Sources, "trellis_decode.metal")
	require.NoError(t, err)
	var kernels []*runtime.Kernel
	for _, k := range generated.Table.Kernels {
		if k.Source == "trellis_decode.metal" && k.Pass == runtime.GateUp {
			kernels = append(kernels, k)
		}
	}
	table := &runtime.Table{Kernels: kernels, Codecs: generated.Table.Codecs}
	tuple, generic := "moe_trellis_swiglu_decode_6_2_3", "moe_trellis_swiglu_decode"
	for _, c := range []struct {
		name, old, new string
		words          string
		want           func(symbol string) runtime.State
	}{
		{
			"one instance", `decltype(trellis_decode_gate_up_kernel<Trellis<6>, Trellis<2>, Trellis<3>>) trellis_decode_gate_up_kernel<Trellis<6>, Trellis<2>, Trellis<3>>`,
			`decltype(trellis_decode_gate_up_kernel<Trellis<6>, Trellis<9>, Trellis<3>>) trellis_decode_gate_up_kernel<Trellis<6>, Trellis<9>, Trellis<3>>`,
			"templates/codecs/trellis.metal:.*widths are 2 to 8", only(runtime.Failed, tuple),
		},
		{
			"one function", "kernel void moe_trellis_swiglu_decode_fairway(", "kernel float moe_trellis_swiglu_decode_fairway(",
			"specs/families/decode.yaml:.*kernels return void", nil,
		},
		{"a name", `host_name("moe_trellis_swiglu_decode")`, `host_name("moe_trellis_swiglu_encode")`, "defines no kernel of this name", only(runtime.Missing, generic)},
		{"all", "float before(uint input) const {", "float before(uint input) const { return nothing;", "templates/codecs/trellis.metal:.*nothing", func(string) runtime.State { return runtime.Failed }},
		{
			"swapped buffers", "device const uint* token [[buffer(4)]], device const float* x [[buffer(5)]], device float* h [[buffer(6)]], uint3 group [[threadgroup_position_in_grid]], uint index [[thread_index_in_threadgroup]], uint simd [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {\n  threadgroup",
			"device const uint* token [[buffer(5)]], device const float* x [[buffer(4)]], device float* h [[buffer(6)]], uint3 group [[threadgroup_position_in_grid]], uint index [[thread_index_in_threadgroup]], uint simd [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {\n  threadgroup",
			"buffer 4 of the kernel is x, and token in the table", func(s string) runtime.State {
				if strings.HasSuffix(s, "fairway") {
					return runtime.Present
				}
				return runtime.Failed
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, string(text), c.old)
			spoilt := strings.Replace(string(text), c.old, c.new, 1)
			lib, err := dev.Load(t.Context(), table, fstest.MapFS{"trellis_decode.metal": {Data: []byte(spoilt)}})
			require.NoError(t, err)
			defer lib.Close()
			for _, k := range kernels {
				have := lib.Availability().Of(k)
				if c.want != nil {
					assert.Equal(t, c.want(k.Symbol), have.State, "%s: %s", k.Symbol, have.Words)
				}
				if have.State != runtime.Present {
					assert.Regexp(t, c.words, have.Words)
				}
			}
		})
	}
	lib, err := dev.Load(t.Context(), table, fstest.MapFS{})
	require.NoError(t, err)
	for _, k := range kernels {
		assert.Equal(t, runtime.Missing, lib.Availability().Of(k).State)
	}
}

// only returns the states of a library in which one kernel is not present.
func only(state runtime.State, symbol string) func(string) runtime.State {
	return func(s string) runtime.State {
		if s == symbol {
			return state
		}
		return runtime.Present
	}
}

func TestOptions(t *testing.T) {
	_, err := msl.Open(t.Context(), msl.Options{Schedule: "sideways"})
	require.Error(t, err)
	require.False(t, errors.As(err, new(*msl.ToolchainError)))
}
