package devicetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// contract holds what package runtime promises of every device.
var contract = []struct {
	name  string
	check func(*session) error
}{
	{"info", checkInfo},
	{"unknown kernels", checkUnknown},
	{"buffers", checkBuffers},
	{"wrapped buffers", checkWrapped},
	{"views", checkViews},
	{"bad launches", checkBadLaunches},
	{"wait", checkWait},
	{"barriers", checkBarriers},
	{"cancellation", checkCancellation},
	{"queues at once", checkQueues},
	{"closing", checkClosing},
}

func checkInfo(s *session) error {
	if info := s.dev.Info(); info.Name == "" || info.Kind == "" || info.Threads < 1 {
		return fmt.Errorf("a device without a name, a kind or threads: %+v", info)
	}
	return nil
}

func checkUnknown(s *session) error {
	k := &runtime.Kernel{Body: &runtime.Body{Pass: "no_such_pass", Source: "no_such.metal"}, Kind: runtime.Helper, Symbol: "moe_no_such_kernel"}
	lib, err := s.dev.Load(s.ctx, &runtime.Table{Kernels: []*runtime.Kernel{k}}, nothing{})
	if err != nil {
		return fmt.Errorf("load of a table with an unknown kernel: %w", err)
	}
	defer lib.Close()
	if have := lib.Availability().Of(k); have.State == runtime.Present {
		return errors.New("a kernel that nobody wrote is present")
	}
	q, err := lib.NewQueue()
	if err != nil {
		return err
	}
	defer q.Close()
	return wantLaunchError(q.Launch(runtime.Launch{Kernel: k}), "of a kernel that is not present")
}

func checkBuffers(s *session) error {
	const size = 1000
	b, err := s.dev.NewBuffer(size)
	if err != nil {
		return err
	}
	defer b.Close()
	have, err := contents(b)
	switch {
	case err != nil:
		return err
	case b.Size() != size:
		return fmt.Errorf("a buffer of %d bytes has %d", size, b.Size())
	case !bytes.Equal(have, make([]byte, size)):
		return errors.New("a new buffer is not all zero")
	}
	data := []byte("twelve bytes")
	if n, err := b.WriteAt(data, 7); n != len(data) || err != nil {
		return fmt.Errorf("write at 7: %d, %w", n, err)
	}
	want := make([]byte, size)
	copy(want[7:], data)
	if have, err = contents(b); err != nil || !bytes.Equal(have, want) {
		return fmt.Errorf("what was written at 7 is not there, %w", err)
	}
	p := make([]byte, len(data))
	if n, err := b.ReadAt(p, 7); n != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, data) {
		return fmt.Errorf("read at 7: %d, %w, %q", n, err, p)
	}
	for _, off := range []int64{-1, size - 11, size, size + 1, 1 << 62} {
		if _, err := b.ReadAt(p, off); err == nil {
			return fmt.Errorf("read of %d bytes at %d of %d: no error", len(p), off, size)
		}
		if _, err := b.WriteAt(data, off); err == nil {
			return fmt.Errorf("write of %d bytes at %d of %d: no error", len(p), off, size)
		}
	}
	if bad, err := s.dev.NewBuffer(-1); err == nil {
		bad.Close()
		return errors.New("a buffer of -1 bytes: no error")
	}
	return nil
}

func checkWrapped(s *session) error {
	host := bytes.Repeat([]byte("marlin"), 1000)
	b, err := s.dev.Wrap(host)
	if err != nil {
		return err
	}
	defer b.Close()
	if have, err := contents(b); err != nil || !bytes.Equal(have, host) {
		return fmt.Errorf("a wrapped buffer does not hold the host's bytes, %w", err)
	}
	if _, err := b.WriteAt([]byte("x"), 0); err == nil {
		return errors.New("write to a wrapped buffer: no error")
	}
	k, c, err := smallLaunch(s)
	if err != nil {
		return err
	}
	l, err := c.launch(s, k)
	if err != nil {
		return err
	}
	l.Args[len(l.Args)-1] = runtime.Arg{Buffer: b}
	if err := wantLaunchError(errors.Join(s.queue.Launch(l), s.queue.Wait(s.ctx)), "that writes to a wrapped buffer"); err != nil {
		return err
	}
	if !bytes.Equal(host, bytes.Repeat([]byte("marlin"), 1000)) {
		return errors.New("a launch wrote to a wrapped buffer")
	}
	return nil
}

// checkViews launches on memory of the host, one piece after another, if the device
// computes there.
func checkViews(s *session) error {
	viewer, ok := s.dev.(runtime.Viewer)
	if !ok {
		return nil
	}
	var views [2]runtime.View
	for i := range views {
		v, err := viewer.NewView()
		if err != nil {
			return err
		}
		defer v.Close()
		if v.Size() != 0 {
			return fmt.Errorf("a view of nothing has %d bytes", v.Size())
		}
		views[i] = v
	}
	k, _, err := smallLaunch(s)
	if err != nil {
		return err
	}
	var l runtime.Launch
	for round := range 3 {
		c := newGroupCase(100+50*round, 5, 33, uint64(round))
		if l, err = c.launch(s, k); err != nil {
			return err
		}
		chosen, want := encode(c.chosen), encode(c.counts)
		host := bytes.Repeat([]byte{poison}, guard+len(want)+guard)
		counts := host[guard : guard+len(want)]
		views[0].Show(chosen)
		views[1].Show(counts)
		for i, v := range views {
			l.Args[len(l.Args)-2+i] = runtime.Arg{Buffer: v}
		}
		if err := errors.Join(s.queue.Launch(l), s.queue.Wait(s.ctx)); err != nil {
			return fmt.Errorf("a launch on views: %w", err)
		}
		if !bytes.Equal(counts, want) {
			return errors.New("a view does not show what a launch wrote")
		}
		if have, err := contents(views[1]); err != nil || !bytes.Equal(have, want) {
			return fmt.Errorf("what a launch wrote cannot be read from a view, %w", err)
		}
		if _, err := views[1].WriteAt([]byte("four"), 4); err != nil || string(counts[4:8]) != "four" {
			return fmt.Errorf("what was written to a view is not in it, %w", err)
		}
		if rim := append(host[:guard:guard], host[guard+len(want):]...); !bytes.Equal(rim, bytes.Repeat([]byte{poison}, 2*guard)) {
			return errors.New("a launch wrote beside a view")
		}
	}
	views[1].Show(nil)
	return wantLaunchError(errors.Join(s.queue.Launch(l), s.queue.Wait(s.ctx)), "on a view of nothing")
}

// A small launch is the kernel that the contract is tested with: count, which
// is exact and which every device has.
func smallLaunch(s *session) (*runtime.Kernel, *groupCase, error) {
	for _, k := range s.table.Kernels {
		if k.Pass == runtime.Count && s.lib.Availability().Of(k).State == runtime.Present {
			return k, newGroupCase(100, 5, 33, 1), nil
		}
	}
	return nil, nil, errors.New("no kernel of pass count is present")
}

// launch makes the launch of a count kernel.
func (c *groupCase) launch(s *session, k *runtime.Kernel) (runtime.Launch, error) {
	return s.launch(k, c.shape, inputs{"chosen": encode(c.chosen)}, outputs{"counts": 4 * len(c.counts)})
}

func wantLaunchError(err error, what string) error {
	if failed, only := runtime.FailedLaunches(err); len(failed) == 0 || !only {
		return fmt.Errorf("a launch %s: %v, want a *LaunchError", what, err)
	}
	return nil
}

func checkBadLaunches(s *session) error {
	k, c, err := smallLaunch(s)
	if err != nil {
		return err
	}
	for what, spoil := range map[string]func(*runtime.Launch){
		"without arguments":                   func(l *runtime.Launch) { l.Args = nil },
		"with too few arguments":              func(l *runtime.Launch) { l.Args = l.Args[:2] },
		"with too many arguments":             func(l *runtime.Launch) { l.Args = append(l.Args, l.Args[2]) },
		"with a constant for a buffer":        func(l *runtime.Launch) { l.Args[1] = l.Args[0] },
		"with a buffer for a constant":        func(l *runtime.Launch) { l.Args[0] = l.Args[1] },
		"with a constant that is too short":   func(l *runtime.Launch) { l.Args[0].Bytes = l.Args[0].Bytes[4:] },
		"with no buffer":                      func(l *runtime.Launch) { l.Args[1] = runtime.Arg{} },
		"with a negative offset":              func(l *runtime.Launch) { l.Args[1].Offset = -4 },
		"with an offset past the buffer":      func(l *runtime.Launch) { l.Args[1].Offset = l.Args[1].Buffer.Size() + 4 },
		"with an offset that is not of words": func(l *runtime.Launch) { l.Args[1].Offset++ },
	} {
		l, err := c.launch(s, k)
		if err != nil {
			return err
		}
		spoil(&l)
		if err := wantLaunchError(s.queue.Launch(l), what); err != nil {
			return err
		}
		if err := s.queue.Wait(s.ctx); err != nil {
			return fmt.Errorf("wait after a launch %s that was refused: %w", what, err)
		}
		if err := c.check(s, k); err != nil {
			return fmt.Errorf("after a launch %s: %w", what, err)
		}
	}
	return nil
}

func checkWait(s *session) error {
	for range 3 {
		if err := s.queue.Wait(s.ctx); err != nil {
			return fmt.Errorf("wait for nothing: %w", err)
		}
		s.queue.Barrier()
	}
	return nil
}

// checkBarriers counts, sums and scatters in one submission, each launch on
// what the one before it wrote.
func checkBarriers(s *session) error {
	kernels := make(map[runtime.Pass]*runtime.Kernel)
	for _, k := range s.table.Kernels {
		if s.lib.Availability().Of(k).State == runtime.Present && kernels[k.Pass] == nil {
			kernels[k.Pass] = k
		}
	}
	for round := range 3 {
		c := newGroupCase(300+round, 5, 40, uint64(round))
		args := make(map[string]runtime.Arg)
		place := func(name string, size int, data []byte) error {
			arg, err := s.place(name, size, data)
			args[name] = arg
			return err
		}
		rows, sums := 4*len(c.chosen), 4*len(c.counts)
		err := errors.Join(
			place("chosen", rows, encode(c.chosen)), place("chosen_prob", rows, encode(c.prob)),
			place("counts", sums, nil), place("base", sums, nil), place("offsets", 4*len(c.offsets), nil),
			place("token", rows, nil), place("prob", rows, nil), place("row", rows, nil),
		)
		if err != nil {
			return err
		}
		l := &layer{session: s, args: args}
		for _, pass := range []runtime.Pass{runtime.Count, runtime.Prefix, runtime.Scatter} {
			if kernels[pass] == nil {
				return fmt.Errorf("no kernel of pass %s is present", pass)
			}
			if err := l.launch(kernels[pass], c.shape, args); err != nil {
				return err
			}
			s.queue.Barrier()
		}
		if err := s.queue.Wait(s.ctx); err != nil {
			return err
		}
		have, err := s.results(outputs{"offsets": 4 * len(c.offsets), "token": rows, "prob": rows, "row": rows})
		if err != nil {
			return err
		}
		want := results{"offsets": encode(c.offsets), "token": encode(c.token), "prob": encode(c.rowProb), "row": encode(c.row)}
		for name, data := range want {
			if !bytes.Equal(have[name], data) {
				return fmt.Errorf("argument %s: wrong, though barriers stood between the launches", name)
			}
		}
	}
	return checkGateUpDown(s)
}

// checkGateUpDown runs an expert, gate_up and down in one submission.
func checkGateUpDown(s *session) error {
	for _, codec := range s.table.Codecs {
		w, err := newWeights(codec)
		if err != nil {
			return err
		}
		const hidden, intermediate = 80, 112
		r := rand.New(rand.NewPCG(1, 6))
		tuple := runtime.BitTuple{Gate: codec.Widths[0], Up: codec.Widths[1], Down: codec.Widths[2]}
		e, err := w.expert(r, tuple, hidden, intermediate, runtime.GateUp, runtime.Down)
		if err != nil {
			return err
		}
		x, prob := normal(r, hidden, 1), []float32{1}
		shape := runtime.Shape{Tokens: 1, Slots: 1, Experts: 1, Hidden: hidden, Intermediate: intermediate, Rows: 1, Items: 1}
		in := inputs{
			"weights": w.data, "experts": w.descriptors, "work": encode(runtime.Work{Rows: 1}),
			"token": encode([]uint32{0}), "x": encode(x), "prob": encode(prob),
		}
		there := make(map[string]runtime.Arg) // h, and what both passes read
		for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
			choice, err := runtime.Select(s.table, s.lib.Availability(), runtime.Request{Pass: pass, Codec: codec.Name, Tuple: tuple, Rows: 1})
			if err != nil {
				return err
			}
			l, err := s.launchOn(choice.Kernel, shape, in, outputs{"h": 4 * intermediate, "y": 4 * hidden}, there)
			if err != nil {
				return err
			}
			for i, b := range choice.Kernel.Bindings {
				there[b.Name] = l.Args[i]
			}
			if err := s.queue.Launch(l); err != nil {
				return err
			}
			s.queue.Barrier()
		}
		if err := s.queue.Wait(s.ctx); err != nil {
			return err
		}
		have, err := s.results(outputs{"y": 4 * hidden})
		if err != nil {
			return err
		}
		want := e.Forward(oracle.Floats(x))
		for i := range want.Magnitude {
			want.Magnitude[i] *= 2 // of both passes
		}
		if err := s.judge(decodeFloats(have["y"]), want); err != nil {
			return fmt.Errorf("codec %s: down after gate_up: %w", codec.Name, err)
		}
	}
	return nil
}

func checkCancellation(s *session) error {
	k, c, err := smallLaunch(s)
	if err != nil {
		return err
	}
	l, err := c.launch(s, k)
	if err != nil {
		return err
	}
	for range 50 {
		if err := s.queue.Launch(l); err != nil {
			return err
		}
		s.queue.Barrier()
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	// A device may have been done before it was asked.
	if err := s.queue.Wait(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("wait with a context that has ended: %w", err)
	}
	if err := c.check(s, k); err != nil {
		return fmt.Errorf("after a context ended: %w", err)
	}
	return nil
}

// checkQueues uses a library from several goroutines.
func checkQueues(s *session) error {
	k, _, err := smallLaunch(s)
	if err != nil {
		return err
	}
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			errs[i] = withSession(s.ctx, s.dev, s.lib, s.table, func(s *session) error {
				for round := range 5 {
					if err := newGroupCase(200+50*i, 4, 20+round, uint64(i)).check(s, k); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func checkClosing(s *session) error {
	k, c, err := smallLaunch(s)
	if err != nil {
		return err
	}
	l, err := c.launch(s, k)
	if err != nil {
		return err
	}
	closed, err := s.dev.NewBuffer(4096)
	if err != nil {
		return err
	}
	if err := closed.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if _, err := closed.ReadAt(make([]byte, 1), 0); err == nil {
		return errors.New("read of a closed buffer: no error")
	}
	l.Args[1] = runtime.Arg{Buffer: closed}
	if err := wantLaunchError(errors.Join(s.queue.Launch(l), s.queue.Wait(s.ctx)), "with a closed buffer"); err != nil {
		return err
	}
	if err := c.check(s, k); err != nil {
		return fmt.Errorf("after a launch with a closed buffer: %w", err)
	}

	q, err := s.lib.NewQueue()
	if err != nil {
		return err
	}
	if err := q.Close(); err != nil {
		return err
	}
	if l, err = c.launch(s, k); err != nil {
		return err
	}
	return wantLaunchError(q.Launch(l), "on a closed queue")
}
