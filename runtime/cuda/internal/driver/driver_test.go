//go:build linux

package driver_test

import (
	"errors"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime/cuda/double"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

const ptx = `// nothing
.version 7.8
.target sm_80
.visible .entry one(
	.param .align 4 .b8 one_param_0[28],
	.param .u64 one_param_1
)
.visible .entry two(.param .u32 two_param_0)
`

// begin loads the double, and makes its context current until the test ends.
func begin(t *testing.T) (*double.Double, *driver.API, driver.Device) {
	t.Helper()
	d := double.New(t, generated.Table)
	a, err := driver.Load(d.Path)
	require.NoError(t, err)
	require.Equal(t, 13000, a.Version)
	n, err := a.Device(0)
	require.NoError(t, err)
	goruntime.LockOSThread()
	t.Cleanup(goruntime.UnlockOSThread)
	c, err := a.Retain(n)
	require.NoError(t, err)
	require.NoError(t, a.SetCurrent(c))
	return d, a, n
}

func TestDriver(t *testing.T) {
	_, a, n := begin(t)
	s, err := a.NewStream()
	require.NoError(t, err)
	p, err := a.Alloc(100)
	require.NoError(t, err)
	staging, err := a.AllocHost(100)
	require.NoError(t, err)
	copy(staging, "what is staged")
	require.NoError(t, a.Fill(p, 'x', 100, s))
	require.NoError(t, a.Upload(p+1, staging[:14], s))
	require.NoError(t, a.CopyRows(p+50, p+1, 3, 2, 1, 4, s))
	require.NoError(t, a.Copy(p+90, p+50, 10, s))
	b := make([]byte, 100)
	require.NoError(t, a.Download(b, p, s))
	require.Equal(t, "xwhat is stagedx", string(b[:16]))
	require.Equal(t, "wxxaxx xxsxx", string(b[50:62]))
	require.Equal(t, "wxxaxx xxs", string(b[90:]))
	require.NoError(t, errors.Join(a.Free(p), a.FreeHost(staging)))

	m, err := a.LoadModule([]byte(ptx))
	require.NoError(t, err)
	require.True(t, a.Enumerates())
	functions, err := a.Functions(m)
	require.NoError(t, err)
	require.Len(t, functions, 2)
	one, err := a.Function(m, "one")
	require.NoError(t, err)
	require.Equal(t, functions["one"], one)
	params, err := a.Params(one)
	require.NoError(t, err)
	require.Equal(t, []driver.Param{{Offset: 0, Size: 28}, {Offset: 32, Size: 8}}, params)
	threads, err := a.FunctionAttribute(one, driver.FunctionThreads)
	require.NoError(t, err)
	require.Equal(t, 1024, threads)
	_, err = a.Function(m, "three")
	require.EqualError(t, err, "cuModuleGetFunction: named symbol not found (CUDA_ERROR_NOT_FOUND, 500)")

	from, err := a.NewEvent()
	require.NoError(t, err)
	to, err := a.NewEvent()
	require.NoError(t, err)
	require.NoError(t, errors.Join(a.Record(from, s), a.Record(to, s), a.Synchronize(s)))
	took, err := a.Elapsed(from, to)
	require.NoError(t, err)
	require.GreaterOrEqual(t, took, time.Duration(0))
	require.NoError(t, errors.Join(a.DestroyEvent(from), a.DestroyEvent(to), a.DestroyStream(s), a.Unload(m), a.Release(n)))
}

func TestParams(t *testing.T) {
	var p driver.Params
	for range 32 {
		require.NoError(t, p.Add(make([]byte, 28)))
	}
	require.Error(t, p.Add(nil), "too many")
	p.Reset()
	require.NoError(t, p.Add(make([]byte, 1000)))
	require.Error(t, p.Add(make([]byte, 28)), "too long")
	require.NoError(t, p.AddPointer(0))
}

// The double complains of each of these, and so a device that does it fails its
// tests.
func TestDoubleIsStrict(t *testing.T) {
	type handles struct {
		a *driver.API
		n driver.Device
		s driver.Stream
		p driver.Pointer // 100 bytes
		m driver.Module
		f driver.Function // one
	}
	with := func(size int) *driver.Params {
		p := new(driver.Params)
		if size > 0 {
			_ = p.Add(make([]byte, 28))
			_ = p.Add(make([]byte, 8))
		}
		return p
	}
	grid := [3]uint32{1, 1, 1}
	for name, test := range map[string]struct {
		wrong func(h *handles) error
		want  string
	}{
		"no context":            {func(h *handles) error { return errors.Join(h.a.SetCurrent(0), h.a.Synchronize(h.s)) }, "no context is current"},
		"a context that ended":  {func(h *handles) error { return errors.Join(h.a.Release(h.n), h.a.Synchronize(h.s)) }, "no context is current"},
		"leaks":                 {func(h *handles) error { return errors.Join(h.a.Release(h.n), errors.New("left")) }, "a stream is left when the context ends"},
		"too many releases":     {func(h *handles) error { return errors.Join(h.a.Release(h.n), h.a.Release(h.n)) }, "more releases than retains"},
		"freed twice":           {func(h *handles) error { return errors.Join(h.a.Free(h.p), h.a.Free(h.p)) }, "was not allocated"},
		"freed within":          {func(h *handles) error { return h.a.Free(h.p + 16) }, "was not allocated"},
		"use after free":        {func(h *handles) error { return errors.Join(h.a.Free(h.p), h.a.Fill(h.p, 0, 1, h.s)) }, "was freed"},
		"past the end":          {func(h *handles) error { return h.a.Upload(h.p+1, make([]byte, 100), h.s) }, "100 bytes at 1 of 100"},
		"download past the end": {func(h *handles) error { return h.a.Download(make([]byte, 101), h.p, h.s) }, "101 bytes at 0 of 100"},
		"rows past the end":     {func(h *handles) error { return h.a.CopyRows(h.p, h.p, 33, 2, 2, 4, h.s) }, "of 100"},
		"rows that overlap":     {func(h *handles) error { return h.a.CopyRows(h.p, h.p, 1, 2, 2, 4, h.s) }, "no plain rows"},
		"no memory of a device": {func(h *handles) error { return h.a.Copy(h.p, 12345, 4, h.s) }, "is no address of the device"},
		"no stream":             {func(h *handles) error { return h.a.Synchronize(driver.Stream(h.m)) }, "a module for a stream"},
		"a destroyed stream":    {func(h *handles) error { return errors.Join(h.a.DestroyStream(h.s), h.a.Synchronize(h.s)) }, "a dead stream"},
		"a stream with work": {func(h *handles) error {
			return errors.Join(h.a.Fill(h.p, 0, 1, h.s), h.a.DestroyStream(h.s), errors.New("left"))
		}, "the stream has work left"},
		"no event recorded": {func(h *handles) error { e, _ := h.a.NewEvent(); return h.a.WaitEvent(h.s, e) }, "recorded 0"},
		"a function not loaded": {func(h *handles) error {
			fs, _ := h.a.Functions(h.m)
			return h.a.Launch(fs["two"], grid, 1, 0, false, h.s, with(1))
		}, "two is not loaded"},
		"a grid of nothing":     {func(h *handles) error { return h.a.Launch(h.f, [3]uint32{1, 0, 1}, 1, 0, false, h.s, with(1)) }, "a grid of 1 × 0 × 1"},
		"a grid too high":       {func(h *handles) error { return h.a.Launch(h.f, [3]uint32{1, 65536, 1}, 1, 0, false, h.s, with(1)) }, "a grid of 1 × 65536 × 1"},
		"too many threads":      {func(h *handles) error { return h.a.Launch(h.f, grid, 1025, 0, false, h.s, with(1)) }, "a block of 1025 × 1 × 1"},
		"shared memory unasked": {func(h *handles) error { return h.a.Launch(h.f, grid, 32, 49153, false, h.s, with(1)) }, "leave for 49152"},
		"more than there is":    {func(h *handles) error { return h.a.SetFunctionAttribute(h.f, driver.FunctionDynamicShared, 232449) }, "8 = 232449"},
		"no arguments":          {func(h *handles) error { return h.a.Launch(h.f, grid, 32, 0, false, h.s, with(0)) }, "parameter 0 of one has no address"},
		"begun early":           {func(h *handles) error { return h.a.Launch(h.f, grid, 32, 0, true, h.s, with(1)) }, "one does not wait for earlier launches"},
		"unloaded with launches": {func(h *handles) error {
			return errors.Join(h.a.Launch(h.f, grid, 32, 0, false, h.s, with(1)), h.a.Unload(h.m), errors.New("left"))
		}, "a stream still has one"},
		"a wait while capturing": {func(h *handles) error { return errors.Join(h.a.BeginCapture(h.s), h.a.Synchronize(h.s)) }, "a stream that captures"},
		"memory while capturing": {func(h *handles) error {
			_, err := h.a.Alloc(4)
			_ = h.a.BeginCapture(h.s)
			_, err = h.a.Alloc(4)
			return err
		}, "while the thread captures"},
		"copies while capturing": {func(h *handles) error { return errors.Join(h.a.BeginCapture(h.s), h.a.Upload(h.p, []byte("x"), h.s)) }, "a stream that captures"},
		"captured from without": {func(h *handles) error {
			e, _ := h.a.NewEvent()
			other, _ := h.a.NewStream()
			return errors.Join(h.a.Record(e, other), h.a.BeginCapture(h.s), h.a.WaitEvent(h.s, e))
		}, "from without"},
		"an end without a beginning": {func(h *handles) error { _, err := h.a.EndCapture(h.s); return err }, "does not capture"},
	} {
		t.Run(name, func(t *testing.T) {
			d, a, n := begin(t)
			h := &handles{a: a, n: n}
			var err error
			h.s, err = a.NewStream()
			require.NoError(t, err)
			h.p, err = a.Alloc(100)
			require.NoError(t, err)
			h.m, err = a.LoadModule([]byte(ptx))
			require.NoError(t, err)
			h.f, err = a.Function(h.m, "one")
			require.NoError(t, err)
			require.Error(t, test.wrong(h))
			require.Contains(t, d.Complaints(), test.want)
			d.Forget()
		})
	}
}
