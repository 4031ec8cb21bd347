package devicetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// A faulty device does something to each launch that it should not.
type faulty struct {
	runtime.Device
	fault fault
}

// A fault runs l on q, wrongly.
type fault func(t *testing.T, q runtime.Queue, l runtime.Launch) error

type faultyLibrary struct {
	runtime.Library
	launch func(runtime.Queue, runtime.Launch) error
}

type faultyQueue struct {
	runtime.Queue
	launch func(runtime.Queue, runtime.Launch) error
}

func (l faultyLibrary) NewQueue() (runtime.Queue, error) {
	q, err := l.Library.NewQueue()
	return faultyQueue{q, l.launch}, err
}

func (q faultyQueue) Launch(l runtime.Launch) error { return q.launch(q.Queue, l) }

// edits is a fault that changes an argument before the launch.
func edits(name string, edit func(l runtime.Launch, data []byte)) fault {
	return func(t *testing.T, q runtime.Queue, l runtime.Launch) error {
		l.Args = slices.Clone(l.Args)
		arg := argument(&l, name)
		if arg.Buffer == nil {
			arg.Bytes = slices.Clone(arg.Bytes)
			edit(l, arg.Bytes)
		} else {
			data, err := contents(arg.Buffer)
			require.NoError(t, err)
			edit(l, data[arg.Offset:])
			dev := cpu.New(cpu.Options{})
			arg.Buffer, err = dev.NewBuffer(len(data))
			require.NoError(t, err)
			_, err = arg.Buffer.WriteAt(data, 0)
			require.NoError(t, err)
		}
		return errors.Join(q.Launch(l), q.Wait(t.Context()))
	}
}

// spoils is a fault that changes an output after the launch; data begins guard
// bytes before it.
func spoils(name string, spoil func(l runtime.Launch, data []byte)) fault {
	return func(t *testing.T, q runtime.Queue, l runtime.Launch) error {
		if err := errors.Join(q.Launch(l), q.Wait(t.Context())); err != nil {
			return err
		}
		arg := argument(&l, name)
		data, err := contents(arg.Buffer)
		require.NoError(t, err)
		spoil(l, data[arg.Offset-guard:])
		_, err = arg.Buffer.WriteAt(data, 0)
		return err
	}
}

func argument(l *runtime.Launch, name string) *runtime.Arg {
	return &l.Args[slices.IndexFunc(l.Kernel.Bindings, func(b runtime.Binding) bool { return b.Name == name })]
}

// uints and floats edit an argument by its elements.
func uints(edit func(l runtime.Launch, v []uint32)) func(runtime.Launch, []byte) {
	return func(l runtime.Launch, data []byte) {
		v := decodeUints(data)
		edit(l, v)
		copy(data, encode(v))
	}
}

func floats(edit func(l runtime.Launch, v []float32)) func(runtime.Launch, []byte) {
	return func(l runtime.Launch, data []byte) {
		v := decodeFloats(data)
		edit(l, v)
		copy(data, encode(v))
	}
}

// The struct Expert of codec trellis, in 4-byte words.
const (
	projectionWords = 10
	expertWords     = 3 * projectionWords
)

// chosenExperts calls f with the descriptor of each expert in the work list.
func chosenExperts(f func(words []uint32)) func(runtime.Launch, []byte) {
	return uints(func(l runtime.Launch, v []uint32) {
		for e := range int(l.Shape.Experts) {
			if d := v[e*expertWords : (e+1)*expertWords]; d[0] != math.MaxUint32 {
				f(d)
			}
		}
	})
}

// each returns a fault per launch: the first, the second, …, then the last.
func each(faults ...fault) fault {
	n := 0
	return func(t *testing.T, q runtime.Queue, l runtime.Launch) error {
		f := faults[min(n, len(faults)-1)]
		n++
		return f(t, q, l)
	}
}

func right(t *testing.T, q runtime.Queue, l runtime.Launch) error { return q.Launch(l) }

// stale makes a device that gives its first result again and again.
func stale(name string) fault {
	var first []byte
	return spoils(name, func(_ runtime.Launch, data []byte) {
		if first == nil {
			first = bytes.Clone(data)
		}
		copy(data, first)
	})
}

const (
	decodeTuple = "moe_trellis_swiglu_decode_6_2_3"
	prefill     = "moe_trellis_swiglu_prefill4"
	fairway     = "moe_trellis_swiglu_large_batch_fairway"
	base        = "moe_trellis_swiglu_6_2_3"
)

var faults = []struct {
	name   string
	kernel string
	fault  fault
	want   string // in the error; empty for none
}{
	{"none", prefill, right, ""},
	{"none, and the work list is in another place", prefill, edits("work", func(runtime.Launch, []byte) {}), ""},

	{"gate and up swapped", prefill, edits("experts", chosenExperts(func(e []uint32) {
		for i := range projectionWords {
			e[i], e[i+projectionWords] = e[i+projectionWords], e[i]
		}
	})), "within"},
	{"a wrong width", prefill, edits("experts", chosenExperts(func(e []uint32) { e[8] = max(2, e[8]-1) })), "within"},
	{"indices one byte off", prefill + "_down", edits("weights", func(_ runtime.Launch, data []byte) { copy(data, data[1:]) }), "within"},
	{"scales off by one", decodeTuple, edits("experts", chosenExperts(func(e []uint32) { e[2] += 2 })), "within"},
	{"su off by one", decodeTuple, edits("experts", chosenExperts(func(e []uint32) { e[4] += 2 })), "within"},
	{"sv off by one", base, edits("experts", chosenExperts(func(e []uint32) { e[6] += 2 })), "within"},
	{"sv of up off by one", fairway, edits("experts", chosenExperts(func(e []uint32) { e[16] += 2 })), "within"},
	{"sv of down off by one", fairway + "_down", edits("experts", chosenExperts(func(e []uint32) { e[26] += 2 })), "within"},
	{"the weights of the next expert", decodeTuple + "_down", edits("experts", func(_ runtime.Launch, data []byte) {
		copy(data[1*4*expertWords:][:4*expertWords], data[3*4*expertWords:])
	}), "within"},

	{"the last row of an item is dropped", prefill, edits("work", uints(func(l runtime.Launch, v []uint32) {
		for i := range int(l.Shape.Items) {
			if v[3*i+2] > 1 {
				v[3*i+2]--
			}
		}
	})), "NaN"},
	{"an item is dropped", fairway, edits("work", uints(func(_ runtime.Launch, v []uint32) { v[2] = 0 })), "NaN"},
	{"an extra row is written", prefill, spoils("h", func(l runtime.Launch, data []byte) {
		clear(data[guard:][:4*l.Shape.Intermediate])
	}), "not in the work list"},
	{"one element of an extra row is written", fairway + "_down", spoils("y", func(l runtime.Launch, data []byte) {
		clear(data[guard+4*int(l.Shape.Rows*l.Shape.Hidden)-4:][:4])
	}), "not in the work list"},
	{"the last 16 columns are not written", decodeTuple, spoils("h", func(l runtime.Launch, data []byte) {
		for r := range int(l.Shape.Rows) {
			end := guard + 4*int(l.Shape.Intermediate)*(r+1)
			copy(data[end-64:end], bytes.Repeat([]byte{poison}, 64))
		}
	}), "NaN"},
	{"the last 16 inputs are not read", base, edits("x", floats(func(l runtime.Launch, v []float32) {
		for t := range int(l.Shape.Tokens) {
			clear(v[(t+1)*int(l.Shape.Hidden)-16:][:16])
		}
	})), "within"},
	{"the first input is not read", base + "_down", edits("h", floats(func(l runtime.Launch, v []float32) {
		for r := range int(l.Shape.Rows) {
			v[r*int(l.Shape.Intermediate)] = 0
		}
	})), "within"},
	{"the first token for all", prefill, edits("token", uints(func(_ runtime.Launch, v []uint32) { clear(v) })), "within"},
	{"no probability", prefill + "_down", edits("prob", floats(func(_ runtime.Launch, v []float32) {
		for i := range v {
			v[i] = 1
		}
	})), "within"},
	{"the probability of the next row", fairway + "_down", edits("prob", func(_ runtime.Launch, data []byte) { copy(data, data[4:]) }), "within"},
	{"the inputs of the next row", fairway + "_down", edits("h", func(l runtime.Launch, data []byte) {
		copy(data[12*l.Shape.Intermediate:], data[16*l.Shape.Intermediate:])
	}), "within"},
	{"offsets ignored", decodeTuple, func(t *testing.T, q runtime.Queue, l runtime.Launch) error {
		l.Args = slices.Clone(l.Args)
		argument(&l, "x").Offset = 0
		return q.Launch(l)
	}, "within"},
	{"a write before the output", decodeTuple, spoils("h", func(_ runtime.Launch, data []byte) { data[guard-1] = 0 }), "outside"},
	{"a write after the output", decodeTuple, spoils("h", func(l runtime.Launch, data []byte) {
		data[guard+4*int(l.Shape.Rows*l.Shape.Intermediate)] = 0
	}), "outside"},
	{"stale results", prefill, stale("h"), "untouched"},
	{"stale results, of nothing", prefill, each(right, func(*testing.T, runtime.Queue, runtime.Launch) error { return nil }), "other bits"},
	{"another result the second time", prefill, each(right, spoils("h", func(l runtime.Launch, data []byte) {
		data[guard+4*2*int(l.Shape.Intermediate)] ^= 1
	})), "other bits"},
	{"results as halves", fairway, spoils("h", uints(func(_ runtime.Launch, v []uint32) {
		for i := guard / 4; i < len(v); i++ {
			if v[i] != math.MaxUint32 {
				v[i] &^= 1<<13 - 1
			}
		}
	})), "within"},

	{"none", "moe_route", right, ""},
	{"no bias", "moe_route", edits("bias", floats(func(_ runtime.Launch, v []float32) { clear(v) })), "want"},
	{"no normalisation", "moe_route", edits("routing", func(_ runtime.Launch, data []byte) { data[12] = 0 }), "want"},
	{"no scale", "moe_route", edits("routing", func(_ runtime.Launch, data []byte) { copy(data[16:], encode(float32(1))) }), "want"},
	{"no groups", "moe_route", edits("routing", func(_ runtime.Launch, data []byte) { data[4] = 1 }), "want"},
	{"the shared slot of another expert", "moe_route", spoils("chosen", uints(func(l runtime.Launch, v []uint32) {
		v[guard/4+int(l.Shape.Slots)-1] = 0
	})), "want"},
	{"two slots swapped", "moe_route", spoils("chosen", uints(func(_ runtime.Launch, v []uint32) {
		v[guard/4], v[guard/4+1] = v[guard/4+1], v[guard/4]
	})), "want"},
	{"of equals, the higher index", "moe_route", func(t *testing.T, q runtime.Queue, l runtime.Launch) error {
		router, err := contents(argument(&l, "router").Buffer)
		require.NoError(t, err)
		expert := func(e uint32) []byte {
			size := int(4 * l.Shape.Hidden)
			return router[guard+int(e)*size:][:size]
		}
		return spoils("chosen", uints(func(l runtime.Launch, v []uint32) {
			if l.Shape.Experts != 64 || l.Shape.Slots != 6 {
				return
			}
			for e := v[guard/4+5] + 1; e < l.Shape.Experts; e++ {
				if bytes.Equal(expert(e), expert(v[guard/4+5])) {
					v[guard/4+5] = e
				}
			}
		}))(t, q, l)
	}, "want"},

	{"one too few", "moe_count", spoils("counts", uints(func(l runtime.Launch, v []uint32) { v[guard/4]-- })), "counts"},
	{"the last block is not counted", "moe_count", spoils("counts", func(l runtime.Launch, data []byte) {
		if blocks := (l.Shape.Rows + block - 1) / block; blocks > 1 {
			clear(data[guard+4*(blocks-1)*l.Shape.Experts:][:4*l.Shape.Experts])
		}
	}), "counts"},
	{"no total", "moe_prefix", spoils("offsets", uints(func(l runtime.Launch, v []uint32) { v[guard/4+int(l.Shape.Experts)] = 0 })), "offsets"},
	{"all blocks begin together", "moe_prefix", spoils("base", uints(func(l runtime.Launch, v []uint32) {
		if n := int(l.Shape.Experts); l.Shape.Rows > block {
			copy(v[guard/4+n:], v[guard/4:guard/4+n])
		}
	})), "base"},
	{"an unstable order", "moe_scatter", spoils("token", uints(func(_ runtime.Launch, v []uint32) {
		for i := guard / 4; i+1 < len(v); i++ {
			if v[i] < v[i+1] && v[i+1] != math.MaxUint32 {
				v[i], v[i+1] = v[i+1], v[i]
				return
			}
		}
	})), "token"},
	{"the probability of the next", "moe_scatter", edits("chosen_prob", func(_ runtime.Launch, data []byte) { copy(data, data[4:]) }), "prob"},
	{"one row too high", "moe_scatter", spoils("row", uints(func(_ runtime.Launch, v []uint32) { v[guard/4]++ })), "row"},
	{"slots in another order", "moe_combine", edits("row", uints(func(l runtime.Launch, v []uint32) {
		for t := range int(l.Shape.Tokens) {
			slices.Reverse(v[t*int(l.Shape.Slots) : (t+1)*int(l.Shape.Slots)])
		}
	})), "out"},
	{"the last slot twice", "moe_combine", edits("row", uints(func(l runtime.Launch, v []uint32) {
		v[l.Shape.Slots-1] = v[0]
	})), "out"},
	{"no sum", "moe_combine", func(*testing.T, runtime.Queue, runtime.Launch) error { return nil }, "out"},
}

// TestFaults shows that the suite can fail: each fault is found for what it is.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.kernel+"/"+f.name, func(t *testing.T) {
			dev := cpu.New(cpu.Options{})
			lib, err := dev.Load(t.Context(), generated.Table, generated.Sources)
			require.NoError(t, err)
			k := generated.Table.Kernel(f.kernel)
			require.NotNil(t, k)
			broken := faultyLibrary{lib, func(q runtime.Queue, l runtime.Launch) error { return f.fault(t, q, l) }}
			err = withSession(t.Context(), dev, broken, generated.Table, func(s *session) error { return checkKernel(s, k, true) })
			if f.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, f.want)
			}
		})
	}
}

// The layer and the barriers find what no single kernel shows.
func TestLayerFaults(t *testing.T) {
	for name, f := range map[string]struct {
		pass  runtime.Pass
		check func(*session) error
	}{
		"layer without combine":   {runtime.Combine, func(s *session) error { return checkLayer(s, generated.Table.Codecs[0]) }},
		"layer without down":      {runtime.Down, func(s *session) error { return checkLayer(s, generated.Table.Codecs[0]) }},
		"layer without route":     {runtime.Route, func(s *session) error { return checkLayer(s, generated.Table.Codecs[0]) }},
		"barriers without prefix": {runtime.Prefix, checkBarriers},
		"barriers without down":   {runtime.Down, checkBarriers},
	} {
		t.Run(name, func(t *testing.T) {
			dev := cpu.New(cpu.Options{})
			lib, err := dev.Load(t.Context(), generated.Table, generated.Sources)
			require.NoError(t, err)
			broken := faultyLibrary{lib, func(q runtime.Queue, l runtime.Launch) error {
				if l.Kernel.Pass == f.pass {
					return nil
				}
				return q.Launch(l)
			}}
			assert.Error(t, withSession(t.Context(), dev, broken, generated.Table, f.check))
		})
	}
}

func (d faulty) Load(ctx context.Context, t *runtime.Table, sources fs.FS) (runtime.Library, error) {
	lib, err := d.Device.Load(ctx, t, sources)
	if d.fault != nil {
		return faultyLibrary{lib, func(q runtime.Queue, l runtime.Launch) error { return d.fault(nil, q, l) }}, err
	}
	return lib, err
}

// Devices that break their contract.
type (
	dirty struct{ faulty } // buffers that are not zero
	small struct{ faulty } // buffers that are too small
	deaf  struct{ faulty } // devices that wrap nothing
	blind struct{ faulty } // devices with views of something else
	vain  struct{ faulty } // libraries that have everything
	mute  struct{ faulty } // devices without a name
)

func (d dirty) NewBuffer(size int) (runtime.Buffer, error) {
	b, err := d.Device.NewBuffer(size)
	if err == nil && size > 100 {
		_, err = b.WriteAt([]byte{1}, 100)
	}
	return b, err
}

func (d small) NewBuffer(size int) (runtime.Buffer, error) {
	return d.Device.NewBuffer(max(-1, size-1))
}

func (d deaf) Wrap(host []byte) (runtime.Buffer, error) { return d.Device.NewBuffer(len(host)) }

func (d blind) NewView() (runtime.View, error) {
	b, err := d.Device.NewBuffer(0)
	return &copied{b, d}, err
}

// A copied view copies what it is to show.
type copied struct {
	runtime.Buffer
	dev blind
}

func (c *copied) Show(host []byte) {
	c.Buffer, _ = c.dev.NewBuffer(len(host))
	_, _ = c.WriteAt(host, 0)
}

type everything struct {
	runtime.Library
	table *runtime.Table
}

func (e everything) Availability() runtime.Availability {
	have := make(runtime.Availability)
	for _, k := range e.table.Kernels {
		have[k.Symbol] = runtime.Status{State: runtime.Present}
	}
	return have
}

func (d vain) Load(ctx context.Context, t *runtime.Table, sources fs.FS) (runtime.Library, error) {
	lib, err := d.Device.Load(ctx, t, sources)
	return everything{lib, t}, err
}

func (mute) Info() runtime.Info { return runtime.Info{} }

func TestContractFaults(t *testing.T) {
	good := faulty{Device: cpu.New(cpu.Options{})}
	careless := faulty{good.Device, func(_ *testing.T, q runtime.Queue, l runtime.Launch) error {
		_ = q.Launch(l)
		return nil
	}}
	fussy := faulty{good.Device, func(_ *testing.T, q runtime.Queue, l runtime.Launch) error {
		err := q.Launch(l)
		if err != nil {
			q.Close() // for good
		}
		return err
	}}
	anonymous := faulty{good.Device, func(_ *testing.T, q runtime.Queue, l runtime.Launch) error {
		if err := q.Launch(l); err != nil {
			return errors.New(err.Error())
		}
		return nil
	}}
	copying := faulty{good.Device, func(_ *testing.T, q runtime.Queue, l runtime.Launch) error {
		l.Args = slices.Clone(l.Args)
		for i, a := range l.Args {
			if v, ok := a.Buffer.(*copied); ok {
				l.Args[i].Buffer = v.Buffer
			}
		}
		return q.Launch(l)
	}}
	for _, f := range []struct {
		check string
		dev   runtime.Device
		want  string // empty for none
	}{
		{"", good, ""},
		{"info", mute{good}, "without a name"},
		{"buffers", dirty{good}, "not all zero"},
		{"buffers", small{good}, "has 999"},
		{"wrapped buffers", deaf{good}, "host's bytes"},
		{"views", blind{copying}, "does not show"},
		{"unknown kernels", vain{good}, "nobody wrote"},
		{"bad launches", careless, "want a *LaunchError"},
		{"bad launches", fussy, "queue is closed"},
		{"bad launches", anonymous, "want a *LaunchError"},
		{"closing", careless, "want a *LaunchError"},
		{"wrapped buffers", careless, "want a *LaunchError"},
	} {
		for _, c := range contract {
			if f.check != "" && f.check != c.name {
				continue
			}
			t.Run(strings.TrimSpace(c.name+" "+f.want), func(t *testing.T) {
				lib, err := f.dev.Load(t.Context(), generated.Table, generated.Sources)
				require.NoError(t, err)
				err = withSession(t.Context(), f.dev, lib, generated.Table, c.check)
				if f.want == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, f.want)
				}
			})
		}
	}
}
