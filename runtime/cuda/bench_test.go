//go:build linux

package cuda_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda"
)

// BenchmarkHost measures what the host pays for a token: writing 8 KiB, which is
// not waited for, a launch or a graph of one, with a wait, and reading 8 KiB.
func BenchmarkHost(b *testing.B) {
	dev, err := cuda.Open(cuda.Options{})
	if err != nil {
		b.Skip(err)
	}
	defer dev.Close()
	lib, err := dev.Load(b.Context(), table, generated.Sources)
	require.NoError(b, err)
	defer lib.Close()
	q, err := lib.NewQueue()
	require.NoError(b, err)
	defer q.Close()
	l := countLaunch(b, dev, 2048)
	defer closeArgs(b, l)
	data := make([]byte, 8<<10)
	wait := func(err error) {
		if err == nil {
			err = q.Wait(b.Context())
		}
		require.NoError(b, err)
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			_, err := l.Args[1].Buffer.WriteAt(data, 0)
			require.NoError(b, err)
		}
	})
	b.Run("launch and wait", func(b *testing.B) {
		for b.Loop() {
			wait(q.Launch(l))
		}
	})
	b.Run("write, launch and wait", func(b *testing.B) {
		for b.Loop() {
			_, err := l.Args[1].Buffer.WriteAt(data, 0)
			require.NoError(b, err)
			wait(q.Launch(l))
		}
	})
	b.Run("graph and wait", func(b *testing.B) {
		graph, err := q.(runtime.Recorder).Record(func() error { return q.Launch(l) })
		require.NoError(b, err)
		defer graph.Close()
		for b.Loop() {
			wait(graph.Launch())
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, err := l.Args[1].Buffer.ReadAt(data, 0)
			require.NoError(b, err)
		}
	})
}
