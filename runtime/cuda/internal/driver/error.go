package driver

import (
	"errors"
	"fmt"
)

// The codes that somebody asks for.
const (
	InvalidValue  = 1
	NoDevice      = 100
	InvalidDevice = 101
)

// An Error is what the driver says to a call that failed.
type Error struct {
	Call  string // the function
	Code  int
	Name  string // of the code: CUDA_ERROR_…
	Words string // what the code means
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%s, %d)", e.Call, e.Words, e.Name, e.Code)
}

// Code returns the code of the *Error in err, or 0.
func Code(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return 0
}

// Fatal reports whether a code leaves the context of no more use: a kernel of it
// went wrong, and every later call in the process says the same.
func Fatal(code int) bool {
	switch code {
	case 214, // an error of memory that could not be corrected
		220, // NVLink
		700, // illegal address
		702, // timeout
		709, // the context was destroyed
		710, // assertion
		714, // hardware stack
		715, // illegal instruction
		716, // misaligned address
		717, // invalid address space
		718, // invalid program counter
		719, // launch failed
		720, // cooperative launch too large
		721, // tensor memory leak
		999: // unknown
		return true
	}
	return false
}
