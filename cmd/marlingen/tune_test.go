package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/msl"
	"github.com/marlingen/marlingen/templates"
)

// From knobs to rows: tune measures what the spec declares; what is better makes
// rows, which that device with that driver runs, and no other, and which are right.
func TestTune(t *testing.T) {
	needClang(t)
	root := t.TempDir()
	for _, dir := range []string{"specs", "generated"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("../..", dir))))
	}
	edit := func(name string, edit func(text string) string) {
		t.Helper()
		path := filepath.Join(root, name)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		edited := edit(string(text))
		require.NotEqual(t, string(text), edited)
		require.NoError(t, os.WriteFile(path, []byte(edited), 0o644))
	}
	const family = "specs/families/decode.yaml"
	edit(family, func(text string) string {
		return strings.ReplaceAll(text, "threads: [64, 128, 256], chunk: [512, 1024, 2048]", "chunk: [512, 1024]")
	})
	edit("specs/codecs/trellis.yaml", func(text string) string { // two tuples, for the sake of the compiler
		return regexp.MustCompile(`(?m)^  - (6_3|6_2_4|4_|5_).*\n`).ReplaceAllString(text, "")
	})
	require.NoError(t, os.WriteFile(filepath.Join(root, "specs/profiles/tiny.yaml"), []byte(`profile: tiny
doc: A small one.
shape: {hidden: 80, intermediate: 48, experts: 4, top_k: 2}
codec: trellis
shared: 6_2_2
mix:
  - {tuple: 6_2_3, experts: 3}
  - {tuple: 6_2_2, experts: 1}
`), 0o644))
	command(t, 0, "regenerate", "--root", root)

	device, err := msl.Open(t.Context(), msl.Options{})
	require.NoError(t, err)
	defer device.Close()
	here := device.Info()
	file := filepath.Join(root, gen.TunedFile(here.Name))
	state := filepath.Join(t.TempDir(), "state", "tune.jsonl")
	args := []string{"tune", "--device", "msl", "--root", root, "--profile", "tiny", "--families", "decode", "--passes", "down",
		"--memory", "1", "--sample", "1ms", "--state", state}

	// How loaded the machine is decides what is found to be better, and nothing else.
	stdout, _ := command(t, 0, append(args, "--dry-run", "--json")...)
	var found tuning
	require.NoError(t, json.Unmarshal([]byte(stdout), &found))
	numbers := found.Results[0].Contests["numbers"]
	require.Equal(t, "chunk=512", numbers.Other)
	require.Positive(t, numbers.Before)
	require.Positive(t, numbers.After)
	require.Equal(t, numbers.Gain > numbers.Noise, numbers.Won)
	require.Len(t, found.Results[0].Contests, 3)
	require.NoFileExists(t, file)
	command(t, 0, "regenerate", "--root", root, "--check")

	// So it goes on as if chunks of 512 had taken half the time.
	measured, err := os.ReadFile(state)
	require.NoError(t, err)
	times := regexp.MustCompile(`"ms":\{"chunk=1024":[^,}]+,"chunk=512":[^,}]+(,"the usual again":)?`)
	require.GreaterOrEqual(t, len(times.FindAll(measured, -1)), 30)
	measured = times.ReplaceAllFunc(measured, func(m []byte) []byte {
		if strings.HasSuffix(string(m), ":") {
			return []byte(`"ms":{"chunk=1024":2,"chunk=512":1,"the usual again":2,"was":`)
		}
		return []byte(`"ms":{"chunk=1024":2,"chunk=512":1`)
	})
	require.NoError(t, os.WriteFile(state, measured, 0o644))
	stdout, stderr := command(t, 0, append(args, "--dry-run")...)
	require.Equal(t, "going on from "+state+"\n", stderr)
	require.Contains(t, stdout, "+        numbers: {chunk: 512}\n")
	require.Contains(t, stdout, "{of: numbers, before: 2.000000, after: 1.000000, gain: 0.5000, noise: 0.0000, rounds: 21}")
	require.Contains(t, stdout, "trellis_decode_"+gen.DeviceWord(here.Name)+".metal: missing\n")
	require.NoFileExists(t, file)

	stdout, _ = command(t, 0, append(args, "--json")...)
	require.NoFileExists(t, state)
	require.NoError(t, json.Unmarshal([]byte(stdout), &found))
	require.Equal(t, map[string]int{"chunk": 512}, found.Results[0].Numbers)
	require.Equal(t, change{file, "missing"}, found.Changes[0])
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(written), "run: \""+found.Run+"\"\n")
	command(t, 0, "regenerate", "--root", root, "--check")

	model, err := gen.Read(os.DirFS(root), templates.FS)
	require.NoError(t, err)
	require.Empty(t, model.Stale)
	specs, err := gen.Load(os.DirFS(root))
	require.NoError(t, err)
	require.Equal(t, string(written), string(specs.Tuned[gen.TunedFile(here.Name)].Format()), "what is read is what was written")
	sources := fstest.MapFS{}
	files, err := gen.Render(model, templates.FS)
	require.NoError(t, err)
	for name, text := range files {
		sources[name] = &fstest.MapFile{Data: text}
	}
	for _, i := range []runtime.Info{here, {Name: here.Name, Driver: "clang 1"}, {Name: "Apple M9", Driver: here.Driver}} {
		table := model.Table().On(runtime.Metal3, i)
		body := table.Body(runtime.Request{Pass: runtime.Down, Codec: "trellis", Rows: 1})
		if i != here {
			require.Equal(t, 4*1024+1024/4+4*4*16, body.ThreadgroupBytes)
			require.Empty(t, body.Device)
			continue
		}
		require.Equal(t, 4*512+512/4+4*4*16, body.ThreadgroupBytes)
		part := &runtime.Table{Codecs: table.Codecs}
		for _, k := range table.Kernels {
			if k.Body == body {
				part.Kernels = append(part.Kernels, k)
			}
		}
		require.Len(t, part.Kernels, 4)
		library, err := device.Load(t.Context(), part, sources)
		require.NoError(t, err)
		for _, k := range part.Kernels {
			require.Contains(t, k.Symbol, "moe_trellis_swiglu_decode_"+gen.DeviceWord(here.Name))
			require.NoError(t, devicetest.CheckKernel(t.Context(), device, library, part, k, devicetest.Options{}), k.Symbol)
		}
		require.NoError(t, library.Close())
	}

	// Another spec is another matter: its rows are as written, and it is said why.
	edit(family, func(text string) string {
		return strings.Replace(text, "chunk: [512, 1024]", "chunk: [512, 1024, 2048]", 2)
	})
	_, stderr = command(t, 0, "regenerate", "--root", root)
	require.Empty(t, stderr, "more to try is not another kernel")
	edit(family, func(text string) string { return strings.Replace(text, "chunk: 1024}", "chunk: 512}", 2) })
	_, stderr = command(t, 0, "regenerate", "--root", root)
	require.Regexp(t, `specs/tuned/\w+.yaml:10: family decode was tuned with another spec or template, and is left out`, stderr)
	require.NoFileExists(t, filepath.Join(root, "generated/trellis_decode_"+gen.DeviceWord(here.Name)+".metal"))
}
