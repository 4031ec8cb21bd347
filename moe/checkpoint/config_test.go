package checkpoint_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/stretchr/testify/require"
)

// edit returns the config of the test model with some fields changed: removed
// where the change is nil.
func edit(t testing.TB, changes map[string]any) []byte {
	config := maps.Clone(newModel(nil).config)
	for k, v := range changes {
		if config[k] = v; v == nil {
			delete(config, k)
		}
	}
	b, err := json.Marshal(config)
	require.NoError(t, err)
	return b
}

type change = map[string]any

var trellisConfig = change{"quant_method": "trellis", "version": 1, "group_size": 128}

func TestParseConfig(t *testing.T) {
	want := checkpoint.Config{
		Layers: 2, Hidden: hidden, LayerTypes: []checkpoint.LayerType{checkpoint.Dense, checkpoint.Sparse},
		Experts: experts, SharedExperts: 1, Intermediate: intermediate,
		TopK: 2, Groups: 1, TopKGroups: 1, Normalize: true, Scale: 1.8,
	}
	for _, changes := range []change{
		{},
		{"first_k_dense_replace": 1},
		{"first_k_dense_replace": 1, "mlp_layer_types": nil},
		{"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1, "quantization_config": json.RawMessage("null")},
	} {
		got, err := checkpoint.ParseConfig("c.json", edit(t, changes))
		require.NoError(t, err)
		require.Equal(t, want, *got)
		require.Equal(t, []int{1}, got.MoELayers())
	}
	got, err := checkpoint.ParseConfig("c.json", edit(t, change{"quantization_config": trellisConfig}))
	require.NoError(t, err)
	require.Equal(t, &checkpoint.Quantization{Method: "trellis", Version: 1, GroupSize: 128}, got.Quantization)
}

var badConfigs = []struct {
	changes change
	want    []string
}{
	{change{"model_type": "llama", "hidden_size": nil}, []string{`c.json: model_type is "llama"; only "glm4_moe_lite" is supported`}},
	{change{"model_type": nil, "n_group": nil, "hidden_act": nil, "mlp_layer_types": nil}, []string{"missing model_type, hidden_act, n_group, mlp_layer_types or first_k_dense_replace"}},
	{change{"hidden_act": "gelu", "scoring_func": "softmax", "topk_method": "greedy", "moe_layer_freq": 2, "n_shared_experts": 2}, []string{
		`hidden_act is "gelu"; only "silu" is supported`, `scoring_func is "softmax"; only "sigmoid"`, `topk_method is "greedy"; only "noaux_tc"`,
		"moe_layer_freq is 2; only 1", "n_shared_experts is 2, not in 0..1",
	}},
	{change{"scoring_func": json.RawMessage("null")}, []string{"scoring_func is null"}},
	{change{"hidden_size": 256.5, "n_group": "1", "norm_topk_prob": 1, "routed_scaling_factor": "1.8", "topk_group": true, "num_experts_per_tok": json.RawMessage("null"), "hidden_act": 3}, []string{
		"hidden_size is 256.5, not an integer", `n_group is "1", not an integer`, "norm_topk_prob is 1, not true or false", `routed_scaling_factor is "1.8", not a number`,
		"topk_group is true, not an integer", "num_experts_per_tok is null", "hidden_act is 3",
	}},
	{change{"hidden_size": json.RawMessage("2.0"), "n_group": json.RawMessage("1e0"), "routed_scaling_factor": json.RawMessage("1e400")}, []string{"hidden_size is 2.0", "n_group is 1e0", "routed_scaling_factor is 1e400"}},
	{change{"routed_scaling_factor": 1e39}, []string{"beyond float32"}},
	{change{"hidden_size": 0, "n_routed_experts": -1, "num_hidden_layers": int64(1) << 40}, []string{"hidden_size is 0, not in 1..", "n_routed_experts is -1", "num_hidden_layers is 1099511627776, not in"}},
	{change{"mlp_layer_types": []string{"dense"}}, []string{"mlp_layer_types has 1 elements for 2 layers"}},
	{change{"mlp_layer_types": []any{"dense", 3}}, []string{`mlp_layer_types[1] is 3; only "dense" and "sparse"`}},
	{change{"mlp_layer_types": "dense"}, []string{"mlp_layer_types is not a list"}},
	{change{"first_k_dense_replace": 0}, []string{"mlp_layer_types and first_k_dense_replace disagree"}},
	{change{"n_group": 3}, []string{"n_routed_experts is 4, not a multiple of n_group, 3"}},
	{change{"n_group": 4}, []string{"its groups are ranked by their two best experts, but have 1"}},
	{change{"topk_group": 2}, []string{"topk_group is 2, more than n_group, 1"}},
	{change{"num_experts_per_tok": 3, "n_group": 2}, []string{"num_experts_per_tok is 3, more than the 2 experts"}},
	{change{"quantization_config": change{"quant_method": "gptq", "version": 2, "group_size": 64, "bits": 4}}, []string{
		`quantization_config: quant_method is "gptq"; only "trellis" is supported`, "version is 2; only 1", "group_size is 64; only 128", "bits is not known",
	}},
	{change{"quantization_config": change{"version": "1"}}, []string{`version is "1"; only 1`, "missing quantization_config.group_size, quantization_config.quant_method"}},
	{change{"quantization_config": 3}, []string{"quantization_config: not a JSON object"}},
}

func TestParseConfigErrors(t *testing.T) {
	for _, c := range badConfigs {
		data := edit(t, c.changes)
		_, err := checkpoint.ParseConfig("c.json", data)
		for _, want := range c.want {
			require.ErrorContains(t, err, want, "%s", data)
		}
	}
	_, err := checkpoint.ParseConfig("c.json", []byte(`{"model_type":"glm4_moe_lite","model_type":"glm4_moe_lite"}`))
	require.ErrorContains(t, err, "c.json: model_type appears twice")
	_, err = checkpoint.ParseConfig("c.json", []byte(`[]`))
	require.ErrorContains(t, err, "c.json: not a JSON object")
}

func TestQuantizedConfig(t *testing.T) {
	data, err := checkpoint.QuantizedConfig("c.json", edit(t, nil))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(data), `"vocab_size": 7`))
	config, err := checkpoint.ParseConfig("c.json", data)
	require.NoError(t, err)
	require.Equal(t, "trellis", config.Quantization.Method)
	_, err = checkpoint.QuantizedConfig("c.json", data)
	require.ErrorContains(t, err, "c.json: has a quantization_config already")
}

// FuzzParseConfig checks that a config that parses still means the same after
// it was written again.
func FuzzParseConfig(f *testing.F) {
	for _, c := range badConfigs {
		f.Add(edit(f, c.changes))
	}
	f.Add(edit(f, nil))
	f.Add(edit(f, change{"quantization_config": trellisConfig}))
	f.Add(edit(f, change{"first_k_dense_replace": 1, "mlp_layer_types": nil, "num_hidden_layers": 47, "n_group": 2}))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := checkpoint.ParseConfig("c.json", data)
		if err != nil || first.Quantization != nil {
			return
		}
		again, err := checkpoint.QuantizedConfig("c.json", data)
		require.NoError(t, err)
		second, err := checkpoint.ParseConfig("c.json", again)
		require.NoError(t, err)
		require.NotNil(t, second.Quantization)
		second.Quantization = nil
		require.Equal(t, first, second)
	})
}
