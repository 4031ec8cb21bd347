package msl

import (
	"errors"
	"fmt"

	"github.com/marlingen/marlingen/runtime"
)

const (
	pageBytes = 4096
	alignment = 16 // of buffers

	maxBuffer = 1 << 46
)

// A buffer is memory that is shared with the processes that run kernels. Its end
// lies at the end of a page, but for what aligns its beginning, and there they
// have a guard behind it.
type buffer struct {
	device   *Device
	id       uint64
	memory   *memory
	size     int
	skip     int // bytes of the memory before it
	readOnly bool
	closed   bool
}

// NewBuffer returns a buffer of size bytes, all zero.
func (d *Device) NewBuffer(size int) (runtime.Buffer, error) {
	b, err := d.newBuffer(size)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Wrap returns a buffer with a copy of host: other processes cannot read the
// memory of this one.
func (d *Device) Wrap(host []byte) (runtime.Buffer, error) {
	b, err := d.newBuffer(len(host))
	if err != nil {
		return nil, err
	}
	copy(b.bytes(), host)
	b.readOnly = true
	return b, nil
}

func (d *Device) newBuffer(size int) (*buffer, error) {
	if size < 0 || size > maxBuffer {
		return nil, fmt.Errorf("msl: no buffers of %d bytes", size)
	}
	if d.isClosed() {
		return nil, errClosed
	}
	whole := (size + pageBytes - 1) / pageBytes * pageBytes
	m, err := newMemory(whole)
	if err != nil {
		return nil, fmt.Errorf("msl: a buffer of %d bytes: %w", size, err)
	}
	b := &buffer{device: d, memory: m, size: size, skip: (whole - size) / alignment * alignment}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	b.id = d.last
	d.live[b.id] = true
	return b, nil
}

func (b *buffer) bytes() []byte {
	if b.size == 0 {
		return nil
	}
	return b.memory.mapped[b.skip:][:b.size]
}

func (b *buffer) Size() int { return b.size }

func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	if b.closed {
		return 0, runtime.ErrBufferClosed
	}
	return runtime.ReadMemory(b.bytes(), p, off)
}

// WriteAt writes all of p or nothing.
func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, runtime.ErrBufferClosed
	case b.readOnly:
		return 0, errors.New("the buffer is read-only")
	}
	return runtime.WriteMemory(b.bytes(), p, off)
}

func (b *buffer) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	d := b.device
	d.mu.Lock()
	delete(d.live, b.id)
	for _, p := range d.idle {
		p.forget(b.id)
	}
	d.mu.Unlock()
	return b.memory.close()
}

// state says what d knows of a buffer.
func (d *Device) state(b runtime.Buffer) runtime.BufferState {
	own, ok := b.(*buffer)
	if !ok || own.device != d {
		return runtime.BufferState{}
	}
	return runtime.BufferState{Own: true, Closed: own.closed, ReadOnly: own.readOnly}
}
