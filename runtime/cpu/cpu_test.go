package cpu_test

import (
	"testing"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/devicetest"
)

// short leaves out the larger shapes, and all devices but one.
var short = false

func TestDevice(t *testing.T) {
	for i, set := range cpu.Sets() {
		for _, precision := range []cpu.Precision{cpu.Exact, cpu.Fast} {
			if short && (i > 0 || precision != cpu.Exact) {
				continue
			}
			t.Run(set+" "+precision.String(), func(t *testing.T) {
				dev := cpu.New(cpu.Options{Set: set, Precision: precision})
				defer dev.Close()
				devicetest.Run(t, dev, generated.Table, generated.Sources, devicetest.Options{Short: short || i > 0})
			})
		}
	}
}

// The device runs passes, whatever the kernels that a table has for them.
func TestOtherTarget(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	devicetest.Run(t, dev, generated.CUDA, generated.Sources, devicetest.Options{Short: true})
}
