package gen_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/templates"
)

func TestAddTuples(t *testing.T) {
	add := []runtime.BitTuple{{Gate: 7, Up: 5, Down: 2}, {Gate: 8, Up: 8, Down: 8}}
	for _, c := range []struct{ name, text, want string }{
		{
			"comments and order stay", "# head\ncodec: c\n\n# why\ntuples: # all\n  - 6_2_3 # first\n  # between\n  - 4_4_4   # last\n\n# after\ndoc: d\n",
			"# head\ncodec: c\n\n# why\ntuples: # all\n  - 6_2_3 # first\n  # between\n  - 4_4_4   # last\n  - 7_5_2\n  - 8_8_8\n\n# after\ndoc: d\n",
		},
		{"other indents stay", "tuples:\n-   6_2_3\ndoc: d\n", "tuples:\n-   6_2_3\n-   7_5_2\n-   8_8_8\ndoc: d\n"},
		{"no end of line", "tuples:\n  - 6_2_3", "tuples:\n  - 6_2_3\n  - 7_5_2\n  - 8_8_8\n"},
		{"no list", "codec: c\n", "codec: c\ntuples:\n  - 7_5_2\n  - 8_8_8\n"},
	} {
		got, err := gen.AddTuples("c.yaml", []byte(c.text), add)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, string(got), c.name)
	}
	for text, want := range map[string]string{
		"codec: c\ntuples: [6_2_3]\n": "c.yaml:2: tuples has to be a list with a line for each",
		"tuples: []\n":                "c.yaml:1: tuples has to be a list",
		"tuples:\n":                   "c.yaml:1: tuples has to be a list",
		"- a\n":                       "c.yaml: it is no codec's spec",
		"":                            "c.yaml: it is no codec's spec",
		"a: [":                        "c.yaml: yaml: ",
	} {
		_, err := gen.AddTuples("c.yaml", []byte(text), add)
		require.ErrorContains(t, err, want)
	}
}

// The project's own spec takes tuples, and nothing on the disk changes.
func TestEdited(t *testing.T) {
	const spec = "specs/codecs/trellis.yaml"
	text, err := fs.ReadFile(root, spec)
	require.NoError(t, err)
	text, err = gen.AddTuples(spec, text, []runtime.BitTuple{{Gate: 7, Up: 5, Down: 2}})
	require.NoError(t, err)
	model, err := gen.Read(gen.Edited(root, map[string][]byte{spec: text}), templates.FS)
	require.NoError(t, err)
	require.Contains(t, model.Codecs[0].Tuples, runtime.BitTuple{Gate: 7, Up: 5, Down: 2})
	model, err = gen.Read(root, templates.FS)
	require.NoError(t, err)
	require.NotContains(t, model.Codecs[0].Tuples, runtime.BitTuple{Gate: 7, Up: 5, Down: 2})

	_, err = gen.Read(gen.Edited(root, map[string][]byte{spec: []byte(strings.Replace(string(text), "7_5_2", "7_5_9", 1))}), templates.FS)
	require.ErrorContains(t, err, "codec trellis has no 9-bit weights")
}
