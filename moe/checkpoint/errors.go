package checkpoint

import (
	"errors"
	"fmt"
)

// An Error is one mistake in a checkpoint. Functions of this package report
// the mistakes of a file or a layer together, joined by errors.Join.
type Error struct {
	File   string
	Tensor string // empty if the mistake is not one tensor's
	Err    error
}

func (e *Error) Error() string {
	if e.Tensor == "" {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.File, e.Tensor, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// most is the number of mistakes that are reported together.
const most = 100

// faults collects mistakes.
type faults []error

// add notes a mistake of a tensor, or of a file if tensor is empty.
func (f *faults) add(file, tensor, format string, args ...any) {
	*f = append(*f, &Error{File: file, Tensor: tensor, Err: fmt.Errorf(format, args...)})
}

// err returns what was collected as one error, or nil.
func (f faults) err() error {
	if len(f) > most {
		f = append(f[:most:most], fmt.Errorf("and %d more", len(f)-most))
	}
	return errors.Join(f...)
}
