package moe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"github.com/marlingen/marlingen/runtime"
)

// A forward is one run of a layer, whose lock is held throughout.
type forward struct {
	*Layer
	planner planner // its availability loses the kernels whose launches fail
	a       *Assignments
	x       []float32 // [tokens, hidden]
	shape   runtime.Shape
	args    map[string]runtime.Arg // by binding
}

// run runs plan, and plans anew what failing launches leave undone, until
// every row is computed; then it sums them.
func (f *forward) run(ctx context.Context, plan Plan) ([]float32, error) {
	if err := f.prepare(); err != nil {
		return nil, err
	}
	for {
		summed, failed, err := f.submit(ctx, plan)
		if err != nil {
			return nil, err
		}
		if err := f.host(ctx, plan.Host); err != nil {
			return nil, err
		}
		undone := f.settle(plan, failed)
		if len(undone) == 0 {
			return f.output(ctx, summed)
		}
		if plan, err = f.planner.plan(f.a, undone); err != nil {
			return nil, err
		}
	}
}

// prepare fills the buffers that launches read.
func (f *forward) prepare() error {
	rows := len(f.a.Token)
	f.shape = runtime.Shape{
		Tokens:       uint32(f.a.Tokens),
		Slots:        uint32(f.a.Slots),
		Experts:      uint32(len(f.planner.experts)),
		Hidden:       uint32(f.weights.Hidden),
		Intermediate: uint32(f.weights.Intermediate),
		Rows:         uint32(rows),
	}
	f.args = map[string]runtime.Arg{"weights": {Buffer: f.data}}
	for name, content := range map[string][]byte{
		"x":     bytesOf(f.x),
		"token": bytesOf(f.a.Token),
		"prob":  bytesOf(f.a.Prob),
		"row":   bytesOf(f.a.Row),
	} {
		if err := f.fill(name, content); err != nil {
			return err
		}
	}
	for name, size := range map[string]int{
		"h":   rows * f.weights.Intermediate,
		"y":   rows * f.weights.Hidden,
		"out": f.a.Tokens * f.weights.Hidden,
	} {
		b, err := f.buffer(name, 4*size)
		if err != nil {
			return err
		}
		f.args[name] = runtime.Arg{Buffer: b}
	}
	return nil
}

// fill makes content the argument called name.
func (f *forward) fill(name string, content []byte) error {
	b, err := f.buffer(name, len(content))
	if err != nil {
		return err
	}
	f.args[name] = runtime.Arg{Buffer: b}
	_, err = b.WriteAt(content, 0)
	return err
}

// submit launches both passes of plan in one go, and the sum as well if the
// host has no part in it. It returns whether the sum is made, and the kernels
// whose launches failed.
func (f *forward) submit(ctx context.Context, plan Plan) (summed bool, failed map[*runtime.Kernel]error, err error) {
	if len(plan.GateUp) == 0 {
		return false, nil, ctx.Err()
	}
	var work []byte
	offsets := map[*runtime.Kernel]int{}
	for _, s := range plan.Steps() {
		work = append(work, make([]byte, -len(work)&(runtime.Align-1))...)
		offsets[s.Kernel] = len(work)
		for _, w := range s.Work {
			work = runtime.AppendWork(work, w)
		}
	}
	if err := f.fill("work", work); err != nil {
		return false, nil, err
	}
	failed = map[*runtime.Kernel]error{}
	launch := func(k *runtime.Kernel, items int) {
		if err := f.launch(k, items); err != nil {
			failed[k] = err
		}
	}
	for _, steps := range [][]Step{plan.GateUp, plan.Down} {
		for _, s := range steps {
			f.args["work"] = runtime.Arg{Buffer: f.args["work"].Buffer, Offset: offsets[s.Kernel]}
			f.args["experts"] = runtime.Arg{Buffer: f.experts[s.Kernel.Codec]}
			launch(s.Kernel, len(s.Work))
		}
		f.queue.Barrier()
	}
	combine, err := f.combine()
	if summed = err == nil && len(plan.Host) == 0; summed {
		launch(combine.Kernel, 0)
	}
	if err := f.wait(ctx, failed); err != nil {
		return false, nil, err
	}
	if summed {
		summed = failed[combine.Kernel] == nil
		f.countLaunch(combine.Kernel, failed)
	}
	return summed, failed, nil
}

// launch enqueues kernel k over the given number of entries of the work list.
func (f *forward) launch(k *runtime.Kernel, items int) error {
	shape := f.shape
	shape.Items = uint32(items)
	f.args["shape"] = runtime.Arg{Bytes: runtime.AppendShape(nil, shape)}
	args := make([]runtime.Arg, len(k.Bindings))
	for i, b := range k.Bindings {
		arg, ok := f.args[b.Name]
		if !ok {
			return &runtime.LaunchError{Kernel: k, Err: fmt.Errorf("the layer has no argument called %s", b.Name)}
		}
		args[i] = arg
	}
	return f.queue.Launch(runtime.Launch{Kernel: k, Shape: shape, Args: args})
}

// wait waits for the queue and adds the launches that failed to failed.
func (f *forward) wait(ctx context.Context, failed map[*runtime.Kernel]error) error {
	err := f.queue.Wait(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	launches, only := runtime.FailedLaunches(err)
	if !only {
		return err
	}
	for _, e := range launches {
		failed[e.Kernel] = e
	}
	return nil
}

// settle counts what plan did and marks the failed kernels. It returns the
// experts whose rows they leave undone.
func (f *forward) settle(plan Plan, failed map[*runtime.Kernel]error) map[int]bool {
	have := maps.Clone(f.planner.have)
	for k, err := range failed {
		have[k.Symbol] = runtime.Status{State: runtime.Broken, Words: err.Error()}
	}
	f.planner.have = have

	undone := map[int]bool{}
	for _, s := range plan.Steps() {
		f.countLaunch(s.Kernel, failed)
		if failed[s.Kernel] == nil {
			continue
		}
		for _, g := range s.Groups {
			for _, e := range g.Experts {
				undone[e] = true
			}
		}
	}
	groups := plan.Host
	for _, s := range plan.GateUp {
		groups = append(groups[:len(groups):len(groups)], s.Groups...)
	}
	for _, g := range groups {
		if undone[g.Experts[0]] {
			continue
		}
		f.counters.assign(g.Tuple, g.Rows)
		for _, fallback := range g.Fallbacks {
			f.counters.fallback(fallback)
		}
	}
	return undone
}

func (f *forward) countLaunch(k *runtime.Kernel, failed map[*runtime.Kernel]error) {
	if failed[k] == nil {
		f.counters.launch(k.Symbol)
	}
}

// host runs groups in plain Go, and writes their rows of y.
func (f *forward) host(ctx context.Context, groups []Group) error {
	hidden := f.weights.Hidden
	for _, g := range groups {
		for _, expert := range g.Experts {
			first, end := f.a.Offsets[expert], f.a.Offsets[expert+1]
			x := make([]float32, 0, (end-first)*hidden)
			for _, t := range f.a.Token[first:end] {
				x = append(x, f.x[int(t)*hidden:][:hidden]...)
			}
			e := &f.planner.experts[expert]
			y, err := host(ctx, f.codecs[e.Codec], f.weights.Data, e, x)
			if err != nil {
				return err
			}
			for i := range y {
				y[i] *= f.a.Prob[first+i/hidden]
			}
			if _, err := f.args["y"].Buffer.WriteAt(bytesOf(y), int64(4*first*hidden)); err != nil {
				return err
			}
		}
	}
	return nil
}

// combine chooses the kernel that sums over slots.
func (f *forward) combine() (runtime.Choice, error) {
	return runtime.Select(f.planner.table, f.planner.have, runtime.Request{Pass: runtime.Combine})
}

// output returns the sum over slots. If it is not made yet, the device makes
// it or, failing that, the host.
func (f *forward) output(ctx context.Context, summed bool) ([]float32, error) {
	out := make([]float32, len(f.x))
	choice, err := f.combine()
	if err == nil && !summed {
		failed := map[*runtime.Kernel]error{}
		if err := f.launch(choice.Kernel, 0); err != nil {
			failed[choice.Kernel] = err
		}
		if err := f.wait(ctx, failed); err != nil {
			return nil, err
		}
		f.settle(Plan{}, failed)
		f.countLaunch(choice.Kernel, failed)
		choice, err = f.combine()
	}
	var none *runtime.NoKernelError
	if !errors.As(err, &none) {
		return out, f.read("out", out)
	}
	for _, fallback := range steps(runtime.Combine, runtime.BitTuple{}, none.Passed, Host) {
		f.counters.fallback(fallback)
	}
	return out, f.sum(out)
}

// sum adds the rows of y to out, in slot order, as the combine kernel does.
func (f *forward) sum(out []float32) error {
	hidden := f.weights.Hidden
	y := make([]float32, len(f.a.Token)*hidden)
	if err := f.read("y", y); err != nil {
		return err
	}
	for i, row := range f.a.Row {
		token := out[i/f.a.Slots*hidden:][:hidden]
		for j, v := range y[int(row)*hidden:][:hidden] {
			token[j] += v
		}
	}
	return nil
}

// read copies the buffer called name to vs.
func (f *forward) read(name string, vs []float32) error {
	b := make([]byte, 4*len(vs))
	if _, err := f.args[name].Buffer.ReadAt(b, 0); err != nil {
		return err
	}
	_, err := binary.Decode(b, binary.LittleEndian, vs)
	return err
}
