package checkpoint_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/stretchr/testify/require"
	"github.com/x448/float16"
)

// The sizes of the test model: layer 0 is dense, layer 1 has experts.
const (
	hidden       = 144
	intermediate = 32
	experts      = 4
)

// A model is a checkpoint in the making, and the weights it should hold.
type model struct {
	t       *testing.T
	rand    *rand.Rand
	config  map[string]any
	tensors []checkpoint.Draft
	weights map[string][]float32 // by module
}

func newModel(t *testing.T) *model {
	return &model{t: t, rand: rand.New(rand.NewPCG(1, 2)), weights: make(map[string][]float32), config: map[string]any{
		"model_type": "glm4_moe_lite", "hidden_act": "silu", "num_hidden_layers": 2, "hidden_size": hidden,
		"mlp_layer_types": []string{"dense", "sparse"}, "n_routed_experts": experts, "n_shared_experts": 1,
		"moe_intermediate_size": intermediate, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
		"norm_topk_prob": true, "routed_scaling_factor": 1.8, "vocab_size": 7,
	}}
}

// add adds a tensor.
func (m *model) add(name string, d checkpoint.DType, data []byte, shape ...int) {
	m.tensors = append(m.tensors, checkpoint.Tensor{Name: name, DType: d, Shape: shape, Data: data}.Draft())
}

// draw returns random numbers that BF16 and F16 hold exactly.
func (m *model) draw(n int) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(m.rand.IntN(255)-127) / 64
	}
	return w
}

// dense adds random numbers of type d.
func (m *model) dense(name string, d checkpoint.DType, shape ...int) []float32 {
	n := 1
	for _, s := range shape {
		n *= s
	}
	w := m.draw(n)
	m.add(name, d, encode(d, w), shape...)
	m.weights[strings.TrimSuffix(name, ".weight")] = w
	return w
}

func encode(d checkpoint.DType, w []float32) []byte {
	var b []byte
	for _, x := range w {
		switch d {
		case checkpoint.BF16:
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(x)>>16))
		case checkpoint.F16:
			b = binary.LittleEndian.AppendUint16(b, float16.Fromfloat32(x).Bits())
		case checkpoint.F32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b
}

// trellis adds a quantised module.
func (m *model) trellis(module string, bits uint8, out, in int) {
	indices := make([]uint8, out*in)
	for i := range indices {
		indices[i] = uint8(m.rand.IntN(1 << bits))
	}
	packed, err := trellis.Pack(indices, bits, out, in)
	require.NoError(m.t, err)
	t, err := trellis.New(bits, out, in, packed, m.draw((in+127)/128*out), m.draw(in), m.draw(out))
	require.NoError(m.t, err)
	m.weights[module], err = t.Dequantize()
	require.NoError(m.t, err)
	m.tensors = append(m.tensors, checkpoint.TrellisDrafts(module, t)...)
	m.config["quantization_config"] = map[string]any{"quant_method": "trellis", "version": 1, "group_size": 128}
}

var projections = []struct {
	name    string
	out, in int
}{{"gate_proj", intermediate, hidden}, {"up_proj", intermediate, hidden}, {"down_proj", hidden, intermediate}}

const mlp = "model.layers.1.mlp."

// denseExpert and trellisExpert add an expert; prefix ends in a dot.
func (m *model) denseExpert(prefix string, d checkpoint.DType) {
	for _, p := range projections {
		m.dense(prefix+p.name+".weight", d, p.out, p.in)
	}
}

func (m *model) trellisExpert(prefix string, gate, up, down uint8) {
	for i, p := range projections {
		m.trellis(prefix+p.name, []uint8{gate, up, down}[i], p.out, p.in)
	}
}

// rest adds what is not quantised.
func (m *model) rest() {
	m.dense("model.embed_tokens.weight", checkpoint.BF16, 7, hidden)
	m.dense("model.layers.0.mlp.gate_proj.weight", checkpoint.BF16, 16, hidden)
	m.dense(mlp+"gate.weight", checkpoint.BF16, experts, hidden)
	m.dense(mlp+"gate.e_score_correction_bias", checkpoint.F32, experts)
}

// denseModel and mixedModel are whole models.
func denseModel(t *testing.T) *model {
	m := newModel(t)
	m.rest()
	for e := range experts {
		m.denseExpert(fmt.Sprintf("%sexperts.%d.", mlp, e), checkpoint.BF16)
	}
	m.denseExpert(mlp+"shared_experts.", checkpoint.BF16)
	return m
}

func mixedModel(t *testing.T) *model {
	m := newModel(t)
	m.trellisExpert(mlp+"experts.0.", 6, 2, 3)
	m.denseExpert(mlp+"experts.1.", checkpoint.F16)
	m.trellisExpert(mlp+"experts.2.", 8, 5, 7)
	m.denseExpert(mlp+"experts.3.", checkpoint.F32)
	m.trellisExpert(mlp+"shared_experts.", 4, 4, 4)
	m.rest()
	return m
}

// drop removes the tensors for which is holds.
func (m *model) drop(is func(name string) bool) {
	m.tensors = slices.DeleteFunc(m.tensors, func(d checkpoint.Draft) bool { return is(d.Name) })
}

// replace replaces the tensor of the given name.
func (m *model) replace(name string, d checkpoint.DType, data []byte, shape ...int) {
	n := len(m.tensors)
	m.drop(func(s string) bool { return s == name })
	require.Less(m.t, len(m.tensors), n, "%s is not there", name)
	m.add(name, d, data, shape...)
}

// write writes the model to a new directory. With several shards, tensors
// take turns.
func (m *model) write(shards int) string {
	dir := m.t.TempDir()
	m.file(dir, "config.json", m.config)
	if shards == 1 {
		require.NoError(m.t, checkpoint.WriteTensorsFile(filepath.Join(dir, "model.safetensors"), m.tensors, map[string]string{"format": "pt"}))
		return dir
	}
	split := make(map[string][]checkpoint.Draft)
	where := make(map[string]string)
	for i, d := range m.tensors {
		shard := fmt.Sprintf("model-%05d-of-%05d.safetensors", i%shards+1, shards)
		split[shard] = append(split[shard], d)
		where[d.Name] = shard
	}
	for _, shard := range slices.Sorted(maps.Keys(split)) {
		require.NoError(m.t, checkpoint.WriteTensorsFile(filepath.Join(dir, shard), split[shard], nil))
	}
	m.file(dir, "model.safetensors.index.json", map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": where})
	return dir
}

// file writes v as JSON.
func (m *model) file(dir, name string, v any) {
	b, err := json.Marshal(v)
	require.NoError(m.t, err)
	require.NoError(m.t, os.WriteFile(filepath.Join(dir, name), b, 0o666))
}

var codecs = map[string]moe.Codec{
	"trellis": trellis.Codec{}, "bf16": dense.BF16, "f16": dense.F16, "f32": dense.F32,
}

// decode returns the weights of a matrix.
func decode(t *testing.T, codec string, data []byte, m moe.Matrix) []float32 {
	require.Contains(t, codecs, codec)
	require.NoError(t, codecs[codec].Check(m, len(data)))
	w := make([]float32, m.Out*m.In)
	for o := range m.Out {
		codecs[codec].Row(w[o*m.In:(o+1)*m.In], data, m, o)
	}
	return w
}

// check compares layer 1 with what the model should hold, to a relative
// difference of tolerance.
func (m *model) check(c *checkpoint.Checkpoint, tolerance float64) moe.Weights {
	require.Equal(m.t, []int{1}, c.MoELayers())
	require.NoError(m.t, c.Check())
	w, err := c.Layer(1)
	require.NoError(m.t, err)
	require.Equal(m.t, hidden, w.Hidden)
	require.Equal(m.t, intermediate, w.Intermediate)
	require.Equal(m.t, m.weights[mlp+"gate"], w.Router.Weight)
	require.Len(m.t, w.Experts, experts)
	same := func(prefix string, e *moe.Expert) {
		for i, matrix := range []moe.Matrix{e.Gate, e.Up, e.Down} {
			want, got := m.weights[prefix+projections[i].name], decode(m.t, e.Codec, w.Data, matrix)
			require.Len(m.t, got, len(want))
			for k := range want {
				require.InDelta(m.t, want[k], got[k], tolerance*math.Abs(float64(want[k])), "%s%s %d", prefix, projections[i].name, k)
			}
		}
	}
	for i := range w.Experts {
		same(fmt.Sprintf("%sexperts.%d.", mlp, i), &w.Experts[i])
	}
	if m.config["n_shared_experts"] == 0 {
		require.Nil(m.t, w.Shared)
	} else {
		same(mlp+"shared_experts.", w.Shared)
	}
	return w
}

// container returns a safetensors file with the given header, not padded.
func container(header string, body int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), bytes.Repeat([]byte{7}, body)...)
}
