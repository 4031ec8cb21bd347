package driver

import (
	"fmt"
	"unsafe"
)

const (
	maxParams     = 32
	maxParamBytes = 1 << 10
)

// Params are the arguments of a launch, by value. The zero value has none. It
// must not be copied: it holds addresses of its own parts.
type Params struct {
	data      [maxParamBytes]byte
	addresses [maxParams]uintptr
	n, end    int
}

// Reset forgets the arguments.
func (p *Params) Reset() { p.n, p.end = 0, 0 }

// Add adds an argument of bytes.
func (p *Params) Add(b []byte) error {
	if p.n == maxParams || len(b) > maxParamBytes-p.end {
		return fmt.Errorf("more than %d arguments, or than %d bytes of them", maxParams, maxParamBytes)
	}
	copy(p.data[p.end:], b)
	p.addresses[p.n] = uintptr(unsafe.Pointer(&p.data)) + uintptr(p.end)
	p.n++
	p.end = (p.end + len(b) + 15) &^ 15
	return nil
}

// AddPointer adds an argument that is a pointer.
func (p *Params) AddPointer(q Pointer) error {
	return p.Add((*[8]byte)(unsafe.Pointer(&q))[:])
}

// Launch puts a run of f into a stream, of as many blocks as grid says and of
// threads in one dimension, with some bytes of shared memory. It has read p when
// it returns, and p must lie on the heap.
func (a *API) Launch(f Function, grid [3]uint32, threads, shared int, s Stream, p *Params) error {
	return a.call(cuLaunchKernel, uintptr(f), uintptr(grid[0]), uintptr(grid[1]), uintptr(grid[2]),
		uintptr(threads), 1, 1, uintptr(shared), uintptr(s), uintptr(unsafe.Pointer(&p.addresses)), 0)
}
