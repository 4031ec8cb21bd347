package msl_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/msl"
)

func TestTmp(t *testing.T) {
	re := regexp.MustCompile(os.Getenv("K"))
	dev := open(t, msl.Options{Checker: os.Getenv("CHECK") != ""})
	table := &runtime.Table{Codecs: generated.Table.Codecs}
	for _, k := range generated.Table.Kernels {
		if re.MatchString(k.Symbol) {
			table.Kernels = append(table.Kernels, k)
		}
	}
	lib, err := dev.Load(t.Context(), table, generated.Sources)
	require.NoError(t, err)
	for _, k := range table.Kernels {
		t.Run(k.Symbol, func(t *testing.T) {
			require.NoError(t, devicetest.CheckKernel(t.Context(), dev, lib, table, k, devicetest.Options{Short: os.Getenv("SHORT") != ""}))
		})
	}
}
