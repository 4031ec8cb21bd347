//go:build linux && (amd64 || arm64)

package metal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"testing"
	"testing/fstest"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
	"github.com/marlingen/marlingen/runtime/metal/internal/native"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// A double is package native on testdata/double.c, a Metal of its own in C, so
// that calls go through the ABI that they have on macOS.
type double struct {
	*native.Runtime
	path       string
	complaints func() string
	forget     func()
	live       func() int32
	selector   func(int32) string
}

// doubleVariable names a double that is built already.
const doubleVariable = "MARLINGEN_METAL_DOUBLE"

func openDouble(t *testing.T) *double {
	t.Helper()
	path := os.Getenv(doubleVariable)
	if path == "" {
		path = build(t, "cc")
	}
	rt, err := native.Load(native.Images{ObjC: path, System: path, Foundation: path, CoreGraphics: path, Metal: path})
	require.NoError(t, err)
	d := &double{Runtime: rt, path: path}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW)
	require.NoError(t, err)
	purego.RegisterLibFunc(&d.complaints, lib, "double_complaints")
	purego.RegisterLibFunc(&d.forget, lib, "double_forget")
	purego.RegisterLibFunc(&d.live, lib, "double_live")
	purego.RegisterLibFunc(&d.selector, lib, "double_selector")
	return d
}

// build compiles the double. Without the compiler the test is skipped, unless
// MARLINGEN_REQUIRE_CC is 1.
func build(t *testing.T, compiler string) string {
	t.Helper()
	need(t, compiler)
	path := filepath.Join(t.TempDir(), "double.so")
	out, err := exec.Command(compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, "testdata/double.c").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

func need(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("MARLINGEN_REQUIRE_CC") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err)
}

// grouping is the part of the table that the double can run.
func grouping() *runtime.Table {
	t := new(runtime.Table)
	for _, symbol := range []string{generated.MoeCount, generated.MoePrefix, generated.MoeScatter, generated.MoeCombine} {
		t.Kernels = append(t.Kernels, generated.Table.Kernel(symbol))
	}
	return t
}

// checkGrouping holds a device to the contract, and its kernels of grouping to
// the oracle.
func checkGrouping(t *testing.T, dev runtime.Device, sources fs.FS) error {
	table := grouping()
	lib, err := dev.Load(t.Context(), table, sources)
	if err != nil {
		return err
	}
	errs := []error{devicetest.CheckContract(t.Context(), dev, lib, table)}
	for _, k := range table.Kernels {
		errs = append(errs, devicetest.CheckKernel(t.Context(), dev, lib, table, k, devicetest.Options{Short: true}))
	}
	return errors.Join(append(errs, lib.Close())...)
}

func TestABI(t *testing.T) {
	rt := openDouble(t)
	dev := openOn(t, rt, metal.Options{Digest: "0123"})
	require.Equal(t, runtime.Info{
		Name: "double", Kind: "metal", Driver: "macOS Version 1 (of double)", Threads: 1024, ThreadgroupBytes: 32768,
	}, dev.Info())
	require.NoError(t, checkGrouping(t, dev, generated.Sources))

	lib, err := dev.Load(t.Context(), grouping(), fstest.MapFS{"helpers.metal": {Data: []byte("#error")}})
	require.NoError(t, err)
	require.Equal(t, runtime.Status{
		State: runtime.Failed, Words: "helpers.metal: program_source:1:2: error: refused, Ümläute and all (DoubleErrorDomain -7)",
	}, lib.Availability()[generated.MoeCount])
	require.NoError(t, lib.Close())

	_, err = dev.Load(t.Context(), grouping(), fstest.MapFS{metal.MetallibName: {Data: []byte("no library")}})
	require.EqualError(t, err, "metal: marlin.metallib: Invalid library file (DoubleErrorDomain -7)")
	names := []string{"marlingen_digest_0123"}
	for _, k := range grouping().Kernels {
		names = append(names, k.Symbol)
	}
	require.NoError(t, checkGrouping(t, dev, fstest.MapFS{metal.MetallibName: {Data: fake.Metallib(names...)}}))

	checkZeroCopy(t, dev)
	require.NoError(t, dev.Close())
	require.Empty(t, rt.complaints())
	require.Zero(t, rt.live(), "objects that nobody released")

	var selectors []string
	for i := int32(0); rt.selector(i) != ""; i++ {
		selectors = append(selectors, rt.selector(i))
	}
	require.Contains(t, selectors, "initWithCString:encoding:")
	requireSelectors(t, selectors)
}

// checkZeroCopy runs a kernel on memory that is wrapped where it lies, and asks
// for the time that it took, which comes as doubles.
func checkZeroCopy(t *testing.T, dev *metal.Device) {
	lib, err := dev.Load(t.Context(), grouping(), generated.Sources)
	require.NoError(t, err)
	defer lib.Close()
	queue, err := lib.NewQueue()
	require.NoError(t, err)
	defer queue.Close()
	memory := pages(t, 1)
	for i := range 300 {
		memory[4*i] = byte(i % 3)
	}
	chosen, err := dev.Wrap(memory)
	require.NoError(t, err)
	defer chosen.Close()
	require.True(t, chosen.(*metal.Buffer).InPlace())
	counts, err := dev.NewBuffer(2 * 3 * 4)
	require.NoError(t, err)
	defer counts.Close()
	shape := runtime.Shape{Tokens: 300, Slots: 1, Experts: 3, Rows: 300}
	require.NoError(t, queue.Launch(runtime.Launch{
		Kernel: generated.Table.Kernel(generated.MoeCount), Shape: shape,
		Args: []runtime.Arg{{Bytes: runtime.AppendShape(nil, shape)}, {Buffer: chosen}, {Buffer: counts}},
	}))
	require.NoError(t, queue.Wait(t.Context()))
	require.Equal(t, 500*time.Millisecond, queue.(*metal.Queue).GPUTime())
	have := make([]byte, counts.Size())
	_, err = counts.ReadAt(have, 0)
	require.NoError(t, err)
	require.Equal(t, []byte{86, 0, 0, 0, 85, 0, 0, 0, 85, 0, 0, 0, 14, 0, 0, 0, 15, 0, 0, 0, 15, 0, 0, 0}, have)
}

// crooked passes MTLSizes in a way that is not the ABI's.
type crooked struct {
	*double
	send func(to objc.ID, s objc.Selector, a, b objc.Size)
}

func (c crooked) SendSizes(to objc.ID, s objc.Selector, a, b objc.Size) { c.send(to, s, a, b) }

// A MTLSize that is passed wrongly comes out wrong.
func TestABIMutations(t *testing.T) {
	rt := openDouble(t)
	lib, err := purego.Dlopen(rt.path, purego.RTLD_NOW)
	require.NoError(t, err)
	msgSend, err := purego.Dlsym(lib, "objc_msgSend")
	require.NoError(t, err)
	type size32 struct{ width, height, depth uint32 }
	mutations := map[string]func(to objc.ID, s objc.Selector, a, b objc.Size){
		"the one for the other": func(to objc.ID, s objc.Selector, a, b objc.Size) { rt.SendSizes(to, s, b, a) },
		"the same twice":        func(to objc.ID, s objc.Selector, a, b objc.Size) { rt.SendSizes(to, s, a, a) },
		"width and height": func(to objc.ID, s objc.Selector, a, b objc.Size) {
			a.Width, a.Height = a.Height, a.Width
			rt.SendSizes(to, s, a, b)
		},
	}
	switch goruntime.GOARCH {
	case "amd64":
		mutations["by pointers"] = func(to objc.ID, s objc.Selector, a, b objc.Size) {
			purego.SyscallN(msgSend, uintptr(to), uintptr(s), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&b)))
		}
		mutations["in registers first"] = func(to objc.ID, s objc.Selector, a, b objc.Size) {
			purego.SyscallN(msgSend, uintptr(to), uintptr(s), uintptr(a.Width), uintptr(a.Height), uintptr(a.Depth),
				uintptr(b.Width), uintptr(b.Height), uintptr(b.Depth))
		}
		mutations["behind five registers"] = func(to objc.ID, s objc.Selector, a, b objc.Size) {
			purego.SyscallN(msgSend, uintptr(to), uintptr(s), 0, 0, 0,
				uintptr(a.Width), uintptr(a.Height), uintptr(a.Depth), uintptr(b.Width), uintptr(b.Height), uintptr(b.Depth))
		}
	case "arm64":
		mutations["of 32-bit integers"] = func(to objc.ID, s objc.Selector, a, b objc.Size) {
			p := &[4]size32{{uint32(a.Width), uint32(a.Height), uint32(a.Depth)}}
			q := &[4]size32{{uint32(b.Width), uint32(b.Height), uint32(b.Depth)}}
			purego.SyscallN(msgSend, uintptr(to), uintptr(s), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(q)))
		}
	}
	for name, send := range mutations {
		t.Run(name, func(t *testing.T) {
			rt.forget()
			dev := openOn(t, crooked{rt, send}, metal.Options{})
			require.Error(t, checkGrouping(t, dev, generated.Sources))
			require.NoError(t, dev.Close())
		})
	}
}

// TestARM64 runs the tests of the ABI on the processor of Macs, which qemu plays.
func TestARM64(t *testing.T) {
	if goruntime.GOARCH == "arm64" {
		t.Skip("this is one")
	}
	const qemu, compiler, root = "qemu-aarch64-static", "aarch64-linux-gnu-gcc", "/usr/aarch64-linux-gnu"
	for _, program := range []string{"go", qemu, compiler} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	library := build(t, compiler)
	binary := filepath.Join(t.TempDir(), "metal.test")
	compile := exec.Command("go", "test", "-c", "-o", binary, ".")
	compile.Env = slices.Concat(os.Environ(), []string{"GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS="})
	out, err := compile.CombinedOutput()
	require.NoError(t, err, "%s", out)
	run := exec.Command(qemu, "-L", root, binary, "-test.v", "-test.run", "^TestABI")
	run.Env = append(os.Environ(), doubleVariable+"="+library)
	out, err = run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, test := range []string{"TestABI", "TestABIMutations"} {
		require.True(t, bytes.Contains(out, []byte("--- PASS: "+test+" ")), "%s", out)
	}
}
