package metal

import (
	"errors"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// Options configures a Device. The zero value will do.
type Options struct {
	// Digest is that of the manifest which the sources given to Load belong to. A
	// compiled library among them is refused unless it carries this digest.
	Digest string

	// Leaked is told what became garbage without having been closed, and so will
	// never be freed. If it is nil, slog is. It is called on a goroutine of Go's
	// runtime.
	Leaked func(what string)
}

// A Device is the Mac's GPU.
type Device struct {
	rt        objc.Runtime
	sel       *selectors
	options   Options
	id        objc.ID // MTLDevice
	queue     objc.ID // MTLCommandQueue, of all Queues
	resident  *residency
	maxBuffer int
	info      runtime.Info
	leak      goruntime.Cleanup
	closed    atomic.Bool
}

var _ runtime.Device = (*Device)(nil)

var errClosed = errors.New("metal: use of a closed device")

// GPU families, as supportsFamily: takes them.
const (
	familyApple7 = 1007 // M1: simdgroup reductions and matrices
	familyMetal3 = 5001
)

// maxThreads is the most threads of a threadgroup that a GPU of family Apple 7
// or newer takes. A pipeline may take fewer.
const maxThreads = 1024

// Open opens the system's default GPU. It is an error if there is none, or none
// of family Apple 7 or newer: not on other systems than macOS, nor in most
// virtual machines.
func Open(o Options) (*Device, error) {
	rt, err := system()
	if err != nil {
		return nil, fmt.Errorf("metal: %w", err)
	}
	return open(rt, o)
}

// open opens the default GPU of rt.
func open(rt objc.Runtime, o Options) (d *Device, err error) {
	if o.Leaked == nil {
		o.Leaked = func(what string) { slog.Warn("metal: never closed", "what", what) }
	}
	d = &Device{rt: rt, sel: newSelectors(rt), options: o}
	d.pool(func() { err = d.start() })
	if err != nil {
		d.stop()
		return nil, fmt.Errorf("metal: %w", err)
	}
	d.leak = goruntime.AddCleanup(d, o.Leaked, "a device")
	return d, nil
}

// start finds the GPU and asks what it can do.
func (d *Device) start() error {
	if d.id = d.rt.Device(); d.id == 0 {
		return errors.New("this machine has no GPU that Metal can use")
	}
	d.info = runtime.Info{
		Name:             d.rt.GoString(d.get(d.id, d.sel.name)),
		Kind:             "metal",
		Driver:           "macOS " + d.version(),
		Threads:          maxThreads,
		ThreadgroupBytes: int(d.ask(d.id, d.sel.maxThreadgroupMemoryLength)),
	}
	if !d.supports(familyApple7) {
		return fmt.Errorf("%s is not of GPU family Apple 7 or newer, which the kernels are written for", d.info.Name)
	}
	d.maxBuffer = int(d.ask(d.id, d.sel.maxBufferLength))
	if d.queue = d.get(d.id, d.sel.newCommandQueue); d.queue == 0 {
		return fmt.Errorf("%s gives no command queue", d.info.Name)
	}
	var err error
	d.resident, err = d.newResidency()
	return err
}

// version returns the words of macOS, such as Version 14.5 (Build 23F79).
func (d *Device) version() string {
	process := d.get(d.rt.Class("NSProcessInfo"), d.sel.processInfo)
	return d.rt.GoString(d.get(process, d.sel.operatingSystemVersionString))
}

// Info describes the GPU and the system that drives it.
func (d *Device) Info() runtime.Info { return d.info }

// Close ends the use of d. What came of it can still be closed.
func (d *Device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.leak.Stop()
	d.stop()
	return nil
}

func (d *Device) stop() {
	d.pool(func() {
		d.resident.close()
		d.release(d.queue)
		d.release(d.id)
	})
}

// pool runs f in an autorelease pool. The pool is the thread's, so f stays on
// one; what f gets without having asked for something new is gone after it.
func (d *Device) pool(f func()) {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	defer d.rt.Pop(d.rt.Push())
	f()
}

// ask sends a message without arguments that returns a number.
func (d *Device) ask(to objc.ID, s objc.Selector) uintptr { return d.rt.Send(to, s, 0, 0, 0, 0) }

// get sends a message without arguments that returns an object.
func (d *Device) get(to objc.ID, s objc.Selector) objc.ID { return objc.ID(d.ask(to, s)) }

// tell sends a message with an argument.
func (d *Device) tell(to objc.ID, s objc.Selector, a uintptr) uintptr {
	return d.rt.Send(to, s, a, 0, 0, 0)
}

// release gives up an object, if it is one.
func (d *Device) release(id objc.ID) {
	if id != 0 {
		d.ask(id, d.sel.release)
	}
}

func (d *Device) supports(family uintptr) bool {
	return objc.Bool(d.tell(d.id, d.sel.supportsFamily, family))
}

func (d *Device) responds(id objc.ID, s objc.Selector) bool {
	return objc.Bool(d.tell(id, d.sel.respondsToSelector, uintptr(s)))
}

// words returns what an NSError says.
func (d *Device) words(e objc.ID) string {
	if e == 0 {
		return "Metal does not say why"
	}
	return fmt.Sprintf("%s (%s %d)", d.rt.GoString(d.get(e, d.sel.localizedDescription)),
		d.rt.GoString(d.get(e, d.sel.domain)), int(d.ask(e, d.sel.code)))
}
