package checkpoint_test

import (
	"encoding/json"
	"testing"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/stretchr/testify/require"
)

var badIndexes = []struct {
	data string
	want []string
}{
	{``, []string{"i.json: not a JSON object"}},
	{`{`, []string{"not JSON"}},
	{`{}`, []string{`"weight_map" is missing`}},
	{`{"weight_map":[]}`, []string{"weight_map: not a JSON object"}},
	{`{"weight_map":{},"weight_map":{}}`, []string{`"weight_map" appears twice`}},
	{`{"weight_map":{"a":"x.safetensors","a":"y.safetensors","b":3}}`, []string{"i.json: a: appears twice in weight_map", "b: 3 is not the name of a file"}},
	{`{"weight_map":{"a":"../x.safetensors","b":"/x.safetensors","c":"d/x.safetensors","d":"d\\x.safetensors","e":"..","f":"","g":"x.bin","h":"C:x.safetensors","i":".safetensors","j":"x\u0000.safetensors"}}`,
		[]string{`a: "../x.safetensors" is not the plain name`, `b: "/x`, `c: "d/x`, `d: "d\\x`, `e: ".."`, `f: ""`, `g: "x.bin"`, `h: "C:x`, `i: ".saf`, `j: "x\x00`}},
}

func TestParseIndex(t *testing.T) {
	got, err := checkpoint.ParseIndex("i.json", []byte(`{"metadata":{"total_size":3.5},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}`))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "x.safetensors", "b": "y.safetensors"}, got)
	for _, c := range badIndexes {
		_, err := checkpoint.ParseIndex("i.json", []byte(c.data))
		for _, want := range c.want {
			require.ErrorContains(t, err, want, c.data)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	for _, c := range badIndexes {
		f.Add([]byte(c.data))
	}
	f.Add([]byte(`{"metadata":{"total_size":3},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := checkpoint.ParseIndex("i.json", data)
		if err != nil {
			return
		}
		again, err := json.Marshal(map[string]any{"weight_map": first})
		require.NoError(t, err)
		second, err := checkpoint.ParseIndex("i.json", again)
		require.NoError(t, err)
		require.Equal(t, first, second)
	})
}
