//go:build linux

package cuda_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
	"github.com/marlingen/marlingen/runtime/cuda/internal/double"
	"github.com/marlingen/marlingen/runtime/devicetest"
)

// open opens the double, which the end of the test closes.
func open(t *testing.T, macros ...string) (*cuda.Device, *double.Double) {
	t.Helper()
	d := double.New(t, generated.Table, macros...)
	dev, err := cuda.Open(cuda.Options{Library: d.Path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	return dev, d
}

// load loads the generated table.
func load(t *testing.T, dev *cuda.Device, sources fs.FS) runtime.Library {
	t.Helper()
	lib, err := dev.Load(t.Context(), generated.Table, sources)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lib.Close()) })
	return lib
}

func TestDevice(t *testing.T) {
	dev, _ := open(t)
	devicetest.Run(t, dev, generated.Table, generated.Sources, devicetest.Options{})
}
