package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// A Device runs kernels. The packages below this one implement it, and
// package devicetest says what it means to.
//
// A Device and its Library may be used by several goroutines at once; a Queue
// and a Buffer by one at a time. Everything is closed by whoever made it, what
// came of a thing before the thing itself; to close it again does nothing.
type Device interface {
	Info() Info

	// Load compiles sources and looks up every kernel of the table in what
	// came of them. A kernel that does not compile is a matter of the
	// library's Availability; the error is for a device that cannot load
	// anything.
	Load(ctx context.Context, t *Table, sources fs.FS) (Library, error)

	// NewBuffer returns a buffer of size bytes, all zero.
	NewBuffer(size int) (Buffer, error)

	// Wrap returns a read-only buffer of the bytes of host, without a copy
	// where the device can read them in place. They must neither move nor
	// change until the buffer is closed.
	Wrap(host []byte) (Buffer, error)

	Close() error
}

// Info describes a device.
type Info struct {
	Name             string // of this piece of hardware
	Kind             string // of device: cpu, metal, cuda, …
	Driver           string // version of what drives it
	Threads          int    // most per threadgroup
	ThreadgroupBytes int    // most threadgroup memory

	// Tolerance is the error that a sum of products may have, relative to the
	// sum of their magnitudes, on a device that rounds what it multiplies; 0
	// if its sums are as good as those of float32.
	Tolerance float64
}

// A Library holds the kernels that a device made of a table.
type Library interface {
	// Availability returns the status of every kernel of the table.
	Availability() Availability

	// NewQueue returns a queue for kernels of the library.
	NewQueue() (Queue, error)

	Close() error
}

// A Buffer is memory of a device. ReadAt and WriteAt copy from and to it; what
// a queue still has to do to a buffer happens before Wait returns, not before.
type Buffer interface {
	io.ReaderAt
	io.WriterAt
	Size() int
	Close() error
}

// A Queue runs launches in their order, but those between two barriers may
// overlap: a launch sees what launches before the last barrier wrote.
type Queue interface {
	// Launch enqueues a launch. The error is a *LaunchError; nothing is
	// enqueued then, and the queue stays usable.
	Launch(Launch) error

	// Barrier makes later launches see what earlier ones wrote.
	Barrier()

	// Wait returns when everything enqueued is done. Its error joins a
	// *LaunchError for each launch that did not complete, or that may not
	// have; FailedLaunches takes it apart. Such a launch has written at most
	// to what it would have written to. If ctx ends first, Wait returns its
	// error as soon as nothing more runs.
	Wait(ctx context.Context) error

	// Close ends the use of the queue. Launches that were not waited for may
	// be dropped.
	Close() error
}

// A Launch is one run of a kernel. Its grid follows from the kernel's row and
// the shape.
type Launch struct {
	Kernel *Kernel
	Shape  Shape
	Args   []Arg // in the order of the kernel's Bindings
}

// Launch returns the launch of k for shape s whose arguments are those of args
// with the names of k's bindings, and s.
func (k *Kernel) Launch(s Shape, args map[string]Arg) (Launch, error) {
	l := Launch{Kernel: k, Shape: s}
	for _, b := range k.Bindings {
		arg, ok := args[b.Name]
		if b.Type == "Shape" {
			arg, ok = Arg{Bytes: AppendShape(nil, s)}, true
		}
		if !ok {
			return l, &LaunchError{Kernel: k, Err: fmt.Errorf("no argument called %s", b.Name)}
		}
		l.Args = append(l.Args, arg)
	}
	return l, nil
}

// An Arg is a kernel argument: a buffer from an offset on, or the bytes of a
// constant.
type Arg struct {
	Buffer Buffer
	Offset int // a multiple of Align
	Bytes  []byte
}

// constantSizes holds the sizes of the constants that kernels take.
var constantSizes = map[string]int{"Shape": binary.Size(Shape{}), "Routing": binary.Size(Routing{})}

// ConstantSize returns the bytes of a constant, and 0 for a buffer.
func (b Binding) ConstantSize() int {
	if b.Access != Constant {
		return 0
	}
	return constantSizes[b.Type]
}

// Align is what the offset of a buffer argument is a multiple of: kernels read
// four floats at once.
const Align = 16

// Check reports the arguments that do not fit l's kernel: too few, too many, a
// constant in the place of a buffer, an offset that is not aligned or outside
// its buffer, or another Shape than l's.
func (l Launch) Check() error {
	if l.Kernel == nil || l.Kernel.Body == nil {
		return errors.New("the launch has no kernel")
	}
	if len(l.Args) != len(l.Kernel.Bindings) {
		return fmt.Errorf("%d arguments for %d bindings", len(l.Args), len(l.Kernel.Bindings))
	}
	var errs []error
	for i, b := range l.Kernel.Bindings {
		a := l.Args[i]
		switch {
		case b.Access == Constant && (a.Buffer != nil || len(a.Bytes) != b.ConstantSize()):
			errs = append(errs, fmt.Errorf("argument %s: want the %d bytes of a %s", b.Name, b.ConstantSize(), b.Type))
		case b.Type == "Shape" && !bytes.Equal(a.Bytes, AppendShape(nil, l.Shape)):
			errs = append(errs, fmt.Errorf("argument %s: it is not the launch's %+v", b.Name, l.Shape))
		case b.Access == Constant:
		case a.Buffer == nil:
			errs = append(errs, fmt.Errorf("argument %s: no buffer", b.Name))
		case a.Offset < 0 || a.Offset > a.Buffer.Size() || a.Offset%Align != 0:
			errs = append(errs, fmt.Errorf("argument %s: offset %d in a buffer of %d bytes; want a multiple of %d inside it", b.Name, a.Offset, a.Buffer.Size(), Align))
		}
	}
	return errors.Join(errs...)
}

// A LaunchError says why a launch did not complete.
type LaunchError struct {
	Kernel *Kernel
	Err    error
}

func (e *LaunchError) Error() string {
	if e.Kernel == nil {
		return fmt.Sprintf("launch: %v", e.Err)
	}
	return fmt.Sprintf("launch of %s: %v", e.Kernel.Symbol, e.Err)
}

func (e *LaunchError) Unwrap() error { return e.Err }

// FailedLaunches returns the launch errors in err. It reports false if err
// holds anything else besides.
func FailedLaunches(err error) (failed []*LaunchError, only bool) {
	only = true
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case nil:
		case *LaunchError:
			failed = append(failed, e)
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		default:
			only = false
		}
	}
	walk(err)
	return failed, only
}
