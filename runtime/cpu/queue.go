package cpu

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/marlingen/marlingen/runtime"
)

// A queue keeps launches until Wait runs them.
type queue struct {
	library *library
	pending []pending
	closed  bool
}

// A pending launch is one whose arguments fit.
type pending struct {
	kernel  *runtime.Kernel
	buffers []*buffer // of its arguments; nil for a constant
	call    *call
}

var (
	errQueueClosed = errors.New("the queue is closed")
	errNotRun      = errors.New("not run")
)

// Launch enqueues l. Of what can be wrong it reports what does not depend on
// the contents of buffers; Wait reports the rest.
func (q *queue) Launch(l runtime.Launch) error {
	c, err := q.prepare(l)
	if err != nil {
		return &runtime.LaunchError{Kernel: l.Kernel, Err: err}
	}
	n := len(q.pending)
	q.pending = slices.Grow(q.pending, 1)[:n+1]
	p := &q.pending[n]
	p.kernel, p.call, p.buffers = l.Kernel, c, p.buffers[:0] // where those of an earlier launch were
	for _, arg := range l.Args {
		b, _ := arg.Buffer.(*buffer)
		p.buffers = append(p.buffers, b)
	}
	return nil
}

// prepare returns the call of l.
func (q *queue) prepare(l runtime.Launch) (*call, error) {
	if q.closed || q.library.closed.Load() {
		return nil, errQueueClosed
	}
	if err := l.CheckOn(q.library.have, stateOf); err != nil {
		return nil, err
	}
	c := calls.get()
	args, err := c.argumentsOf(l)
	if err == nil {
		err = c.prepare(l.Kernel, l.Shape, args)
	}
	if err != nil {
		c.put()
		return nil, err
	}
	return c, nil
}

// argumentsOf returns the bytes of each argument of l, which was checked, until
// it is called again.
func (c *call) argumentsOf(l runtime.Launch) ([][]byte, error) {
	if len(l.Args) > maxArgs {
		return nil, fmt.Errorf("%d arguments, and no kernel has more than %d", len(l.Args), maxArgs)
	}
	args := c.arguments[:len(l.Args)]
	for i, arg := range l.Args {
		if arg.Buffer == nil {
			args[i] = arg.Bytes
		} else {
			args[i] = arg.Buffer.(*buffer).data[arg.Offset:]
		}
	}
	return args, nil
}

// Barrier does nothing: launches run one after another, or as one if none of them
// reads what another writes.
func (q *queue) Barrier() {}

// Wait runs the launches, as one where they follow one another and can join. When
// ctx ends it stops between two tiles of a launch; what was not done is dropped,
// with a *LaunchError each.
func (q *queue) Wait(ctx context.Context) error {
	if q.closed {
		return errQueueClosed
	}
	defer q.forget()
	var errs []error
	for left := q.pending; len(left) > 0; {
		n, err := 1, errNotRun
		if ctx.Err() == nil {
			n, err = runSome(ctx, q.library.device.engine, left)
		}
		for _, p := range left[:n] {
			if err != nil {
				errs = append(errs, &runtime.LaunchError{Kernel: p.kernel, Err: err})
			}
		}
		left = left[n:]
	}
	if len(errs) > 0 && ctx.Err() != nil {
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}

// runSome runs the first of some launches and those after it that can join it, or
// the first alone if that fails, and returns how many.
func runSome(ctx context.Context, e engine, ps []pending) (n int, err error) {
	first := &ps[0]
	if err := first.open(); err != nil {
		return 1, err
	}
	for n = 1; n < len(ps) && first.call.joins(ps[n].call) && ps[n].open() == nil; n++ {
		first.call.joined = append(first.call.joined, ps[n].call)
	}
	err = first.call.do(ctx, e)
	if err == nil || n == 1 || ctx.Err() != nil {
		return n, err
	}
	first.call.leave()
	return 1, first.call.do(ctx, e)
}

// open reports an argument of p that was closed since the launch.
func (p *pending) open() error {
	for i, b := range p.buffers {
		if b != nil && b.closed {
			return fmt.Errorf("argument %d: %w", i, runtime.ErrBufferClosed)
		}
	}
	return nil
}

// forget empties the queue, but keeps its memory.
func (q *queue) forget() {
	for i := range q.pending {
		p := &q.pending[i]
		p.call.put()
		clear(p.buffers)
		p.kernel, p.call = nil, nil
	}
	q.pending = q.pending[:0]
}

// Close ends the use of q; launches that were not waited for are dropped.
func (q *queue) Close() error {
	q.forget()
	q.closed, q.pending = true, nil
	return nil
}
