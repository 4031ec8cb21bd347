package gen_test

import (
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/templates"
)

const schemas = "specs/schemas"

func TestSchemasUpToDate(t *testing.T) {
	files, err := gen.Schemas()
	require.NoError(t, err)
	require.Len(t, files, len(gen.SpecKinds))
	changes, err := files.Check("../" + schemas)
	require.NoError(t, err)
	require.Empty(t, changes, "run go generate ./...")
}

// compileSchema compiles a schema as committed.
func compileSchema(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	text, err := fs.ReadFile(root, path.Join(schemas, file))
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource(file, doc))
	s, err := c.Compile(file)
	require.NoError(t, err)
	return s
}

// value returns what n is in YAML 1.2, which editors go by: 6_2_3 is no number.
func value(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = value(t, n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		s := []any{}
		for _, c := range n.Content {
			s = append(s, value(t, c))
		}
		return s
	}
	require.Equal(t, yaml.ScalarNode, n.Kind)
	if i, err := strconv.Atoi(n.Value); err == nil && n.Style == 0 {
		return i
	}
	if f, err := strconv.ParseFloat(n.Value, 64); err == nil && n.Style == 0 && strings.Contains(n.Value, ".") {
		return f
	}
	return n.Value
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var n yaml.Node
	require.NoError(t, yaml.Unmarshal([]byte(text), &n))
	return s.Validate(value(t, n.Content[0]))
}

// Every spec names the schema of its kind, and passes it.
func TestSpecsPassSchemas(t *testing.T) {
	seen := 1
	for _, k := range gen.SpecKinds {
		files, err := fs.Glob(root, k.Glob)
		require.NoError(t, err)
		require.True(t, len(files) > 0 || k.Name == "tuned", "specs/tuned is of those who tune")
		seen += len(files)
		schema := compileSchema(t, k.File())
		for _, file := range files {
			text, err := fs.ReadFile(root, file)
			require.NoError(t, err)
			first, _, _ := strings.Cut(string(text), "\n")
			require.Equal(t, k.FirstLine(), first, "the first line of %s", file)
			_, named, _ := strings.Cut(first, "=")
			_, err = fs.Stat(root, path.Join(path.Dir(file), named))
			require.NoError(t, err, file)
			require.NoError(t, validate(t, schema, string(text)), file)
		}
	}
	require.Len(t, specs(t), seen-1+len(gen.SpecKinds), "a file under specs/ is of no kind")
}

// What a schema refuses is what gen refuses, or leaves out something that no
// spec should.
func TestSchemasRefuse(t *testing.T) {
	for _, c := range []struct{ kind, file, old, new, want string }{
		{"passes", "specs/passes.yaml", "pass: route", "pass: rout", "/passes/0/pass"},
		{"passes", "specs/passes.yaml", "access: constant", "access: constants", "/passes/0/bindings/0/access"},
		{"passes", "specs/passes.yaml", "type: Shape", "type: Shapes", "/passes/0/bindings/0/type"},
		{"passes", "specs/passes.yaml", "weights: [gate, up]", "weights: [gate, side]", "/passes/4/weights/1"},
		{"passes", "specs/passes.yaml", "grid: [tokens, one, one]", "grid: [token, one, one]", "/passes/0/kernel/grid/0"},
		{"passes", "specs/passes.yaml", "symbol: moe_route", "symbols: moe_route", "'symbols' not allowed"},
		{"family", "specs/families/decode.yaml", "rows: 1 ", "rows: 0 ", "/rows"},
		{"family", "specs/families/prefill4.yaml", "rows: 2..16", "rows: 2-16", "/rows"},
		{"family", "specs/families/decode.yaml", "accumulator: float", "accumulator: half", "/accumulator"},
		{"family", "specs/families/decode.yaml", "alone:  [tuple,", "alone:  [tupel,", "/prefer/alone/0"},
		{"family", "specs/families/decode.yaml", "pass: down", "pass: route", "/passes/1/pass"},
		{"family", "specs/families/decode.yaml", "threads: 128", "threads: many", "/passes/0/threads"},
		{"family", "specs/families/decode.yaml", "threads: 128", "thread: 128", "'thread' not allowed"},
		{"family", "specs/families/decode.yaml", "word: decode", "wort: decode", "missing property 'word'"},
		{"family", "specs/families/decode.yaml", "grid: [items, ", "grid: [", "/passes/0/grid"},
		{"family", "specs/families/decode.yaml", "outputs: 16", "outputs: 0", "/passes/0/constants/outputs"},
		{"codec", "specs/codecs/trellis.yaml", "- 6_2_3", "- 6-2-3", "/tuples/0"},
		{"codec", "specs/codecs/trellis.yaml", "- 6_2_3", "- 623", "/tuples/0"},
		{"codec", "specs/codecs/trellis.yaml", "widths: [2,", "widths: [12,", "/widths/0"},
		{"codec", "specs/codecs/trellis.yaml", "type: uchar", "type: char", "/components/0/type"},
		{"target", "specs/targets/metal3.yaml", "buffers: 31", "buffers: 0", "/buffers"},
		{"profile", "specs/profiles/glm47.yaml", "top_k: 4", "topk: 4", "'topk' not allowed"},
		{"profile", "specs/profiles/glm47.yaml", "experts: 42", "experts: -1", "/mix/0/experts"},
		{"profile", "specs/profiles/glm47.yaml", "shared: 6_3_4", "shared: [6, 3, 4]", "/shared"},
	} {
		text, err := fs.ReadFile(root, c.file)
		require.NoError(t, err)
		require.Contains(t, string(text), c.old)
		err = validate(t, compileSchema(t, c.kind+".json"), strings.Replace(string(text), c.old, c.new, 1))
		require.ErrorContains(t, err, c.want, c.new)

		edited := specs(t)
		edited[c.file].Data = []byte(strings.Replace(string(text), c.old, c.new, 1))
		_, err = gen.Read(edited, templates.FS)
		require.ErrorContains(t, err, c.file+":", "gen refuses %q too", c.new)
	}
}
