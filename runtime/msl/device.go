package msl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/marlingen/marlingen/runtime"
)

// A Schedule is the order in which the threads of a threadgroup, and the
// threadgroups of a grid, take turns.
type Schedule string

// The schedules.
const (
	Forward Schedule = "forward"
	Reverse Schedule = "reverse"
	Random  Schedule = "random" // by Options.Seed
)

// Options configures a Device. The zero value is a fast one.
type Options struct {
	// Checker makes a device that checks each access to memory, some thirty
	// times slower. What it finds are *Violations in *runtime.LaunchErrors.
	Checker bool

	Schedule Schedule // Forward if empty
	Seed     uint64   // of schedule Random

	FastMath    bool // compile as if there were no NaNs and sums could be reordered
	FlushToZero bool // denormals are 0

	Workers  int           // threads per launch; 0 for GOMAXPROCS. The checker has one
	Timeout  time.Duration // of a launch; 0 for a minute
	CacheDir string        // for what clang compiles; if empty, $MARLINGEN_CACHE/msl or the user's
}

// A Device runs Metal kernels on the host's processors.
type Device struct {
	options  Options
	compiler *compiler
	runner   string        // path of the program
	slots    chan struct{} // for processes that run something

	mu     sync.Mutex
	idle   []*process
	live   map[uint64]bool // buffers by number
	last   uint64          // number of a buffer
	closed bool
}

var _ runtime.Device = (*Device)(nil)

var errClosed = errors.New("msl: use of a closed device")

// Open returns a device. It is absent, which the error says, where there is no
// clang that will do (a *ToolchainError) or on other systems than Linux.
func Open(ctx context.Context, o Options) (*Device, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	if o.Schedule == "" {
		o.Schedule = Forward
	}
	if !slices.Contains([]Schedule{Forward, Reverse, Random}, o.Schedule) {
		return nil, fmt.Errorf("msl: no schedule %q", o.Schedule)
	}
	if o.Workers <= 0 {
		o.Workers = goruntime.GOMAXPROCS(0)
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	c, err := newCompiler(ctx, o.CacheDir)
	if err != nil {
		return nil, err
	}
	runner, err := c.buildRunner(ctx)
	if err != nil {
		return nil, err
	}
	slots := make(chan struct{}, max(2, goruntime.GOMAXPROCS(0)))
	return &Device{options: o, compiler: c, runner: runner, slots: slots, live: make(map[uint64]bool)}, nil
}

// The limits of a threadgroup: the widest of any target. That a kernel keeps its
// own target's is proved when it is generated.
const (
	mostThreads          = 1024
	mostThreadgroupBytes = 232448

	metalThreadgroupBytes = 32768 // on Apple's GPUs
)

// Info describes the host and the compiler.
func (d *Device) Info() runtime.Info {
	name := fmt.Sprintf("%s, %d workers", goruntime.GOARCH, d.options.Workers)
	if d.options.Checker {
		name = goruntime.GOARCH + ", checker"
	}
	return runtime.Info{Name: name, Kind: "msl", Driver: "clang " + d.compiler.version, Threads: mostThreads, ThreadgroupBytes: mostThreadgroupBytes}
}

// Check is the function Check, with the cache of d.
func (d *Device) Check(ctx context.Context, name, text string, include ...string) ([]Diagnostic, error) {
	return d.compiler.check(ctx, metalThreadgroupBytes, name, text, include...)
}

// Load compiles the sources of the kernels of t, at the same time.
func (d *Device) Load(ctx context.Context, t *runtime.Table, sources fs.FS) (runtime.Library, error) {
	if d.isClosed() {
		return nil, errClosed
	}
	l := &library{device: d, have: make(runtime.Availability), entries: make(map[string]entry)}
	bySource := make(map[string][]*runtime.Kernel)
	var names []string
	for _, k := range t.Kernels {
		if k.Body == nil {
			l.have[k.Symbol] = runtime.Status{State: runtime.Failed, Words: "the kernel has no body"}
			continue
		}
		if bySource[k.Source] == nil {
			names = append(names, k.Source)
		}
		bySource[k.Source] = append(bySource[k.Source], k)
	}
	var mu sync.Mutex
	errs := make([]error, len(names))
	parallel(len(names), func(i int) {
		kernels := bySource[names[i]]
		o, err := d.loadSource(ctx, names[i], kernels, sources)
		mu.Lock()
		defer mu.Unlock()
		if errs[i] = err; err == nil {
			l.add(kernels, o)
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, ctx.Err()
}

func (d *Device) loadSource(ctx context.Context, name string, kernels []*runtime.Kernel, sources fs.FS) (*object, error) {
	var symbols []string
	for _, k := range kernels {
		symbols = append(symbols, k.Symbol)
	}
	text, err := fs.ReadFile(sources, name)
	if err != nil {
		absent := make(map[string]bool)
		for _, s := range symbols {
			absent[s] = true
		}
		return &object{absent: absent}, nil
	}
	return d.compiler.build(ctx, name, string(text), symbols, variant{d.options.Checker, d.options.FastMath})
}

func (d *Device) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// acquire returns a process that nobody else uses.
func (d *Device) acquire(ctx context.Context) (*process, error) {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		<-d.slots
		return nil, errClosed
	}
	var p *process
	if n := len(d.idle); n > 0 {
		p, d.idle = d.idle[n-1], d.idle[:n-1]
		for id := range p.mapped {
			if !d.live[id] {
				p.forget(id)
			}
		}
	}
	d.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := startProcess(d.runner)
	if err != nil {
		<-d.slots
	}
	return p, err
}

// release gives a process back; dead ones are forgotten.
func (d *Device) release(p *process, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	<-d.slots
	switch {
	case dead:
	case d.closed:
		p.close()
	default:
		d.idle = append(d.idle, p)
	}
}

// Close ends the use of d and its processes. Buffers can still be closed.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, p := range d.idle {
		p.close()
	}
	d.idle = nil
	return nil
}
