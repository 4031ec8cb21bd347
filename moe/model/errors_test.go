package model_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
)

const file = "model.safetensors: "

// TestOpenErrors spoils things in good models. All mistakes are reported, and
// nothing else.
func TestOpenErrors(t *testing.T) {
	const attention = "model.layers.1.self_attn."
	for name, c := range map[string]struct {
		spoil func(m *sketch)
		want  []string
	}{
		"not finite": {func(m *sketch) {
			m.poison(attention+"kv_b_proj.weight", 5, 0x80, 0x7f)
			m.poison("model.norm.weight", 2, 0xc0, 0xff)
			m.poison("model.embed_tokens.weight", 36*20+19, 0x80, 0xff)
			m.poison("model.layers.1.mlp.gate.weight", 3, 0x80, 0xff)
			m.poison("model.layers.2.mlp.gate.e_score_correction_bias", 4, 0, 0, 0xc0, 0x7f)
		}, []string{
			file + attention + "kv_b_proj.weight: element 5 is +Inf",
			file + "model.norm.weight: element 2 is NaN",
			file + "model.embed_tokens.weight: element 739 is -Inf",
			file + "model.layers.1.mlp.gate.weight: element 3 is -Inf",
			file + "model.layers.2.mlp.gate.e_score_correction_bias: element 4 is NaN",
		}},
		"all at once": {func(m *sketch) {
			m.drop("model.layers.0.input_layernorm.weight")
			m.drop("model.layers.0.mlp.up_proj.weight")
			m.drop("lm_head.weight")
			m.drop("model.layers.2.mlp.experts.1.gate_proj.weight")
			m.drop(attention + "o_proj.weight")
			m.add(attention+"o_proj.weight", checkpoint.BF16, m.draw(20*12, 1), 12, 20)
			m.drop(attention + "q_a_layernorm.weight")
			m.add(attention+"q_a_layernorm.weight", checkpoint.BF16, m.draw(7, 1), 7, 1)
			m.drop(attention + "q_b_proj.weight")
			m.tensors = append(m.tensors, checkpoint.Draft{Name: attention + "q_b_proj.weight", DType: checkpoint.I32, Shape: []int{33, 7}, Bytes: func() ([]byte, error) { return make([]byte, 4*33*7), nil }})
			m.add(attention+"q_a_proj.bias", checkpoint.BF16, m.draw(7, 1), 7)
			m.add("model.layers.1.mlp.experts.5.gate_proj.weight", checkpoint.BF16, m.draw(1, 1), 1)
		}, []string{
			file + "model.layers.0.input_layernorm.weight: is missing",
			file + "model.layers.0.mlp.up_proj.weight: is missing",
			file + "lm_head.weight: is missing",
			file + "model.layers.2.mlp.experts.1.gate_proj.weight: is missing",
			file + attention + "o_proj.weight: shape is [12 20], want [20 12]",
			file + attention + "q_a_layernorm.weight: shape is [7 1], want [7]",
			file + attention + "q_b_proj.weight: dtype is I32, want BF16, F16 or F32",
			file + attention + "q_a_proj.bias: is no part of the model",
			file + "model.layers.1.mlp.experts.5.gate_proj.weight: is no part of an MoE layer with 5 experts and 1 shared",
		}},
		"left over": {func(m *sketch) {
			for _, name := range []string{
				"model.layers.3.input_layernorm.weight", "model.layers.01.mlp.gate.weight", "model.layers.+1.mlp.gate.weight", "model.layers.-1.mlp.x",
				"model.layers.0.mlp.gate.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlpx", "model.layers.1", "model.layers", "odd",
			} {
				m.add(name, checkpoint.BF16, m.draw(1, 1), 1)
			}
		}, []string{
			file + "model.layers.3.input_layernorm.weight: is no part of the model",
			file + "model.layers.01.mlp.gate.weight: is no part of the model",
			file + "model.layers.+1.mlp.gate.weight: is no part of the model",
			file + "model.layers.-1.mlp.x: is no part of the model",
			file + "model.layers.0.mlp.gate.weight: is no part of the model",
			file + "model.layers.1.self_attn.q_proj.weight: is no part of the model",
			file + "model.layers.1.mlpx: is no part of the model",
			file + "model.layers.1: is no part of the model",
			file + "model.layers: is no part of the model",
			file + "odd: is no part of the model",
		}},
		"beyond the extra": {func(m *sketch) {
			m.set(change{"num_nextn_predict_layers": 1})
			m.add("model.layers.3.anything", checkpoint.BF16, m.draw(1, 1), 1)
			m.add("model.layers.4.anything", checkpoint.BF16, m.draw(1, 1), 1)
			m.add("model.layers.03.anything", checkpoint.BF16, m.draw(1, 1), 1)
		}, []string{
			file + "model.layers.03.anything: is no part of the model",
			file + "model.layers.4.anything: is no part of the model",
		}},
		"not tied": {func(m *sketch) { m.set(change{"tie_word_embeddings": true}) }, []string{file + "lm_head.weight: is no part of the model"}},
		"plain queries": {func(m *sketch) {
			m.z.types, m.tensors = nil, m.tensors[:3]
			m.set(change{"q_lora_rank": null, "num_hidden_layers": 1, "mlp_layer_types": []string{"dense"}})
			m.layer("model.layers.0.", d)
		}, []string{
			file + "model.layers.0.self_attn.q_proj.weight: is missing",
			file + "model.layers.0.self_attn.q_a_proj.weight: is no part of the model",
			file + "model.layers.0.self_attn.q_a_layernorm.weight: is no part of the model",
			file + "model.layers.0.self_attn.q_b_proj.weight: is no part of the model",
		}},
		"config": {func(m *sketch) { m.set(change{"attention_bias": true, "v_head_dim": nil}) }, []string{
			"config.json: attention_bias is true; only false is supported", "config.json: missing v_head_dim",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := small().build(t, 1)
			c.spoil(m)
			_, err := try(t, m.files())
			require.Error(t, err)
			require.ElementsMatch(t, c.want, lines(err))
		})
	}
}

func TestTruncated(t *testing.T) {
	files := small().build(t, 1).sharded()
	m := open(t, files)
	logits(t, m, m.NewCache(), []int32{1, 2})
	shard := files["model-00002-of-00002.safetensors"]
	for _, n := range []int{0, 7, 100, len(shard.Data) - 1} {
		whole := shard.Data
		shard.Data = whole[:n]
		_, err := checkpoint.OpenFS(files)
		require.ErrorContains(t, err, "model-00002-of-00002.safetensors: ")
		require.NotContains(t, err.Error(), "00001")
		shard.Data = whole
	}
}

// TestNotFinite spoils weights that are checked only once they have done harm:
// those of feed-forward networks.
func TestNotFinite(t *testing.T) {
	for name, c := range map[string]struct {
		sizes  sizes
		tensor string
		bytes  []byte
		want   string
	}{
		"bf16":   {small(), "model.layers.1.mlp.shared_experts.down_proj.weight", []byte{0xc0, 0x7f}, "element 3 is NaN"},
		"scales": {tiled(), "model.layers.1.mlp.shared_experts.up_proj.scales", []byte{0, 0x7e}, "element 3 is NaN"},
		"sv":     {tiled(), "model.layers.1.mlp.shared_experts.gate_proj.sv", []byte{0, 0x7c}, "element 3 is +Inf"},
	} {
		t.Run(name, func(t *testing.T) {
			k := c.sizes.build(t, 1)
			k.poison(c.tensor, 3, c.bytes...)
			m := open(t, k.files())
			cache := m.NewCache()
			_, err := m.Forward(context.Background(), cache, []int32{1, 2, 3})
			require.ErrorContains(t, err, "layer 1: ")
			require.ErrorContains(t, err, file+c.tensor+": "+c.want)
			require.Zero(t, cache.Len())
			_, err = m.Likelihood(context.Background(), []int32{1, 2, 3})
			require.ErrorContains(t, err, c.tensor)
			_, err = generate(context.Background(), m, []int32{1, 2, 3}, 3, greedy(t))
			require.ErrorContains(t, err, c.tensor)
		})
	}
}

// TestOverflow has weights that are finite, and sums that are not.
func TestOverflow(t *testing.T) {
	for tensor, want := range map[string]string{
		"lm_head.weight":                         "the scores of the next token are not finite",
		"model.layers.2.mlp.gate_proj.weight":    "layer 2: the result is not finite",
		"model.layers.0.mlp.down_proj.weight":    "layer 0: the result is not finite",
		"model.layers.0.self_attn.o_proj.weight": "layer 0: the result is not finite",
	} {
		z := small()
		z.types = []checkpoint.LayerType{d, s, d}
		k := z.build(t, 1)
		was := k.drop(tensor)
		n := was.Shape[0] * was.Shape[1]
		w := k.draw(n, 1)
		for i := range w {
			w[i] = 3e38
		}
		k.add(tensor, checkpoint.F32, w, was.Shape...)
		m := open(t, k.files())
		_, err := m.Likelihood(context.Background(), []int32{1, 2, 3})
		require.ErrorContains(t, err, want, tensor)
		_, err = generate(context.Background(), m, []int32{1, 2, 3}, 3, sampler(t, 1, 1, 0))
		require.ErrorContains(t, err, want, tensor)
	}
}

func TestLikelihoodErrors(t *testing.T) {
	k := small().build(t, 1)
	m, ctx := open(t, k.files()), context.Background()
	for _, ids := range [][]int32{nil, {1}} {
		_, err := m.Likelihood(ctx, ids)
		require.ErrorContains(t, err, "there is nothing to predict")
	}
	_, err := m.Likelihood(ctx, k.ids(66))
	require.ErrorContains(t, err, "65 tokens; the model takes 64")
	l, err := m.Likelihood(ctx, k.ids(65)) // the last token needs no position
	require.NoError(t, err)
	require.Equal(t, 64, l.Tokens)
	for at := range 3 {
		for _, id := range []int32{-1, 37} {
			ids := []int32{1, 2, 3}
			ids[at] = id
			_, err := m.Likelihood(ctx, ids)
			require.ErrorContains(t, err, "the vocabulary has 37")
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = m.Likelihood(cancelled, []int32{1, 2})
	require.ErrorIs(t, err, context.Canceled)
}

// TestFitErrors gives records that are none, or wrong.
func TestFitErrors(t *testing.T) {
	k := small().build(t, 1)
	m, ids := open(t, k.files()), k.ids(30)
	before := logits(t, m, m.NewCache(), ids)
	tokens := func(ids []int32, shape ...int) checkpoint.Draft {
		b, _ := binary.Append(nil, binary.LittleEndian, ids)
		return checkpoint.Tensor{Name: "input_ids", DType: checkpoint.I32, Shape: shape, Data: b}.Draft()
	}
	states := func(first float32, shape ...int) checkpoint.Draft {
		n := 1
		for _, s := range shape {
			n *= s
		}
		w := make([]float32, n)
		if n > 0 {
			w[0] = first
		}
		b, _ := binary.Append(nil, binary.LittleEndian, w)
		return checkpoint.Tensor{Name: "layers.1.moe.in", DType: checkpoint.F32, Shape: shape, Data: b}.Draft()
	}
	other := states(1, 2, 20)
	other.Name = "layers.2.moe.in"
	wide := tokens([]int32{1, 0, 2, 0}, 1, 2)
	wide.DType = "I64"
	for name, c := range map[string]struct {
		tensors []checkpoint.Draft
		want    string // empty if it is no record
	}{
		"empty":     {nil, ""},
		"no states": {[]checkpoint.Draft{tokens([]int32{1, 2}, 1, 2), other}, ""},
		"no tokens": {[]checkpoint.Draft{states(1, 2, 20)}, ""},
		"type":      {[]checkpoint.Draft{wide, states(1, 2, 20)}, "input_ids: dtype is I64"},
		"batch":     {[]checkpoint.Draft{tokens([]int32{1, 2}, 2, 1), states(1, 2, 20)}, "input_ids: shape is [2 1], want [1 tokens]"},
		"none":      {[]checkpoint.Draft{tokens(nil, 1, 0), states(1, 0, 20)}, "input_ids: shape is [1 0]"},
		"width":     {[]checkpoint.Draft{tokens([]int32{1, 2}, 1, 2), states(1, 2, 21)}, "layers.1.moe.in: shape is [2 21], want [2 20]"},
		"token":     {[]checkpoint.Draft{tokens([]int32{1, 37}, 1, 2), states(1, 2, 20)}, "token 1 of the input is 37"},
		"NaN":       {[]checkpoint.Draft{tokens([]int32{1, 2}, 1, 2), states(float32(math.NaN()), 2, 20)}, "layers.1.moe.in: it is zero, or not finite"},
		"zero":      {[]checkpoint.Draft{tokens([]int32{1, 2}, 1, 2), states(0, 2, 20)}, "layers.1.moe.in: it is zero, or not finite"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, checkpoint.WriteTensors(&b, c.tensors, nil))
			r, err := checkpoint.ParseTensors("r.safetensors", b.Bytes())
			require.NoError(t, err)
			_, ok, err := m.Fit(context.Background(), r)
			require.False(t, ok)
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
			require.Equal(t, before, logits(t, m, m.NewCache(), ids))
		})
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	var b bytes.Buffer
	require.NoError(t, checkpoint.WriteTensors(&b, []checkpoint.Draft{tokens([]int32{1, 2}, 1, 2), states(1, 2, 20)}, nil))
	r, err := checkpoint.ParseTensors("r.safetensors", b.Bytes())
	require.NoError(t, err)
	_, _, err = m.Fit(cancelled, r)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, logits(t, m, m.NewCache(), ids))

	// Of what was computed with exact frequencies, those are found.
	x, err := m.Embed(ids)
	require.NoError(t, err)
	cache := m.NewCache()
	m.Attend(0, cache, x)
	y, err := m.FeedForward(context.Background(), 0, m.Input(0, x))
	require.NoError(t, err)
	for i := range x {
		x[i] += y[i]
	}
	m.Attend(1, cache, x)
	exact := states(0, len(ids), 20)
	data, _ := binary.Append(nil, binary.LittleEndian, m.Input(1, x))
	exact.Bytes = func() ([]byte, error) { return data, nil }
	b.Reset()
	require.NoError(t, checkpoint.WriteTensors(&b, []checkpoint.Draft{tokens(ids, 1, len(ids)), exact}, nil))
	own, err := checkpoint.ParseTensors("r.safetensors", b.Bytes())
	require.NoError(t, err)
	fit, ok, err := m.Fit(context.Background(), own)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, model.Fit{Frequencies: model.ExactFrequencies}, fit)
	require.Equal(t, before, logits(t, m, m.NewCache(), ids))

	// A model without mixtures of experts has nothing to fit.
	z := small()
	z.types = []checkpoint.LayerType{d}
	_, ok, err = open(t, z.build(t, 1).files()).Fit(context.Background(), r)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestClosed(t *testing.T) {
	m, err := model.Open(sound(t), options(t, model.ExactFrequencies))
	require.NoError(t, err)
	require.Nil(t, m.MoE(0))
	require.NotNil(t, m.MoE(1))
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = m.Forward(context.Background(), m.NewCache(), []int32{1})
	require.ErrorContains(t, err, "closed")
}

func sound(t testing.TB) *checkpoint.Checkpoint {
	c, err := checkpoint.OpenFS(small().build(t, 1).files())
	require.NoError(t, err)
	return c
}
