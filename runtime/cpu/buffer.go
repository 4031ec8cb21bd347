package cpu

import (
	"errors"
	"fmt"
	"io"
	"math"
	"unsafe"
)

const maxBuffer = math.MaxInt - 2*alignment

const alignment = 64

// A buffer is memory of the host.
type buffer struct {
	data     []byte
	readOnly bool // data is the caller's
	closed   bool
}

var errBufferClosed = errors.New("the buffer is closed")

func (b *buffer) Size() int { return len(b.data) }

func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, errBufferClosed
	case off < 0:
		return 0, fmt.Errorf("read at %d of a buffer", off)
	case off > int64(len(b.data)):
		return 0, io.EOF
	}
	n := copy(p, b.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes all of p or nothing.
func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, errBufferClosed
	case b.readOnly:
		return 0, errors.New("the buffer is read-only")
	case off < 0 || off > int64(len(b.data)) || len(p) > len(b.data)-int(off):
		return 0, fmt.Errorf("write of %d bytes at %d of a buffer of %d", len(p), off, len(b.data))
	}
	return copy(b.data[off:], p), nil
}

func (b *buffer) Close() error {
	b.closed, b.data = true, nil
	return nil
}

// aligned returns size zero bytes at a multiple of the alignment.
func aligned(size int) []byte {
	if size == 0 {
		return nil
	}
	b := make([]byte, size+alignment-1)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) % alignment)
	return b[skip : skip+size : skip+size]
}

// view returns b as elements of type T. b is as long as its elements, and as
// aligned; see call.fit.
func view[T any](b []byte) []T {
	var element T
	n := len(b) / int(unsafe.Sizeof(element))
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// address returns where b lies.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
