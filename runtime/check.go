package runtime

import (
	"errors"
	"fmt"
)

// A BufferState is what a device knows of a buffer that a launch is given.
type BufferState struct {
	Own      bool // it is one of the device's
	Closed   bool
	ReadOnly bool
}

// ErrBufferClosed is for the use of a buffer that was closed.
var ErrBufferClosed = errors.New("the buffer is closed")

// CheckOn is Check, and reports what only the device can tell: have is what it
// made of the table, and state what it knows of a buffer.
func (l Launch) CheckOn(have Availability, state func(Buffer) BufferState) error {
	if l.Kernel == nil || l.Kernel.Body == nil {
		return l.Check()
	}
	if s := have.Of(l.Kernel); s.State != Present {
		return fmt.Errorf("the kernel is %v: %s", s.State, s.Words)
	}
	var errs []error
	for i, arg := range l.Args {
		if arg.Buffer != nil && state(arg.Buffer).Closed {
			errs = append(errs, fmt.Errorf("argument %d: %w", i, ErrBufferClosed))
		}
	}
	if len(errs) > 0 { // a closed buffer has no size to check
		return errors.Join(errs...)
	}
	if err := l.Check(); err != nil {
		return err
	}
	for i, b := range l.Kernel.Bindings {
		if b.Access == Constant {
			continue
		}
		switch s := state(l.Args[i].Buffer); {
		case !s.Own:
			errs = append(errs, fmt.Errorf("argument %s: a %T is no buffer of this device", b.Name, l.Args[i].Buffer))
		case s.ReadOnly && b.Access == Write:
			errs = append(errs, fmt.Errorf("argument %s: the kernel writes to it, and the buffer is read-only", b.Name))
		}
	}
	return errors.Join(errs...)
}
