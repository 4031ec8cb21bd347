package cuda

import (
	"errors"
	"fmt"
	"io"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// A buffer is memory of the GPU.
type buffer struct {
	device   *Device
	at       driver.Pointer
	size     int
	readOnly bool
	closed   bool
}

var errBufferClosed = errors.New("the buffer is closed")

// NewBuffer returns a buffer of size bytes, all zero.
func (d *Device) NewBuffer(size int) (runtime.Buffer, error) {
	b, err := d.newBuffer(size)
	if err != nil {
		return nil, err
	}
	if err := d.do(func() error { return d.transfers.zero(d.api, b.at, size) }); err != nil {
		return nil, errors.Join(fmt.Errorf("cuda: a buffer of %d bytes: %w", size, err), b.Close())
	}
	return b, nil
}

// Wrap returns a buffer with a copy of host in the GPU's memory, which kernels
// read many times as fast as the host's.
func (d *Device) Wrap(host []byte) (runtime.Buffer, error) {
	b, err := d.newBuffer(len(host))
	if err != nil {
		return nil, err
	}
	if err := b.write(host, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("cuda: a buffer of %d bytes: %w", len(host), err), b.Close())
	}
	b.readOnly = true
	return b, nil
}

// newBuffer returns a buffer that may hold anything.
func (d *Device) newBuffer(size int) (*buffer, error) {
	if size < 0 {
		return nil, fmt.Errorf("cuda: no buffers of %d bytes", size)
	}
	if err := d.hold(); err != nil {
		return nil, err
	}
	b := &buffer{device: d, size: size}
	err := d.do(func() (err error) {
		b.at, err = d.api.Alloc(max(1, size)) // there are none of 0
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cuda: a buffer of %d bytes: %w", size, err), d.release())
	}
	return b, nil
}

func (b *buffer) Size() int { return b.size }

func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, errBufferClosed
	case off < 0:
		return 0, fmt.Errorf("read at %d of a buffer", off)
	case off > int64(b.size):
		return 0, io.EOF
	}
	n := min(len(p), b.size-int(off))
	if n > 0 {
		d := b.device
		err := d.do(func() error { return d.transfers.read(d.api, p[:n], b.at+driver.Pointer(off)) })
		if err != nil {
			return 0, err
		}
	}
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
	case off < 0 || off > int64(b.size) || len(p) > b.size-int(off):
		return 0, fmt.Errorf("write of %d bytes at %d of a buffer of %d", len(p), off, b.size)
	}
	if err := b.write(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (b *buffer) write(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	d := b.device
	return d.do(func() error { return d.transfers.write(d.api, b.at+driver.Pointer(off), p) })
}

// Close frees the memory. The driver waits for launches that still use it.
func (b *buffer) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	d := b.device
	err := d.do(func() error { return d.api.Free(b.at) })
	return errors.Join(known(err), d.release())
}
