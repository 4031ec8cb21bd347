//go:build linux

package main

import (
	"path/filepath"
	"testing"

	"github.com/marlingen/marlingen/runtime/cuda/double"
)

// Sessions with the double of NVIDIA's driver: $DRIVER is a folder with a
// libcuda.so.1, and $ANCIENT one with an older one.
func TestCUDAScripts(t *testing.T) {
	runScripts(t, "testdata/cuda",
		"DRIVER="+filepath.Dir(double.Build(t)), "ANCIENT="+filepath.Dir(double.Build(t, "DRIVER_ANCIENT")))
}
