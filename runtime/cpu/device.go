package cpu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/cpuid/v2"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu/simd"
)

// Options configures a Device.
type Options struct {
	Workers   int // goroutines per launch; 0 for GOMAXPROCS
	Precision Precision
	Set       string // of instructions, one of Sets; empty for the best
}

// A Precision says how exactly the inputs of experts are taken.
type Precision int

const (
	// Exact takes inputs in 30 bits of the largest in their group of 128: sums
	// are as good as those of floats.
	Exact Precision = iota

	// Fast rounds inputs to multiples of 1/127 of the largest in their group of
	// 128, and has a third of the work.
	Fast
)

func (p Precision) String() string { return [...]string{"exact", "fast"}[p] }

// Sets returns the names of the instruction sets that the host can run, the
// best first and plain Go, called go, last.
func Sets() (names []string) {
	for _, s := range sets() {
		names = append(names, s.Name)
	}
	return names
}

var sets = sync.OnceValue(simd.Sets)

// An engine is how launches are computed.
type engine struct {
	set     *simd.Set
	exact   bool
	workers int
}

func newEngine(o Options) engine {
	e := engine{set: sets()[0], exact: o.Precision == Exact, workers: o.Workers}
	for _, s := range sets() {
		if s.Name == o.Set {
			e.set = s
		}
	}
	if e.workers <= 0 {
		e.workers = goruntime.GOMAXPROCS(0)
	}
	return e
}

// A Device runs kernels on the host's processors.
type Device struct {
	engine engine
	closed atomic.Bool
}

var (
	_ runtime.Device  = (*Device)(nil)
	_ runtime.Workers = (*Device)(nil)
	_ runtime.Viewer  = (*Device)(nil)
)

var errClosed = errors.New("cpu: use of a closed device")

// New returns a device. A set of instructions that the host lacks is passed
// over for the best that it has; Info tells.
func New(o Options) *Device { return &Device{engine: newEngine(o)} }

// Info describes the host. It sets no limits to threadgroups, having none.
func (d *Device) Info() runtime.Info {
	name := cpuid.CPU.BrandName
	if name == "" {
		name = goruntime.GOARCH
	}
	precision, tolerance := Fast, fastTolerance
	if d.engine.exact {
		precision, tolerance = Exact, 0
	}
	return runtime.Info{
		Name:             fmt.Sprintf("%s, %s, %v, %d workers", name, d.engine.set.Name, precision, d.engine.workers),
		Kind:             "cpu",
		Driver:           goruntime.Version(),
		Threads:          math.MaxInt32,
		ThreadgroupBytes: math.MaxInt32,
		Tolerance:        tolerance,
	}
}

// fastTolerance is above the largest error that the suite of devices shows with
// precision Fast, 0.013. That is of one output of hundreds of thousands, and for
// few inputs; the more inputs, the smaller.
const fastTolerance = 0.02

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

// NewView returns a view of nothing.
func (d *Device) NewView() (runtime.View, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	return new(buffer), nil
}

// Workers returns the number of goroutines per launch.
func (d *Device) Workers() int { return d.engine.workers }

// Each shares tasks among the goroutines that launches run on.
func (d *Device) Each(n int, task func(worker, i int)) {
	workers.each(min(d.engine.workers, n), n, task)
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
