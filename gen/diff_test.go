package gen_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
)

func manifest(t *testing.T, files gen.Files) *gen.ManifestFile {
	t.Helper()
	m, err := gen.ParseManifest(files["manifest.json"])
	require.NoError(t, err)
	return m
}

// A tuple more is its kernels, and a change of those that switch over tuples.
func TestDiffManifests(t *testing.T) {
	const spec = "specs/codecs/trellis.yaml"
	older := manifest(t, generate(t, root))
	bodies, after := map[*runtime.Body]bool{}, 0 // that read weights; kernels whose line is in the codec's spec
	for _, k := range generated.All.Kernels {
		if k.Codec != "" {
			bodies[k.Body] = true
		}
		if strings.HasPrefix(k.Line, spec+":") {
			after++
		}
	}
	edited := specs(t)
	edited[spec].Data = append(edited[spec].Data, "  - 7_5_2\n"...)
	newer := manifest(t, generate(t, edited))

	same := gen.DiffManifests(older, manifest(t, generate(t, specs(t))))
	require.True(t, same.Same())
	require.Equal(t, &gen.ManifestDiff{
		Old: older.Digest, New: older.Digest,
		Added: []gen.ManifestKernel{}, Removed: []gen.ManifestKernel{}, Changed: []gen.KernelChange{}, Sources: []gen.SourceChange{},
	}, same)

	d := gen.DiffManifests(older, newer)
	require.False(t, d.Same())
	require.True(t, d.Specs)
	require.Equal(t, []string{older.Digest, newer.Digest}, []string{d.Old, d.New})
	require.Len(t, d.Added, len(bodies))
	for _, k := range d.Added {
		require.Equal(t, []runtime.BitTuple{{Gate: 7, Up: 5, Down: 2}}, k.Tuples)
	}
	require.Len(t, d.Changed, len(bodies))
	for _, c := range d.Changed {
		require.Contains(t, c.Symbol, "fairway")
		require.Len(t, c.Fields, 1)
		require.Equal(t, "tuples", c.Fields[0].Field)
		require.Equal(t, strings.TrimSuffix(c.Fields[0].Old, "]")+" 7_5_2]", c.Fields[0].New)
	}
	require.Empty(t, d.Removed)
	require.Zero(t, d.Moved)
	require.Len(t, d.Sources, len(older.Sources)-1, "all but the helpers")

	back := gen.DiffManifests(newer, older)
	require.Equal(t, d.Added, back.Removed)
	require.Empty(t, back.Added)

	// A comment moves what follows it.
	edited = specs(t)
	edited[spec].Data = []byte("# comment\n" + string(edited[spec].Data))
	moved := gen.DiffManifests(older, manifest(t, generate(t, edited)))
	require.Equal(t, after, moved.Moved)
	require.Empty(t, moved.Changed)

	// Sources come and go with their kernels.
	fewer := *older
	fewer.Sources = older.Sources[1:]
	require.Equal(t, []gen.SourceChange{{Name: "helpers.metal", What: "removed"}}, gen.DiffManifests(older, &fewer).Sources)
	require.Equal(t, []gen.SourceChange{{Name: "helpers.metal", What: "added"}}, gen.DiffManifests(&fewer, older).Sources)
}

func TestParseManifestRefuses(t *testing.T) {
	good := string(generate(t, root)["manifest.json"])
	for old, new := range map[string]string{
		`"generator"`:                   `"colour": 1, "generator"`,
		`"digest":`:                     `"digest": 1, "x":`,
		`"symbol":"moe_count"`:          `"symbol":"moe_route"`,
		`"symbol":"moe_prefix"`:         `"symbol":""`,
		`"name": "helpers.metal"`:       `"name": "trellis_base.metal"`,
		"\n  ]\n}\n":                    "\n  ]\n}\n{}",
		`{"symbol":"moe_route","pass":`: `{"symbol":"moe_route","pass":1,"x":`,
	} {
		require.Contains(t, good, old)
		_, err := gen.ParseManifest([]byte(strings.Replace(good, old, new, 1)))
		require.Error(t, err, new)
	}
	_, err := gen.ParseManifest([]byte("{}"))
	require.ErrorContains(t, err, "it needs digest")
}
