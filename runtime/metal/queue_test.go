//go:build darwin || linux

package metal_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// counts returns a launch of count, and its output.
func counts(t *testing.T, dev runtime.Device) (runtime.Launch, runtime.Buffer) {
	t.Helper()
	shape := runtime.Shape{Tokens: 300, Slots: 1, Experts: 3, Rows: 300}
	var buffers []runtime.Buffer
	for _, size := range []int{4 * 300, 4 * 2 * 3} {
		b, err := dev.NewBuffer(size)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		buffers = append(buffers, b)
	}
	return runtime.Launch{
		Kernel: generated.Table.Kernel(generated.MoeCount), Shape: shape,
		Args: []runtime.Arg{{Bytes: runtime.AppendShape(nil, shape)}, {Buffer: buffers[0]}, {Buffer: buffers[1]}},
	}, buffers[1]
}

func newQueue(t *testing.T, dev runtime.Device) runtime.Queue {
	t.Helper()
	queue, err := load(t, dev, generated.Table, generated.Sources).NewQueue()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, queue.Close()) })
	return queue
}

// What was launched is one command buffer, with a barrier where there is one
// between two launches.
func TestSubmission(t *testing.T) {
	dev, rt := openFake(t, fake.Options{Older: true})
	queue := newQueue(t, dev)
	launch, _ := counts(t, dev)
	nothing := launch
	nothing.Shape.Rows = 0
	nothing.Args = append([]runtime.Arg{{Bytes: runtime.AppendShape(nil, nothing.Shape)}}, launch.Args[1:]...)
	for range 3 {
		queue.Barrier() // before all
		require.NoError(t, queue.Launch(launch))
		queue.Barrier()
		require.NoError(t, queue.Launch(nothing)) // no threadgroups
		queue.Barrier()
		require.NoError(t, queue.Launch(launch))
		queue.Barrier() // after all
		require.NoError(t, queue.Wait(t.Context()))
	}
	require.NoError(t, queue.Launch(nothing))
	require.NoError(t, queue.Wait(t.Context()))
	require.Equal(t, 3, rt.Sent("commit"))
	require.Equal(t, 3, rt.Sent("memoryBarrierWithScope:"))
	require.Equal(t, 6, rt.Sent("dispatchThreadgroups:threadsPerThreadgroup:"))
	require.Equal(t, 3, rt.Sent("setComputePipelineState:"))
}

// If the context has ended, nothing is sent to the GPU.
func TestCancelled(t *testing.T) {
	dev, rt := openFake(t, fake.Options{Older: true})
	queue := newQueue(t, dev)
	launch, out := counts(t, dev)
	require.NoError(t, queue.Launch(launch))
	require.NoError(t, queue.Launch(launch))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := queue.Wait(ctx)
	require.ErrorIs(t, err, context.Canceled)
	failed, only := runtime.FailedLaunches(err)
	require.Len(t, failed, 2)
	require.False(t, only)
	require.Zero(t, rt.Sent("commandBuffer"))
	have := make([]byte, out.Size())
	_, err = out.ReadAt(have, 0)
	require.NoError(t, err)
	require.Equal(t, make([]byte, out.Size()), have)
	require.NoError(t, queue.Wait(t.Context()), "the launches are dropped")
}

// When a command buffer fails, every launch in it may have.
func TestFailure(t *testing.T) {
	dev, _ := openFake(t, fake.Options{Fail: func(selector, what string) string {
		if selector == "commit" {
			return "Caused GPU Timeout Error"
		}
		return ""
	}})
	queue := newQueue(t, dev)
	launch, _ := counts(t, dev)
	require.NoError(t, queue.Launch(launch))
	queue.Barrier()
	require.NoError(t, queue.Launch(launch))
	failed, only := runtime.FailedLaunches(queue.Wait(t.Context()))
	require.True(t, only)
	require.Len(t, failed, 2)
	require.EqualError(t, failed[0], "launch of moe_count: Caused GPU Timeout Error (FakeErrorDomain 3)")
	require.Zero(t, queue.(*metal.Queue).GPUTime())
}

// What Metal would end the process for is refused.
func TestRefused(t *testing.T) {
	dev, _ := openFake(t, fake.Options{})
	other, _ := openFake(t, fake.Options{})
	queue := newQueue(t, dev)
	launch, _ := counts(t, dev)
	elsewhere, _ := counts(t, other)
	require.ErrorContains(t, queue.Launch(elsewhere), "argument chosen: a *metal.Buffer is no buffer of this device")
	for _, threads := range []int{0, 1025} {
		kernel, body := *launch.Kernel, *launch.Kernel.Body
		kernel.Body, body.Threads = &body, threads
		wide := launch
		wide.Kernel = &kernel
		require.ErrorContains(t, queue.Launch(wide), "the GPU takes 1024 of this kernel")
	}
	_, err := dev.NewBuffer(1 << 40)
	require.ErrorContains(t, err, "metal: no buffers of 1099511627776 bytes: fake GPU has them of up to 4294967296")
}

// Where Metal gives nothing, there is an error and no message to nil.
func TestNothingGiven(t *testing.T) {
	for selector, want := range map[string]string{
		"commandBuffer":                          "no command buffer from Metal",
		"computeCommandEncoderWithDispatchType:": "no command encoder from Metal",
	} {
		rt := newMutant(fake.New(fake.Options{Table: generated.Table}), on(selector, never))
		dev := openOn(t, rt, metal.Options{})
		t.Cleanup(func() { require.NoError(t, dev.Close()) })
		queue := newQueue(t, dev)
		launch, _ := counts(t, dev)
		require.NoError(t, queue.Launch(launch))
		failed, only := runtime.FailedLaunches(queue.Wait(t.Context()))
		require.True(t, only)
		require.Len(t, failed, 1)
		require.EqualError(t, failed[0].Err, want)
		require.Empty(t, rt.Violations())
	}
	memory := fake.New(fake.Options{})
	dev := openOn(t, newMutant(memory, on("newBufferWithLength:options:", never)), metal.Options{})
	_, err := dev.NewBuffer(5)
	require.EqualError(t, err, "metal: no memory for a buffer of 5 bytes")
	require.NoError(t, dev.Close())
	require.Empty(t, memory.Left())

	gpu := fake.New(fake.Options{})
	_, err = metal.OpenOn(newMutant(gpu, on("newCommandQueue", never)), metal.Options{})
	require.EqualError(t, err, "metal: fake GPU gives no command queue")
	require.Empty(t, gpu.Left())
	_, err = metal.OpenOn(blind{fake.New(fake.Options{})}, metal.Options{})
	require.EqualError(t, err, "metal: this machine has no GPU that Metal can use")
}

// blind is a machine without a GPU.
type blind struct{ *fake.Runtime }

func (blind) Device() objc.ID { return 0 }
