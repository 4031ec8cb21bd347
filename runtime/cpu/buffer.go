package cpu

import (
	"errors"
	"math"
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
)

const maxBuffer = math.MaxInt - 2*alignment

const alignment = 64

// A buffer is memory of the host.
type buffer struct {
	data     []byte
	readOnly bool // data is the caller's
	closed   bool
}

func (b *buffer) Size() int { return len(b.data) }

func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	if b.closed {
		return 0, runtime.ErrBufferClosed
	}
	return runtime.ReadMemory(b.data, p, off)
}

// WriteAt writes all of p or nothing.
func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, runtime.ErrBufferClosed
	case b.readOnly:
		return 0, errors.New("the buffer is read-only")
	}
	return runtime.WriteMemory(b.data, p, off)
}

// Show makes b, a view, be host.
func (b *buffer) Show(host []byte) {
	if !b.closed {
		b.data = host[:len(host):len(host)]
	}
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

// stateOf says what the device knows of a buffer. Those of all cpu devices are
// alike.
func stateOf(b runtime.Buffer) runtime.BufferState {
	own, ok := b.(*buffer)
	if !ok {
		return runtime.BufferState{}
	}
	return runtime.BufferState{Own: true, Closed: own.closed, ReadOnly: own.readOnly}
}
