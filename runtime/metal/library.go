package metal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// A library holds a pipeline for each kernel that is present.
type library struct {
	device    *Device
	have      runtime.Availability
	pipelines map[string]pipeline // by symbol
	leak      goruntime.Cleanup
	closed    atomic.Bool
}

// A pipeline is a kernel made ready for the GPU.
type pipeline struct {
	id      objc.ID // MTLComputePipelineState
	threads int     // most per threadgroup
}

// languageVersion is MSL 3.1, as MTLLanguageVersion. It is always asked for:
// Metal's default follows from what the linker wrote into the program about the
// system it was built for, and Go 1.26 writes one that had no bfloat.
const languageVersion = 3<<16 | 1

// Without them the compiler may take it that there are no NaNs and infinities,
// reorder sums, and take a less exact exp.
const (
	mathModeSafe         = 0 // MTLMathMode
	mathFunctionsPrecise = 1 // MTLMathFloatingPointFunctions
)

const simdgroupWidth = 32 // that kernels are written for

// threadgroupPadding is what a compiler may add to a kernel's threadgroup memory
// so that each variable is aligned.
const threadgroupPadding = 256

// Load compiles the sources of the kernels of t, a MTLLibrary each, and makes a
// pipeline of every kernel that is in one. If sources hold MetallibName, that is
// taken instead, and it is an error if it is not of Options.Digest.
func (d *Device) Load(ctx context.Context, t *runtime.Table, sources fs.FS) (runtime.Library, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	modules, err := d.modules(ctx, t, sources)
	defer d.pool(func() {
		for _, m := range modules {
			d.release(m.id) // the pipelines have what they need of it
		}
	})
	if err != nil {
		return nil, err
	}
	l := &library{device: d, have: make(runtime.Availability), pipelines: make(map[string]pipeline)}
	var mu sync.Mutex
	err = each(ctx, t.Kernels, func(k *runtime.Kernel) {
		var p pipeline
		status := runtime.Status{State: runtime.Failed, Words: "the kernel has no body"}
		if k.Body != nil {
			d.pool(func() { p, status = d.pipeline(modules, k) })
		}
		mu.Lock()
		defer mu.Unlock()
		if l.have[k.Symbol] = status; p.id != 0 {
			l.pipelines[k.Symbol] = p
		}
	})
	if err != nil {
		l.free()
		return nil, err
	}
	l.leak = goruntime.AddCleanup(l, d.options.Leaked, "a library")
	return l, nil
}

// each calls f with the elements of s, on as many goroutines as there are
// processors, until ctx ends.
func each[E any](ctx context.Context, s []E, f func(E)) error {
	var g errgroup.Group
	g.SetLimit(goruntime.GOMAXPROCS(0))
	for _, e := range s {
		g.Go(func() error {
			if ctx.Err() == nil {
				f(e)
			}
			return nil
		})
	}
	return errors.Join(g.Wait(), ctx.Err())
}

// A module is a MTLLibrary, or why there is none.
type module struct {
	id     objc.ID
	names  map[string]bool // of its functions
	status runtime.Status  // of its kernels, if id is 0
}

// modules returns the module of each source that t names. The module of a
// compiled library has the name MetallibName.
func (d *Device) modules(ctx context.Context, t *runtime.Table, sources fs.FS) (map[string]module, error) {
	modules := make(map[string]module)
	switch data, err := fs.ReadFile(sources, MetallibName); {
	case err == nil:
		modules[MetallibName], err = d.binary(data)
		return modules, err
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("metal: %w", err)
	}
	var mu sync.Mutex
	err := each(ctx, t.SourceNames(), func(name string) {
		text, err := fs.ReadFile(sources, name)
		m := module{status: runtime.Status{State: runtime.Missing, Words: fmt.Sprintf("no source: %v", err)}}
		if err == nil {
			d.pool(func() { m = d.compile(name, string(text)) })
		}
		mu.Lock()
		defer mu.Unlock()
		modules[name] = m
	})
	return modules, err
}

// compile makes a module of a source.
func (d *Device) compile(name, text string) module {
	failed := func(words string) module {
		return module{status: runtime.Status{State: runtime.Failed, Words: name + ": " + words}}
	}
	source := d.rt.String(text)
	if source == 0 {
		return failed("not a text in UTF-8")
	}
	defer d.release(source)
	options := d.get(d.get(d.rt.Class("MTLCompileOptions"), d.sel.alloc), d.sel.init)
	defer d.release(options)
	d.tell(options, d.sel.setLanguageVersion, languageVersion)
	if d.responds(options, d.sel.setMathMode) { // macOS 15
		d.tell(options, d.sel.setMathMode, mathModeSafe)
		d.tell(options, d.sel.setMathFloatingPointFunctions, mathFunctionsPrecise)
	} else { // which sets both
		d.tell(options, d.sel.setFastMathEnabled, 0)
	}
	id, failure := d.rt.SendError(d.id, d.sel.newLibraryWithSource, uintptr(source), uintptr(options))
	if id == 0 { // with a library, the error holds but warnings
		return failed(d.words(failure))
	}
	return d.module(objc.ID(id))
}

// module asks a MTLLibrary for the names of its functions.
func (d *Device) module(id objc.ID) module {
	m := module{id: id, names: make(map[string]bool)}
	names := d.get(id, d.sel.functionNames)
	for i := range d.ask(names, d.sel.count) {
		m.names[d.rt.GoString(objc.ID(d.tell(names, d.sel.objectAtIndex, i)))] = true
	}
	return m
}

// pipeline makes a pipeline of k, and holds what Metal says of it to the table.
func (d *Device) pipeline(modules map[string]module, k *runtime.Kernel) (pipeline, runtime.Status) {
	where := k.Source
	m, compiled := modules[MetallibName]
	if compiled {
		where = MetallibName
	} else {
		m = modules[k.Source]
	}
	switch {
	case m.id == 0:
		return pipeline{}, m.status
	case !m.names[k.Symbol]:
		return pipeline{}, runtime.Status{State: runtime.Missing, Words: fmt.Sprintf("%s defines no kernel of this name", where)}
	}
	failed := func(format string, args ...any) (pipeline, runtime.Status) {
		return pipeline{}, runtime.Status{State: runtime.Failed, Words: fmt.Sprintf(format, args...)}
	}
	name := d.rt.String(k.Symbol)
	defer d.release(name)
	function := objc.ID(d.tell(m.id, d.sel.newFunctionWithName, uintptr(name)))
	if function == 0 {
		return failed("%s lists the kernel, and does not give it", where)
	}
	defer d.release(function)
	id, failure := d.rt.SendError(d.id, d.sel.newComputePipelineState, uintptr(function))
	if id == 0 {
		return failed("%s", d.words(failure))
	}
	p := pipeline{objc.ID(id), int(d.ask(objc.ID(id), d.sel.maxTotalThreadsPerThreadgroup))}
	width := int(d.ask(p.id, d.sel.threadExecutionWidth))
	memory := int(d.ask(p.id, d.sel.staticThreadgroupMemoryLength))
	problem := ""
	switch {
	case k.Threads < 1 || k.Threads > p.threads:
		problem = fmt.Sprintf("a threadgroup of %d threads; the GPU takes %d of this kernel", k.Threads, p.threads)
	case width != simdgroupWidth:
		problem = fmt.Sprintf("simdgroups of %d threads; the kernels are written for %d", width, simdgroupWidth)
	case memory > k.ThreadgroupBytes+threadgroupPadding:
		problem = fmt.Sprintf("%d bytes of threadgroup memory, and %d in the table", memory, k.ThreadgroupBytes)
	case memory > d.info.ThreadgroupBytes:
		problem = fmt.Sprintf("%d bytes of threadgroup memory; the GPU has %d", memory, d.info.ThreadgroupBytes)
	}
	if problem != "" {
		d.release(p.id)
		return failed("%s", problem)
	}
	return p, runtime.Status{State: runtime.Present}
}

func (l *library) Availability() runtime.Availability { return l.have }

// NewQueue returns a *Queue.
func (l *library) NewQueue() (runtime.Queue, error) {
	if l.closed.Load() || l.device.closed.Load() {
		return nil, errClosed
	}
	return &Queue{library: l}, nil
}

func (l *library) Close() error {
	if !l.closed.Swap(true) {
		l.leak.Stop()
		l.free()
	}
	return nil
}

func (l *library) free() {
	l.device.pool(func() {
		for _, p := range l.pipelines {
			l.device.release(p.id)
		}
	})
}
