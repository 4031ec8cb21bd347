package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

// A kind may have several devices, of which some can be opened.
func TestDeviceProbe(t *testing.T) {
	ask := func(err error, infos ...runtime.Info) []checkupDevice {
		return deviceProbe{"gpu", func(context.Context) ([]runtime.Info, error) { return infos, err }}.ask(t.Context())
	}
	one := runtime.Info{Name: "one", Driver: "1.0"}
	found := checkupDevice{Kind: "gpu", OK: true, Name: "one", Driver: "1.0"}
	require.Equal(t, []checkupDevice{found}, ask(nil, one))
	require.Equal(t, []checkupDevice{found, {Kind: "gpu", Why: "gpu:1: out of memory"}}, ask(errors.New("gpu:1: out of memory"), one))
	require.Equal(t, []checkupDevice{{Kind: "gpu", Why: "no clang that can compile Metal", Install: msl.InstallCommand()}},
		ask(fmt.Errorf("gpu: %w", &msl.ToolchainError{})))
	require.Empty(t, ask(nil))
}
