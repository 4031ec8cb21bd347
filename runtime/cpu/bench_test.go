package cpu_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

func BenchmarkGateUp(b *testing.B) {
	for bits := range 7 {
		for _, rows := range []int{1, 4, 16, 64} {
			benchmark(b, runtime.GateUp, uint8(bits+2), rows)
		}
	}
	benchmark(b, runtime.GateUp, 0, 1)
}

func BenchmarkDown(b *testing.B) {
	for bits := range 7 {
		for _, rows := range []int{1, 4, 16, 64} {
			benchmark(b, runtime.Down, uint8(bits+2), rows)
		}
	}
}

// benchmark runs the generic kernel of a pass for one expert, of hidden 2048
// and intermediate 1536. Width 0 is the tuple 6_2_3.
func benchmark(b *testing.B, pass runtime.Pass, bits uint8, rows int) {
	tuple := runtime.BitTuple{Gate: bits, Up: bits, Down: bits}
	if bits == 0 {
		tuple = runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
	}
	b.Run(fmt.Sprintf("%v/rows=%d", tuple, rows), func(b *testing.B) {
		const hidden, intermediate = 2048, 1536
		kernel := generated.Table.Kernels[slices.IndexFunc(generated.Table.Kernels, func(k *runtime.Kernel) bool {
			return k.Pass == pass && k.Kind == runtime.Generic && k.Rows.Contains(rows)
		})]

		var weights, experts []byte
		size, count := 0, 0
		for p, bits := range []uint8{tuple.Gate, tuple.Up, tuple.Down} {
			out, in := intermediate, hidden
			if p == 2 {
				out, in = hidden, intermediate
			}
			projection := runtime.Projection{Bits: uint32(bits)}
			before := len(weights)
			for i, n := range []int{out * in * int(bits) / 8, 2 * in / 128 * out, 2 * in, 2 * out} {
				projection.Components = append(projection.Components, uint64(len(weights)))
				for j := range n {
					if i == 0 {
						weights = append(weights, byte(rand.Uint32()))
					} else {
						weights = append(weights, byte(j%2*0x3c))
					}
				}
			}
			experts = runtime.AppendProjection(experts, projection)
			if (p == 2) == (pass == runtime.Down) {
				size += len(weights) - before
				count += out * in
			}
		}
		shape := runtime.Shape{Tokens: uint32(rows), Slots: 1, Experts: 1, Hidden: hidden, Intermediate: intermediate, Rows: uint32(rows)}
		var work []byte
		for first := 0; first < rows; first += kernel.Tile {
			work = runtime.AppendWork(work, runtime.Work{First: uint32(first), Rows: uint32(min(kernel.Tile, rows-first))})
			shape.Items++
		}

		device := cpu.New(cpu.Options{})
		library, err := device.Load(b.Context(), generated.Table, nil)
		require.NoError(b, err)
		queue, err := library.NewQueue()
		require.NoError(b, err)
		zeros := func(size int) runtime.Arg {
			buffer, err := device.NewBuffer(size)
			require.NoError(b, err)
			return runtime.Arg{Buffer: buffer}
		}
		wrap := func(data []byte) runtime.Arg {
			arg := zeros(len(data))
			_, err := arg.Buffer.WriteAt(data, 0)
			require.NoError(b, err)
			return arg
		}
		launch := runtime.Launch{Kernel: kernel, Shape: shape, Args: []runtime.Arg{
			{Bytes: runtime.AppendShape(nil, shape)}, wrap(weights), wrap(experts), wrap(work),
			zeros(4 * rows), zeros(4 * rows * hidden), zeros(4 * rows * hidden),
		}}

		b.SetBytes(int64(size))
		for b.Loop() {
			require.NoError(b, queue.Launch(launch))
			require.NoError(b, queue.Wait(b.Context()))
		}
		b.ReportMetric(float64(b.N)*float64(count)*float64(rows)/float64(b.Elapsed().Nanoseconds()), "products/ns")
		b.ReportMetric(float64(b.N)*float64(count)/float64(b.Elapsed().Nanoseconds()), "weights/ns")
	})
}
