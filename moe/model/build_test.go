package model_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime/cpu"
)

type change = map[string]any

// null is a field that is there and says null. A change to nil removes it.
var null = json.RawMessage("null")

// sizes are those of a synthetic model.
type sizes struct {
	hidden, vocabulary, positions                int
	heads, queryRank, keyRank, nope, rope, value int // queryRank 0 for none
	types                                        []checkpoint.LayerType
	intermediate                                 int // of dense layers
	experts, topK, shared, moe                   int // moe is an expert's intermediate
	tied                                         bool
	extra                                        int                // layers behind the last
	dtypes                                       []checkpoint.DType // that matrices have by turns; BF16 if empty
	trellis                                      bool               // experts but the first are quantised
}

const d, s = checkpoint.Dense, checkpoint.Sparse

// small returns odd sizes for most purposes.
func small() sizes {
	return sizes{
		hidden: 20, vocabulary: 37, positions: 64,
		heads: 3, queryRank: 7, keyRank: 9, nope: 5, rope: 6, value: 4,
		types: []checkpoint.LayerType{d, s, s}, intermediate: 11,
		experts: 5, topK: 2, shared: 1, moe: 13,
	}
}

// tiled returns sizes that experts can be quantised in.
func tiled() sizes {
	z := small()
	z.hidden, z.moe, z.trellis = 48, 32, true
	return z
}

// A sketch is a model in the making.
type sketch struct {
	t       testing.TB
	rand    *rand.Rand
	z       sizes
	config  change
	tensors []checkpoint.Draft
}

// build returns a model of random weights.
func (z sizes) build(t testing.TB, seed uint64) *sketch {
	m := &sketch{t: t, rand: rand.New(rand.NewPCG(seed, 1)), z: z, config: change{
		"model_type": "glm4_moe_lite", "hidden_act": "silu", "num_hidden_layers": len(z.types), "hidden_size": z.hidden,
		"mlp_layer_types": z.types, "n_routed_experts": z.experts, "n_shared_experts": z.shared,
		"moe_intermediate_size": z.moe, "num_experts_per_tok": z.topK, "n_group": 1, "topk_group": 1,
		"norm_topk_prob": true, "routed_scaling_factor": 1.8,
		"vocab_size": z.vocabulary, "max_position_embeddings": z.positions, "intermediate_size": z.intermediate,
		"num_attention_heads": z.heads, "num_key_value_heads": z.heads, "kv_lora_rank": z.keyRank,
		"qk_nope_head_dim": z.nope, "qk_rope_head_dim": z.rope, "qk_head_dim": z.nope + z.rope, "v_head_dim": z.value,
		"rms_norm_eps": 1e-5, "rope_parameters": change{"rope_type": "default", "rope_theta": 10000}, "rope_interleave": true,
		"tie_word_embeddings": z.tied, "attention_bias": false, "eos_token_id": 0, "q_lora_rank": null,
	}}
	if z.queryRank > 0 {
		m.config["q_lora_rank"] = z.queryRank
	}
	if z.extra > 0 {
		m.config["num_nextn_predict_layers"] = z.extra
	}
	m.matrix("model.embed_tokens", float64(z.hidden), z.vocabulary, z.hidden)
	m.norm("model.norm", z.hidden)
	if !z.tied {
		m.matrix("lm_head", 1, z.vocabulary, z.hidden)
	}
	for n, kind := range append(slices.Clone(z.types), slices.Repeat([]checkpoint.LayerType{s}, z.extra)...) {
		m.layer(fmt.Sprintf("model.layers.%d.", n), kind)
	}
	for n := range z.extra {
		m.norm(fmt.Sprintf("model.layers.%d.shared_head.norm", len(z.types)+n), z.hidden)
	}
	return m
}

func (m *sketch) layer(prefix string, kind checkpoint.LayerType) {
	z := m.z
	m.norm(prefix+"input_layernorm", z.hidden)
	m.norm(prefix+"post_attention_layernorm", z.hidden)
	attention := prefix + "self_attn."
	if z.queryRank > 0 {
		m.matrix(attention+"q_a_proj", 1, z.queryRank, z.hidden)
		m.norm(attention+"q_a_layernorm", z.queryRank)
		m.matrix(attention+"q_b_proj", 4, z.heads*(z.nope+z.rope), z.queryRank)
	} else {
		m.matrix(attention+"q_proj", 4, z.heads*(z.nope+z.rope), z.hidden)
	}
	m.matrix(attention+"kv_a_proj_with_mqa", 1, z.keyRank+z.rope, z.hidden)
	m.norm(attention+"kv_a_layernorm", z.keyRank)
	m.matrix(attention+"kv_b_proj", 2, z.heads*(z.nope+z.value), z.keyRank)
	m.matrix(attention+"o_proj", 2, z.hidden, z.heads*z.value)
	if kind == checkpoint.Dense {
		m.expert(prefix+"mlp.", z.intermediate, false)
		return
	}
	m.matrix(prefix+"mlp.gate", 4, z.experts, z.hidden)
	m.add(prefix+"mlp.gate.e_score_correction_bias", checkpoint.F32, m.draw(z.experts, 0.1), z.experts)
	for e := range z.experts {
		m.expert(fmt.Sprintf("%smlp.experts.%d.", prefix, e), z.moe, z.trellis && e > 0)
	}
	if z.shared > 0 {
		m.expert(prefix+"mlp.shared_experts.", z.moe, z.trellis)
	}
}

func (m *sketch) expert(prefix string, intermediate int, quantised bool) {
	dtype := m.dtype()
	for i, p := range []struct {
		name    string
		out, in int
	}{{"gate_proj", intermediate, m.z.hidden}, {"up_proj", intermediate, m.z.hidden}, {"down_proj", m.z.hidden, intermediate}} {
		if quantised {
			m.trellis(prefix+p.name, uint8(2+(len(m.tensors)+i)%7), p.out, p.in)
		} else {
			m.add(prefix+p.name+".weight", dtype, m.draw(p.out*p.in, math.Sqrt(3/float64(p.in))), p.out, p.in)
		}
	}
}

// dtype returns the type whose turn it is.
func (m *sketch) dtype() checkpoint.DType {
	if len(m.z.dtypes) == 0 {
		return checkpoint.BF16
	}
	return m.z.dtypes[len(m.tensors)%len(m.z.dtypes)]
}

// matrix adds a matrix whose products have variance gain times that of what it
// is multiplied with.
func (m *sketch) matrix(module string, gain float64, out, in int) {
	m.add(module+".weight", m.dtype(), m.draw(out*in, math.Sqrt(gain/float64(in))), out, in)
}

func (m *sketch) norm(module string, n int) {
	w := m.draw(n, 0.3)
	for i := range w {
		w[i]++
	}
	m.add(module+".weight", m.dtype(), w, n)
}

func (m *sketch) draw(n int, deviation float64) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(m.rand.NormFloat64() * deviation)
	}
	return w
}

func (m *sketch) add(name string, dtype checkpoint.DType, w []float32, shape ...int) {
	var b []byte
	for _, x := range w {
		switch dtype {
		case checkpoint.BF16:
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(x)>>16))
		case checkpoint.F16:
			b = binary.LittleEndian.AppendUint16(b, float16.Fromfloat32(x).Bits())
		case checkpoint.F32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	m.tensors = append(m.tensors, checkpoint.Tensor{Name: name, DType: dtype, Shape: shape, Data: b}.Draft())
}

func (m *sketch) trellis(module string, bits uint8, out, in int) {
	indices := make([]uint8, out*in)
	for i := range indices {
		indices[i] = uint8(m.rand.IntN(1 << bits))
	}
	packed, err := trellis.Pack(indices, bits, out, in)
	require.NoError(m.t, err)
	factors := func(n int, size float64) []float32 {
		fs := make([]float32, n)
		for i := range fs {
			fs[i] = float32(size * (0.5 + m.rand.Float64()))
		}
		return fs
	}
	step := 5 / math.Sqrt(float64(in)) / float64(int(1)<<bits)
	t, err := trellis.New(bits, out, in, packed, factors((in+127)/128*out, step), factors(in, 1), factors(out, 1))
	require.NoError(m.t, err)
	m.tensors = append(m.tensors, checkpoint.TrellisDrafts(module, t)...)
	m.config["quantization_config"] = change{"quant_method": "trellis", "version": 1, "group_size": 128}
}

// set changes the config.
func (m *sketch) set(changes change) {
	for k, v := range changes {
		if m.config[k] = v; v == nil {
			delete(m.config, k)
		}
	}
}

// drop removes a tensor and returns it.
func (m *sketch) drop(name string) checkpoint.Draft {
	i := slices.IndexFunc(m.tensors, func(d checkpoint.Draft) bool { return d.Name == name })
	require.GreaterOrEqual(m.t, i, 0, "%s is not there", name)
	was := m.tensors[i]
	m.tensors = slices.Delete(m.tensors, i, i+1)
	return was
}

// poison sets bytes of a tensor, from the given element on.
func (m *sketch) poison(name string, element int, b ...byte) {
	was := m.drop(name)
	data, err := was.Bytes()
	require.NoError(m.t, err)
	data = slices.Clone(data)
	copy(data[element*was.DType.Size():], b)
	was.Bytes = func() ([]byte, error) { return data, nil }
	m.tensors = append(m.tensors, was)
}

// files returns the model's checkpoint.
func (m *sketch) files() fstest.MapFS {
	config, err := json.Marshal(m.config)
	require.NoError(m.t, err)
	var b bytes.Buffer
	require.NoError(m.t, checkpoint.WriteTensors(&b, m.tensors, map[string]string{"format": "pt"}))
	return fstest.MapFS{"config.json": {Data: config}, "model.safetensors": {Data: b.Bytes()}}
}

// sharded returns the model's checkpoint in two files of tensors.
func (m *sketch) sharded() fstest.MapFS {
	names := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
	var split [2][]checkpoint.Draft
	where := map[string]string{}
	for i, d := range m.tensors {
		split[i%2] = append(split[i%2], d)
		where[d.Name] = names[i%2]
	}
	files := m.files()
	delete(files, "model.safetensors")
	for i, name := range names {
		var b bytes.Buffer
		require.NoError(m.t, checkpoint.WriteTensors(&b, split[i], nil))
		files[name] = &fstest.MapFile{Data: b.Bytes()}
	}
	index, err := json.Marshal(change{"weight_map": where})
	require.NoError(m.t, err)
	files["model.safetensors.index.json"] = &fstest.MapFile{Data: index}
	return files
}

// options returns those of a model on the CPU.
func options(t testing.TB, f model.Frequencies) model.Options {
	t.Helper()
	device := cpu.New(cpu.Options{})
	library, err := device.Load(context.Background(), generated.Table, generated.Sources)
	require.NoError(t, err)
	return model.Options{Frequencies: f, MoE: moe.Options{
		Device: device, Library: library, Table: generated.Table,
		Codecs: []moe.Codec{trellis.Codec{}, dense.BF16, dense.F16, dense.F32},
	}}
}

// try opens the model in fsys.
func try(t testing.TB, fsys fs.FS) (*model.Model, error) {
	t.Helper()
	c, err := checkpoint.OpenFS(fsys)
	require.NoError(t, err)
	m, err := model.Open(c, options(t, model.ExactFrequencies))
	if err == nil {
		t.Cleanup(func() { require.NoError(t, m.Close()) })
	}
	return m, err
}

// open opens the model in fsys, which is sound.
func open(t testing.TB, fsys fs.FS) *model.Model {
	t.Helper()
	m, err := try(t, fsys)
	require.NoError(t, err)
	return m
}

// rounded opens the model in fsys with rounded frequencies.
func rounded(t testing.TB, fsys fs.FS) *model.Model {
	t.Helper()
	c, err := checkpoint.OpenFS(fsys)
	require.NoError(t, err)
	m, err := model.Open(c, options(t, model.RoundedFrequencies))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// ids returns n random tokens.
func (m *sketch) ids(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(m.rand.IntN(m.z.vocabulary))
	}
	return ids
}

// logits runs tokens in pieces of the given sizes, and then the rest.
func logits(t testing.TB, m *model.Model, cache *model.Cache, ids []int32, pieces ...int) []float32 {
	t.Helper()
	var all []float32
	for _, n := range append(pieces, len(ids)) {
		n = min(n, len(ids))
		if n == 0 {
			continue
		}
		states, err := m.Forward(context.Background(), cache, ids[:n])
		require.NoError(t, err)
		all = append(all, m.Logits(states)...)
		ids = ids[n:]
	}
	return all
}

// distance returns ‖a − b‖ / ‖b‖.
func distance[A, B float32 | float64](t testing.TB, a []A, b []B) float64 {
	t.Helper()
	require.Len(t, a, len(b))
	var difference, size float64
	for i := range b {
		difference += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
		size += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(difference / size)
}

// with returns a copy of fsys whose config is changed.
func with(t testing.TB, fsys fs.FS, changes change) fstest.MapFS {
	t.Helper()
	config, err := fs.ReadFile(fsys, "config.json")
	require.NoError(t, err)
	weights, err := fs.ReadFile(fsys, "model.safetensors")
	require.NoError(t, err)
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(config, &fields))
	for _, k := range slices.Sorted(maps.Keys(changes)) {
		fields[k], err = json.Marshal(changes[k])
		require.NoError(t, err)
	}
	config, err = json.Marshal(fields)
	require.NoError(t, err)
	return fstest.MapFS{"config.json": {Data: config}, "model.safetensors": {Data: weights}}
}

// lines returns the mistakes in err, one by one.
func lines(err error) []string { return strings.Split(err.Error(), "\n") }
