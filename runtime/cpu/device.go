package cpu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	goruntime "runtime"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
)

// Options configures a Device.
type Options struct {
	Workers int // goroutines per launch; 0 for GOMAXPROCS
}

// A Device runs kernels on the host's processors.
type Device struct {
	workers int
	closed  atomic.Bool
}

var _ runtime.Device = (*Device)(nil)

var errClosed = errors.New("cpu: use of a closed device")

// New returns a device.
func New(o Options) *Device {
	if o.Workers <= 0 {
		o.Workers = goruntime.GOMAXPROCS(0)
	}
	return &Device{workers: o.Workers}
}

// Info describes the host. It sets no limits to threadgroups, having none.
func (d *Device) Info() runtime.Info {
	return runtime.Info{
		Name:             fmt.Sprintf("%s, %d workers", goruntime.GOARCH, d.workers),
		Kind:             "cpu",
		Driver:           goruntime.Version(),
		Threads:          math.MaxInt32,
		ThreadgroupBytes: math.MaxInt32,
	}
}

// Load looks up an implementation of every kernel of t. It reads no sources.
func (d *Device) Load(ctx context.Context, t *runtime.Table, _ fs.FS) (runtime.Library, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil, fmt.Errorf("cpu: %s is big-endian; weights and arguments are little-endian", goruntime.GOARCH)
	}
	have := make(runtime.Availability, len(t.Kernels))
	for _, k := range t.Kernels {
		have[k.Symbol] = status(t, k)
	}
	return &library{device: d, have: have}, nil
}

// NewBuffer returns a buffer of size bytes, all zero, at an address that is a
// multiple of 64.
func (d *Device) NewBuffer(size int) (runtime.Buffer, error) {
	switch {
	case d.closed.Load():
		return nil, errClosed
	case size < 0 || size > maxBuffer:
		return nil, fmt.Errorf("cpu: no buffers of %d bytes", size)
	}
	return &buffer{data: aligned(size)}, nil
}

// Wrap returns a buffer that is host.
func (d *Device) Wrap(host []byte) (runtime.Buffer, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	return &buffer{data: host[:len(host):len(host)], readOnly: true}, nil
}

// Close ends the use of d. What came of it can still be closed.
func (d *Device) Close() error {
	d.closed.Store(true)
	return nil
}

type library struct {
	device *Device
	have   runtime.Availability
	closed atomic.Bool
}

func (l *library) Availability() runtime.Availability { return l.have }

func (l *library) NewQueue() (runtime.Queue, error) {
	if l.closed.Load() || l.device.closed.Load() {
		return nil, errClosed
	}
	return &queue{library: l}, nil
}

func (l *library) Close() error {
	l.closed.Store(true)
	return nil
}
