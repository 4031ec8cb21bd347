package checkpoint_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/stretchr/testify/require"
)

// whole are the fields that a whole model needs, besides those of its MoE
// layers.
var whole = change{
	"vocab_size": 50, "max_position_embeddings": 128, "intermediate_size": 24,
	"num_attention_heads": 3, "num_key_value_heads": 3, "q_lora_rank": 12, "kv_lora_rank": 9,
	"qk_nope_head_dim": 5, "qk_rope_head_dim": 6, "qk_head_dim": 11, "v_head_dim": 4,
	"rms_norm_eps": 1e-5, "rope_parameters": change{"rope_type": "default", "rope_theta": 10000},
	"rope_interleave": true, "tie_word_embeddings": false, "attention_bias": false, "eos_token_id": 49,
}

func parse(t testing.TB, changes change) (*checkpoint.Architecture, error) {
	return checkpoint.ParseArchitecture("c.json", editWhole(t, changes))
}

// editWhole returns the config of a whole model with some fields changed.
func editWhole(t testing.TB, changes change) []byte {
	all := change{}
	for _, c := range []change{whole, changes} {
		for k, v := range c {
			all[k] = v
		}
	}
	return edit(t, all)
}

func TestParseArchitecture(t *testing.T) {
	null := json.RawMessage("null")
	with := func(edit func(a *checkpoint.Architecture)) checkpoint.Architecture {
		a := checkpoint.Architecture{
			Vocabulary: 50, MaxPositions: 128, Intermediate: 24,
			Heads: 3, QueryRank: 12, KeyRank: 9, NopeDim: 5, RopeDim: 6, ValueDim: 4,
			RopeTheta: 10000, Interleave: true, Epsilon: 1e-5, End: []int32{49},
		}
		edit(&a)
		return a
	}
	same := with(func(*checkpoint.Architecture) {})
	for _, c := range []struct {
		changes change
		want    checkpoint.Architecture
	}{
		{nil, same},
		{change{"num_key_value_heads": nil, "qk_head_dim": nil, "attention_bias": nil, "rope_interleave": nil}, same},
		{change{"rope_parameters": nil, "rope_scaling": null, "rope_theta": 10000.0, "partial_rotary_factor": json.RawMessage("1.0")}, same},
		{change{"rope_parameters": change{"rope_theta": 10000, "type": "default", "partial_rotary_factor": 1}, "rope_theta": 10000}, same},
		{change{"sliding_window": null, "num_nextn_predict_layers": 0, "unheard_of": 3}, same},
		{change{"rope_parameters": nil, "rope_theta": 1e6}, with(func(a *checkpoint.Architecture) { a.RopeTheta = 1e6 })},
		{change{"q_lora_rank": null}, with(func(a *checkpoint.Architecture) { a.QueryRank = 0 })},
		{change{"rope_interleave": false}, with(func(a *checkpoint.Architecture) { a.Interleave = false })},
		{change{"tie_word_embeddings": true}, with(func(a *checkpoint.Architecture) { a.TiedEmbeddings = true })},
		{change{"num_nextn_predict_layers": 1}, with(func(a *checkpoint.Architecture) { a.Extra = 1 })},
		{change{"eos_token_id": null}, with(func(a *checkpoint.Architecture) { a.End = nil })},
		{change{"eos_token_id": []int{}}, with(func(a *checkpoint.Architecture) { a.End = nil })},
		{change{"eos_token_id": []int{3, 0, 49}}, with(func(a *checkpoint.Architecture) { a.End = []int32{3, 0, 49} })},
	} {
		got, err := parse(t, c.changes)
		require.NoError(t, err, "%v", c.changes)
		require.Equal(t, c.want, *got, "%v", c.changes)
	}

	m := denseModel(t)
	for k, v := range whole {
		m.config[k] = v
	}
	opened(t, m.write(1), func(t *testing.T, c *checkpoint.Checkpoint) {
		got, err := c.Architecture()
		require.NoError(t, err)
		require.Equal(t, same, *got)
	})
	opened(t, denseModel(t).write(1), func(t *testing.T, c *checkpoint.Checkpoint) {
		_, err := c.Architecture()
		require.ErrorContains(t, err, "config.json: missing max_position_embeddings")
	})
}

// badArchitectures hold mistakes, one to a line of the error.
var badArchitectures = []struct {
	changes change
	want    []string
}{
	{change{"attention_bias": true}, []string{"attention_bias is true; only false is supported"}},
	{change{"attention_bias": json.RawMessage("null")}, []string{"attention_bias is null; only false is supported"}},
	{change{"rope_scaling": change{"type": "yarn", "factor": 4}}, []string{`rope_scaling is {"factor":4,"type":"yarn"}; only null is supported`}},
	{change{"partial_rotary_factor": 0.5, "sliding_window": 128}, []string{"partial_rotary_factor is 0.5; only 1 is supported", "sliding_window is 128; only null is supported"}},
	{change{"num_key_value_heads": 1}, []string{"num_key_value_heads is 1; only 3 is supported"}},
	{change{"num_key_value_heads": json.RawMessage("3.0")}, []string{"num_key_value_heads is 3.0; only 3 is supported"}},
	{change{"qk_head_dim": 6}, []string{"qk_head_dim is 6; only 11 is supported"}},
	{change{"qk_rope_head_dim": 7, "qk_head_dim": 12}, []string{"qk_rope_head_dim is 7, not even"}},
	{change{"rope_parameters": change{"rope_type": "yarn", "rope_theta": 1e4, "factor": 2}}, []string{`rope_parameters.rope_type is "yarn"; only "default" is supported`, "rope_parameters.factor is not known"}},
	{change{"rope_parameters": change{"type": "linear", "rope_theta": 0, "partial_rotary_factor": 0.5}}, []string{
		`rope_parameters.type is "linear"; only "default"`, "rope_parameters.rope_theta is 0, not above 0", "rope_parameters.partial_rotary_factor is 0.5; only 1",
	}},
	{change{"rope_parameters": change{}, "vocab_size": nil}, []string{"missing vocab_size, rope_parameters.rope_theta"}},
	{change{"rope_parameters": json.RawMessage(`{"rope_theta":1,"rope_theta":1}`)}, []string{"rope_parameters.rope_theta appears twice"}},
	{change{"rope_parameters": json.RawMessage("null")}, []string{"rope_parameters: not a JSON object"}},
	{change{"rope_theta": 1e6}, []string{"rope_theta is 1e+06, and rope_parameters.rope_theta 10000"}},
	{change{"rope_theta": -1}, []string{"rope_theta is -1, not above 0"}},
	{change{"rope_parameters": nil, "rope_theta": "10000", "rms_norm_eps": json.RawMessage("null")}, []string{`rope_theta is "10000", not a number`, "rms_norm_eps is null, not a number"}},
	{change{"rope_parameters": nil, "rope_theta": json.RawMessage("1e400"), "rms_norm_eps": 0}, []string{"rope_theta is 1e400, not a number", "rms_norm_eps is 0, not above 0"}},
	{change{"rms_norm_eps": -1e-5}, []string{"rms_norm_eps is -1e-05, not above 0"}},
	{change{"rope_parameters": nil, "q_lora_rank": nil, "v_head_dim": nil, "eos_token_id": nil, "tie_word_embeddings": nil, "rms_norm_eps": nil}, []string{
		"missing v_head_dim, rms_norm_eps, rope_theta, tie_word_embeddings, eos_token_id, q_lora_rank",
	}},
	{change{"q_lora_rank": 0, "num_attention_heads": 65537, "kv_lora_rank": 2.5, "qk_nope_head_dim": 0, "qk_rope_head_dim": 1, "max_position_embeddings": "x"}, []string{
		"q_lora_rank is 0, not in 1..", "num_attention_heads is 65537, not in 1..65536", "kv_lora_rank is 2.5, not an integer",
		"qk_nope_head_dim is 0, not in", "qk_rope_head_dim is 1, not in 2..", `max_position_embeddings is "x", not an integer`,
	}},
	{change{"rope_interleave": json.RawMessage("null"), "tie_word_embeddings": "no", "num_nextn_predict_layers": -1}, []string{
		"rope_interleave is null, not true or false", `tie_word_embeddings is "no", not true or false`, "num_nextn_predict_layers is -1, not in 0..",
	}},
	{change{"eos_token_id": []int{50, 3, 51}, "attention_bias": 1}, []string{"attention_bias is 1", "eos_token_id is 50, and vocab_size 50", "eos_token_id is 51, and vocab_size 50"}},
	{change{"eos_token_id": -1}, []string{"eos_token_id is -1, not a token or a list of them"}},
	{change{"eos_token_id": []any{1, "2"}}, []string{`eos_token_id is [1,"2"], not a token`}},
	{change{"eos_token_id": []any{1, []int{2}}}, []string{"eos_token_id is [1,[2]], not a token"}},
	{change{"eos_token_id": int64(1) << 31}, []string{"eos_token_id is 2147483648, not a token"}},
	{change{"eos_token_id": true}, []string{"eos_token_id is true, not a token"}},
}

func TestParseArchitectureErrors(t *testing.T) {
	for _, c := range badArchitectures {
		_, err := parse(t, c.changes)
		require.Error(t, err, "%v", c.changes)
		got := strings.Split(err.Error(), "\n")
		require.Len(t, got, len(c.want), "%v", err)
		for _, want := range c.want {
			require.ErrorContains(t, err, "c.json: "+want)
		}
	}
	_, err := checkpoint.ParseArchitecture("c.json", []byte(`[]`))
	require.EqualError(t, err, "c.json: not a JSON object")
	_, err = checkpoint.ParseArchitecture("c.json", []byte(`{"vocab_size":1,"vocab_size":1}`))
	require.ErrorContains(t, err, "c.json: vocab_size appears twice")
}

// FuzzParseArchitecture checks that what parses makes sense, and still means
// the same after it was written again.
func FuzzParseArchitecture(f *testing.F) {
	for _, c := range badArchitectures {
		f.Add(editWhole(f, c.changes))
	}
	f.Add(editWhole(f, nil))
	f.Add(editWhole(f, change{"rope_parameters": nil, "rope_theta": 1e6, "rope_scaling": json.RawMessage("null"), "q_lora_rank": json.RawMessage("null")}))
	f.Add(editWhole(f, change{"eos_token_id": []int{1, 2}, "num_nextn_predict_layers": 1, "rope_interleave": false}))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := checkpoint.ParseArchitecture("c.json", data)
		if err != nil {
			require.Nil(t, a)
			return
		}
		for _, n := range []int{a.Vocabulary, a.MaxPositions, a.Intermediate, a.Heads, a.KeyRank, a.NopeDim, a.RopeDim, a.ValueDim} {
			require.Positive(t, n)
		}
		require.Zero(t, a.RopeDim%2)
		for _, x := range []float64{a.RopeTheta, a.Epsilon} {
			require.Positive(t, x)
			require.LessOrEqual(t, x, math.MaxFloat32)
		}
		for _, id := range a.End {
			require.True(t, id >= 0 && int(id) < a.Vocabulary)
		}
		again := change{
			"vocab_size": a.Vocabulary, "max_position_embeddings": a.MaxPositions, "intermediate_size": a.Intermediate,
			"num_attention_heads": a.Heads, "q_lora_rank": a.QueryRank, "kv_lora_rank": a.KeyRank,
			"qk_nope_head_dim": a.NopeDim, "qk_rope_head_dim": a.RopeDim, "v_head_dim": a.ValueDim,
			"rms_norm_eps": a.Epsilon, "rope_parameters": change{"rope_theta": a.RopeTheta}, "rope_interleave": a.Interleave,
			"tie_word_embeddings": a.TiedEmbeddings, "num_nextn_predict_layers": a.Extra, "eos_token_id": a.End,
		}
		if a.QueryRank == 0 {
			again["q_lora_rank"] = json.RawMessage("null")
		}
		text, err := json.Marshal(again)
		require.NoError(t, err)
		b, err := checkpoint.ParseArchitecture("c.json", text)
		require.NoError(t, err)
		require.Equal(t, a, b)
	})
}
