package gen_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/templates"
)

var root = os.DirFS("..")

// specs returns a copy of the project's specs.
func specs(t *testing.T) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(root, "specs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		src, err := fs.ReadFile(root, path)
		files[path] = &fstest.MapFile{Data: src}
		return err
	}))
	return files
}

func generate(t *testing.T, specs fs.FS) gen.Files {
	t.Helper()
	files, err := gen.Generate(specs, templates.FS)
	require.NoError(t, err)
	return files
}

// What is in generated/ is what the specs generate.
func TestUpToDate(t *testing.T) {
	changes, err := generate(t, root).Check("../generated")
	require.NoError(t, err)
	require.Empty(t, changes, "run go generate ./...")
}

// What is read back from generated Go is what was written.
func TestRoundTrip(t *testing.T) {
	model, err := gen.Read(root, templates.FS)
	require.NoError(t, err)
	require.Equal(t, model.Table(), generated.All)
	require.Equal(t, model.Profiles, generated.Profiles)
	require.Equal(t, model.Digest, generated.Manifest.Specs)
	require.Equal(t, generated.Manifest.Sum(), generated.Manifest.Digest)
}

// A source has the kernels that the table says it has, and no others.
func TestSymbols(t *testing.T) {
	kernel := regexp.MustCompile(`host_name\("(\w+)"\)|(?m:^kernel void (\w+)\()`)
	for _, source := range generated.Manifest.Sources {
		src, err := generated.Sources.ReadFile(source.Name)
		require.NoError(t, err)
		var have, want []string
		for _, m := range kernel.FindAllStringSubmatch(string(src), -1) {
			have = append(have, m[1]+m[2])
		}
		for _, k := range generated.All.Kernels {
			if k.Source == source.Name {
				want = append(want, k.Symbol)
			}
		}
		require.NotEmpty(t, want, source.Name)
		require.ElementsMatch(t, want, have, source.Name)
	}
}

// The names that the field knows.
func TestKnownSymbols(t *testing.T) {
	for symbol, is := range map[string]struct {
		pass   runtime.Pass
		family string
		kind   runtime.Kind
	}{
		generated.MoeTrellisSwigluDecode623:     {runtime.GateUp, "decode", runtime.Tuple},
		generated.MoeTrellisSwigluDecode623Down: {runtime.Down, "decode", runtime.Tuple},
		generated.MoeTrellisSwigluDecode:        {runtime.GateUp, "decode", runtime.Generic},
		generated.MoeTrellisSwiglu623:           {runtime.GateUp, "base", runtime.Tuple},
		generated.MoeTrellisSwigluPrefill4:      {runtime.GateUp, "prefill4", runtime.Generic},
		generated.MoeTrellisSwigluLargeBatch444: {runtime.GateUp, "large_batch", runtime.Tuple},
		generated.MoeRoute:                      {runtime.Route, "", runtime.Helper},
	} {
		k := generated.All.Kernel(symbol)
		require.NotNil(t, k, symbol)
		require.Equal(t, is.pass, k.Pass, symbol)
		require.Equal(t, is.family, k.Family, symbol)
		require.Equal(t, is.kind, k.Kind, symbol)
	}
	require.Equal(t, "moe_trellis_swiglu_decode_6_2_3", generated.MoeTrellisSwigluDecode623)
	require.Equal(t, "moe_trellis_swiglu_6_2_3_down", generated.MoeTrellisSwiglu623Down)
}

// The same specs give the same bytes.
func TestDeterministic(t *testing.T) {
	require.Equal(t, generate(t, root), generate(t, specs(t)))
}

// A tuple is one line of YAML. What it adds is its rows and instantiations, an
// arm for each pair of widths that is new, and nothing else but digests.
func TestAddTuple(t *testing.T) {
	const spec = "specs/codecs/trellis.yaml"
	before := generate(t, root)
	edited := specs(t)
	edited[spec].Data = append(edited[spec].Data, "  - 7_5_2\n"...)
	after := generate(t, edited)

	line := strconv.Itoa(strings.Count(string(edited[spec].Data), "\n"))
	expected := regexp.MustCompile(strings.Join([]string{
		`^\tMoeTrellisSwiglu\w*752(Down)? += "moe_trellis_swiglu_\w*7_5_2(_down)?"$`,
		`^\t\{Body: trellis\w+, Kind: runtime.Tuple, Tuples: .*\{\{Gate: 7, Up: 5, Down: 2\}\}, Symbol: \w+, Line: "` + spec + `:` + line + `"\},$`,
		`^\t\{Gate: 7, Up: 5, Down: 2\},$`,
		`^#line ` + line + ` "` + spec + `"$`,
		`^template \[\[host_name\("moe_trellis_swiglu_\w*7_5_2(_down)?"\)\]\] .*<Trellis<7>, Trellis<5>, Trellis<2>>;$`,
		`^    case 0x75: gate_up<\w+, Trellis<7>, Trellis<5>>\(args, scratch, at\); break;$`,
	}, "|"))
	digest := regexp.MustCompile(`Digest:|Specs:|SHA256:`)
	added := map[string]int{}
	for name := range after {
		if name == "manifest.json" {
			continue // repeats the others
		}
		gone := lines(before[name])
		for l, n := range lines(after[name]) {
			if n -= gone[l]; n > 0 && !digest.MatchString(l) {
				require.Regexp(t, expected, l, name)
				added[name] += n
			}
		}
		kept := lines(after[name])
		for l, n := range gone {
			if !digest.MatchString(l) {
				require.LessOrEqual(t, n, kept[l], "%s lost %q", name, l)
			}
		}
	}
	require.Equal(t, map[string]int{
		"table.go":                  1,
		"trellis_decode.go":         4, // a constant and a row for each pass
		"trellis_prefill4.go":       4,
		"trellis_base.go":           4,
		"trellis_large_batch.go":    4,
		"trellis_decode.metal":      5, // an instance and its #line for each pass, and an arm
		"trellis_prefill4.metal":    5,
		"trellis_base.metal":        5,
		"trellis_large_batch.metal": 5,

		"trellis_cuda_decode.go":      4,
		"trellis_cuda_prefill4.go":    4,
		"trellis_cuda_base.go":        4,
		"trellis_cuda_decode.metal":   5,
		"trellis_cuda_prefill4.metal": 5,
		"trellis_cuda_base.metal":     5,
	}, added)
}

// lines counts the lines of src. Alignment does not count: gofmt's depends on
// the neighbours.
func lines(src []byte) map[string]int {
	spaces := regexp.MustCompile(`(\S) {2,}`)
	n := map[string]int{}
	for l := range strings.SplitSeq(string(src), "\n") {
		n[spaces.ReplaceAllString(l, "$1 ")]++
	}
	return n
}

// Each testdata/errors/*.txtar lays files over the project's specs and says,
// on each line at fault, what is wrong with it: # want "a regular expression".
// All of it comes from one run.
func TestErrors(t *testing.T) {
	wants := regexp.MustCompile(`# want (".*")`)
	paths, err := filepath.Glob("testdata/errors/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			require.NoError(t, err)
			edited := specs(t)
			want := map[gen.Pos]string{}
			for _, f := range archive.Files {
				edited[f.Name] = &fstest.MapFile{Data: f.Data}
				for i, line := range strings.Split(string(f.Data), "\n") {
					if m := wants.FindStringSubmatch(line); m != nil {
						pattern, err := strconv.Unquote(m[1])
						require.NoError(t, err, line)
						want[gen.Pos{File: f.Name, Line: i + 1}] = pattern
					}
				}
			}
			require.NotEmpty(t, want)
			_, err = gen.Generate(edited, templates.FS)
			var complaints gen.Complaints
			require.ErrorAs(t, err, &complaints)
			require.True(t, slices.IsSortedFunc(complaints, func(a, b *gen.Complaint) int { return strings.Compare(a.File, b.File) }))
			for _, c := range complaints {
				pattern, ok := want[c.Pos]
				require.True(t, ok, "no line wants: %v", c)
				require.Regexp(t, pattern, c.Msg, "%v", c.Pos)
				delete(want, c.Pos)
			}
			require.Empty(t, want, "not complained of")
		})
	}
}

// Write leaves exactly the files, and touches only what differs.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	files := generate(t, root)
	write := func(name, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	changes, err := files.Write(dir)
	require.NoError(t, err)
	require.Len(t, changes, len(files))

	write("helpers.go", "// stale")
	write("gone.metal", "// Code generated by marlingen from a spec that is gone; DO NOT EDIT.\n")
	write("mine.go", "package generated\n")
	require.NoError(t, os.Remove(filepath.Join(dir, "manifest.json")))
	want := []gen.Change{
		{Path: filepath.Join(dir, "helpers.go"), What: "stale"},
		{Path: filepath.Join(dir, "manifest.json"), What: "missing"},
		{Path: filepath.Join(dir, "gone.metal"), What: "stray"},
	}
	changes, err = files.Check(dir)
	require.NoError(t, err)
	require.Equal(t, want, changes)
	changes, err = files.Write(dir)
	require.NoError(t, err)
	require.Equal(t, want, changes)

	changes, err = files.Check(dir)
	require.NoError(t, err)
	require.Empty(t, changes)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, len(files)+1, "the files, and the one that is not generated")
}

// No bytes make a spec that panics.
func FuzzSpecs(f *testing.F) {
	for _, path := range []string{"specs/passes.yaml", "specs/families/decode.yaml", "specs/codecs/trellis.yaml", "specs/profiles/glm47.yaml", "specs/targets/metal3.yaml"} {
		src, err := fs.ReadFile(root, path)
		require.NoError(f, err)
		f.Add(path, src)
	}
	f.Add(tunedFile, fmt.Appendf(nil, tunedText, strings.Repeat("0", 64)))
	f.Fuzz(func(t *testing.T, path string, src []byte) {
		if !fs.ValidPath(path) || !strings.HasPrefix(path, "specs/") {
			t.Skip()
		}
		edited := specs(t)
		edited[path] = &fstest.MapFile{Data: src}
		model, err := gen.Read(edited, templates.FS)
		var complaints gen.Complaints
		if err != nil {
			require.ErrorAs(t, err, &complaints)
			require.NotEmpty(t, complaints)
		} else {
			require.NotEmpty(t, model.Table().Kernels)
		}
	})
}
