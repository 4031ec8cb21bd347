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
	pending []runtime.Launch
	closed  bool
}

var (
	errQueueClosed = errors.New("the queue is closed")
	errNotRun      = errors.New("not run")
)

// Launch enqueues l. Of what can be wrong it reports what does not depend on
// the contents of buffers; Wait reports the rest.
func (q *queue) Launch(l runtime.Launch) error {
	if err := q.check(l); err != nil {
		return &runtime.LaunchError{Kernel: l.Kernel, Err: err}
	}
	n := len(q.pending)
	q.pending = slices.Grow(q.pending, 1)[:n+1]
	l.Args = append(q.pending[n].Args[:0], l.Args...) // where those of an earlier launch were
	q.pending[n] = l
	return nil
}

func (q *queue) check(l runtime.Launch) error {
	if q.closed || q.library.closed.Load() {
		return errQueueClosed
	}
	if err := l.CheckOn(q.library.have, stateOf); err != nil {
		return err
	}
	c := calls.get()
	defer calls.put(c)
	args, err := c.argumentsOf(l)
	if err != nil {
		return err
	}
	return c.prepare(l.Kernel, l.Shape, args)
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

// Barrier does nothing: launches run one after another.
func (q *queue) Barrier() {}

// Wait runs the launches. When ctx ends it stops between two tiles of a launch;
// what was not done is dropped, with a *LaunchError each.
func (q *queue) Wait(ctx context.Context) error {
	if q.closed {
		return errQueueClosed
	}
	pending := q.pending
	defer q.forget()
	var errs []error
	for i, l := range pending {
		if err := ctx.Err(); err != nil {
			for _, l := range pending[i:] {
				errs = append(errs, &runtime.LaunchError{Kernel: l.Kernel, Err: errNotRun})
			}
			break
		}
		if err := q.run(ctx, l); err != nil {
			errs = append(errs, &runtime.LaunchError{Kernel: l.Kernel, Err: err})
		}
	}
	if len(errs) > 0 && ctx.Err() != nil {
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}

func (q *queue) run(ctx context.Context, l runtime.Launch) error {
	if err := l.CheckOn(q.library.have, stateOf); err != nil { // again: a buffer may have been closed since
		return err
	}
	c := calls.get()
	defer calls.put(c)
	args, err := c.argumentsOf(l)
	if err != nil {
		return err
	}
	return c.do(ctx, q.library.device.engine, l.Kernel, l.Shape, args)
}

// forget empties the queue, but keeps its memory.
func (q *queue) forget() {
	for i := range q.pending {
		args := q.pending[i].Args
		clear(args)
		q.pending[i] = runtime.Launch{Args: args[:0]}
	}
	q.pending = q.pending[:0]
}

// Close ends the use of q; launches that were not waited for are dropped.
func (q *queue) Close() error {
	q.closed, q.pending = true, nil
	return nil
}
