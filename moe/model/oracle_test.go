package model_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/cmplx"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// An ideal is what a checkpoint computes: the textbook's formulas in float64,
// every head's keys and values made for every token, in plain loops. It shares
// no code with package model, nor with the reader of config.json.
type ideal struct {
	t       testing.TB
	c       idealConfig
	tensors *checkpoint.Tensors
	rounded bool // frequencies, to bfloat16
}

type idealConfig struct {
	Hidden       int      `json:"hidden_size"`
	Vocabulary   int      `json:"vocab_size"`
	Layers       int      `json:"num_hidden_layers"`
	Types        []string `json:"mlp_layer_types"`
	DenseLayers  int      `json:"first_k_dense_replace"`
	Intermediate int      `json:"intermediate_size"`

	Heads     int  `json:"num_attention_heads"`
	QueryRank *int `json:"q_lora_rank"`
	KeyRank   int  `json:"kv_lora_rank"`
	Nope      int  `json:"qk_nope_head_dim"`
	Rope      int  `json:"qk_rope_head_dim"`
	Value     int  `json:"v_head_dim"`

	Epsilon    float64 `json:"rms_norm_eps"`
	Theta      float64 `json:"rope_theta"`
	Parameters *struct {
		Theta float64 `json:"rope_theta"`
	} `json:"rope_parameters"`
	Interleave *bool `json:"rope_interleave"`
	Tied       bool  `json:"tie_word_embeddings"`

	Experts      int     `json:"n_routed_experts"`
	Shared       int     `json:"n_shared_experts"`
	Expert       int     `json:"moe_intermediate_size"`
	TopK         int     `json:"num_experts_per_tok"`
	Groups       int     `json:"n_group"`
	TopKGroups   int     `json:"topk_group"`
	Normalize    bool    `json:"norm_topk_prob"`
	RoutedFactor float64 `json:"routed_scaling_factor"`
}

func newIdeal(t testing.TB, fsys fs.FS, f model.Frequencies) *ideal {
	t.Helper()
	m := &ideal{t: t, rounded: f == model.RoundedFrequencies}
	config, err := fs.ReadFile(fsys, "config.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(config, &m.c))
	weights, err := fs.ReadFile(fsys, "model.safetensors")
	require.NoError(t, err)
	m.tensors, err = checkpoint.ParseTensors("model.safetensors", weights)
	require.NoError(t, err)
	return m
}

// numbers returns the elements of a tensor.
func (m *ideal) numbers(name string) []float64 {
	t, ok := m.tensors.Lookup(name)
	require.True(m.t, ok, name)
	var x []float64
	for b := t.Data; len(b) > 0; {
		switch t.DType {
		case checkpoint.BF16:
			x = append(x, float64(math.Float32frombits(uint32(b[0])<<16|uint32(b[1])<<24)))
			b = b[2:]
		case checkpoint.F16:
			x = append(x, oracle.Half(uint16(b[0])|uint16(b[1])<<8))
			b = b[2:]
		case checkpoint.F32:
			x = append(x, float64(math.Float32frombits(uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)))
			b = b[4:]
		default:
			require.FailNow(m.t, "no such type", "%s: %s", name, t.DType)
		}
	}
	return x
}

func (m *ideal) matrix(module string, out, in int) oracle.Matrix {
	indices, ok := m.tensors.Lookup(module + ".indices")
	if !ok {
		w := m.numbers(module + ".weight")
		require.Len(m.t, w, out*in, module)
		return oracle.Matrix{Out: out, In: in, W: w}
	}
	part := func(name string) []byte {
		t, ok := m.tensors.Lookup(module + "." + name)
		require.True(m.t, ok)
		return t.Data
	}
	w, err := oracle.Trellis(indices.Shape[2]/32, out, in, indices.Data, part("scales"), part("su"), part("sv"))
	require.NoError(m.t, err)
	return w
}

func (m *ideal) expert(prefix string, intermediate int) oracle.Expert {
	return oracle.Expert{
		Gate: m.matrix(prefix+"gate_proj", intermediate, m.c.Hidden),
		Up:   m.matrix(prefix+"up_proj", intermediate, m.c.Hidden),
		Down: m.matrix(prefix+"down_proj", m.c.Hidden, intermediate),
	}
}

func inner(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func times(w oracle.Matrix, x []float64) []float64 {
	y := make([]float64, w.Out)
	for o := range y {
		y[o] = inner(w.Row(o), x)
	}
	return y
}

func normalised(x, weight []float64, epsilon float64) []float64 {
	rms := math.Sqrt(inner(x, x)/float64(len(x)) + epsilon)
	y := make([]float64, len(weight))
	for i, w := range weight {
		y[i] = x[i] / rms * w
	}
	return y
}

// rotate turns the pairs of x as complex numbers: by e^(i·position·θ^(−2k/n)).
func (m *ideal) rotate(x []float64, position int) []float64 {
	theta := m.c.Theta
	if m.c.Parameters != nil {
		theta = m.c.Parameters.Theta
	}
	n := len(x)
	y := make([]float64, n)
	for k := range n / 2 {
		f := 1 / math.Pow(theta, float64(2*k)/float64(n))
		if m.rounded {
			fraction, exponent := math.Frexp(f)
			f = math.Ldexp(math.RoundToEven(math.Ldexp(fraction, 8)), exponent-8)
		}
		re, im := k, k+n/2
		if m.c.Interleave == nil || *m.c.Interleave {
			re, im = 2*k, 2*k+1
		}
		z := complex(x[re], x[im]) * cmplx.Exp(complex(0, float64(position)*f))
		y[re], y[im] = real(z), imag(z)
	}
	return y
}

// attention returns what the attention of a layer makes of the norms h of all
// tokens.
func (m *ideal) attention(prefix string, h [][]float64) [][]float64 {
	c, latent := m.c, 1e-6
	queries := c.Heads * (c.Nope + c.Rope)
	var down, query oracle.Matrix
	var queryNorm []float64
	if c.QueryRank != nil {
		down = m.matrix(prefix+"q_a_proj", *c.QueryRank, c.Hidden)
		queryNorm = m.numbers(prefix + "q_a_layernorm.weight")
		query = m.matrix(prefix+"q_b_proj", queries, *c.QueryRank)
	} else {
		query = m.matrix(prefix+"q_proj", queries, c.Hidden)
	}
	compress := m.matrix(prefix+"kv_a_proj_with_mqa", c.KeyRank+c.Rope, c.Hidden)
	keyNorm := m.numbers(prefix + "kv_a_layernorm.weight")
	expand := m.matrix(prefix+"kv_b_proj", c.Heads*(c.Nope+c.Value), c.KeyRank)
	output := m.matrix(prefix+"o_proj", c.Hidden, c.Heads*c.Value)

	q, k, v := make([][][]float64, len(h)), make([][][]float64, len(h)), make([][][]float64, len(h)) // [tokens][heads]
	for t := range h {
		x := h[t]
		if c.QueryRank != nil {
			x = normalised(times(down, x), queryNorm, latent)
		}
		all := times(query, x)
		compressed := times(compress, h[t])
		expanded := times(expand, normalised(compressed[:c.KeyRank], keyNorm, latent))
		position := m.rotate(compressed[c.KeyRank:], t)
		for head := range c.Heads {
			mine := all[head*(c.Nope+c.Rope):][:c.Nope+c.Rope]
			q[t] = append(q[t], slices.Concat(mine[:c.Nope], m.rotate(mine[c.Nope:], t)))
			kv := expanded[head*(c.Nope+c.Value):][:c.Nope+c.Value]
			k[t] = append(k[t], slices.Concat(kv[:c.Nope], position))
			v[t] = append(v[t], kv[c.Nope:])
		}
	}
	out := make([][]float64, len(h))
	for t := range h {
		var gathered []float64
		for head := range c.Heads {
			sum, mean := 0.0, make([]float64, c.Value)
			for u := range t + 1 {
				p := math.Exp(inner(q[t][head], k[u][head]) / math.Sqrt(float64(c.Nope+c.Rope)))
				sum += p
				for i := range mean {
					mean[i] += p * v[u][head][i]
				}
			}
			for i := range mean {
				mean[i] /= sum
			}
			gathered = append(gathered, mean...)
		}
		out[t] = times(output, gathered)
	}
	return out
}

// feedForward returns what the second half of layer n makes of h.
func (m *ideal) feedForward(n int, h [][]float64) [][]float64 {
	c := m.c
	prefix := fmt.Sprintf("model.layers.%d.mlp.", n)
	out := make([][]float64, len(h))
	if c.Types != nil && c.Types[n] == "dense" || c.Types == nil && n < c.DenseLayers {
		e := m.expert(prefix, c.Intermediate)
		for t := range h {
			out[t] = e.Forward(h[t]).Value
		}
		return out
	}
	l := oracle.Layer{Router: oracle.Router{
		Weight: m.matrix(prefix+"gate", c.Experts, c.Hidden),
		Bias:   m.numbers(prefix + "gate.e_score_correction_bias"),
		TopK:   c.TopK, Groups: c.Groups, TopKGroups: c.TopKGroups, Normalize: c.Normalize, Scale: c.RoutedFactor,
	}}
	for e := range c.Experts {
		l.Experts = append(l.Experts, m.expert(fmt.Sprintf("%sexperts.%d.", prefix, e), c.Expert))
	}
	if c.Shared > 0 {
		e := m.expert(prefix+"shared_experts.", c.Expert)
		l.Shared = &e
	}
	vectors, choices, err := l.Forward(h)
	require.NoError(m.t, err)
	for t := range h {
		out[t] = vectors[t].Value
		// Closer than this, float32 may choose otherwise and be right.
		require.Greater(m.t, choices[t].Margin, 1e-6, "layer %d, token %d: choose another seed", n, t)
	}
	return out
}

// logits returns the scores after each of ids, [tokens, vocabulary].
func (m *ideal) logits(ids []int32) []float64 {
	c := m.c
	embedding := m.matrix("model.embed_tokens", c.Vocabulary, c.Hidden)
	x := make([][]float64, len(ids))
	for t, id := range ids {
		x[t] = slices.Clone(embedding.Row(int(id)))
	}
	norms := func(module string) [][]float64 {
		weight := m.numbers(module + ".weight")
		h := make([][]float64, len(x))
		for t := range x {
			h[t] = normalised(x[t], weight, c.Epsilon)
		}
		return h
	}
	add := func(y [][]float64) {
		for t := range x {
			for i := range x[t] {
				x[t][i] += y[t][i]
			}
		}
	}
	for n := range c.Layers {
		prefix := fmt.Sprintf("model.layers.%d.", n)
		add(m.attention(prefix+"self_attn.", norms(prefix+"input_layernorm")))
		add(m.feedForward(n, norms(prefix+"post_attention_layernorm")))
	}
	head := embedding
	if !c.Tied {
		head = m.matrix("lm_head", c.Vocabulary, c.Hidden)
	}
	var all []float64
	for _, h := range norms("model.norm") {
		all = append(all, times(head, h)...)
	}
	return all
}

// nll returns the negative log likelihood of all of ids but the first.
func (m *ideal) nll(ids []int32) float64 {
	all := m.logits(ids[:len(ids)-1])
	total := 0.0
	for t, id := range ids[1:] {
		scores := all[t*m.c.Vocabulary:][:m.c.Vocabulary]
		sum := 0.0
		for _, v := range scores {
			sum += math.Exp(v)
		}
		total += math.Log(sum) - scores[id]
	}
	return total
}

// TestOracle runs models of all kinds, with odd sizes, against the oracle.
func TestOracle(t *testing.T) {
	some := func(edit func(z *sizes)) sizes {
		z := small()
		edit(&z)
		return z
	}
	old := change{"rope_parameters": nil, "rope_scaling": null, "rope_theta": 500}
	for name, c := range map[string]struct {
		sizes  sizes
		config change
	}{
		"small":           {small(), nil},
		"plain queries":   {some(func(z *sizes) { z.queryRank = 0 }), nil},
		"one head":        {some(func(z *sizes) { z.heads, z.value = 1, 11 }), nil},
		"halves":          {small(), change{"rope_interleave": false}},
		"interleave":      {small(), change{"rope_interleave": nil}},
		"older rope":      {small(), old},
		"both ropes":      {small(), change{"rope_theta": 10000.0, "rope_scaling": null, "partial_rotary_factor": 1.0, "rope_parameters": change{"rope_theta": 10000, "partial_rotary_factor": 1}}},
		"one pair":        {some(func(z *sizes) { z.rope, z.nope = 2, 1 }), nil},
		"tied":            {some(func(z *sizes) { z.tied = true }), nil},
		"dense first":     {some(func(z *sizes) { z.types = []checkpoint.LayerType{d, d, s} }), change{"mlp_layer_types": nil, "first_k_dense_replace": 2}},
		"dense between":   {some(func(z *sizes) { z.types = []checkpoint.LayerType{s, d, s} }), nil},
		"all dense":       {some(func(z *sizes) { z.types = []checkpoint.LayerType{d, d} }), nil},
		"all sparse":      {some(func(z *sizes) { z.types = []checkpoint.LayerType{s, s} }), nil},
		"none shared":     {some(func(z *sizes) { z.shared = 0 }), nil},
		"groups":          {some(func(z *sizes) { z.experts = 6 }), change{"n_group": 2, "norm_topk_prob": false, "routed_scaling_factor": 2.5}},
		"ends":            {small(), change{"eos_token_id": []int{3, 36}}},
		"no end":          {small(), change{"eos_token_id": null}},
		"extra layer":     {some(func(z *sizes) { z.extra = 1 }), nil},
		"no extra layer":  {small(), change{"num_nextn_predict_layers": 0}},
		"types":           {some(func(z *sizes) { z.dtypes = []checkpoint.DType{checkpoint.F32, checkpoint.F16, checkpoint.BF16} }), nil},
		"epsilon":         {small(), change{"rms_norm_eps": 0.5}},
		"less said":       {small(), change{"num_key_value_heads": nil, "qk_head_dim": nil, "attention_bias": nil}},
		"trellis":         {tiled(), nil},
		"trellis, halves": {tiled(), change{"rope_interleave": false, "n_group": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.sizes.build(t, 7)
			m.set(c.config)
			files, ids := m.files(), m.ids(40)
			for _, f := range []model.Frequencies{model.ExactFrequencies, model.RoundedFrequencies} {
				k, err := checkpoint.OpenFS(files)
				require.NoError(t, err)
				tested, err := model.Open(k, options(t, f))
				require.NoError(t, err)
				want := newIdeal(t, files, f).logits(ids)
				require.Less(t, distance(t, logits(t, tested, tested.NewCache(), ids), want), 1e-5)
				require.Less(t, distance(t, logits(t, tested, tested.NewCache(), ids, 1, 7, 1, 2), want), 1e-5)
				require.NoError(t, tested.Close())
			}
		})
	}
}

// TestOracleTells checks that the oracle's test would notice what the sizes or
// the scale of weights might hide.
func TestOracleTells(t *testing.T) {
	m := small().build(t, 7)
	ids := m.ids(40)
	want := newIdeal(t, m.files(), model.ExactFrequencies).logits(ids)
	for name, changes := range map[string]change{
		"halves":  {"rope_interleave": false},
		"theta":   {"rope_parameters": change{"rope_theta": 9000}},
		"epsilon": {"rms_norm_eps": 5e-5},
		"factor":  {"routed_scaling_factor": 1.81},
		"top-k":   {"num_experts_per_tok": 1},
	} {
		was := maps.Clone(m.config)
		m.set(changes)
		require.Greater(t, distance(t, newIdeal(t, m.files(), model.ExactFrequencies).logits(ids), want), 2e-5, name)
		m.config = was
	}
	require.Greater(t, distance(t, newIdeal(t, m.files(), model.RoundedFrequencies).logits(ids), want), 1e-4)
}
