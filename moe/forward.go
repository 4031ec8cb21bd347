package moe

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/marlingen/marlingen/runtime"
)

// A forward runs a layer, whose lock is held throughout. It is kept from call
// to call for the memory that it holds, so that a call allocates nothing that
// one of as many tokens before it has.
type forward struct {
	*Layer
	routing  Routing
	decision decision
	chosen   []int     // with the shared expert
	prob     []float32 // with the shared expert
	rows     Assignments
	draft    draft
	decoder  *decoder // nil if there is none
	decoding bool     // it is known whether there is one

	// Of one call.
	planner planner      // its availability loses the kernels whose launches fail
	a       *Assignments // rows
	x       []float32    // [tokens, hidden]
	inPlace bool         // views show x and the output
	shape   runtime.Shape
	args    map[string]runtime.Arg // by binding

	// Of one submission. Launches hold on to their parts of it until they are
	// waited for.
	lists   []byte // token, prob, row, and the work of each step, from multiples of Align on
	offsets []int  // of each step's part of lists
	given   []runtime.Arg
	shapes  []byte
	failed  map[*runtime.Kernel]error // nil while none did
}

// run writes the layer's output for x to out. It runs a plan, and plans anew
// what failing launches leave undone, until every row is computed; then it sums
// them.
func (f *forward) run(ctx context.Context, out, x []float32) error {
	f.planner = f.Layer.planner
	if len(x) == f.weights.Hidden && f.router != nil {
		if done, err := f.decode(ctx, out, x); done || err != nil {
			return err
		}
	}
	if err := f.begin(ctx, out, x); err != nil {
		return err
	}
	for {
		summed, err := f.submit(ctx)
		if err != nil {
			return err
		}
		if err := f.host(ctx, f.draft.Host); err != nil {
			return err
		}
		undone := f.settle()
		if len(undone) == 0 {
			return f.output(ctx, out, summed)
		}
		if err = f.planner.plan(&f.draft, f.a, undone); err != nil {
			return err
		}
	}
}

// end lets go of what the caller gave.
func (f *forward) end() {
	f.x = nil
	f.views.show(nil, nil)
}

// begin routes the tokens of x, plans, and fills the buffers that launches
// read.
func (f *forward) begin(ctx context.Context, out, x []float32) error {
	tokens := len(x) / f.weights.Hidden
	f.shape = runtime.Shape{
		Tokens:       uint32(tokens),
		Slots:        uint32(f.slots()),
		Experts:      uint32(len(f.planner.experts)),
		Hidden:       uint32(f.weights.Hidden),
		Intermediate: uint32(f.weights.Intermediate),
		Rows:         uint32(tokens * f.slots()),
	}
	f.x, f.a = x, &f.rows
	if f.inPlace = f.views.show(out, x); f.inPlace {
		f.args["x"], f.args["out"] = runtime.Arg{Buffer: f.views.x}, runtime.Arg{Buffer: f.views.out}
	} else if err := f.copies(x); err != nil {
		return err
	}
	if err := f.route(ctx, x); err != nil {
		return err
	}
	if err := f.assign(&f.rows, &f.routing, &f.chosen, &f.prob); err != nil {
		return err
	}
	if err := f.planner.plan(&f.draft, f.a, nil); err != nil {
		return err
	}
	f.args["weights"] = runtime.Arg{Buffer: f.data}
	rows := len(f.a.Token)
	for _, result := range [...]struct {
		name string
		size int
	}{
		{"h", rows * f.weights.Intermediate}, {"y", rows * f.weights.Hidden},
	} {
		b, err := f.buffer(result.name, 4*result.size)
		if err != nil {
			return err
		}
		f.args[result.name] = runtime.Arg{Buffer: b}
	}
	return nil
}

// copies makes buffers of the device the arguments for x, which it copies, and
// for the output.
func (f *forward) copies(x []float32) error {
	for _, name := range [...]string{"x", "out"} {
		b, err := f.buffer(name, 4*len(x))
		if err != nil {
			return err
		}
		f.args[name] = runtime.Arg{Buffer: b}
	}
	_, err := f.args["x"].Buffer.WriteAt(bytesOf(x), 0)
	return err
}

// submit launches both passes of the plan in one go, and the sum as well if the
// host has no part in it. It returns whether the sum is made; the kernels whose
// launches failed are in f.
func (f *forward) submit(ctx context.Context) (summed bool, err error) {
	f.given, f.shapes, f.failed = f.given[:0], f.shapes[:0], nil
	if err := f.list(); err != nil {
		return false, err
	}
	if len(f.draft.GateUp) == 0 {
		return false, ctx.Err()
	}
	lists, offsets := f.args["row"].Buffer, f.offsets
	for _, steps := range [...][]Step{f.draft.GateUp, f.draft.Down} {
		for i := range steps {
			s := &steps[i]
			f.args["work"] = runtime.Arg{Buffer: lists, Offset: offsets[0]}
			f.args["experts"] = runtime.Arg{Buffer: f.experts[s.Kernel.Codec]}
			f.launch(s.Kernel, len(s.Work))
			offsets = offsets[1:]
		}
		f.queue.Barrier()
	}
	combine, err := f.planner.combine()
	if summed = err == nil && len(f.draft.Host) == 0; summed {
		f.launch(combine.Kernel, 0)
	}
	if err := f.wait(ctx); err != nil {
		return false, err
	}
	if summed {
		summed = f.failed[combine.Kernel] == nil
		f.countLaunch(combine.Kernel)
	}
	return summed, nil
}

// list makes the lists of the plan one buffer, which is written at once: on some
// devices the smallest write costs as much as a small kernel.
func (f *forward) list() error {
	f.lists, f.offsets = f.lists[:0], f.offsets[:0]
	begin := func() int {
		for len(f.lists)%runtime.Align != 0 {
			f.lists = append(f.lists, 0)
		}
		return len(f.lists)
	}
	var at [3]int
	names := [...]string{"token", "prob", "row"}
	for i, content := range [...][]byte{bytesOf(f.a.Token), bytesOf(f.a.Prob), bytesOf(f.a.Row)} {
		at[i] = begin()
		f.lists = append(f.lists, content...)
	}
	for _, steps := range [...][]Step{f.draft.GateUp, f.draft.Down} {
		for i := range steps {
			f.offsets = append(f.offsets, begin())
			for _, w := range steps[i].Work {
				f.lists = runtime.AppendWork(f.lists, w)
			}
		}
	}
	b, err := f.buffer("lists", len(f.lists))
	if err != nil {
		return err
	}
	for i, name := range names {
		f.args[name] = runtime.Arg{Buffer: b, Offset: at[i]}
	}
	_, err = b.WriteAt(f.lists, 0)
	return err
}

// launch enqueues kernel k over the given number of entries of the work list.
func (f *forward) launch(k *runtime.Kernel, items int) {
	shape := f.shape
	shape.Items = uint32(items)
	at := len(f.shapes)
	f.shapes = runtime.AppendShape(f.shapes, shape)
	f.args["shape"] = runtime.Arg{Bytes: f.shapes[at:len(f.shapes):len(f.shapes)]}
	first := len(f.given)
	for _, b := range k.Bindings {
		arg, ok := f.args[b.Name]
		if !ok {
			f.fail(k, &runtime.LaunchError{Kernel: k, Err: fmt.Errorf("the layer has no argument called %s", b.Name)})
			return
		}
		f.given = append(f.given, arg)
	}
	if err := f.queue.Launch(runtime.Launch{Kernel: k, Shape: shape, Args: f.given[first:len(f.given):len(f.given)]}); err != nil {
		f.fail(k, err)
	}
}

func (f *forward) fail(k *runtime.Kernel, err error) {
	if f.failed == nil {
		f.failed = map[*runtime.Kernel]error{}
	}
	f.failed[k] = err
}

// wait waits for the queue and notes the launches that failed.
func (f *forward) wait(ctx context.Context) error {
	err := f.queue.Wait(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	launches, only := runtime.FailedLaunches(err)
	if !only {
		return err
	}
	for _, e := range launches {
		f.fail(e.Kernel, e)
	}
	return nil
}

// settle counts what the plan did and marks the failed kernels. It returns the
// experts whose rows they leave undone.
func (f *forward) settle() map[int]bool {
	f.markFailed()
	var undone map[int]bool
	for _, steps := range [...][]Step{f.draft.GateUp, f.draft.Down} {
		for i := range steps {
			f.countLaunch(steps[i].Kernel)
			if f.failed[steps[i].Kernel] == nil {
				continue
			}
			for _, g := range steps[i].Groups {
				for _, e := range g.Experts {
					if undone == nil {
						undone = map[int]bool{}
					}
					undone[e] = true
				}
			}
		}
	}
	f.countGroups(f.draft.Host, undone)
	for i := range f.draft.GateUp {
		f.countGroups(f.draft.GateUp[i].Groups, undone)
	}
	return undone
}

// markFailed takes the failed kernels from what there is to plan with.
func (f *forward) markFailed() {
	if len(f.failed) == 0 {
		return
	}
	have := maps.Clone(f.planner.have)
	for k, err := range f.failed {
		have[k.Symbol] = runtime.Status{State: runtime.Broken, Words: err.Error()}
	}
	f.planner.have, f.planner.memory = have, nil
}

func (f *forward) countGroups(groups []Group, undone map[int]bool) {
	for i := range groups {
		g := &groups[i]
		if undone[g.Experts[0]] {
			continue
		}
		f.counters.assign(g.Tuple, g.Rows)
		for _, fallback := range g.Fallbacks {
			f.counters.fallback(fallback)
		}
	}
}

func (f *forward) countLaunch(k *runtime.Kernel) {
	if f.failed[k] == nil {
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
			y, err := host(ctx, f.workers, f.codecs[e.Codec], f.weights.Data, e, x)
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

// output writes the sum over slots to out. If it is not made yet, the device
// makes it or, failing that, the host.
func (f *forward) output(ctx context.Context, out []float32, summed bool) error {
	choice, err := f.planner.combine()
	if err == nil && !summed {
		f.failed = nil
		f.launch(choice.Kernel, 0)
		if err := f.wait(ctx); err != nil {
			return err
		}
		f.countLaunch(choice.Kernel)
		f.markFailed()
		choice, err = f.planner.combine()
	}
	if err == nil {
		if f.inPlace {
			return nil
		}
		return f.read("out", out)
	}
	var none *runtime.NoKernelError
	if !errors.As(err, &none) {
		return err
	}
	for _, fallback := range appendSteps(nil, runtime.Combine, runtime.BitTuple{}, none.Passed, Host) {
		f.counters.fallback(fallback)
	}
	return f.sum(out)
}

// sum sets out to the sums of the rows of y, in slot order, as the combine
// kernel does.
func (f *forward) sum(out []float32) error {
	hidden := f.weights.Hidden
	y := make([]float32, len(f.a.Token)*hidden)
	if err := f.read("y", y); err != nil {
		return err
	}
	clear(out)
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
	return readInto(vs, func(p []byte) error {
		_, err := f.args[name].Buffer.ReadAt(p, 0)
		return err
	})
}
