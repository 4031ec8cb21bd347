//go:build darwin || linux

package metal_test

import (
	"os"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
)

// pages returns n pages that are mapped.
func pages(t *testing.T, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}

// Memory is shared where it starts at a page, and copied elsewhere.
func TestWrap(t *testing.T) {
	dev, rt := openFake(t, fake.Options{MaxBuffer: 8 * os.Getpagesize()})
	memory := pages(t, 16)
	memory[0], memory[16] = 1, 16
	for _, test := range []struct {
		name    string
		host    []byte
		inPlace bool
	}{
		{"whole pages", memory[:2*os.Getpagesize()], true},
		{"to the middle of a page", memory[:os.Getpagesize()+17], true},
		{"one byte", memory[:1], true},
		{"from the middle of a page", memory[16:os.Getpagesize()], false},
		{"nothing", memory[:0], false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := dev.Wrap(test.host)
			require.NoError(t, err)
			require.Equal(t, test.inPlace, b.(*metal.Buffer).InPlace())
			have := make([]byte, b.Size())
			_, err = b.ReadAt(have, 0)
			require.NoError(t, err)
			require.Equal(t, test.host, have)
			require.NoError(t, b.Close())
			require.NoError(t, b.Close(), "again")
		})
	}
	_, err := dev.Wrap(memory)
	require.ErrorContains(t, err, "fake GPU has them of up to")
	require.Equal(t, rt.Sent("addAllocation:"), rt.Sent("removeAllocation:"))
	require.Equal(t, 5, rt.Sent("addAllocation:"))
}

// What Metal does not take in place is copied.
func TestWrapRefused(t *testing.T) {
	dev, _ := openFake(t, fake.Options{Fail: func(selector, _ string) string {
		if selector == "newBufferWithBytesNoCopy:length:options:deallocator:" {
			return "it lies in two mappings"
		}
		return ""
	}})
	memory := pages(t, 1)
	memory[7] = 7
	b, err := dev.Wrap(memory)
	require.NoError(t, err)
	defer b.Close()
	require.False(t, b.(*metal.Buffer).InPlace())
	have := make([]byte, 8)
	_, err = b.ReadAt(have, 0)
	require.NoError(t, err)
	require.Equal(t, byte(7), have[7])
}

// A launch may have arguments of no bytes.
func TestEmptyBuffers(t *testing.T) {
	dev, _ := openFake(t, fake.Options{})
	lib := load(t, dev, generated.Table, generated.Sources)
	queue, err := lib.NewQueue()
	require.NoError(t, err)
	defer queue.Close()
	k := generated.Table.Kernel(generated.MoePrefix)
	var args []runtime.Arg
	shape := runtime.Shape{Experts: 3}
	for _, b := range k.Bindings {
		size := 0
		if b.Name == "offsets" {
			size = 16
		}
		buffer, err := dev.NewBuffer(size)
		require.NoError(t, err)
		defer buffer.Close()
		args = append(args, runtime.Arg{Buffer: buffer})
	}
	args[0] = runtime.Arg{Bytes: runtime.AppendShape(nil, shape)}
	whole := pages(t, 1)
	end, err := dev.Wrap(whole)
	require.NoError(t, err)
	defer end.Close()
	args[1] = runtime.Arg{Buffer: end, Offset: len(whole)}
	_, err = args[3].Buffer.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0)
	require.NoError(t, err)
	require.NoError(t, queue.Launch(runtime.Launch{Kernel: k, Shape: shape, Args: args}))
	require.NoError(t, queue.Wait(t.Context()))
	have := make([]byte, 16)
	_, err = args[3].Buffer.ReadAt(have, 0)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 16), have)
	require.Positive(t, queue.(*metal.Queue).GPUTime())

	require.NoError(t, queue.Wait(t.Context()))
	require.Zero(t, queue.(*metal.Queue).GPUTime(), "of nothing")
}

// What becomes garbage unclosed is told, and not freed.
func TestLeaks(t *testing.T) {
	rt := fake.New(fake.Options{Table: generated.Table})
	var mu sync.Mutex
	var told []string
	leak := func() {
		dev, err := metal.OpenOn(rt, metal.Options{Leaked: func(what string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, what)
		}})
		require.NoError(t, err)
		closed, err := dev.NewBuffer(5)
		require.NoError(t, err)
		require.NoError(t, closed.Close())
		_, err = dev.NewBuffer(77)
		require.NoError(t, err)
		_, err = dev.Load(t.Context(), generated.Table, generated.Sources)
		require.NoError(t, err)
	}
	leak()
	require.Eventually(t, func() bool {
		goruntime.GC()
		mu.Lock()
		defer mu.Unlock()
		return len(told) == 3
	}, 10*time.Second, time.Millisecond)
	require.ElementsMatch(t, []string{"a device", "a library", "a buffer of 77 bytes"}, told)
	require.Contains(t, rt.Left(), "1 of MTLBuffer never released")
}
