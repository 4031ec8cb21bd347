//go:build linux

package cuda_test

import (
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
	"github.com/marlingen/marlingen/runtime/cuda/double"
	"github.com/marlingen/marlingen/runtime/devicetest"
)

// table holds the kernels of the device.
var table = generated.CUDA

// single returns the symbol of the kernel that runs single rows of several tuples.
func single(t *testing.T, pass runtime.Pass) string {
	t.Helper()
	body := table.Body(runtime.Request{Pass: pass, Codec: "trellis", Rows: 1})
	for _, k := range table.Kernels {
		if k.Body == body && k.Kind == runtime.Fairway {
			return k.Symbol
		}
	}
	t.Fatalf("no kernel runs single rows of several tuples in %s", pass)
	return ""
}

// open opens a device of the double, which the end of the test closes.
func open(t *testing.T, macros ...string) (*cuda.Device, *double.Double) {
	t.Helper()
	d := double.New(t, table, macros...)
	dev, err := cuda.Open(cuda.Options{Library: d.Path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	return dev, d
}

// each runs a test on the double and, unless there is none, on a GPU.
func each(t *testing.T, test func(*testing.T, *cuda.Device)) {
	t.Run("double", func(t *testing.T) {
		dev, _ := open(t)
		test(t, dev)
	})
	t.Run("gpu", func(t *testing.T) {
		dev, err := cuda.Open(cuda.Options{})
		if err != nil {
			require.Empty(t, os.Getenv("MARLINGEN_REQUIRE_CUDA"), "%v", err)
			t.Skip(err)
		}
		t.Cleanup(func() { require.NoError(t, dev.Close()) })
		t.Logf("%+v", dev.Info())
		test(t, dev)
	})
}

// load loads the generated table.
func load(t *testing.T, dev *cuda.Device, sources fs.FS) runtime.Library {
	t.Helper()
	lib, err := dev.Load(t.Context(), table, sources)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lib.Close()) })
	return lib
}

func TestDevice(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		devicetest.Run(t, dev, table, generated.Sources, devicetest.Options{})
	})
}

// Drivers before CUDA 12.4 list no functions.
func TestOldDriver(t *testing.T) {
	dev, d := open(t, "DRIVER_12_3")
	d.Set(t, "version", 12030)
	lib := load(t, dev, generated.Sources)
	for _, k := range table.Kernels {
		require.Equal(t, runtime.Status{State: runtime.Present}, lib.Availability().Of(k), k.Symbol)
	}
	require.NoError(t, devicetest.CheckContract(t.Context(), dev, lib, table))
}

func TestOpenErrors(t *testing.T) {
	_, err := cuda.Open(cuda.Options{Library: "/no/such/libcuda.so.1"})
	require.ErrorContains(t, err, "cuda: no NVIDIA driver: ")
	_, err = cuda.Open(cuda.Options{Library: double.Build(t, "DRIVER_ANCIENT")})
	require.ErrorContains(t, err, "libcuda.so.1 lacks cuGetErrorString")

	d := double.New(t, table)
	o := cuda.Options{Library: d.Path}
	d.Set(t, "init", 100)
	_, err = cuda.Open(o)
	require.EqualError(t, err, "cuda: no GPU: cuInit: no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE, 100)")
	d.Set(t, "init", 0)
	d.Set(t, "devices", 0)
	_, err = cuda.Open(o)
	require.EqualError(t, err, "cuda: the driver finds no GPU")
	_, err = cuda.Devices(o)
	require.EqualError(t, err, "cuda: the driver finds no GPU")
	d.Set(t, "devices", 2)
	for _, index := range []int{-1, 2} {
		_, err = cuda.Open(cuda.Options{Index: index, Library: d.Path})
		require.ErrorContains(t, err, "; there are 2, from 0")
	}
	n, err := cuda.Devices(o)
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

// Two GPUs are two devices, and the buffers of one are none of the other.
func TestIndex(t *testing.T) {
	d := double.New(t, table)
	d.Set(t, "devices", 2)
	dev, err := cuda.Open(cuda.Options{Index: 1, Library: d.Path})
	require.NoError(t, err)
	require.Equal(t, runtime.Info{Name: "Double 1", Kind: "cuda", Driver: "CUDA 13.0", Threads: 1024, ThreadgroupBytes: 232448}, dev.Info())
	first, err := cuda.Open(cuda.Options{Library: d.Path})
	require.NoError(t, err)
	b, err := first.NewBuffer(64)
	require.NoError(t, err)
	lib := load(t, dev, generated.Sources)
	q, err := lib.NewQueue()
	require.NoError(t, err)
	l := countLaunch(t, first, 16)
	require.NoError(t, l.Args[2].Buffer.Close())
	l.Args[2].Buffer = b
	require.ErrorContains(t, q.Launch(l), "is no buffer of this device")
	for _, c := range []interface{ Close() error }{q, b, l.Args[1].Buffer, first, dev} {
		require.NoError(t, c.Close())
	}
}

// altered returns the generated sources after an edit of helpers.ptx and a
// manifest.
func altered(t *testing.T, edit func(fstest.MapFS)) fs.FS {
	t.Helper()
	all := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(generated.Sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(generated.Sources, path)
		all[path] = &fstest.MapFile{Data: data}
		return err
	}))
	edit(all)
	return all
}

func replace(file, old, with string) func(fstest.MapFS) {
	return func(all fstest.MapFS) {
		all[file].Data = []byte(strings.Replace(string(all[file].Data), old, with, 1))
	}
}

// What is wrong with a kernel or its file is in the availability, and leaves the
// other files alone.
func TestAvailability(t *testing.T) {
	const whole, count = "helpers.ptx", generated.MoeCount
	for name, test := range map[string]struct {
		edit    func(fstest.MapFS)
		set     map[string]int
		state   runtime.State
		words   string
		healthy []string // kernels that are present nevertheless
	}{
		"another digest": {
			edit:  replace(whole, "// marlingen ", "// marlingen f00"),
			state: runtime.Failed, words: whole + ": it was compiled from sources of digest f00", healthy: []string{single(t, runtime.GateUp)},
		},
		"no digest": {
			edit:  replace(whole, "// marlingen ", "// "),
			state: runtime.Failed, words: whole + `: it does not begin with "// marlingen " and a digest`, healthy: []string{single(t, runtime.GateUp)},
		},
		"no PTX": {
			edit:  replace(whole, "\n.version", "\n.verzion"),
			state: runtime.Failed, words: "Missing .version directive", healthy: []string{single(t, runtime.GateUp)},
		},
		"newer PTX": {
			edit:  replace(whole, "\n.version 7.8", "\n.version 9.9"),
			state: runtime.Failed, words: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222): ptxas", healthy: []string{single(t, runtime.GateUp)},
		},
		"no entry": {
			edit:  replace(whole, ".entry moe_count(", ".entry moe_kount("),
			state: runtime.Missing, words: "no PTX among the sources defines", healthy: []string{generated.MoePrefix},
		},
		"no file": {
			edit:  func(all fstest.MapFS) { delete(all, whole) },
			state: runtime.Missing, words: "no PTX among the sources defines", healthy: []string{single(t, runtime.GateUp)},
		},
		"no files": {
			edit: func(all fstest.MapFS) {
				maps.DeleteFunc(all, func(name string, _ *fstest.MapFile) bool { return strings.HasSuffix(name, ".ptx") })
			},
			state: runtime.Missing, words: "there is no PTX among the sources",
		},
		"fewer parameters": {
			edit:  replace(whole, ",\n\t.param .u64 moe_count_param_2", ""),
			state: runtime.Failed, words: "the kernel has 2 parameters, and 3 bindings in the table", healthy: []string{generated.MoePrefix},
		},
		"a smaller constant": {
			edit:  replace(whole, "moe_count_param_0[28]", "moe_count_param_0[24]"),
			state: runtime.Failed, words: "parameter 0 of the kernel has 24 bytes, and shape has 28 in the table", healthy: []string{generated.MoePrefix},
		},
		"a value for a pointer": {
			edit:  replace(whole, ".param .u64 moe_count_param_1", ".param .u32 moe_count_param_1"),
			state: runtime.Failed, words: "parameter 1 of the kernel has 4 bytes, and chosen has 8 in the table", healthy: []string{generated.MoePrefix},
		},
		"too many registers": {
			edit: func(fstest.MapFS) {}, set: map[string]int{"registers": 300},
			state: runtime.Failed, words: "a threadgroup of 256 threads; with 300 registers each, there can be 192", healthy: []string{generated.MoeCombine},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dev, d := open(t)
			for what, value := range test.set {
				d.Set(t, what, value)
			}
			lib := load(t, dev, altered(t, test.edit))
			status := lib.Availability().Of(table.Kernel(count))
			require.Equal(t, test.state, status.State)
			require.Contains(t, status.Words, test.words)
			for _, symbol := range test.healthy {
				require.Equal(t, runtime.Present, lib.Availability()[symbol].State, symbol)
			}
			q, err := lib.NewQueue()
			require.NoError(t, err)
			l := countLaunch(t, dev, 16)
			failed, only := runtime.FailedLaunches(q.Launch(l))
			require.Len(t, failed, 1)
			require.True(t, only)
			require.ErrorContains(t, failed[0], test.words)
			require.NoError(t, q.Close())
			closeArgs(t, l)
		})
	}
}

// A row that asks for more than there is, is refused before it is launched.
func TestLimits(t *testing.T) {
	dev, _ := open(t)
	for words, edit := range map[string]func(*runtime.Body){
		"a threadgroup of 2048 threads":      func(b *runtime.Body) { b.Threads = 2048 },
		"a threadgroup of 0 threads":         func(b *runtime.Body) { b.Threads = 0 },
		"300000 bytes of threadgroup memory": func(b *runtime.Body) { b.ThreadgroupBytes = 300000 },
		"":                                   func(b *runtime.Body) { b.ThreadgroupBytes = 200000 },
	} {
		k := *table.Kernel(generated.MoeCount)
		body := *k.Body
		edit(&body)
		k.Body = &body
		lib, err := dev.Load(t.Context(), &runtime.Table{Kernels: []*runtime.Kernel{&k}}, generated.Sources)
		require.NoError(t, err)
		status := lib.Availability().Of(&k)
		require.Contains(t, status.Words, words)
		require.Equal(t, words == "", status.State == runtime.Present)
		require.NoError(t, lib.Close())
	}
}

// PTX belongs to a manifest, and a manifest to its sources.
func TestLoadErrors(t *testing.T) {
	dev, _ := open(t)
	for words, edit := range map[string]func(fstest.MapFS){
		"manifest.json":                                          func(all fstest.MapFS) { delete(all, "manifest.json") },
		"manifest.json: unexpected":                              func(all fstest.MapFS) { all["manifest.json"].Data = nil },
		"is not that of what it lists":                           replace("manifest.json", `"digest": "`, `"digest": "f00`),
		"helpers.metal is not the file that manifest.json lists": replace("helpers.metal", "\n", "\n\n"),
		"open helpers.metal":                                     func(all fstest.MapFS) { delete(all, "helpers.metal") },
	} {
		_, err := dev.Load(t.Context(), table, altered(t, edit))
		require.ErrorContains(t, err, words)
	}
	require.NoError(t, dev.Close())
	_, err := dev.Load(t.Context(), table, generated.Sources)
	require.ErrorContains(t, err, "closed device")
}
