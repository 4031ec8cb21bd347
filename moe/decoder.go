package moe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/marlingen/marlingen/runtime"
)

// A decoder runs a layer for one token without the host: a graph routes, makes
// the work list of what was chosen, and runs the experts and their sum. Each
// expert has one row, so that rows are slots, and need no sorting.
type decoder struct {
	graph   runtime.Graph
	kernels []*runtime.Kernel // of the graph
	x       runtime.Buffer
	result  runtime.Buffer // the output and, from chosen on, what was chosen; see routed
	chosen  int
	read    []byte // from result
}

// A recorder is a queue that a decoder can be recorded on.
type recorder interface {
	runtime.Recorder
	runtime.Copier
}

// newDecoder returns the decoder of a layer that routes on its device, or nil
// where there can be none: where a pass would take several kernels, one that is
// not what the specs ask for, or the host.
func (f *forward) newDecoder() (*decoder, error) {
	q, ok := f.queue.(recorder)
	if !ok || f.router == nil {
		return nil, nil
	}
	gateUp, down := f.only(runtime.GateUp), f.only(runtime.Down)
	combine, err := f.planner.combine()
	if err != nil || gateUp == nil || down == nil {
		return nil, nil
	}
	d := &decoder{kernels: []*runtime.Kernel{f.router.kernel, gateUp, down, combine.Kernel}}
	slots := f.slots()
	shape := runtime.Shape{
		Tokens: 1, Slots: uint32(slots), Experts: uint32(len(f.planner.experts)),
		Hidden: uint32(f.weights.Hidden), Intermediate: uint32(f.weights.Intermediate),
		Rows: uint32(slots), Items: uint32(slots),
	}
	var work, token, row []byte
	for i := range slots {
		work = runtime.AppendWork(work, runtime.Work{First: uint32(i), Rows: 1})
		token = binary.LittleEndian.AppendUint32(token, 0)
		row = binary.LittleEndian.AppendUint32(row, uint32(i))
	}
	args := map[string]runtime.Arg{
		"shape": {Bytes: runtime.AppendShape(nil, shape)}, "routing": {Bytes: f.router.routing},
		"router": {Buffer: f.scratch["router"]}, "bias": {Buffer: f.scratch["bias"]},
		"weights": {Buffer: f.data}, "experts": {Buffer: f.experts[gateUp.Codec]},
	}
	prob, size := routed(slots)
	d.chosen = aligned(4 * f.weights.Hidden)
	for _, b := range []struct {
		name    string
		content []byte
		size    int
	}{
		{"x", nil, 4 * f.weights.Hidden},
		{"scores", nil, 4 * (len(f.weights.Experts) + f.weights.Router.Groups)},
		{"work", work, 0}, {"token", token, 0}, {"row", row, 0},
		{"h", nil, 4 * slots * f.weights.Intermediate}, {"y", nil, 4 * slots * f.weights.Hidden},
		{"out", nil, d.chosen + size},
	} {
		buffer, err := f.buffer("decoder's "+b.name, max(len(b.content), b.size))
		if err != nil {
			return nil, err
		}
		if _, err := buffer.WriteAt(b.content, 0); err != nil {
			return nil, err
		}
		args[b.name] = runtime.Arg{Buffer: buffer}
	}
	d.x, d.result = args["x"].Buffer, args["out"].Buffer
	d.read = make([]byte, d.chosen+size)
	args["chosen"] = runtime.Arg{Buffer: d.result, Offset: d.chosen}
	args["chosen_prob"] = runtime.Arg{Buffer: d.result, Offset: d.chosen + prob}
	args["prob"] = args["chosen_prob"]
	d.graph, err = q.Record(func() error {
		for _, k := range d.kernels {
			l := runtime.Launch{Kernel: k, Shape: shape}
			for _, b := range k.Bindings {
				l.Args = append(l.Args, args[b.Name])
			}
			if err := q.Launch(l); err != nil {
				return err
			}
			q.Barrier()
			if k == f.router.kernel {
				to := runtime.Pieces{Buffer: args["work"].Buffer, Stride: len(work) / slots} // Expert comes first
				if err := q.Copy(to, runtime.Pieces{Buffer: d.result, Offset: d.chosen, Stride: 4}, 4, slots); err != nil {
					return err
				}
				q.Barrier()
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// slots returns the assignments of a token.
func (l *Layer) slots() int {
	if l.weights.Shared == nil {
		return l.weights.Router.TopK
	}
	return l.weights.Router.TopK + 1
}

// only returns the kernel that runs single rows of every expert in a pass as the
// specs ask for, or nil.
func (f *forward) only(pass runtime.Pass) *runtime.Kernel {
	experts := f.planner.experts
	first, rows := experts[0].Tuple(), f.slots()
	shared := false
	for i := range experts {
		shared = shared || experts[i].Tuple() != first
	}
	var kernel *runtime.Kernel
	for i := range experts {
		c, err := f.planner.selected(runtime.Request{
			Pass: pass, Codec: experts[i].Codec, Tuple: experts[i].Tuple(), Rows: 1, Layer: rows, Shared: shared, Override: f.planner.override[pass],
		})
		if err != nil || len(c.Passed) > 0 || kernel != nil && c.Kernel != kernel {
			return nil
		}
		kernel = c.Kernel
	}
	return kernel
}

// decode runs the decoder. It reports false if the forward has to be run in
// another way: there is no decoder, or no more.
func (f *forward) decode(ctx context.Context, out, x []float32) (done bool, err error) {
	if !f.decoding {
		f.decoding = true
		if f.decoder, err = f.newDecoder(); err != nil {
			return false, fmt.Errorf("decoder: %w", err)
		}
	}
	d := f.decoder
	if d == nil {
		return false, nil
	}
	if _, err := d.x.WriteAt(bytesOf(x), 0); err != nil {
		return false, err
	}
	err = d.graph.Launch()
	if err == nil {
		err = f.queue.Wait(ctx)
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		f.decoder = nil
		err = errors.Join(err, d.graph.Close())
		if _, only := runtime.FailedLaunches(err); only {
			return false, nil
		}
		return false, err
	}
	if _, err := d.result.ReadAt(d.read, 0); err != nil {
		return false, err
	}
	f.shape.Slots = uint32(f.slots())
	if err := f.take(d.read[d.chosen:], 1); err != nil {
		return false, err
	}
	if err := readInto(out, func(p []byte) error { copy(p, d.read); return nil }); err != nil {
		return false, err
	}
	for _, k := range d.kernels {
		f.counters.launch(k.Symbol)
	}
	for _, e := range f.routing.Experts {
		f.counters.assign(f.planner.experts[e].Tuple(), 1)
	}
	if f.weights.Shared != nil {
		f.counters.assign(f.weights.Shared.Tuple(), 1)
	}
	return true, nil
}
