package cpu_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// A launch is a launch whose arguments can be taken apart.
type launch struct {
	kernel  *runtime.Kernel
	shape   runtime.Shape
	routing runtime.Routing
	tuple   runtime.BitTuple
	work    []runtime.Work
	args    map[string][]byte // buffers by the name of their binding
	edit    func(*launch)     // after args are made
}

const (
	hidden       = 48
	intermediate = 144
	experts      = 3
	tokens       = 6
	slots        = 2
	rows         = tokens * slots
)

// good returns a launch of the kernel named symbol that can run.
func good(symbol string) *launch {
	r := rand.New(rand.NewPCG(1, 1))
	l := &launch{
		kernel: generated.Table.Kernel(symbol),
		shape: runtime.Shape{
			Tokens: tokens, Slots: slots, Experts: experts, Hidden: hidden, Intermediate: intermediate, Rows: rows, Items: 3,
		},
		routing: runtime.Routing{TopK: 1, Groups: 1, TopKGroups: 1, Scale: 1},
		tuple:   runtime.BitTuple{Gate: 6, Up: 2, Down: 3},
		work:    []runtime.Work{{Expert: 2, First: 5, Rows: 3}, {}, {Expert: 0, First: 1, Rows: 4}},
		args:    make(map[string][]byte),
	}
	floats := func(n int) (b []byte) {
		for range n {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(r.Float32()-0.5))
		}
		return b
	}
	uints := func(v ...uint32) []byte { b, _ := binary.Append(nil, binary.LittleEndian, v); return b }
	var weights, descriptors []byte
	for range experts {
		for p, bits := range []uint8{l.tuple.Gate, l.tuple.Up, l.tuple.Down} {
			out, in := intermediate, hidden
			if p == 2 {
				out, in = hidden, intermediate
			}
			projection := runtime.Projection{Bits: uint32(bits)}
			for i, n := range []int{out * in * int(bits) / 8, (in + 127) / 128 * out * 2, in * 2, out * 2} {
				projection.Components = append(projection.Components, uint64(len(weights)))
				for j := range n {
					b := byte(r.Uint32())
					if i > 0 && j%2 == 1 {
						b = 0x34 | b&0x83 // halves of some size around 1/4
					}
					weights = append(weights, b)
				}
			}
			descriptors = runtime.AppendProjection(descriptors, projection)
		}
	}
	chosen := uints(2, 0, 1, 1, 0, 0, 2, 2, 1, 0, 2, 2)
	token := make([]uint32, rows)
	order := make([]uint32, rows)
	for i := range token {
		token[i], order[i] = uint32(i%tokens), uint32(i)
	}
	for name, data := range map[string][]byte{
		"weights": weights, "experts": descriptors, "token": uints(token...), "x": floats(tokens * hidden),
		"prob": floats(rows), "h": floats(rows * intermediate), "y": floats(rows * hidden),
		"router": floats((experts - 1) * hidden), "bias": floats(experts - 1), "scores": floats(tokens * experts),
		"chosen": chosen, "chosen_prob": floats(rows), "counts": uints(4, 3, 5), "base": uints(0, 4, 7),
		"offsets": uints(0, 0, 0, 0), "row": uints(order...), "out": floats(tokens * hidden),
	} {
		l.args[name] = data
	}
	if symbol == count {
		clear(l.args["counts"])
	}
	return l
}

// make returns l on dev. Buffers are exactly as large as their arguments.
func (l *launch) make(t testing.TB, dev runtime.Device) runtime.Launch {
	made := runtime.Launch{Kernel: l.kernel, Shape: l.shape}
	l.args["work"] = nil
	for _, w := range l.work {
		l.args["work"] = runtime.AppendWork(l.args["work"], w)
	}
	if l.edit != nil {
		l.edit(l)
	}
	for _, b := range l.kernel.Bindings {
		var arg runtime.Arg
		switch b.Name {
		case "shape":
			arg.Bytes = runtime.AppendShape(nil, l.shape)
		case "routing":
			arg.Bytes = runtime.AppendRouting(nil, l.routing)
		default:
			var err error
			arg.Buffer, err = dev.NewBuffer(len(l.args[b.Name]))
			require.NoError(t, err)
			_, err = arg.Buffer.WriteAt(l.args[b.Name], 0)
			require.NoError(t, err)
		}
		made.Args = append(made.Args, arg)
	}
	return made
}

func queue(t testing.TB, dev runtime.Device) runtime.Queue {
	lib, err := dev.Load(t.Context(), generated.Table, nil)
	require.NoError(t, err)
	q, err := lib.NewQueue()
	require.NoError(t, err)
	return q
}

const (
	gateUp  = "moe_trellis_swiglu_prefill4_6_2_3"
	down    = "moe_trellis_swiglu_prefill4_6_2_3_down"
	fairway = "moe_trellis_swiglu_prefill4_fairway"
	generic = "moe_trellis_swiglu_prefill4"
	route   = "moe_route"
	count   = "moe_count"
	prefix  = "moe_prefix"
	scatter = "moe_scatter"
	combine = "moe_combine"
	expert  = 3 * 40 // bytes of the struct Expert
	bitsAt  = 32     // of its gate
)

func put32(b []byte, i int, v uint32) { binary.LittleEndian.PutUint32(b[4*i:], v) }
func put64(b []byte, v uint64)        { binary.LittleEndian.PutUint64(b, v) }

func TestStrict(t *testing.T) {
	for _, symbol := range []string{gateUp, down, fairway, generic, route, count, prefix, scatter, combine} {
		t.Run(symbol+" as it should be", func(t *testing.T) {
			dev := cpu.New(cpu.Options{})
			q := queue(t, dev)
			require.NoError(t, q.Launch(good(symbol).make(t, dev)))
			require.NoError(t, q.Wait(t.Context()))
		})
		for _, b := range generated.Table.Kernel(symbol).Bindings {
			if b.Access != runtime.Constant && b.Name != "weights" {
				strict(t, symbol, "argument "+b.Name+": ", func(l *launch) {
					l.edit = func(l *launch) { l.args[b.Name] = l.args[b.Name][:len(l.args[b.Name])-4] }
				})
			}
		}
	}

	for _, v := range []struct {
		symbol, want string
		spoil        func(*launch)
	}{
		{gateUp, "hidden 40 and intermediate 144, want multiples of 16", func(l *launch) { l.shape.Hidden = 40 }},
		{down, "hidden 48 and intermediate 0", func(l *launch) { l.shape.Intermediate = 0 }},
		{gateUp, "argument x: 1152 bytes, want 18446744073709551615", func(l *launch) { l.shape.Tokens, l.shape.Hidden = math.MaxUint32, math.MaxUint32-15 }},
		{gateUp, "argument work: item 0 is of expert 3, and there are 3", func(l *launch) { l.work[0].Expert = 3 }},
		{gateUp, "argument work: item 0 has 5 rows, and the kernel takes 4", func(l *launch) { l.work[0].Rows = 5 }},
		{gateUp, "argument work: item 0 has rows 10 to 12, and there are 12", func(l *launch) { l.work[0].First = 10 }},
		{gateUp, "argument work: item 0 has rows 4294967295 to 4294967297", func(l *launch) { l.work[0].First = math.MaxUint32 }},
		{gateUp, "argument work: row 4 is in two items", func(l *launch) { l.work[0].First = 4 }},
		{gateUp, "argument token: element 1 is 6, and there are 6 tokens", func(l *launch) { put32(l.args["token"], 6, tokens) }},
		{gateUp, "argument experts: expert 0: its widths are not among [6_2_3]", func(l *launch) { put32(l.args["experts"], bitsAt/4, 4) }},
		{fairway, "argument experts: expert 2: its widths are not among [6_2_3", func(l *launch) { put32(l.args["experts"][2*expert:], bitsAt/4, 2) }},
		{generic, "argument experts: expert 0: gate: codec trellis has no 9-bit weights", func(l *launch) { put32(l.args["experts"], bitsAt/4, 9) }},
		{generic, "expert 0: up: codec trellis has no 258-bit weights", func(l *launch) { put32(l.args["experts"], (40+bitsAt)/4, 258) }},
		{generic, "expert 0: gate: indices of 5184 bytes at 18446744073709551608 of weights", func(l *launch) { put64(l.args["experts"], math.MaxUint64-7) }},
		{generic, "expert 0: gate: scales of 288 bytes at ", func(l *launch) { put64(l.args["experts"][8:], uint64(len(l.args["weights"])-286)) }},
		{down, "expert 2: down: su of 288 bytes at ", func(l *launch) { put64(l.args["experts"][2*expert+80+16:], uint64(len(l.args["weights"]))) }},
		{gateUp, "expert 0: up: sv at 101 of weights, want a multiple of 2", func(l *launch) { put64(l.args["experts"][40+24:], 101) }},
		{gateUp, "expert 0: gate: indices at 2 of weights, want a multiple of 4", func(l *launch) { put64(l.args["experts"], 2) }},

		{route, "routing: 2 slots for the top 3", func(l *launch) { l.routing.TopK = 3 }},
		{route, "routing: 4 slots for the top 2", func(l *launch) { l.routing.TopK, l.shape.Slots = 2, 4 }},
		{route, "routing: 2 routed experts in 0 groups", func(l *launch) { l.routing.Groups = 0 }},
		{route, "routing: 3 routed experts in 2 groups", func(l *launch) { l.routing.TopK, l.routing.Groups = 2, 2 }},
		{route, "routing: groups of 1 routed experts have no two best", func(l *launch) { l.routing.Groups = 2 }},
		{route, "routing: normalize is 2", func(l *launch) { l.routing.Normalize = 2 }},
		{route, "routing: the best 0 of 2 experts", func(l *launch) { l.routing.TopK, l.shape.Slots = 0, 1 }},
		{count, "argument chosen: element 3 is 3, and there are 3 experts", func(l *launch) { put32(l.args["chosen"], 3, experts) }},
		{prefix, "argument counts: 13 assignments, and there are 12 rows", func(l *launch) { put32(l.args["counts"], 0, 5) }},
		{scatter, "shape: 11 rows for 6 tokens of 2 slots", func(l *launch) { l.shape.Rows = 11 }},
		{scatter, "argument chosen: element 11 is 4294967295", func(l *launch) { put32(l.args["chosen"], 11, math.MaxUint32) }},
		{scatter, "argument base: it gives assignment 4, of expert 0, row 4 of 12", func(l *launch) { put32(l.args["base"], 0, 3); put32(l.args["base"], 1, 4) }},
		{scatter, "argument base: it gives assignment 0, of expert 2, row 4294967295 of 12", func(l *launch) { put32(l.args["base"], 2, math.MaxUint32) }},
		{combine, "argument row: element 2 is 12, and there are 12 rows", func(l *launch) { put32(l.args["row"], 2, rows) }},
		{combine, "shape: 12 rows for 6 tokens of 3 slots", func(l *launch) { l.shape.Slots = 3 }},
	} {
		strict(t, v.symbol, v.want, v.spoil)
	}
}

// strict checks that a spoiled launch is refused, in words, and writes nothing.
func strict(t *testing.T, symbol, want string, spoil func(*launch)) {
	t.Run(symbol+" "+want, func(t *testing.T) {
		dev := cpu.New(cpu.Options{})
		q := queue(t, dev)
		bad := good(symbol)
		spoil(bad)
		spoiled := bad.make(t, dev)
		before := outputs(t, spoiled)
		err := q.Launch(spoiled)
		fine := good(symbol).make(t, dev)
		require.NoError(t, q.Launch(fine))
		err = errors.Join(err, q.Wait(t.Context()))

		failed, only := runtime.FailedLaunches(err)
		require.Len(t, failed, 1)
		assert.True(t, only)
		assert.Same(t, bad.kernel, failed[0].Kernel)
		assert.ErrorContains(t, err, want)
		assert.Equal(t, before, outputs(t, spoiled), "a launch that fails writes nothing")
		assert.NotEqual(t, outputs(t, good(symbol).make(t, dev)), outputs(t, fine), "the other launch completes")
	})
}

// outputs returns what is in the buffers that l writes to.
func outputs(t testing.TB, l runtime.Launch) map[string][]byte {
	out := make(map[string][]byte)
	for i, b := range l.Kernel.Bindings {
		if b.Access == runtime.Write {
			out[b.Name] = make([]byte, l.Args[i].Buffer.Size())
			_, err := l.Args[i].Buffer.ReadAt(out[b.Name], 0)
			require.NoError(t, err)
		}
	}
	return out
}

// TestStrictArguments has the violations that are in how a launch is put
// together.
func TestStrictArguments(t *testing.T) {
	type foreign struct{ runtime.Buffer }
	for want, spoil := range map[string]func(runtime.Device, *runtime.Launch){
		"the launch has no kernel": func(_ runtime.Device, l *runtime.Launch) { l.Kernel = nil },
		"the kernel is missing": func(_ runtime.Device, l *runtime.Launch) {
			l.Kernel = &runtime.Kernel{Body: l.Kernel.Body, Symbol: "other"}
		},
		"6 arguments for 7 bindings":          func(_ runtime.Device, l *runtime.Launch) { l.Args = l.Args[:6] },
		"argument x: no buffer":               func(_ runtime.Device, l *runtime.Launch) { l.Args[5] = runtime.Arg{} },
		"argument x: offset 2 in a buffer":    func(_ runtime.Device, l *runtime.Launch) { l.Args[5].Offset = 2 },
		"argument x: 1136 bytes, want 1152":   func(_ runtime.Device, l *runtime.Launch) { l.Args[5].Offset = 16 },
		"argument shape: it is not":           func(_ runtime.Device, l *runtime.Launch) { l.Shape.Tokens++ },
		"argument shape: want the 28 bytes":   func(_ runtime.Device, l *runtime.Launch) { l.Args[0].Bytes = nil },
		"is no buffer of this device":         func(_ runtime.Device, l *runtime.Launch) { l.Args[5].Buffer = foreign{l.Args[5].Buffer} },
		"argument 5: the buffer is closed":    func(_ runtime.Device, l *runtime.Launch) { l.Args[5].Buffer.Close() },
		"argument h is written and overlaps ": func(_ runtime.Device, l *runtime.Launch) { l.Args[5] = l.Args[6] },
		"argument h: the kernel writes to it, and the buffer is read-only": func(d runtime.Device, l *runtime.Launch) {
			l.Args[6].Buffer, _ = d.Wrap(make([]byte, l.Args[6].Buffer.Size()))
		},
		"argument x: its address is no multiple of 4": func(d runtime.Device, l *runtime.Launch) {
			l.Args[5].Buffer, _ = d.Wrap(make([]byte, 4096)[1:])
		},
	} {
		t.Run(want, func(t *testing.T) {
			dev := cpu.New(cpu.Options{})
			q := queue(t, dev)
			l := good(gateUp).make(t, dev)
			spoil(dev, &l)
			err := q.Launch(l)
			assert.ErrorContains(t, err, want)
			assert.IsType(t, &runtime.LaunchError{}, err)
			require.NoError(t, q.Launch(good(gateUp).make(t, dev)))
			require.NoError(t, q.Wait(t.Context()))
		})
	}
}

// TestClosedInTime closes a buffer between Launch and Wait.
func TestClosedInTime(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	q := queue(t, dev)
	l := good(gateUp).make(t, dev)
	require.NoError(t, q.Launch(l))
	require.NoError(t, l.Args[5].Buffer.Close())
	assert.ErrorContains(t, q.Wait(t.Context()), "argument 5: the buffer is closed")
	assert.NoError(t, q.Wait(t.Context()))
}

func TestCancel(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	q := queue(t, dev)
	for range 3 {
		require.NoError(t, q.Launch(good(gateUp).make(t, dev)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := q.Wait(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	failed, only := runtime.FailedLaunches(err)
	assert.Len(t, failed, 3)
	assert.False(t, only)
	assert.NoError(t, q.Wait(t.Context()), "nothing is left")
}

// results returns what the kernel named symbol writes on a device.
func results(t *testing.T, o cpu.Options, l *launch) map[string][]byte {
	dev := cpu.New(o)
	defer dev.Close()
	q := queue(t, dev)
	made := l.make(t, dev)
	require.NoError(t, q.Launch(made))
	require.NoError(t, q.Wait(t.Context()))
	return outputs(t, made)
}

// TestBits shows that results depend neither on the number of workers nor on
// the set of instructions.
func TestBits(t *testing.T) {
	for _, symbol := range []string{gateUp, down, fairway, generic, route, count, prefix, scatter, combine} {
		for _, precision := range []cpu.Precision{cpu.Exact, cpu.Fast} {
			want := results(t, cpu.Options{Precision: precision}, good(symbol))
			for _, set := range cpu.Sets() {
				for _, workers := range []int{1, 2, 3, 7} {
					o := cpu.Options{Precision: precision, Set: set, Workers: workers}
					assert.Equal(t, want, results(t, o, good(symbol)), "%s with %+v", symbol, o)
				}
			}
		}
	}
}

// TestFamilies shows that a row does not depend on what is computed with it.
func TestFamilies(t *testing.T) {
	for _, precision := range []cpu.Precision{cpu.Exact, cpu.Fast} {
		for _, set := range cpu.Sets() {
			var want map[string][]byte
			for symbol, tile := range map[string]int{"moe_trellis_swiglu_decode": 1, "moe_trellis_swiglu_prefill4": 3, "moe_trellis_swiglu": rows} {
				for _, step := range []int{1, 2} { // rows on end are taken together, others are not
					l := good(symbol)
					l.work = nil
					for start := range step {
						for first := start * tile; first < rows; first += step * tile {
							l.work = append(l.work, runtime.Work{Expert: 1, First: uint32(first), Rows: uint32(tile)})
						}
					}
					l.shape.Items = uint32(len(l.work))
					have := results(t, cpu.Options{Precision: precision, Set: set}, l)
					if want == nil {
						want = have
					}
					assert.Equal(t, want, have, "%s, %s, %v", symbol, set, precision)
				}
			}
		}
	}
}

// TestAllocations shows that launches allocate nothing once they have run.
func TestAllocations(t *testing.T) {
	if short {
		t.Skip("the race detector allocates")
	}
	dev := cpu.New(cpu.Options{Workers: 2})
	q := queue(t, dev)
	for _, symbol := range []string{gateUp, down, fairway, generic, count, combine} {
		l := good(symbol).make(t, dev)
		assert.Zero(t, testing.AllocsPerRun(20, func() {
			if q.Launch(l) != nil || q.Wait(context.Background()) != nil {
				t.Error(symbol)
			}
		}), symbol)
	}
}

// TestRouteNaN routes what has no scores: to experts that exist, each once.
func TestRouteNaN(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	q := queue(t, dev)
	l := good(route)
	l.routing.TopK, l.shape.Experts = 2, 2
	for i := range l.args["x"] {
		l.args["x"][i] = 0xff
	}
	made := l.make(t, dev)
	require.NoError(t, q.Launch(made))
	require.NoError(t, q.Wait(t.Context()))
	chosen := outputs(t, made)["chosen"]
	for i := 0; i < len(chosen); i += 8 {
		assert.Equal(t, []byte{0, 0, 0, 0, 1, 0, 0, 0}, chosen[i:i+8])
	}
}

// TestLoad changes the table under the device.
func TestLoad(t *testing.T) {
	for _, v := range []struct {
		symbol string
		change func(*runtime.Kernel, *runtime.Codec)
		want   runtime.State
		words  string
	}{
		{gateUp, func(*runtime.Kernel, *runtime.Codec) {}, runtime.Present, ""},
		{gateUp, func(k *runtime.Kernel, _ *runtime.Codec) { k.Bindings[4].Name = "tokens" }, runtime.Failed, "binding 4: {tokens uint read}, want {token uint read}"},
		{gateUp, func(k *runtime.Kernel, _ *runtime.Codec) { k.Bindings[5].Type = "half" }, runtime.Failed, "binding 5: {x half read}, want {x float read}"},
		{down, func(k *runtime.Kernel, _ *runtime.Codec) { k.Bindings[6].Access = runtime.Read }, runtime.Failed, "binding 6: {y float read}"},
		{count, func(k *runtime.Kernel, _ *runtime.Codec) { k.Bindings = k.Bindings[:2] }, runtime.Failed, "binding 2: none, want {counts uint write}"},
		{count, func(k *runtime.Kernel, _ *runtime.Codec) { k.Bindings = append(k.Bindings, k.Bindings[2]) }, runtime.Failed, "binding 3: {counts uint write}, want none"},
		{count, func(k *runtime.Kernel, _ *runtime.Codec) { k.Grid[0].Per = 512 }, runtime.Failed, "grid: rows/512, want rows/256"},
		{down, func(k *runtime.Kernel, _ *runtime.Codec) { k.Tile = 0 }, runtime.Failed, "tile: 0"},
		{down, func(_ *runtime.Kernel, c *runtime.Codec) { c.Components = c.Components[:3] }, runtime.Failed, "codec trellis: components"},
		{down, func(_ *runtime.Kernel, c *runtime.Codec) { c.Name = "exl3" }, runtime.Failed, "codec trellis is not in the table"},
		{down, func(k *runtime.Kernel, _ *runtime.Codec) { k.Codec = "exl3" }, runtime.Missing, "no implementation of pass down with codec \"exl3\""},
		{down, func(k *runtime.Kernel, _ *runtime.Codec) { k.Pass = "up" }, runtime.Missing, "no implementation of pass up"},
		{down, func(k *runtime.Kernel, _ *runtime.Codec) { k.Tuples = []runtime.BitTuple{{Gate: 6, Up: 2, Down: 9}} }, runtime.Missing, "decodes 9-bit weights"},
		{gateUp, func(k *runtime.Kernel, _ *runtime.Codec) { k.Tuples = []runtime.BitTuple{{Gate: 6, Up: 2, Down: 9}} }, runtime.Present, ""},
		{gateUp, func(k *runtime.Kernel, _ *runtime.Codec) { k.Body = nil }, runtime.Failed, "no body"},
	} {
		k, codec := *generated.Table.Kernel(v.symbol), *generated.Table.Codecs[0]
		body := *k.Body
		body.Bindings = slices.Clone(body.Bindings)
		k.Body = &body
		v.change(&k, &codec)
		table := &runtime.Table{Kernels: []*runtime.Kernel{&k}, Codecs: []*runtime.Codec{&codec}}
		lib, err := cpu.New(cpu.Options{}).Load(t.Context(), table, nil)
		require.NoError(t, err)
		have := lib.Availability().Of(&k)
		assert.Equal(t, v.want, have.State, "%s %s: %s", v.symbol, v.words, have.Words)
		assert.Contains(t, have.Words, v.words)
	}
}

// TestRun runs a kernel on bytes that are in no buffer.
func TestRun(t *testing.T) {
	l := good(gateUp)
	dev := cpu.New(cpu.Options{})
	made := l.make(t, dev)
	var args [][]byte
	for i, b := range l.kernel.Bindings {
		if b.Access == runtime.Constant {
			args = append(args, made.Args[i].Bytes)
		} else {
			args = append(args, slices.Clone(l.args[b.Name]))
		}
	}
	require.NoError(t, cpu.Run(t.Context(), l.kernel, l.shape, args))
	q := queue(t, dev)
	require.NoError(t, q.Launch(made))
	require.NoError(t, q.Wait(t.Context()))
	assert.Equal(t, outputs(t, made)["h"], args[6])

	args[6] = args[6][4:]
	assert.ErrorContains(t, cpu.Run(t.Context(), l.kernel, l.shape, args), "argument h: 6908 bytes, want 6912")
	assert.ErrorContains(t, cpu.Run(t.Context(), l.kernel, l.shape, args[:3]), "3 arguments for 7 bindings")
}

func TestClosedDevice(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	lib, err := dev.Load(t.Context(), generated.Table, nil)
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	_, err = dev.NewBuffer(4)
	assert.ErrorContains(t, err, "closed device")
	_, err = dev.Wrap(nil)
	assert.ErrorContains(t, err, "closed device")
	_, err = dev.Load(t.Context(), generated.Table, nil)
	assert.ErrorContains(t, err, "closed device")
	_, err = lib.NewQueue()
	assert.ErrorContains(t, err, "closed device")
}
