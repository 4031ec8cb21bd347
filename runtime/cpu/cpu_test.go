package cpu_test

import (
	"testing"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/devicetest"
)

// short leaves out the larger shapes.
var short = false

func TestDevice(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	devicetest.Run(t, dev, generated.Table, generated.Sources, devicetest.Options{Short: short})
}
