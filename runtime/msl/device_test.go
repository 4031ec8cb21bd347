package msl_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/msl"
)

// open returns a device for a test. Without a compiler the test is skipped,
// unless MARLINGEN_REQUIRE_CLANG is 1.
func open(t testing.TB, o msl.Options) *msl.Device {
	t.Helper()
	dev, err := msl.Open(t.Context(), o)
	skip(t, err)
	t.Cleanup(func() { dev.Close() })
	return dev
}

func skip(t testing.TB, err error) {
	t.Helper()
	if err != nil && os.Getenv("MARLINGEN_REQUIRE_CLANG") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err)
}

// TestDevice runs the suite in every schedule, and as Metal computes by default.
func TestDevice(t *testing.T) {
	for _, c := range []struct {
		name    string
		target  string
		options msl.Options
		short   bool
	}{
		{"forward", runtime.Metal3, msl.Options{}, false},
		{"reverse", runtime.Metal3, msl.Options{Schedule: msl.Reverse}, true},
		{"random", runtime.Metal3, msl.Options{Schedule: msl.Random, Seed: 1}, true},
		{"fast math", runtime.Metal3, msl.Options{FastMath: true, FlushToZero: true}, true},
		{"checker", runtime.Metal3, msl.Options{Checker: true, Schedule: msl.Random, Seed: 2}, true},
		{"cuda", runtime.CUDA, msl.Options{Schedule: msl.Random, Seed: 3}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			devicetest.Run(t, open(t, c.options), generated.All.For(c.target), generated.Sources, devicetest.Options{Short: c.short})
		})
	}
}

// TestDeep checks a kernel of each body at the larger shapes, too: only there do
// loops over the inputs come round.
func TestDeep(t *testing.T) {
	dev := open(t, msl.Options{Checker: true})
	table := &runtime.Table{Codecs: generated.All.Codecs}
	for _, k := range generated.All.Kernels {
		if k.Kind == runtime.Tuple && k.Tuples[0] == (runtime.BitTuple{Gate: 6, Up: 2, Down: 3}) {
			table.Kernels = append(table.Kernels, k)
		}
	}
	lib, err := dev.Load(t.Context(), table, generated.Sources)
	require.NoError(t, err)
	for _, k := range table.Kernels {
		t.Run(k.Symbol, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, devicetest.CheckKernel(t.Context(), dev, lib, table, k, devicetest.Options{}))
		})
	}
}
