//go:build darwin || linux

package metal_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// openFake returns a device on a fake. At the end of the test everything must be
// released, and nothing in violation of Metal's rules.
func openFake(t testing.TB, o fake.Options) (*metal.Device, *fake.Runtime) {
	t.Helper()
	o.Table = generated.Table
	rt := fake.New(o)
	dev := openOn(t, rt, metal.Options{})
	t.Cleanup(func() {
		require.NoError(t, dev.Close())
		require.Empty(t, rt.Left())
	})
	return dev, rt
}

func openOn(t testing.TB, rt objc.Runtime, o metal.Options) *metal.Device {
	t.Helper()
	o.Leaked = func(what string) { t.Errorf("%s was never closed", what) }
	dev, err := metal.OpenOn(rt, o)
	require.NoError(t, err)
	return dev
}

func load(t testing.TB, dev runtime.Device, table *runtime.Table, sources fs.FS) runtime.Library {
	t.Helper()
	lib, err := dev.Load(t.Context(), table, sources)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lib.Close()) })
	return lib
}

// TestDevice runs the suite through every message that a Mac would get.
func TestDevice(t *testing.T) {
	dev, rt := openFake(t, fake.Options{})
	require.Equal(t, "metal", dev.Info().Kind)
	devicetest.Run(t, dev, generated.Table, generated.Sources, devicetest.Options{Short: racing})
	require.Positive(t, rt.Sent("requestResidency"))
	require.Positive(t, rt.Sent("setMathMode:"))
}

// Where there is no residency set, none is asked for.
func TestOlder(t *testing.T) {
	for name, o := range map[string]fake.Options{
		"macOS 14":                             {Older: true},
		"no Metal 3, though it has the method": {Families: []uintptr{1007}},
	} {
		t.Run(name, func(t *testing.T) {
			dev, rt := openFake(t, o)
			lib := load(t, dev, generated.Table, generated.Sources)
			require.NoError(t, devicetest.CheckContract(t.Context(), dev, lib, generated.Table))
			require.Zero(t, rt.Sent("requestResidency"))
			require.Equal(t, o.Older, rt.Sent("setFastMathEnabled:") > 0)
		})
	}
}

// TestHardware runs the suite on this machine's GPU, from the sources and, if
// MARLINGEN_METALLIB names one, from a compiled library. Without a GPU it is
// skipped, unless MARLINGEN_REQUIRE_METAL is 1.
func TestHardware(t *testing.T) {
	o := metal.Options{Digest: generated.Manifest.Digest, Leaked: func(what string) { t.Errorf("%s was never closed", what) }}
	dev, err := metal.Open(o)
	if err != nil && os.Getenv("MARLINGEN_REQUIRE_METAL") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer dev.Close()
	t.Logf("%+v", dev.Info())
	t.Run("sources", func(t *testing.T) {
		devicetest.Run(t, dev, generated.Table, generated.Sources, devicetest.Options{})
	})
	t.Run("metallib", func(t *testing.T) {
		path := os.Getenv("MARLINGEN_METALLIB")
		if path == "" {
			t.Skip("MARLINGEN_METALLIB names no compiled library")
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		devicetest.Run(t, dev, generated.Table, withMetallib(data), devicetest.Options{})
	})
	t.Run("forward", func(t *testing.T) { requireForward(t, dev, load(t, dev, generated.Table, generated.Sources), 1e-4) })
}

// withMetallib returns the generated sources and a compiled library.
func withMetallib(data []byte) fs.FS {
	files := fstest.MapFS{metal.MetallibName: {Data: data}}
	for _, s := range generated.Manifest.Sources {
		text, err := generated.Sources.ReadFile(s.Name)
		if err != nil {
			panic(err) // embedded, by a list that says so
		}
		files[s.Name] = &fstest.MapFile{Data: text}
	}
	return files
}

// A device is refused where kernels could not run.
func TestOpen(t *testing.T) {
	_, err := metal.OpenOn(fake.New(fake.Options{Families: []uintptr{1005}}), metal.Options{})
	require.ErrorContains(t, err, "metal: fake GPU is not of GPU family Apple 7")

	rt := fake.New(fake.Options{Fail: func(selector, _ string) string {
		if selector == "newResidencySetWithDescriptor:error:" {
			return "no memory"
		}
		return ""
	}})
	_, err = metal.OpenOn(rt, metal.Options{})
	require.EqualError(t, err, "metal: residency set: no memory (FakeErrorDomain 3)")
	require.Empty(t, rt.Left(), "what was made before is released")

	if _, err := metal.Open(metal.Options{}); err != nil {
		require.ErrorContains(t, err, "metal: ")
	}
}

// Every selector is one of Apple's. Those of package native are in the test of
// the ABI.
func TestSelectors(t *testing.T) {
	_, rt := openFake(t, fake.Options{})
	requireSelectors(t, rt.Selectors())
}

func requireSelectors(t *testing.T, names []string) {
	t.Helper()
	list, err := os.ReadFile("testdata/selectors.txt")
	require.NoError(t, err)
	known := strings.Fields(string(list))
	require.Greater(t, len(names), 40)
	for _, name := range names {
		require.True(t, slices.Contains(known, name), "Apple's headers have no selector %s", name)
	}
}
