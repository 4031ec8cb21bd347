package cuda

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// A queue is a stream.
type queue struct {
	library    *library
	stream     driver.Stream
	begin, end driver.Event      // around what Wait waits for
	params     *driver.Params    // of a launch
	pending    []*runtime.Kernel // launched, and not waited for
	busy       bool              // something is in the stream
	after      bool              // the last thing in the stream is a launch
	written    []*buffer         // by it, and by those before it that may not have ended when the next one begins
	seen       uint64            // writes that the stream waits for
	elapsed    time.Duration
	recording  *graph // nil if launches run
	closed     bool
}

var (
	_ runtime.Recorder = (*queue)(nil)
	_ runtime.Copier   = (*queue)(nil)
	_ runtime.Timer    = (*queue)(nil)
)

var errQueueClosed = errors.New("the queue is closed")

// NewQueue returns a queue, which is a runtime.Recorder, a runtime.Copier and a
// runtime.Timer.
func (l *library) NewQueue() (runtime.Queue, error) {
	if l.closed.Load() {
		return nil, errClosed
	}
	d := l.device
	if err := d.hold(); err != nil {
		return nil, err
	}
	q := &queue{library: l, params: new(driver.Params)}
	err := d.do(func() (err error) {
		if q.stream, err = d.api.NewStream(); err != nil {
			return err
		}
		if q.begin, err = d.api.NewEvent(); err != nil {
			return err
		}
		q.end, err = d.api.NewEvent()
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cuda: a queue: %w", err), q.Close())
	}
	return q, nil
}

// Launch puts l into the stream, where it may begin at once.
func (q *queue) Launch(l runtime.Launch) error {
	if err := q.launch(l); err != nil {
		return &runtime.LaunchError{Kernel: l.Kernel, Err: err}
	}
	return nil
}

func (q *queue) launch(l runtime.Launch) error {
	if err := q.prepare(l); err != nil {
		return err
	}
	groups := l.Kernel.Groups(l.Shape)
	if groups[0] == 0 || groups[1] == 0 || groups[2] == 0 {
		return nil
	}
	d := q.library.device
	f := q.library.functions[l.Kernel.Symbol]
	put := func() error {
		early := f.waits && q.after && !q.dependsEarly(l)
		if err := d.api.Launch(f.handle, groups, l.Kernel.Threads, l.Kernel.ThreadgroupBytes, early, q.stream, q.params); err != nil {
			return err
		}
		if !early || !f.leads {
			q.written = q.written[:0]
		}
		q.after = true
		for i, b := range l.Kernel.Bindings {
			if b.Access == runtime.Write {
				q.written = append(q.written, l.Args[i].Buffer.(*buffer))
			}
		}
		return nil
	}
	if g := q.recording; g != nil {
		if err := put(); err != nil {
			return err
		}
		g.add(l)
		return nil
	}
	return q.enqueue(put, l.Kernel)
}

// dependsEarly reports whether a launch that may not have ended writes what l may
// read before it waits.
func (q *queue) dependsEarly(l runtime.Launch) bool {
	early := l.Kernel.Pass.Early()
	for i, b := range l.Kernel.Bindings {
		if slices.Contains(early, b.Name) && slices.Contains(q.written, l.Args[i].Buffer.(*buffer)) {
			return true
		}
	}
	return false
}

// enqueue calls put, which puts runs of kernels into the stream.
func (q *queue) enqueue(put func() error, kernels ...*runtime.Kernel) error {
	d := q.library.device
	return d.do(func() error {
		seen, err := d.transfers.order(d.api, q.stream, q.seen)
		if err != nil {
			return err
		}
		q.seen, q.after = seen, q.after && seen == q.seen
		if !q.busy {
			if err := d.api.Record(q.begin, q.stream); err != nil {
				return err
			}
			q.busy = true
		}
		if err := put(); err != nil {
			return err
		}
		q.pending = append(q.pending, kernels...)
		return nil
	})
}

// prepare checks l and makes parameters of its arguments.
func (q *queue) prepare(l runtime.Launch) error {
	if q.closed || q.library.closed.Load() {
		return errQueueClosed
	}
	if err := l.CheckOn(q.library.have, q.library.device.state); err != nil {
		return err
	}
	q.params.Reset()
	for i, binding := range l.Kernel.Bindings {
		arg := l.Args[i]
		if binding.Access == runtime.Constant {
			if err := q.params.Add(arg.Bytes); err != nil {
				return err
			}
			continue
		}
		b := arg.Buffer.(*buffer)
		if err := q.params.AddPointer(b.at + driver.Pointer(arg.Offset)); err != nil {
			return err
		}
	}
	return nil
}

// Copy puts a copy into the stream. Its error is no *runtime.LaunchError: there
// is no kernel to do without.
func (q *queue) Copy(to, from runtime.Pieces, size, count int) error {
	if q.closed || q.library.closed.Load() {
		return errQueueClosed
	}
	dst, err := q.pieces(to, size, count)
	if err != nil {
		return fmt.Errorf("copy to: %w", err)
	}
	src, err := q.pieces(from, size, count)
	switch {
	case err != nil:
		return fmt.Errorf("copy from: %w", err)
	case dst.readOnly:
		return errors.New("copy to: the buffer is read-only")
	case size == 0 || count == 0:
		return nil
	}
	d := q.library.device
	put := func() error {
		q.after = false
		return d.api.CopyRows(dst.at+driver.Pointer(to.Offset), src.at+driver.Pointer(from.Offset), to.Stride, from.Stride, size, count, q.stream)
	}
	if g := q.recording; g != nil {
		g.buffers = append(g.buffers, dst, src)
		return put()
	}
	return q.enqueue(put)
}

// pieces returns the buffer of p, if they lie in it.
func (q *queue) pieces(p runtime.Pieces, size, count int) (*buffer, error) {
	b, ok := p.Buffer.(*buffer)
	switch {
	case !ok || b.device != q.library.device:
		return nil, fmt.Errorf("a %T is no buffer of this device", p.Buffer)
	case b.closed:
		return nil, runtime.ErrBufferClosed
	case size < 0 || count < 0 || p.Stride < size || p.Offset < 0 || p.Offset+max(0, count-1)*p.Stride+size > b.size:
		return nil, fmt.Errorf("%d pieces of %d bytes, %d apart from %d on, in a buffer of %d", count, size, p.Stride, p.Offset, b.size)
	}
	return b, nil
}

// Barrier does nothing: what is in a stream runs in order.
func (q *queue) Barrier() {}

// Wait waits for the stream, also when ctx has ended: nothing can stop it.
func (q *queue) Wait(ctx context.Context) error {
	switch {
	case q.closed:
		return errQueueClosed
	case q.recording != nil:
		return errRecording
	}
	q.after = false
	pending, busy := q.pending, q.busy
	q.pending, q.busy, q.elapsed = q.pending[:0], false, 0
	if !busy {
		return nil
	}
	d := q.library.device
	err := d.do(func() (err error) {
		if err := d.api.Record(q.end, q.stream); err != nil {
			return err
		}
		if err := d.api.Synchronize(q.stream); err != nil {
			return err
		}
		q.elapsed, err = d.api.Elapsed(q.begin, q.end)
		return err
	})
	if err == nil {
		return ctx.Err()
	}
	// Which of them it was, the driver does not say.
	errs := []error{err}
	for _, k := range pending {
		errs = append(errs, &runtime.LaunchError{Kernel: k, Err: errors.New("it may not have been done")})
	}
	return errors.Join(errs...)
}

// GPUTime returns how long the stream took for what the last Wait waited for.
func (q *queue) GPUTime() time.Duration { return q.elapsed }

// Close waits for what is in the stream, and ends the use of q.
func (q *queue) Close() error {
	if q.closed {
		return nil
	}
	q.closed, q.pending = true, nil
	d := q.library.device
	err := d.do(func() error {
		var errs []error
		if q.stream != 0 {
			errs = append(errs, d.api.Synchronize(q.stream), d.api.DestroyStream(q.stream))
		}
		for _, e := range []driver.Event{q.begin, q.end} {
			if e != 0 {
				errs = append(errs, d.api.DestroyEvent(e))
			}
		}
		return errors.Join(errs...)
	})
	return errors.Join(known(err), d.release())
}
