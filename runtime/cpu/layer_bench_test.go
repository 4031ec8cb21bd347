package cpu_test

import (
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/cpu/limits"
)

// The layers of BenchmarkLayer: so many bytes of weights that no cache holds
// them, in as many layers as it takes.
const (
	layerHidden       = 2048
	layerIntermediate = 1536
	layerExperts      = 64
	layerTopK         = 4
	layerCount        = 3
)

var layerTuple = runtime.BitTuple{Gate: 6, Up: 2, Down: 3}

// BenchmarkLayer runs the experts of layers and sums their outputs, with fresh
// random routing in each run, and in between measures how fast the machine reads
// and multiplies. It reports the median of bytes of weights read and of
// multiplications, in parts of the median limit, and the best of the best.
func BenchmarkLayer(b *testing.B) {
	layers := newLayers()
	memory := make([]byte, 256<<20)
	for i := range memory {
		memory[i] = byte(i)
	}
	meter, err := limits.NewMeter(memory)
	require.NoError(b, err)
	for _, set := range cpu.Sets() {
		for _, precision := range []cpu.Precision{cpu.Fast, cpu.Exact} {
			for _, batch := range []int{1, 4, 16, 64, 256} {
				b.Run(fmt.Sprintf("set=%s/precision=%v/batch=%d", set, precision, batch), func(b *testing.B) {
					layers.benchmark(b, cpu.Options{Set: set, Precision: precision}, batch, meter)
				})
			}
		}
	}
}

// layers are the weights of all layers, one after another, and descriptors for
// each.
type layers struct {
	weights  []byte
	experts  [layerCount][]byte
	ofExpert int // bytes
}

func newLayers() *layers {
	l := &layers{}
	r := rand.New(rand.NewPCG(1, 1))
	var one []byte // expert, whose numbers all have
	var at []runtime.Projection
	for p, bits := range []int{int(layerTuple.Gate), int(layerTuple.Up), int(layerTuple.Down)} {
		out, in := layerIntermediate, layerHidden
		if p == 2 {
			out, in = in, out
		}
		projection := runtime.Projection{Bits: uint32(bits)}
		for i, n := range []int{out * in * bits / 8, 2 * in / 128 * out, 2 * in, 2 * out} {
			projection.Components = append(projection.Components, uint64(len(one)))
			for j := range n {
				v := byte(r.Uint32())
				if i > 0 && j%2 == 1 {
					v = v&0x83 | 0x2c
				}
				one = append(one, v)
			}
		}
		at = append(at, projection)
	}
	l.ofExpert = len(one)
	for layer := range layerCount {
		for range layerExperts {
			for _, p := range at {
				moved := runtime.Projection{Bits: p.Bits}
				for _, c := range p.Components {
					moved.Components = append(moved.Components, c+uint64(len(l.weights)))
				}
				l.experts[layer] = runtime.AppendProjection(l.experts[layer], moved)
			}
			l.weights = append(l.weights, one...)
		}
	}
	return l
}

// A routed is the rows of a batch, sorted by expert.
type routed struct {
	rows       [layerExperts]int
	token, row []uint32
	active     int // experts with rows
}

func randomRoutes(r *rand.Rand, batch int) (m routed) {
	var tokens [layerExperts][]uint32
	var slots [layerExperts][]int
	for t := range batch {
		for s, e := range r.Perm(layerExperts)[:layerTopK] {
			tokens[e], slots[e] = append(tokens[e], uint32(t)), append(slots[e], t*layerTopK+s)
		}
	}
	m.row = make([]uint32, batch*layerTopK)
	for e := range tokens {
		for i, slot := range slots[e] {
			m.row[slot] = uint32(len(m.token) + i)
		}
		m.token = append(m.token, tokens[e]...)
		if m.rows[e] = len(tokens[e]); m.rows[e] > 0 {
			m.active++
		}
	}
	return m
}

func (l *layers) benchmark(b *testing.B, o cpu.Options, batch int, meter *limits.Meter) {
	dev := cpu.New(o)
	defer dev.Close()
	lib, err := dev.Load(b.Context(), generated.Table, nil)
	require.NoError(b, err)
	queue, err := lib.NewQueue()
	require.NoError(b, err)
	rows := batch * layerTopK
	shape := runtime.Shape{Tokens: uint32(batch), Slots: layerTopK, Experts: layerExperts, Hidden: layerHidden, Intermediate: layerIntermediate, Rows: uint32(rows)}
	r := rand.New(rand.NewPCG(2, uint64(batch)))
	buffer := func(size int) runtime.Arg {
		made, err := dev.NewBuffer(size)
		require.NoError(b, err)
		return runtime.Arg{Buffer: made}
	}
	write := func(arg runtime.Arg, off int, data []byte) {
		_, err := arg.Buffer.WriteAt(data, int64(off))
		require.NoError(b, err)
	}
	uints := func(vs []uint32) (data []byte) {
		for _, v := range vs {
			data = runtime.AppendWork(data, runtime.Work{Expert: v})[:len(data)+4]
		}
		return data
	}
	args := map[string]runtime.Arg{
		"token": buffer(4 * rows), "prob": buffer(4 * rows), "row": buffer(4 * rows), "work": buffer(1 << 16),
		"x": buffer(4 * batch * layerHidden), "h": buffer(4 * rows * layerIntermediate),
		"y": buffer(4 * rows * layerHidden), "out": buffer(4 * batch * layerHidden), "experts": buffer(len(l.experts[0])),
	}
	weights, err := dev.Wrap(l.weights)
	require.NoError(b, err)
	args["weights"] = runtime.Arg{Buffer: weights}
	x := make([]byte, 0, 4*batch*layerHidden)
	for range batch * layerHidden {
		x = append(x, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 0x3f)
	}
	write(args["x"], 0, x)
	have := lib.Availability()
	launch := func(k *runtime.Kernel, items int) {
		s := shape
		s.Items = uint32(items)
		args["shape"] = runtime.Arg{Bytes: runtime.AppendShape(nil, s)}
		l := runtime.Launch{Kernel: k, Shape: s}
		for _, binding := range k.Bindings {
			l.Args = append(l.Args, args[binding.Name])
		}
		require.NoError(b, queue.Launch(l))
	}
	layer, unsampled := 0, 0.0
	var samples []limits.Sample
	var reads, products []float64 // of each run: GB/s, and 10⁹ multiplications per second
	for b.Loop() {
		b.StopTimer()
		m := randomRoutes(r, batch)
		read := m.active * l.ofExpert
		layer = (layer + 1) % layerCount
		write(args["token"], 0, uints(m.token))
		write(args["row"], 0, uints(m.row))
		write(args["experts"], 0, l.experts[layer])
		var kernels []*runtime.Kernel
		var offsets, items []int
		var work []byte
		for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
			lists := map[*runtime.Kernel][]byte{}
			first := 0
			for e, n := range m.rows {
				if n > 0 {
					choice, err := runtime.Select(generated.Table, have, runtime.Request{Pass: pass, Codec: "trellis", Tuple: layerTuple, Rows: n})
					require.NoError(b, err)
					k := choice.Kernel
					for at := 0; at < n; at += k.Tile {
						lists[k] = runtime.AppendWork(lists[k], runtime.Work{Expert: uint32(e), First: uint32(first + at), Rows: uint32(min(k.Tile, n-at))})
					}
				}
				first += n
			}
			for _, k := range generated.Table.Kernels {
				if some := lists[k]; some != nil {
					work = append(work, make([]byte, -len(work)&(runtime.Align-1))...)
					kernels, offsets, items = append(kernels, k), append(offsets, len(work)), append(items, len(some)/12)
					work = append(work, some...)
				}
			}
		}
		write(args["work"], 0, work)
		list := args["work"]
		b.StartTimer()
		start := time.Now()
		for i, k := range kernels {
			args["work"] = runtime.Arg{Buffer: list.Buffer, Offset: offsets[i]}
			launch(k, items[i])
		}
		args["work"] = list
		launch(generated.Table.Kernel("moe_combine"), 0)
		require.NoError(b, queue.Wait(b.Context()))
		b.StopTimer()
		took := time.Since(start).Seconds()
		reads, products = append(reads, float64(read)/took/1e9), append(products, float64(rows*3*layerHidden*layerIntermediate)/took/1e9)
		if unsampled += took; unsampled > 0.05 || len(samples) == 0 {
			unsampled = 0
			sample, err := meter.Sample(goruntime.GOMAXPROCS(0))
			require.NoError(b, err)
			samples = append(samples, sample)
		}
		b.StartTimer()
	}
	slices.Sort(reads)
	slices.Sort(products)
	most, n := limits.Of(goruntime.GOMAXPROCS(0), samples), len(reads)
	b.ReportMetric(reads[n/2], "GB/s")
	b.ReportMetric(products[n/2], "GMAC/s")
	b.ReportMetric(100*reads[n/2]/most.Read.Median, "%read")
	b.ReportMetric(100*products[n/2]/most.Int8.Median, "%int8")
	b.ReportMetric(100*reads[n-1]/most.Read.Best, "%read(best)")
	b.ReportMetric(100*products[n-1]/most.Int8.Best, "%int8(best)")
}
