//go:build linux

package cuda_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
)

const experts = 7

// countLaunch returns a launch that counts the assignments of each expert, one
// slot to a token, all to expert 0.
func countLaunch(t testing.TB, dev *cuda.Device, tokens int) runtime.Launch {
	t.Helper()
	k := table.Kernel(generated.MoeCount)
	shape := runtime.Shape{Tokens: uint32(tokens), Slots: 1, Experts: experts, Hidden: 16, Intermediate: 16, Rows: uint32(tokens)}
	l := runtime.Launch{Kernel: k, Shape: shape, Args: []runtime.Arg{{Bytes: runtime.AppendShape(nil, shape)}}}
	for _, size := range []int{4 * tokens, 4 * experts * int(k.Groups(shape)[0])} {
		b, err := dev.NewBuffer(size)
		require.NoError(t, err)
		l.Args = append(l.Args, runtime.Arg{Buffer: b})
	}
	return l
}

func closeArgs(t testing.TB, l runtime.Launch) {
	t.Helper()
	for _, arg := range l.Args[1:] {
		require.NoError(t, arg.Buffer.Close())
	}
}

// choose makes n experts at random those of the launch's tokens, and returns
// how many each has.
func choose(t *testing.T, l runtime.Launch, r *rand.Rand) []uint32 {
	t.Helper()
	var chosen []byte
	counts := make([]uint32, experts)
	for range l.Shape.Tokens {
		e := r.IntN(experts)
		counts[e]++
		chosen = binary.LittleEndian.AppendUint32(chosen, uint32(e))
	}
	_, err := l.Args[1].Buffer.WriteAt(chosen, 0)
	require.NoError(t, err)
	return counts
}

// counted returns what a launch counted.
func counted(t *testing.T, l runtime.Launch) []uint32 {
	t.Helper()
	b := make([]byte, l.Args[2].Buffer.Size())
	_, err := l.Args[2].Buffer.ReadAt(b, 0)
	require.NoError(t, err)
	counts := make([]uint32, experts)
	for i := range len(b) / 4 {
		counts[i%experts] += binary.LittleEndian.Uint32(b[4*i:])
	}
	return counts
}

func newQueue(t *testing.T, lib runtime.Library) runtime.Queue {
	t.Helper()
	q, err := lib.NewQueue()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

// What was written before a launch is there when it runs, whatever goes through
// the staging memory meanwhile.
func TestWrites(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		q := newQueue(t, load(t, dev, generated.Sources))
		r := rand.New(rand.NewPCG(1, 2))
		var launches []runtime.Launch
		var want [][]uint32
		for _, tokens := range []int{1, 1000, 130_000, 100_000, 129_999, 300_000, 5} { // 4 bytes each; 1 MiB is staged
			l := countLaunch(t, dev, tokens)
			want = append(want, choose(t, l, r))
			require.NoError(t, q.Launch(l))
			launches = append(launches, l)
		}
		require.NoError(t, q.Wait(t.Context()))
		require.Positive(t, q.(runtime.Timer).GPUTime())
		for i, l := range launches {
			require.Equal(t, want[i], counted(t, l), i)
			closeArgs(t, l)
		}
		require.NoError(t, q.Wait(t.Context()))
		require.Zero(t, q.(runtime.Timer).GPUTime())
	})
}

// A graph runs its launches on what the buffers hold when it runs.
func TestRecord(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		q := newQueue(t, load(t, dev, generated.Sources)).(runtime.Recorder)
		r := rand.New(rand.NewPCG(3, 4))
		a, b := countLaunch(t, dev, 300), countLaunch(t, dev, 700)
		graph, err := q.Record(func() error {
			defer q.Barrier()
			require.ErrorContains(t, q.Wait(t.Context()), "recording")
			_, err := q.Record(func() error { return nil })
			require.ErrorContains(t, err, "recording")
			return errors.Join(q.Launch(a), q.Launch(b))
		})
		require.NoError(t, err)
		require.Equal(t, make([]uint32, experts), counted(t, a), "recorded, and not run")
		for range 3 {
			wantA, wantB := choose(t, a, r), choose(t, b, r)
			require.NoError(t, graph.Launch())
			require.NoError(t, q.Wait(t.Context()))
			require.Positive(t, q.(runtime.Timer).GPUTime())
			require.Equal(t, wantA, counted(t, a))
			require.Equal(t, wantB, counted(t, b))
		}
		failed := errors.New("not today")
		_, err = q.Record(func() error { return errors.Join(q.Launch(a), failed) })
		require.ErrorIs(t, err, failed)
		_, err = q.Record(func() error { return q.Launch(runtime.Launch{Kernel: a.Kernel}) })
		_, only := runtime.FailedLaunches(err)
		require.True(t, only, "%v", err)

		want := choose(t, a, r)
		require.NoError(t, q.Launch(a))
		require.NoError(t, q.Wait(t.Context()), "after what failed, the queue is as it was")
		require.Equal(t, want, counted(t, a))

		closeArgs(t, b)
		require.ErrorContains(t, graph.Launch(), "the buffer is closed")
		require.NoError(t, graph.Close())
		require.NoError(t, graph.Close())
		require.ErrorContains(t, graph.Launch(), "the graph is closed")
		closeArgs(t, a)
	})
}

// A launch may begin early, unless its kernel does not wait for what is before it,
// or the launch before it writes what it may read early.
func TestEarly(t *testing.T) {
	dev, d := open(t)
	gateUp, down := table.Kernel(single(t, runtime.GateUp)), table.Kernel(single(t, runtime.Down))
	q := newQueue(t, load(t, dev, generated.Sources))
	buffer := func(size int) runtime.Buffer {
		b, err := dev.NewBuffer(size)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		return b
	}
	count := countLaunch(t, dev, 16)
	closeArgs(t, count)
	count.Args[1].Buffer = buffer(64)
	shape := runtime.Shape{Tokens: 17, Slots: 1, Experts: 1, Hidden: 16, Intermediate: 16, Rows: 17, Items: 1} // an item of no rows; count writes 16
	launch := func(k *runtime.Kernel, counted string) runtime.Launch {
		l := runtime.Launch{Kernel: k, Shape: shape}
		for _, b := range k.Bindings {
			switch {
			case b.Type == "Shape":
				l.Args = append(l.Args, runtime.Arg{Bytes: runtime.AppendShape(nil, shape)})
			case b.Name == counted:
				l.Args = append(l.Args, count.Args[2]) // which count writes
			default:
				l.Args = append(l.Args, runtime.Arg{Buffer: buffer(2048)})
			}
		}
		return l
	}
	count.Args[2] = runtime.Arg{Buffer: buffer(2048)}
	l, combine := launch(down, "work"), launch(table.Kernel(generated.MoeCombine), "row")
	first, second := launch(gateUp, "experts"), launch(gateUp, "work")
	behind := launch(down, "work")
	behind.Args[3] = l.Args[6] // its work list is what l writes
	early := func(launches ...runtime.Launch) int {
		before := d.Early()
		for _, l := range launches {
			require.NoError(t, q.Launch(l))
		}
		return d.Early() - before
	}
	require.Equal(t, 1, early(count, count), "the first follows none")
	require.Equal(t, 1, early(count, l), "the work list of the second is written by the first")
	require.Equal(t, 2, early(l, l))
	require.Equal(t, 1, early(count, first), "the experts of the second are written by the first")
	require.Equal(t, 2, early(count, second), "the second has waited when it reads its work list")
	require.Equal(t, 1, early(count, combine), "the rows of the second are written by the first")
	require.Equal(t, 2, early(combine, combine))
	require.Equal(t, 2, early(l, combine, behind), "the third reads what the first writes, which the second has not waited for when it lets the third begin")
	require.Equal(t, 3, early(l, count, behind), "the second has waited")
	_, err := count.Args[2].Buffer.WriteAt(make([]byte, 2048), 0)
	require.NoError(t, err)

	dev, d = open(t)
	q = newQueue(t, load(t, dev, altered(t, func(all fstest.MapFS) {
		before, after, _ := strings.Cut(string(all["helpers.ptx"].Data), ".entry moe_count(")
		all["helpers.ptx"].Data = []byte(before + ".entry moe_count(" + strings.Replace(after, "griddepcontrol.wait;", "", 1))
	})))
	count = countLaunch(t, dev, 16)
	require.Zero(t, early(count, count), "its kernel does not wait")
	require.NoError(t, q.Wait(t.Context()))
	closeArgs(t, count)
}

// Pieces are copied in the order of launches, also when they are recorded.
func TestCopy(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		lib := load(t, dev, generated.Sources)
		q := newQueue(t, lib).(runtime.Copier)
		from, err := dev.Wrap([]byte("..a1b2c3d4"))
		require.NoError(t, err)
		to, err := dev.NewBuffer(16)
		require.NoError(t, err)
		want := "\x00a1\x00\x00b2\x00\x00c3\x00\x00d4\x00"
		read := func() string {
			b := make([]byte, to.Size())
			_, err := to.ReadAt(b, 0)
			require.NoError(t, err)
			return string(b)
		}
		pieces := runtime.Pieces{Buffer: from, Offset: 2, Stride: 2}
		require.NoError(t, q.Copy(runtime.Pieces{Buffer: to, Offset: 1, Stride: 4}, pieces, 2, 4))
		require.NoError(t, q.Wait(t.Context()))
		require.Equal(t, want, read())

		_, err = to.WriteAt(make([]byte, 16), 0)
		require.NoError(t, err)
		graph, err := q.(runtime.Recorder).Record(func() error {
			return q.Copy(runtime.Pieces{Buffer: to, Offset: 1, Stride: 4}, pieces, 2, 4)
		})
		require.NoError(t, err)
		require.Equal(t, string(make([]byte, 16)), read())
		require.NoError(t, graph.Launch())
		require.NoError(t, q.Wait(t.Context()))
		require.Equal(t, want, read())
		require.NoError(t, graph.Close())

		require.ErrorContains(t, q.Copy(pieces, pieces, 2, 4), "read-only")
		require.ErrorContains(t, q.Copy(runtime.Pieces{Buffer: to, Stride: 5}, pieces, 2, 4), "in a buffer of 16")
		require.ErrorContains(t, q.Copy(runtime.Pieces{Buffer: to, Stride: 1}, pieces, 2, 4), "2 bytes, 1 apart")
		require.ErrorContains(t, q.Copy(runtime.Pieces{Stride: 2}, pieces, 2, 4), "no buffer of this device")
		require.NoError(t, q.Copy(runtime.Pieces{Buffer: to, Stride: 4}, pieces, 2, 0))
		require.NoError(t, from.Close())
		require.ErrorContains(t, q.Copy(runtime.Pieces{Buffer: to, Stride: 4}, pieces, 2, 4), "closed")
		require.NoError(t, to.Close())
	})
}

// A kernel that goes wrong costs the device, in words.
func TestLost(t *testing.T) {
	dev, d := open(t)
	lib := load(t, dev, generated.Sources)
	q := newQueue(t, lib)
	l := countLaunch(t, dev, 100)
	require.NoError(t, q.Launch(l))
	require.NoError(t, q.Launch(l))
	d.Set(t, "fail launch", 2)
	err := q.Wait(t.Context())
	var lost *cuda.LostError
	require.ErrorAs(t, err, &lost)
	require.ErrorContains(t, lost, "has to be started anew: cuStreamSynchronize: an illegal memory access was encountered")
	failed, only := runtime.FailedLaunches(err)
	require.Len(t, failed, 2, "which of them it was, nobody knows")
	require.False(t, only, "there is no use in another try")

	_, err = dev.NewBuffer(4)
	require.ErrorAs(t, err, &lost)
	_, err = lib.NewQueue()
	require.ErrorAs(t, err, &lost)
	_, err = l.Args[1].Buffer.ReadAt(make([]byte, 4), 0)
	require.ErrorAs(t, err, &lost)
	require.ErrorAs(t, q.Launch(l), &lost)
	closeArgs(t, l)
}

// Wait cannot stop a launch, but says that its context has ended.
func TestCancellation(t *testing.T) {
	dev, _ := open(t)
	q := newQueue(t, load(t, dev, generated.Sources))
	l := countLaunch(t, dev, 50)
	require.NoError(t, q.Launch(l))
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	require.ErrorIs(t, q.Wait(ctx), context.DeadlineExceeded)
	require.Equal(t, uint32(50), counted(t, l)[0], "it was done")
	closeArgs(t, l)
}

func TestMemory(t *testing.T) {
	dev, d := open(t)
	d.Set(t, "memory", 1<<20)
	_, err := dev.NewBuffer(1 << 30)
	require.EqualError(t, err, "cuda: a buffer of 1073741824 bytes: cuMemAlloc_v2: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)")
	for _, size := range []int{0, 1, 4097} {
		b, err := dev.NewBuffer(size)
		require.NoError(t, err)
		require.Equal(t, size, b.Size())
		require.NoError(t, b.Close())
	}
}

// The double tells of what is not closed.
func TestLeak(t *testing.T) {
	dev, d := open(t)
	b, err := dev.NewBuffer(4)
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	require.NoError(t, b.Close(), "what came of a device can be closed after it")
	require.Empty(t, d.Complaints())
}

func TestCopyRate(t *testing.T) {
	each(t, func(t *testing.T, dev *cuda.Device) {
		rate, err := dev.CopyRate(1 << 20)
		require.NoError(t, err)
		require.Positive(t, rate)
	})
}
