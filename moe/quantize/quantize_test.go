package quantize_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/quantize"
	"github.com/marlingen/marlingen/runtime"
)

const source = "../../testdata/glm-tiny"

func open(t *testing.T, dir string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// The checkpoint that marlingen brings along is what quantize makes of its
// source, to the byte.
func TestShipped(t *testing.T) {
	const shipped = "../../testdata/glm-tiny-mixed"
	i := slices.IndexFunc(generated.Profiles, func(p *runtime.Profile) bool { return p.Name == "glm47" })
	require.GreaterOrEqual(t, i, 0)
	c := open(t, source)
	out := filepath.Join(t.TempDir(), "out")
	calls := 0
	require.NoError(t, quantize.Write(context.Background(), c, source, out, quantize.Spread(c, generated.Profiles[i]), quantize.Options{
		Progress: func(done, total int) {
			calls++
			require.Equal(t, calls, done)
			require.Equal(t, 3*17*3, total)
		},
	}))
	require.Equal(t, 3*17*3, calls)

	want, err := os.ReadDir(shipped)
	require.NoError(t, err)
	got, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	size := 0
	for _, e := range want {
		a, err := os.ReadFile(filepath.Join(shipped, e.Name()))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(out, e.Name()))
		require.NoError(t, err)
		require.True(t, slices.Equal(a, b), "%s differs; make testdata writes it anew", e.Name())
		size += len(a)
	}
	require.Less(t, size, 9_000_000)
}

// What is not an expert's stays as it is; what is, lies aligned.
func TestOthersUnchanged(t *testing.T) {
	src := open(t, source)
	out := filepath.Join(t.TempDir(), "new", "out")
	tuples := &runtime.Profile{Experts: 1, Mix: []runtime.Share{{Tuple: runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, Experts: 1}}, Shared: runtime.BitTuple{Gate: 8, Up: 7, Down: 5}}
	require.NoError(t, quantize.Write(context.Background(), src, source, out, quantize.Spread(src, tuples), quantize.Options{}))
	got := open(t, out)
	require.NoError(t, got.Check())
	kept := 0
	for _, name := range src.Names() {
		want, _ := src.Tensor(name)
		if have, ok := got.Tensor(name); ok {
			kept++
			require.Equal(t, want.DType, have.DType, name)
			require.Equal(t, want.Shape, have.Shape, name)
			require.Equal(t, want.Data, have.Data, name)
		}
	}
	require.Equal(t, len(src.Names())-3*17*3, kept)
	for _, n := range got.MoELayers() {
		why, err := got.Relaid(n)
		require.NoError(t, err)
		require.Empty(t, why, "used where it lies")
		w, err := got.Layer(n)
		require.NoError(t, err)
		for i := range w.Experts {
			require.Equal(t, "6_2_3", w.Experts[i].Tuple().String())
		}
		require.Equal(t, "8_7_5", w.Shared.Tuple().String())
	}
}

// A failure leaves nothing behind, and what was there untouched.
func TestErrors(t *testing.T) {
	src := open(t, source)
	good := &runtime.Profile{Experts: 1, Mix: []runtime.Share{{Tuple: runtime.BitTuple{Gate: 2, Up: 2, Down: 2}, Experts: 1}}, Shared: runtime.BitTuple{Gate: 2, Up: 2, Down: 2}}
	canceled, cancel := context.WithCancel(context.Background())

	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	require.NoError(t, os.Mkdir(full, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(full, "mine"), nil, 0o644))
	err := quantize.Write(canceled, src, source, full, quantize.Spread(src, good), quantize.Options{})
	require.ErrorContains(t, err, "exists and is not empty")

	err = quantize.Write(canceled, src, source, filepath.Join(dir, "out"), quantize.Spread(src, good), quantize.Options{
		Progress: func(done, _ int) {
			if done == 10 {
				cancel()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)

	bad := *good
	bad.Shared = runtime.BitTuple{Gate: 9, Up: 2, Down: 1}
	err = quantize.Write(context.Background(), src, source, filepath.Join(dir, "out"), quantize.Spread(src, &bad), quantize.Options{})
	require.ErrorContains(t, err, "model.layers.1.mlp.shared_experts.gate_proj: width 9 is not in 2..8")
	require.ErrorContains(t, err, "model.layers.3.mlp.shared_experts.down_proj: width 1 is not in 2..8")

	mixed := open(t, "../../testdata/glm-tiny-mixed")
	err = quantize.Write(context.Background(), mixed, "../../testdata/glm-tiny-mixed", filepath.Join(dir, "out"), quantize.Spread(mixed, good), quantize.Options{})
	require.ErrorContains(t, err, "quantised already")

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "full, and nothing else")
}
