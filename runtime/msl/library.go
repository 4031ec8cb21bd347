package msl

import (
	"fmt"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
)

// A library holds what became of a table.
type library struct {
	device  *Device
	have    runtime.Availability
	entries map[string]entry // by symbol
	closed  atomic.Bool
}

// An entry is where a kernel begins.
type entry struct {
	library string // path
	name    string
	lines   *lineTable
}

// add adds the kernels of one source.
func (l *library) add(kernels []*runtime.Kernel, o *object) {
	lines := &lineTable{path: o.path}
	for _, k := range kernels {
		compiled := o.entries[k.Symbol]
		status := runtime.Status{State: runtime.Present}
		switch words := o.failed[k.Symbol]; {
		case words != "":
			status = runtime.Status{State: runtime.Failed, Words: words}
		case compiled == nil:
			status = runtime.Status{State: runtime.Missing, Words: fmt.Sprintf("%s defines no kernel of this name", k.Source)}
		case compiled.mismatch(k) != "":
			status = runtime.Status{State: runtime.Failed, Words: compiled.mismatch(k)}
		case k.Threads < 1 || k.Threads > mostThreads:
			status = runtime.Status{State: runtime.Failed, Words: fmt.Sprintf("a threadgroup of %d threads; there can be %d", k.Threads, mostThreads)}
		default:
			l.entries[k.Symbol] = entry{o.path, compiled.entry, lines}
		}
		l.have[k.Symbol] = status
	}
}

func (l *library) Availability() runtime.Availability { return l.have }

func (l *library) NewQueue() (runtime.Queue, error) {
	if l.closed.Load() || l.device.isClosed() {
		return nil, errClosed
	}
	return &queue{library: l}, nil
}

func (l *library) Close() error {
	l.closed.Store(true)
	return nil
}

// mismatch says where f departs from what the table says of it, or nothing.
func (f *function) mismatch(k *runtime.Kernel) string {
	buffers := f.buffers()
	for i, b := range k.Bindings {
		p, ok := buffers[i]
		switch {
		case !ok:
			return fmt.Sprintf("the kernel has no buffer %d, which is %s in the table", i, b.Name)
		case p.name != b.Name:
			return fmt.Sprintf("buffer %d of the kernel is %s, and %s in the table", i, p.name, b.Name)
		case p.access() != b.Access:
			return fmt.Sprintf("%s is %s for the kernel, and %s in the table", b.Name, p.access(), b.Access)
		}
	}
	if n := len(buffers); n > len(k.Bindings) {
		return fmt.Sprintf("the kernel has %d buffers, and %d in the table", n, len(k.Bindings))
	}
	return ""
}
