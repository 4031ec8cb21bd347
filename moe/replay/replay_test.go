package replay_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/msl"
)

const testdata = "../../testdata"

var all = []int{1, 2, 3}

// run replays the given layers of a checkpoint on the cpu device, after edit.
func run(t *testing.T, model string, layers []int, edit func(*moe.Weights, *replay.Record)) []*replay.Report {
	t.Helper()
	return runOn(t, cpu.New(cpu.Options{}), model, layers, edit)
}

func runOn(t *testing.T, device runtime.Device, model string, layers []int, edit func(*moe.Weights, *replay.Record)) []*replay.Report {
	t.Helper()
	c, err := checkpoint.Open(filepath.Join(testdata, model))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	tensors, err := checkpoint.OpenTensors(filepath.Join(testdata, model, "reference.safetensors"))
	require.NoError(t, err)
	defer func() { require.NoError(t, tensors.Close()) }()
	library, err := device.Load(context.Background(), generated.Table, generated.Sources)
	require.NoError(t, err)

	require.Equal(t, all, c.MoELayers())
	var reports []*replay.Report
	for _, n := range layers {
		w, err := c.Layer(n)
		require.NoError(t, err)
		record, err := replay.Read(tensors, n, c.Config)
		require.NoError(t, err)
		if edit != nil {
			edit(&w, record)
		}
		r, err := replay.Run(context.Background(), n, w, moe.Options{
			Device: device, Library: library, Table: generated.Table,
			Codecs: []moe.Codec{trellis.Codec{}, dense.BF16},
		}, record, 1)
		require.NoError(t, err)
		require.Equal(t, 64, r.Tokens)
		reports = append(reports, r)
	}
	return reports
}

// With the weights of the record, the layers are the record's.
func TestUnquantised(t *testing.T) {
	for _, r := range run(t, "glm-tiny", all, nil) {
		require.NoError(t, r.Faults())
		require.Zero(t, r.Misrouted)
		require.Less(t, r.WeightError, 1e-5)
		require.Less(t, r.Error, 1e-4)
		require.Less(t, r.Deviation, 1e-6)
		require.NotEmpty(t, r.Plan.Host)
	}
}

// With quantised weights, the error is the weights' and nobody else's.
func TestMixed(t *testing.T) {
	tuples := map[string]bool{}
	for _, r := range run(t, "glm-tiny-mixed", all, nil) {
		require.NoError(t, r.Faults())
		require.Zero(t, r.Misrouted)
		require.InDelta(t, r.Explained, r.Error, 1e-4)
		require.Less(t, r.Deviation, 1e-5)
		require.Greater(t, r.Error, 0.05, "it is quantised")
		require.Less(t, r.Error, 0.5)
		require.Empty(t, r.Plan.Host)
		require.Empty(t, r.Snapshot.Fallbacks)
		for tuple := range r.Experts {
			tuples[tuple.String()] = true
		}
	}
	require.Len(t, tuples, 6, "the whole mixture of glm47")
}

// The shipped Metal text computes the same layers.
func TestMetalText(t *testing.T) {
	device, err := msl.Open(t.Context(), msl.Options{})
	var absent *msl.ToolchainError
	if errors.As(err, &absent) && os.Getenv("MARLINGEN_REQUIRE_CLANG") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, device.Close()) }()
	inGo := run(t, "glm-tiny-mixed", all, nil)
	for i, r := range runOn(t, device, "glm-tiny-mixed", all, nil) {
		require.NoError(t, r.Faults())
		require.Less(t, r.Deviation, 1e-6)
		require.InDelta(t, inGo[i].Error, r.Error, 1e-6)
		require.Equal(t, inGo[i].Snapshot.Launches, r.Snapshot.Launches)
		require.Empty(t, r.Snapshot.Fallbacks)
	}
}

// What is wrong is found.
func TestFaults(t *testing.T) {
	for want, edit := range map[string]func(*moe.Weights, *replay.Record){
		"tokens go to other experts": func(w *moe.Weights, _ *replay.Record) {
			w.Router.Bias[3] += 1
		},
		"routing weights are": func(w *moe.Weights, _ *replay.Record) {
			w.Router.Scale *= 1.001
		},
		"the error is NaN": func(_ *moe.Weights, r *replay.Record) {
			r.Out[5] = float32(math.NaN())
		},
	} {
		for _, r := range run(t, "glm-tiny-mixed", all[:1], edit) {
			require.ErrorContains(t, r.Faults(), want)
		}
	}
}
