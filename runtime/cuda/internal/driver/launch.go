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
	config    config
	early     attribute
}

// A config is how the driver lays out what a launch is.
type config struct {
	grid, block [3]uint32
	shared      uint32
	stream      Stream
	attributes  uintptr
	count       uint32
}

// An attribute is one more thing that a launch is.
type attribute struct {
	id    uint32
	_     uint32
	value [16]uint32
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
// threads in one dimension, with some bytes of shared memory. An early one may
// begin before what is in the stream has ended: f has to wait for that by itself.
// Launch has read p when it returns, and p must lie on the heap.
func (a *API) Launch(f Function, grid [3]uint32, threads, shared int, early bool, s Stream, p *Params) error {
	const programmaticStreamSerialization = 6
	p.config = config{grid: grid, block: [3]uint32{uint32(threads), 1, 1}, shared: uint32(shared), stream: s}
	if early {
		p.early = attribute{id: programmaticStreamSerialization, value: [16]uint32{1}}
		p.config.attributes, p.config.count = uintptr(unsafe.Pointer(&p.early)), 1
	}
	return a.call(cuLaunchKernelEx, uintptr(unsafe.Pointer(&p.config)), uintptr(f), uintptr(unsafe.Pointer(&p.addresses)), 0)
}
