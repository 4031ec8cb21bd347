package gen_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/templates"
)

const tunedFile = "specs/tuned/g9.yaml"

// tunedText is what a tuner writes; %s is the digest of the family.
const tunedText = `# yaml-language-server: $schema=../schemas/tuned.json
device: GPU 9
driver: "1.2"
word: g9
target: metal3
codec: trellis
families:
  - family: decode
    source: %s
    profile: glm47
    time: "2026-01-02T03:04:05Z"
    run: 0123abcd
    passes:
      - pass: gate_up
        numbers: {threads: 64, chunk: 512}
        shared: tuple
        gains:
          - {of: numbers, before: 0.2, after: 0.1, gain: 0.4, noise: 0.01, rounds: 21}
          - {of: shared, before: 0.1, after: 0.09, gain: 0.05, noise: 0.01, rounds: 21}
      - pass: down
        alone: fairway
        gains:
          - {of: alone, before: 0.2, after: 0.1, gain: 0.4, noise: 0.01, rounds: 21}
`

// source returns the digest of a family.
func source(t *testing.T, root fs.FS, family string) string {
	t.Helper()
	model, err := gen.Read(root, templates.FS)
	require.NoError(t, err)
	sum, err := model.Family("trellis", family).Source(templates.FS)
	require.NoError(t, err)
	return sum
}

// tuned returns the project's specs with a tuned file.
func tuned(t *testing.T, text string) fstest.MapFS {
	t.Helper()
	edited := specs(t)
	edited[tunedFile] = &fstest.MapFile{Data: []byte(text)}
	return edited
}

// What was tuned is a row for the device that it was tuned on, and for no other.
func TestTuned(t *testing.T) {
	text := fmt.Sprintf(tunedText, source(t, root, "decode"))
	require.NoError(t, validate(t, compileSchema(t, "tuned.json"), text))
	model, err := gen.Read(tuned(t, text), templates.FS)
	require.NoError(t, err)
	require.Empty(t, model.Stale)
	table := model.Table()

	here := runtime.Info{Name: "GPU 9", Driver: "1.2"}
	request := runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, Rows: 1}
	choose := func(target string, i runtime.Info, r runtime.Request) *runtime.Kernel {
		t.Helper()
		view := table.On(target, i)
		have := runtime.Availability{}
		for _, k := range view.Kernels {
			have[k.Symbol] = runtime.Status{State: runtime.Present}
		}
		choice, err := runtime.Select(view, have, r)
		require.NoError(t, err)
		require.NotNil(t, view.Body(r))
		return choice.Kernel
	}
	k := choose(runtime.Metal3, here, request)
	require.Equal(t, "moe_trellis_swiglu_decode_g9_6_2_3", k.Symbol)
	require.Equal(t, 64, k.Threads)
	require.Equal(t, 2*(4*512+512/4)+2*4*2*16, k.ThreadgroupBytes)
	require.Equal(t, "specs/tuned/g9.yaml:14", k.Spec)
	request.Shared = true
	require.Equal(t, "moe_trellis_swiglu_decode_g9_6_2_3", choose(runtime.Metal3, here, request).Symbol)
	request.Pass, request.Shared = runtime.Down, false
	require.Equal(t, "moe_trellis_swiglu_decode_fairway_down", choose(runtime.Metal3, here, request).Symbol)
	request.Shared = true
	require.Equal(t, "moe_trellis_swiglu_decode_fairway_down", choose(runtime.Metal3, here, request).Symbol)

	for _, other := range []runtime.Info{{}, {Name: "GPU 9", Driver: "1.3"}, {Name: "GPU 8", Driver: "1.2"}} {
		require.Equal(t, plain(t).For(runtime.Metal3).Kernels[5:9], withoutOrders(table.On(runtime.Metal3, other).Kernels[5:9]), "%v", other)
		request := runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: request.Tuple, Rows: 1}
		require.Equal(t, "moe_trellis_swiglu_decode_6_2_3", choose(runtime.Metal3, other, request).Symbol)
		request.Pass = runtime.Down
		require.Equal(t, "moe_trellis_swiglu_decode_6_2_3_down", choose(runtime.Metal3, other, request).Symbol)
	}
	require.Equal(t, "moe_trellis_swiglu_cuda_decode_6_2_3", choose(runtime.CUDA, here, runtime.Request{
		Pass: runtime.GateUp, Codec: "trellis", Tuple: request.Tuple, Rows: 1}).Symbol)
	require.Len(t, table.Every(runtime.Metal3).Kernels, len(table.For(runtime.Metal3).Kernels)+10)

	files, err := gen.Render(model, templates.FS)
	require.NoError(t, err)
	require.Contains(t, string(files["trellis_decode_g9.metal"]), "struct trellis_decode_gate_up_g9 {\n")
	require.NotContains(t, string(files["trellis_decode_g9.metal"]), "host_name(\"moe_trellis_swiglu_decode_g9_6_2_3_down\")")
	require.Contains(t, string(files["trellis_decode.go"]), `{Device: "GPU 9", Driver: "1.2", Alone: []runtime.Kind{runtime.Fairway, runtime.Tuple, runtime.Generic}`)
	require.Contains(t, string(files["trellis_decode_g9.go"]), `"GPU 9"`)
}

// plain returns the table of the project's specs without tuned ones.
func plain(t *testing.T) *runtime.Table {
	t.Helper()
	model, err := gen.Read(root, templates.FS)
	require.NoError(t, err)
	return model.Table()
}

func withoutOrders(ks []*runtime.Kernel) (without []*runtime.Kernel) {
	for _, k := range ks {
		body := *k.Body
		body.Orders = nil
		own := *k
		own.Body = &body
		without = append(without, &own)
	}
	return without
}

// What was tuned with another spec or template is left out, and said to be; a
// comment is no other spec.
func TestTunedStale(t *testing.T) {
	text := fmt.Sprintf(tunedText, source(t, root, "decode"))
	const spec = "specs/families/decode.yaml"
	for _, c := range []struct {
		old, new string
		stale    bool
	}{
		{"rows: 1 ", "# a comment\nrows: 1 ", false},
		{"chunk: 1024}", "chunk: 2048}", true},
		{"outputs: 16, chunk", "extra: 1, outputs: 16, chunk", true},
	} {
		edited := tuned(t, text)
		before := string(edited[spec].Data)
		require.Contains(t, before, c.old)
		edited[spec] = &fstest.MapFile{Data: []byte(strings.Replace(before, c.old, c.new, 1))}
		model, err := gen.Read(edited, templates.FS)
		require.NoError(t, err)
		if !c.stale {
			require.Empty(t, model.Stale, c.new)
			require.NotNil(t, model.Table().Kernel("moe_trellis_swiglu_decode_g9"))
			continue
		}
		require.EqualError(t, model.Stale,
			"specs/tuned/g9.yaml:9: family decode was tuned with another spec or template, and is left out; run marlingen tune on GPU 9 again")
		require.Nil(t, model.Table().Kernel("moe_trellis_swiglu_decode_g9"))
	}
	body, err := fs.ReadFile(templates.FS, "families/decode.metal")
	require.NoError(t, err)
	changed := gen.Edited(templates.FS, map[string][]byte{"families/decode.metal": append(body, "\n// more\n"...)})
	model, err := gen.Read(tuned(t, text), changed)
	require.NoError(t, err)
	require.Len(t, model.Stale, 1)
}

// Each mistake is told on its line.
func TestTunedErrors(t *testing.T) {
	text := fmt.Sprintf(tunedText, source(t, root, "decode"))
	for _, c := range []struct{ old, new, want string }{
		{"device: GPU 9\n", "", "specs/tuned/g9.yaml:1: device is missing"},
		{"driver: \"1.2\"\n", "", "specs/tuned/g9.yaml:2: driver is missing"},
		{"word: g9", "word: G 9", "specs/tuned/g9.yaml:4: word \"G 9\" is no word for symbols"},
		{"target: metal3", "target: metal9", "specs/tuned/g9.yaml:5: no target is called \"metal9\""},
		{"target: metal3", "target: cuda", "specs/tuned/g9.yaml:8: specs/families/decode.yaml is for target metal3"},
		{"codec: trellis", "codec: exl9", "specs/tuned/g9.yaml:8: there is no specs/families/decode.yaml for codec exl9"},
		{"family: decode", "family: decoder", "specs/tuned/g9.yaml:8: there is no specs/families/decoder.yaml"},
		{"pass: down", "pass: gate_up", "specs/tuned/g9.yaml:20: pass gate_up is there twice"},
		{"pass: down", "pass: route", "specs/tuned/g9.yaml:20: family decode has no pass \"route\""},
		{"threads: 64", "threads: 96", "specs/tuned/g9.yaml:15: threads is no knob of the family's pass that can be 96"},
		{"chunk: 512", "outputs: 16", "specs/tuned/g9.yaml:15: outputs is no knob of the family's pass that can be 16"},
		{"shared: tuple", "shared: helper", "specs/tuned/g9.yaml:16: shared \"helper\" is not in the family's order"},
		{"alone: fairway\n        gains:\n          - {of: alone, before: 0.2, after: 0.1, gain: 0.4, noise: 0.01, rounds: 21}\n", "alone: fairway\n        gains: []\n",
			"specs/tuned/g9.yaml:20: it has no gains"},
		{"word: g9\n", "word: g9\nspeed: 1\n", "specs/tuned/g9.yaml:5: field speed not found"},
	} {
		require.Contains(t, text, c.old)
		_, err := gen.Read(tuned(t, strings.Replace(text, c.old, c.new, 1)), templates.FS)
		require.ErrorContains(t, err, c.want, c.new)
	}
	// Another file of the same device.
	edited := tuned(t, text)
	edited["specs/tuned/h.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(text, "word: g9", "word: h", 1))}
	_, err := gen.Read(edited, templates.FS)
	require.ErrorContains(t, err, "specs/tuned/h.yaml:2: specs/tuned/g9.yaml is about the same device and driver")
	// Another device's with the same word.
	edited["specs/tuned/h.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(text, "GPU 9", "GPU 10", 1))}
	_, err = gen.Read(edited, templates.FS)
	require.ErrorContains(t, err, "specs/tuned/h.yaml:14: symbol moe_trellis_swiglu_decode_g9_6_2_3 is taken by specs/tuned/g9.yaml:14")
}

func TestDeviceWord(t *testing.T) {
	require.Equal(t, "nvidia_h200", gen.DeviceWord("NVIDIA H200"))
	require.Equal(t, "specs/tuned/apple_m4_max.yaml", gen.TunedFile("Apple M4 Max"))
}
