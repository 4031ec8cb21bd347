package metal

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// A Buffer is memory that host and GPU share.
type Buffer struct {
	device *Device
	id     objc.ID // MTLBuffer
	length int     // of the MTLBuffer, at least 1
	data   []byte
	shared bool // data is the caller's
	locked bool // kernels must not write
	closed bool
	leak   goruntime.Cleanup
}

var _ runtime.Buffer = (*Buffer)(nil)

var errBufferClosed = errors.New("the buffer is closed")

// storageModeShared is the MTLResourceOptions of memory that host and GPU share.
const storageModeShared = 0

// NewBuffer returns a *Buffer of size bytes, all zero.
func (d *Device) NewBuffer(size int) (runtime.Buffer, error) {
	b, err := d.newBuffer(size)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (d *Device) newBuffer(size int) (*Buffer, error) {
	// Metal has no buffer of 0 bytes. Whole float4s, as kernels read them.
	length := max(runtime.Align, (size+runtime.Align-1)/runtime.Align*runtime.Align)
	switch {
	case d.closed.Load():
		return nil, errClosed
	case size < 0 || length > d.maxBuffer || length < size:
		return nil, fmt.Errorf("metal: no buffers of %d bytes: %s has them of up to %d", size, d.info.Name, d.maxBuffer)
	}
	b := &Buffer{device: d, length: length}
	d.pool(func() {
		b.id = objc.ID(d.rt.Send(d.id, d.sel.newBufferWithLength, uintptr(length), storageModeShared, 0, 0))
		if b.id != 0 {
			b.data = objc.Bytes(d.ask(b.id, d.sel.contents), size)
		}
	})
	if b.id == 0 {
		return nil, fmt.Errorf("metal: no memory for a buffer of %d bytes", size)
	}
	b.watch()
	return b, nil
}

// Wrap returns a read-only *Buffer of host. It is host's own memory if that
// starts at a page and Metal takes it, as it does what lies in one mapping; a
// copy of it otherwise. InPlace tells which.
func (d *Device) Wrap(host []byte) (runtime.Buffer, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	b := d.share(host)
	if b == nil {
		var err error
		if b, err = d.newBuffer(len(host)); err != nil {
			return nil, err
		}
		copy(b.data, host)
	}
	b.locked = true
	d.pool(func() { d.resident.add(b.id) })
	return b, nil
}

// share returns a buffer that is host, or nil if it cannot be one. The last page
// is taken whole: it is there if its first byte is.
func (d *Device) share(host []byte) *Buffer {
	page := os.Getpagesize()
	start := unsafe.Pointer(unsafe.SliceData(host))
	length := (len(host) + page - 1) / page * page
	if len(host) == 0 || uintptr(start)%uintptr(page) != 0 || length > d.maxBuffer {
		return nil
	}
	b := &Buffer{device: d, length: length, data: host, shared: true}
	d.pool(func() {
		b.id = objc.ID(d.rt.SendPointer(d.id, d.sel.newBufferWithBytesNoCopy, start, uintptr(length), storageModeShared, 0))
	})
	if b.id == 0 {
		return nil
	}
	b.watch()
	return b
}

// watch has b reported if it is never closed.
func (b *Buffer) watch() {
	b.leak = goruntime.AddCleanup(b, b.device.options.Leaked, fmt.Sprintf("a buffer of %d bytes", b.Size()))
}

// InPlace reports whether b is the memory that was given to Wrap, not a copy.
func (b *Buffer) InPlace() bool { return b.shared }

// Size returns the bytes of b.
func (b *Buffer) Size() int { return len(b.data) }

// ReadAt copies from b.
func (b *Buffer) ReadAt(p []byte, off int64) (int, error) {
	if b.closed {
		return 0, errBufferClosed
	}
	return runtime.ReadMemory(b.data, p, off)
}

// WriteAt writes all of p or nothing.
func (b *Buffer) WriteAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, errBufferClosed
	case b.locked:
		return 0, errors.New("the buffer is read-only")
	}
	return runtime.WriteMemory(b.data, p, off)
}

// Close frees b, but not what was given to Wrap.
func (b *Buffer) Close() error {
	if b.closed {
		return nil
	}
	b.closed, b.data = true, nil
	b.leak.Stop()
	d := b.device
	d.pool(func() {
		if b.locked {
			d.resident.remove(b.id)
		}
		d.release(b.id)
	})
	return nil
}
