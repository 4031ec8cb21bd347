package checkpoint_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/stretchr/testify/require"
)

func TestFloat32s(t *testing.T) {
	m := newModel(t)
	want := map[checkpoint.DType][]float32{}
	for _, d := range []checkpoint.DType{checkpoint.BF16, checkpoint.F16, checkpoint.F32} {
		want[d] = m.dense("as "+string(d), d, 3, 2)
	}
	m.dense("scalar", checkpoint.F32)
	m.dense("none", checkpoint.F32, 0, 2)
	m.add("bytes", checkpoint.U8, make([]byte, 6), 3, 2)
	subnormal := []float32{math.SmallestNonzeroFloat32, math.MaxFloat32}
	m.add("finite", checkpoint.F32, encode(checkpoint.F32, subnormal), 2)
	m.add("bad", checkpoint.F32, encode(checkpoint.F32, []float32{0, 1, float32(math.Inf(-1)), float32(math.NaN())}), 4)
	opened(t, m.write(1), func(t *testing.T, c *checkpoint.Checkpoint) {
		for d, w := range want {
			got, err := c.Float32s("as "+string(d), 3, 2)
			require.NoError(t, err)
			require.Equal(t, w, got)
			got[0]++ // the caller's own
			again, err := c.Float32s("as "+string(d), 3, 2)
			require.NoError(t, err)
			require.Equal(t, w, again)
		}
		got, err := c.Float32s("scalar")
		require.NoError(t, err)
		require.Len(t, got, 1)
		got, err = c.Float32s("none", 0, 2)
		require.NoError(t, err)
		require.Empty(t, got)
		got, err = c.Float32s("finite", 2)
		require.NoError(t, err)
		require.Equal(t, subnormal, got)

		for _, bad := range []struct {
			name  string
			shape []int
			want  string
		}{
			{"as BF16", []int{2, 3}, "model.safetensors: as BF16: shape is [3 2], want [2 3]"},
			{"as BF16", []int{6}, "shape is [3 2], want [6]"},
			{"as BF16", []int{3, 2, 1}, "shape is [3 2], want [3 2 1]"},
			{"scalar", []int{1}, "shape is [], want [1]"},
			{"bytes", []int{3, 2}, "model.safetensors: bytes: dtype is U8, want BF16, F16 or F32"},
			{"absent", []int{1}, "model.safetensors: absent: is missing"},
			{"bad", []int{4}, "model.safetensors: bad: element 2 is -Inf"},
		} {
			got, err := c.Float32s(bad.name, bad.shape...)
			require.ErrorContains(t, err, bad.want)
			require.Nil(t, got)
			var mistake *checkpoint.Error
			require.ErrorAs(t, err, &mistake)
			require.Equal(t, bad.name, mistake.Tensor)
		}
	})
}

// TestShards checks that errors name the file that a tensor is in and, of one
// that is in none, the one that lists all.
func TestShards(t *testing.T) {
	m := denseModel(t)
	opened(t, m.write(2), func(t *testing.T, c *checkpoint.Checkpoint) {
		_, err := c.Float32s(m.tensors[1].Name, 1)
		require.ErrorContains(t, err, "model-00002-of-00002.safetensors: "+m.tensors[1].Name+": shape is")
		_, err = c.Float32s("absent", 1)
		require.ErrorContains(t, err, "model.safetensors.index.json: absent: is missing")
		why := errors.New("why")
		err = c.Mistake(m.tensors[0].Name, why)
		require.ErrorContains(t, err, "model-00001-of-00002.safetensors: "+m.tensors[0].Name+": why")
		require.ErrorIs(t, err, why)
	})
}

func TestCheckFinite(t *testing.T) {
	opened(t, mixedModel(t).write(2), func(t *testing.T, c *checkpoint.Checkpoint) {
		for n := range 3 {
			require.NoError(t, c.CheckFinite(n))
		}
	})
	m := mixedModel(t)
	nan, inf := []byte{0x00, 0x7e}, []byte{0x00, 0x7c} // as F16
	for name, b := range map[string][]byte{
		mlp + "experts.0.up_proj.scales":      nan,
		mlp + "experts.2.down_proj.su":        inf,
		mlp + "experts.2.down_proj.sv":        nan,
		mlp + "experts.1.gate_proj.weight":    inf,
		mlp + "gate.weight":                   {0x80, 0xff}, // -Inf as BF16
		"model.layers.0.mlp.gate_proj.weight": {0xc0, 0x7f},
		"model.embed_tokens.weight":           {0xc0, 0x7f}, // none of a layer's
		mlp + "experts.3.gate_proj.weight":    binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Inf(1)))),
		mlp + "experts.0.gate_proj.indices":   {0xff, 0xff}, // sound
		mlp + "gate.e_score_correction_bias":  binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.NaN()))),
	} {
		i := slices.IndexFunc(m.tensors, func(d checkpoint.Draft) bool { return d.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		data, err := m.tensors[i].Bytes()
		require.NoError(t, err)
		data = slices.Clone(data)
		copy(data[2*len(b):], b)
		m.tensors[i].Bytes = func() ([]byte, error) { return data, nil }
	}
	opened(t, m.write(1), func(t *testing.T, c *checkpoint.Checkpoint) {
		err := c.CheckFinite(1)
		for _, want := range []string{
			"experts.0.up_proj.scales: element 2 is NaN", "experts.2.down_proj.su: element 2 is +Inf", "experts.2.down_proj.sv: element 2 is NaN",
			"experts.1.gate_proj.weight: element 2 is +Inf", "gate.weight: element 2 is -Inf", "experts.3.gate_proj.weight: element 2 is +Inf",
			"gate.e_score_correction_bias: element 2 is NaN",
		} {
			require.ErrorContains(t, err, "model.safetensors: "+mlp+want)
		}
		for _, other := range []string{"indices", "layers.0", "embed"} {
			require.NotContains(t, err.Error(), other)
		}
		err = c.CheckFinite(0)
		require.ErrorContains(t, err, "model.layers.0.mlp.gate_proj.weight: element 2 is NaN")
		require.NoError(t, c.CheckFinite(2))
	})
}

func TestFloatsClosed(t *testing.T) {
	c, err := checkpoint.Open(denseModel(t).write(1))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = c.Float32s("model.embed_tokens.weight", 7, hidden)
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, c.CheckFinite(1), os.ErrClosed)
}
