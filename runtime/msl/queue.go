package msl

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// A queue keeps launches until Wait runs them, one after another.
type queue struct {
	library *library
	pending []runtime.Launch
	closed  bool
}

var (
	errQueueClosed = errors.New("the queue is closed")
	errNotRun      = errors.New("not run")
)

// Launch enqueues l.
func (q *queue) Launch(l runtime.Launch) error {
	if err := q.check(l); err != nil {
		return &runtime.LaunchError{Kernel: l.Kernel, Err: err}
	}
	l.Args = append([]runtime.Arg(nil), l.Args...)
	q.pending = append(q.pending, l)
	return nil
}

func (q *queue) check(l runtime.Launch) error {
	if q.closed || q.library.closed.Load() {
		return errQueueClosed
	}
	return l.CheckOn(q.library.have, q.library.device.state)
}

// Barrier does nothing: launches run one after another.
func (q *queue) Barrier() {}

// Wait runs the launches. When ctx ends it ends the one that runs; the others are
// dropped, with a *LaunchError each.
func (q *queue) Wait(ctx context.Context) error {
	if q.closed {
		return errQueueClosed
	}
	pending := q.pending
	q.pending = nil
	var errs []error
	for _, l := range pending {
		err := errNotRun
		if ctx.Err() == nil {
			err = q.run(ctx, l)
		}
		if err != nil {
			errs = append(errs, &runtime.LaunchError{Kernel: l.Kernel, Err: err})
		}
	}
	if len(errs) > 0 && ctx.Err() != nil {
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}

func (q *queue) run(ctx context.Context, l runtime.Launch) error {
	if err := q.check(l); err != nil { // again: a buffer may have been closed since
		return err
	}
	groups := l.Kernel.Groups(l.Shape)
	if groups[0] == 0 || groups[1] == 0 || groups[2] == 0 {
		return nil
	}
	d := q.library.device
	p, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	entry := q.library.entries[l.Kernel.Symbol]
	violations, err := q.send(ctx, p, entry, l, groups)
	died := errors.As(err, new(*death))
	d.release(p, died)

	var errs []error
	for _, v := range violations {
		errs = append(errs, parseViolation(v, l.Kernel, entry.lines))
	}
	switch {
	case died && ctx.Err() != nil:
		return errors.Join(append(errs, errors.New("ended before it was done"))...)
	case err != nil && len(violations) == 0:
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// send has a process run l. The message is the one that the runner documents.
func (q *queue) send(ctx context.Context, p *process, e entry, l runtime.Launch, groups [3]uint32) ([]string, error) {
	o := q.library.device.options
	check, flush := "-", "-"
	if o.Checker {
		check = "check"
	}
	if o.FlushToZero {
		flush = "flush"
	}
	var m strings.Builder
	fmt.Fprintf(&m, "run %s %s %d %d %d %d %d %s %d %s %s", e.library, e.name, groups[0], groups[1], groups[2],
		l.Kernel.Threads, o.Workers, o.Schedule, o.Seed, check, flush)
	for i, binding := range l.Kernel.Bindings {
		arg := l.Args[i]
		if binding.Access == runtime.Constant {
			fmt.Fprintf(&m, " c %d %s", i, hex.EncodeToString(arg.Bytes))
			continue
		}
		b := arg.Buffer.(*buffer)
		if err := p.show(b); err != nil {
			return nil, p.end(err, o.Timeout)
		}
		mode := "r"
		if binding.Access == runtime.Write {
			mode = "rw"
		}
		fmt.Fprintf(&m, " b %d %d %d %s", i, b.id, arg.Offset, mode)
	}
	return p.run(ctx, m.String(), o.Timeout)
}

// Close ends the use of q; launches that were not waited for are dropped.
func (q *queue) Close() error {
	q.closed, q.pending = true, nil
	return nil
}
