package tune

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/msl"
	"github.com/marlingen/marlingen/templates"
)

// tiny is a profile that takes no time.
const tiny = `profile: tiny
doc: A small one.
shape: {hidden: 144, intermediate: 80, experts: 4, top_k: 2}
codec: trellis
shared: 6_3_4
mix:
  - {tuple: 6_2_3, experts: 3}
  - {tuple: 6_2_2, experts: 1}
bench:
  rows: [1, 3, 17]
  batches: [4]
`

// project returns the project's specs with the tiny profile, one tuple of a codec
// for the sake of compilers, and other text in a family's.
func project(t *testing.T, family string, oldnew ...string) (gen.Specs, *runtime.Profile) {
	t.Helper()
	files := fstest.MapFS{}
	root := os.DirFS("../../../..")
	require.NoError(t, fs.WalkDir(root, "specs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(root, path)
		files[path] = &fstest.MapFile{Data: text}
		return err
	}))
	files["specs/profiles/tiny.yaml"] = &fstest.MapFile{Data: []byte(tiny)}
	file := files["specs/families/"+family+".yaml"]
	text := string(file.Data)
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(t, text, oldnew[i])
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	file.Data = []byte(text)
	codec := files["specs/codecs/trellis.yaml"]
	codec.Data = regexp.MustCompile(`(?m)^  - (6_3|6_2_4|4_|5_).*\n`).ReplaceAll(codec.Data, nil)
	specs, err := gen.Load(files)
	require.NoError(t, err)
	model, err := gen.Expand(specs, templates.FS)
	require.NoError(t, err)
	return specs, model.Profiles[len(model.Profiles)-1]
}

func memory() *Journal { return &Journal{entries: map[string]json.RawMessage{}} }

// On the cpu device the real search runs through: nothing that it refuses, every
// contest held, and all that was measured in the journal.
func TestTuneCPU(t *testing.T) {
	device := cpu.New(cpu.Options{Workers: 1})
	defer device.Close()
	specs, profile := project(t, "base", "tile: [16, 32], outputs: [16, 32, 64], depth: [16, 32, 64]", "tile: [16, 32], depth: [16, 32, 64]")
	require.Equal(t, "tiny", profile.Name)
	o := Options{
		Device: device, Target: runtime.Metal3, Specs: specs, Templates: templates.FS, Profile: profile,
		Families: []string{"base"}, Passes: []runtime.Pass{runtime.Down}, Memory: 1e6, Most: 8, Journal: memory(),
	}
	results, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, results, 1)
	r := results[0]
	require.Equal(t, []int{17}, r.Rows)
	numbers := r.Contests["numbers"]
	require.Equal(t, 2, numbers.Tried, "depth means nothing to the cpu: %+v", numbers)
	require.Empty(t, numbers.Refused)
	for what, o := range r.Contests {
		require.Positive(t, o.Before, what)
		require.Positive(t, o.After, what)
		require.NotEmpty(t, o.Other, what)
		require.Equal(t, confirmRounds, o.Rounds)
		require.Equal(t, o.Won, o.Gain > o.Noise)
	}
	require.Len(t, r.Contests, 3)
	require.Equal(t, r.Contests["shared"].Won, r.Kinds.Shared == runtime.Tuple)

	// Again, from the journal alone: a device that cannot launch is never asked.
	o.Device = tampered{device, func(l runtime.Launch) (bool, error) {
		return true, &runtime.LaunchError{Kernel: l.Kernel, Err: errors.New("mute")}
	}}
	again, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, results, again)

	o.Journal = memory()
	_, err = Run(t.Context(), o)
	require.ErrorContains(t, err, "down of family base: tile=32, as in the spec: 17 rows: ")
	require.ErrorContains(t, err, "mute")
}

// tampered is a device whose launches go through a function first, which may take
// them for itself.
type tampered struct {
	runtime.Device
	with func(runtime.Launch) (taken bool, err error)
}

func (d tampered) Load(ctx context.Context, t *runtime.Table, sources fs.FS) (runtime.Library, error) {
	l, err := d.Device.Load(ctx, t, sources)
	return tamperedLibrary{l, d}, err
}

type tamperedLibrary struct {
	runtime.Library
	of tampered
}

func (l tamperedLibrary) NewQueue() (runtime.Queue, error) {
	q, err := l.Library.NewQueue()
	return tamperedQueue{q, l.of}, err
}

type tamperedQueue struct {
	runtime.Queue
	of tampered
}

func (q tamperedQueue) Launch(l runtime.Launch) error {
	if taken, err := q.of.with(l); taken || err != nil {
		return err
	}
	return q.Queue.Launch(l)
}

// A candidate that is wrong cannot be fast: one whose launches leave their outputs
// as they were, which takes no time, is left out, with the output.
func TestGate(t *testing.T) {
	device := cpu.New(cpu.Options{Workers: 1})
	defer device.Close()
	specs, profile := project(t, "base")
	o := Options{
		Device: tampered{device, func(l runtime.Launch) (bool, error) { return l.Kernel.Tile == 16, nil }},
		Target: runtime.Metal3, Specs: specs, Templates: templates.FS, Profile: profile,
		Families: []string{"base"}, Passes: []runtime.Pass{runtime.GateUp}, Memory: 1e6, Most: 8, Journal: memory(),
	}
	results, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, results[0].Numbers)
	numbers := results[0].Contests["numbers"]
	require.Regexp(t, `^17 rows: set 0, expert 0 of 6_2_3: its row 0, column 0 is NaN`, numbers.Refused["tile=16"])
	require.Equal(t, 1, numbers.Tried)

	// As in the spec, it is an error.
	o.Device = tampered{device, func(l runtime.Launch) (bool, error) { return l.Kernel.Tile == 32, nil }}
	o.Journal = memory()
	_, err = Run(t.Context(), o)
	require.ErrorContains(t, err, "gate_up of family base: tile=32, as in the spec: 17 rows: set 0, expert 0")
}

// needClang skips a test where there is no clang that reads Metal, unless it
// must be there.
func needClang(t *testing.T) {
	t.Helper()
	if _, err := msl.Compiler(t.Context()); err != nil && os.Getenv("MARLINGEN_REQUIRE_CLANG") != "1" {
		t.Skip(err)
	}
}

// Candidates that the generator or the compiler refuses are left out, with its words.
func TestTuneMSL(t *testing.T) {
	needClang(t)
	device, err := msl.Open(t.Context(), msl.Options{Workers: 1})
	require.NoError(t, err)
	defer device.Close()
	specs, profile := project(t, "decode", "knobs: {threads: [64, 128, 256], chunk: [512, 1024, 2048]}", "knobs: {threads: [128, 512], chunk: [1024, 4096]}")
	results, err := Run(t.Context(), Options{
		Device: device, Target: runtime.Metal3, Specs: specs, Templates: templates.FS, Profile: profile,
		Families: []string{"decode"}, Passes: []runtime.Pass{runtime.GateUp}, Memory: 1e6, Most: 8, Journal: memory(),
	})
	require.NoError(t, err)
	o := results[0].Contests["numbers"]
	require.Equal(t, 1, o.Tried)
	require.Contains(t, o.Refused["chunk=4096 threads=128"], "the generator: specs/tuned/candidate.yaml:1: 35328 bytes of threadgroup memory")
	require.Contains(t, o.Refused["chunk=1024 threads=512"], "every thread of a simdgroup takes part in each sum")
}
