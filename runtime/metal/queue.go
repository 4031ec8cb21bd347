package metal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// A Queue collects launches until Wait has the GPU run them, as one command
// buffer.
type Queue struct {
	library *library
	pending []launch
	fenced  bool              // a barrier follows what is pending
	encoded []*runtime.Kernel // of the launches that Wait has run
	gpu     time.Duration
	closed  bool
}

var _ runtime.Queue = (*Queue)(nil)

// A launch is what the queue has still to do.
type launch struct {
	runtime.Launch
	fenced bool // a barrier stands before it
}

var (
	errQueueClosed = errors.New("the queue is closed")
	errNotRun      = errors.New("not run")
)

// Values of Metal's enumerations.
const (
	dispatchTypeConcurrent       = 1
	barrierScopeBuffers          = 1
	commandBufferStatusCompleted = 4
)

// Launch enqueues l.
func (q *Queue) Launch(l runtime.Launch) error {
	if l.Kernel == nil || l.Kernel.Body == nil {
		return &runtime.LaunchError{Kernel: l.Kernel, Err: l.Check()}
	}
	if err := q.check(l); err != nil {
		return &runtime.LaunchError{Kernel: l.Kernel, Err: err}
	}
	n := len(q.pending)
	q.pending = slices.Grow(q.pending, 1)[:n+1]
	l.Args = append(q.pending[n].Args[:0], l.Args...) // where those of an earlier launch were
	q.pending[n] = launch{l, q.fenced}
	q.fenced = false
	return nil
}

func (q *Queue) check(l runtime.Launch) error {
	if q.closed || q.library.closed.Load() {
		return errQueueClosed
	}
	if s := q.library.have.Of(l.Kernel); s.State != runtime.Present {
		return fmt.Errorf("the kernel is %v: %s", s.State, s.Words)
	}
	if most := q.library.pipelines[l.Kernel.Symbol].threads; l.Kernel.Threads < 1 || l.Kernel.Threads > most {
		return fmt.Errorf("a threadgroup of %d threads; the GPU takes %d of this kernel", l.Kernel.Threads, most)
	}
	var errs []error
	for i, arg := range l.Args {
		if b, ok := arg.Buffer.(*Buffer); ok && b.closed {
			errs = append(errs, fmt.Errorf("argument %d: %w", i, errBufferClosed))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := l.Check(); err != nil {
		return err
	}
	for i, binding := range l.Kernel.Bindings {
		if binding.Access == runtime.Constant {
			continue
		}
		b, ok := l.Args[i].Buffer.(*Buffer)
		switch {
		case !ok || b.device != q.library.device:
			errs = append(errs, fmt.Errorf("argument %s: a %T is no buffer of this device", binding.Name, l.Args[i].Buffer))
		case b.locked && binding.Access == runtime.Write:
			errs = append(errs, fmt.Errorf("argument %s: the kernel writes to it, and the buffer is read-only", binding.Name))
		}
	}
	return errors.Join(errs...)
}

// Barrier makes later launches see what earlier ones wrote.
func (q *Queue) Barrier() { q.fenced = len(q.pending) > 0 }

// Wait encodes the launches and has them run. What the GPU has begun it cannot be
// made to leave: when ctx has ended before that, nothing runs; after that, Wait
// returns what came of it. Metal says of a command buffer that it failed, not of
// which launch, so then all of them may have.
func (q *Queue) Wait(ctx context.Context) error {
	if q.closed {
		return errQueueClosed
	}
	defer q.forget()
	q.gpu = 0
	if len(q.pending) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(append(q.allFailed(errNotRun), err)...)
	}
	var errs []error
	q.library.device.pool(func() { errs = q.run() })
	return errors.Join(errs...)
}

// GPUTime returns how long the GPU took for what the last Wait waited for.
func (q *Queue) GPUTime() time.Duration { return q.gpu }

// run runs what is pending. It stays on one thread, in an autorelease pool, which
// frees command buffer and encoder.
func (q *Queue) run() []error {
	d := q.library.device
	commands := d.get(d.queue, d.sel.commandBuffer)
	if commands == 0 {
		return q.allFailed(errors.New("no command buffer from Metal"))
	}
	errs := q.encode(commands)
	if len(q.encoded) == 0 {
		return errs
	}
	d.ask(commands, d.sel.commit)
	d.ask(commands, d.sel.waitUntilCompleted)
	if d.ask(commands, d.sel.status) != commandBufferStatusCompleted {
		failure := errors.New(d.words(d.get(commands, d.sel.err)))
		for _, k := range q.encoded {
			errs = append(errs, &runtime.LaunchError{Kernel: k, Err: failure})
		}
		return errs
	}
	seconds := d.rt.SendFloat(commands, d.sel.gpuEndTime) - d.rt.SendFloat(commands, d.sel.gpuStartTime)
	q.gpu = time.Duration(seconds * float64(time.Second))
	return errs
}

// allFailed returns err for each launch that is pending.
func (q *Queue) allFailed(err error) (errs []error) {
	for i := range q.pending {
		errs = append(errs, &runtime.LaunchError{Kernel: q.pending[i].Kernel, Err: err})
	}
	return errs
}

// encode writes what is pending to a command buffer. It returns why some of it
// will not run; the kernels of what will are in q.encoded.
func (q *Queue) encode(commands objc.ID) (errs []error) {
	d := q.library.device
	encoder := objc.ID(d.tell(commands, d.sel.computeCommandEncoder, dispatchTypeConcurrent))
	if encoder == 0 {
		return q.allFailed(errors.New("no command encoder from Metal"))
	}
	defer d.ask(encoder, d.sel.endEncoding) // one that was not ended ends the process
	var last objc.ID
	fenced := false
	for i := range q.pending {
		l := &q.pending[i]
		fenced = fenced || l.fenced
		if err := q.check(l.Launch); err != nil { // again: a buffer may have been closed since
			errs = append(errs, &runtime.LaunchError{Kernel: l.Kernel, Err: err})
			continue
		}
		groups := l.Kernel.Groups(l.Shape)
		if groups[0] == 0 || groups[1] == 0 || groups[2] == 0 {
			continue
		}
		if fenced && len(q.encoded) > 0 {
			d.tell(encoder, d.sel.memoryBarrier, barrierScopeBuffers)
		}
		fenced = false
		if p := q.library.pipelines[l.Kernel.Symbol].id; p != last {
			d.tell(encoder, d.sel.setComputePipelineState, uintptr(p))
			last = p
		}
		q.bind(encoder, l)
		d.rt.SendSizes(encoder, d.sel.dispatchThreadgroups,
			objc.Size{Width: uint64(groups[0]), Height: uint64(groups[1]), Depth: uint64(groups[2])},
			objc.Size{Width: uint64(l.Kernel.Threads), Height: 1, Depth: 1})
		q.encoded = append(q.encoded, l.Kernel)
	}
	return errs
}

// bind sets the arguments of l.
func (q *Queue) bind(encoder objc.ID, l *launch) {
	d := q.library.device
	for i, binding := range l.Kernel.Bindings {
		arg := l.Args[i]
		if binding.Access == runtime.Constant {
			d.rt.SendPointer(encoder, d.sel.setBytes, unsafe.Pointer(unsafe.SliceData(arg.Bytes)), uintptr(len(arg.Bytes)), uintptr(i), 0)
			continue
		}
		b := arg.Buffer.(*Buffer)
		offset := arg.Offset
		if offset >= b.length {
			offset = 0 // an argument of 0 bytes; Metal wants an offset inside the buffer
		}
		d.rt.Send(encoder, d.sel.setBuffer, uintptr(b.id), uintptr(offset), uintptr(i), 0)
	}
}

// forget empties the queue, but keeps its memory.
func (q *Queue) forget() {
	for i := range q.pending {
		args := q.pending[i].Args
		clear(args)
		q.pending[i] = launch{Launch: runtime.Launch{Args: args[:0]}}
	}
	clear(q.encoded)
	q.pending, q.encoded, q.fenced = q.pending[:0], q.encoded[:0], false
}

// Close ends the use of q; launches that were not waited for are dropped.
func (q *Queue) Close() error {
	q.closed, q.pending = true, nil
	return nil
}
