//go:build darwin || linux

// Package fake plays the Objective-C runtime and Metal, strictly. What Metal's
// validation layers would refuse, and what its documents forbid, is a violation:
// messages that an object does not know, use after release, autoreleasing
// without a pool, encoders and command buffers used out of order, arguments that
// are not bound or lie outside their buffers, threadgroups beyond limits.
//
// Kernels are computed by package cpu, when somebody waits for them: launches
// between two barriers in reverse, since they may run in any order, and a launch
// that touches what another one of them writes is a violation.
package fake

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// Options say what GPU is played.
type Options struct {
	Table *runtime.Table // whose kernels sources may hold

	Families  []uintptr // of the GPU; Apple 7 to 9 and Metal 3 if nil
	Older     bool      // macOS before 15: no residency sets, no math mode
	MaxBuffer int       // bytes; 0 for 4 GiB

	// Limits returns what a pipeline of a kernel says of itself: most threads of
	// a threadgroup, threads of a simdgroup, threadgroup memory. If nil, 1024, 32
	// and what the table says.
	Limits func(k *runtime.Kernel) (threads, width, memory int)

	// Fail returns the words of an NSError for a step, or nothing. What it is
	// given besides the selector is the source to compile, or the symbol of the
	// kernel of a pipeline (newComputePipelineState…) or of a dispatch (commit).
	Fail func(selector, what string) string
}

// A Runtime is the fake.
type Runtime struct {
	options Options

	mu         sync.Mutex
	objects    map[objc.ID]*object
	classes    map[string]objc.ID
	last       objc.ID
	selectors  []string // selector n is selectors[n-1]
	numbers    map[string]objc.Selector
	pools      map[int][]*pool // by thread
	sent       map[string]int
	violations []string
}

var _ objc.Runtime = (*Runtime)(nil)

// New returns a runtime of one GPU.
func New(o Options) *Runtime {
	if o.Families == nil {
		o.Families = []uintptr{1007, 1008, 1009, 5001}
	}
	if o.MaxBuffer == 0 {
		o.MaxBuffer = 4 << 30
	}
	if o.Limits == nil {
		o.Limits = func(k *runtime.Kernel) (int, int, int) { return 1024, 32, k.ThreadgroupBytes }
	}
	if o.Fail == nil {
		o.Fail = func(string, string) string { return "" }
	}
	return &Runtime{
		options: o, objects: map[objc.ID]*object{}, classes: map[string]objc.ID{}, last: 1 << 40,
		numbers: map[string]objc.Selector{}, pools: map[int][]*pool{}, sent: map[string]int{},
	}
}

// An object is of a class, and alive while there are references to it.
type object struct {
	id    objc.ID
	class string
	refs  int
	held  []*object // that it holds a reference to
	value any       // by class
}

// A pool is an autorelease pool.
type pool struct {
	token   uintptr
	objects []*object
}

// violate notes a violation. The caller holds the lock.
func (r *Runtime) violate(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// Violations returns what was wrong so far.
func (r *Runtime) Violations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.violations)
}

// Sent returns how often a message was sent.
func (r *Runtime) Sent(selector string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[selector]
}

// Left returns the violations, and what is alive still or not popped.
func (r *Runtime) Left() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := slices.Clone(r.violations)
	alive := map[string]int{}
	for _, o := range r.objects {
		if o.refs > 0 && r.classes[strings.TrimPrefix(o.class, "+")] != o.id {
			alive[o.class]++
		}
	}
	for _, class := range slices.Sorted(maps.Keys(alive)) {
		left = append(left, fmt.Sprintf("%d of %s never released", alive[class], class))
	}
	for thread, pools := range r.pools {
		if len(pools) > 0 {
			left = append(left, fmt.Sprintf("%d autorelease pools of thread %d never popped", len(pools), thread))
		}
	}
	return left
}

// new returns an object with one reference.
func (r *Runtime) new(class string, value any) *object {
	r.last += 16
	o := &object{id: r.last, class: class, refs: 1, value: value}
	r.objects[o.id] = o
	return o
}

// hold has o keep another object alive.
func (o *object) hold(other *object) {
	other.refs++
	o.held = append(o.held, other)
}

// drop takes a reference away.
func (r *Runtime) drop(o *object) {
	if o.refs <= 0 {
		r.violate("%s released once too often", o.class)
		return
	}
	if o.refs--; o.refs > 0 {
		return
	}
	switch v := o.value.(type) {
	case *encoder:
		if !v.ended {
			r.violate("a command encoder was released without endEncoding")
		}
	case *commandQueue:
		if len(v.sets) > 0 {
			r.violate("a command queue was released that has a residency set")
		}
	case *commandBuffer:
		if v.status == committed {
			r.violate("a command buffer was committed, and released before anybody waited for it")
		}
	case *buffer:
		if v.owned {
			if err := unix.Munmap(v.memory); err != nil {
				r.violate("munmap: %v", err)
			}
		}
		v.memory = nil
	}
	for _, other := range o.held {
		r.drop(other)
	}
	o.held = nil
}

// autorelease hands o to the pool on top of this thread's.
func (r *Runtime) autorelease(o *object) uintptr {
	pools := r.pools[thread()]
	if len(pools) == 0 {
		r.violate("%s autoreleased with no pool in place", o.class)
		return uintptr(o.id)
	}
	top := pools[len(pools)-1]
	top.objects = append(top.objects, o)
	return uintptr(o.id)
}

// Push pushes a pool of this thread.
func (r *Runtime) Push() uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last += 16
	p := &pool{token: uintptr(r.last)}
	r.pools[thread()] = append(r.pools[thread()], p)
	return p.token
}

// Pop pops a pool of this thread.
func (r *Runtime) Pop(token uintptr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pools := r.pools[thread()]
	i := slices.IndexFunc(pools, func(p *pool) bool { return p.token == token })
	if i < 0 {
		r.violate("an autorelease pool was popped that is not of this thread")
		return
	}
	for _, p := range slices.Backward(pools[i:]) {
		for _, o := range p.objects {
			r.drop(o)
		}
	}
	r.pools[thread()] = pools[:i]
}

// Class returns a class, which is never released.
func (r *Runtime) Class(name string) objc.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if methods["+"+name] == nil {
		r.violate("no class %s", name)
		return 0
	}
	if r.classes[name] == 0 {
		r.classes[name] = r.new("+"+name, nil).id
	}
	return r.classes[name]
}

// Selector returns the number of a selector.
func (r *Runtime) Selector(name string) objc.Selector {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.numbers[name] == 0 {
		r.selectors = append(r.selectors, name)
		r.numbers[name] = objc.Selector(len(r.selectors))
	}
	return r.numbers[name]
}

// Selectors returns the selectors that were asked for.
func (r *Runtime) Selectors() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.selectors)
}

// A message is one on its way to an object that is alive.
type message struct {
	*Runtime
	to      *object
	args    [4]uintptr
	sizes   [2]objc.Size
	failure *object // an NSError, if the method gives one
	float   float64 // if it returns a double
}

// A kind is the form of a message, which has to be that of its method.
type kind int

const (
	plain kind = iota
	withError
	withFloat
	withSizes
)

// A method is what an object does with a message.
type method struct {
	kind kind
	args int // that it takes, an NSError ** excluded
	run  func(*message) uintptr
}

// send delivers a message.
func (r *Runtime) send(k kind, to objc.ID, s objc.Selector, m *message) uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == 0 || int(s) > len(r.selectors) {
		r.violate("message %d is no selector", s)
		return 0
	}
	name := r.selectors[s-1]
	r.sent[name]++
	if len(r.pools[thread()]) == 0 {
		r.violate("%s sent with no pool in place: any method may autorelease something", name)
	}
	o := r.objects[to]
	switch {
	case to == 0:
		r.violate("%s sent to nil", name)
		return 0
	case o == nil:
		r.violate("%s sent to %#x, which is no object", name, to)
		return 0
	case o.refs <= 0:
		r.violate("%s sent to a released %s", name, o.class)
		return 0
	}
	f, ok := methods[o.class][name]
	if !ok {
		f, ok = common[name]
	}
	if !ok || r.lacks(name) {
		r.violate("-[%s %s]: unrecognized selector", o.class, name)
		return 0
	}
	if f.kind != k {
		r.violate("-[%s %s]: it does not have this form", o.class, name)
		return 0
	}
	for i, a := range m.args {
		if i >= f.args && a != 0 {
			r.violate("-[%s %s]: argument %d is %#x, and it takes %d", o.class, name, i, a, f.args)
		}
	}
	m.Runtime, m.to = r, o
	return f.run(m)
}

// lacks reports whether the system that is played is too old for a method.
func (r *Runtime) lacks(selector string) bool {
	return r.options.Older && slices.Contains([]string{"newResidencySetWithDescriptor:error:", "setMathMode:", "setMathFloatingPointFunctions:"}, selector)
}

func (r *Runtime) Send(to objc.ID, s objc.Selector, a, b, c, d uintptr) uintptr {
	return r.send(plain, to, s, &message{args: [4]uintptr{a, b, c, d}})
}

func (r *Runtime) SendPointer(to objc.ID, s objc.Selector, p unsafe.Pointer, b, c, d uintptr) uintptr {
	return r.send(plain, to, s, &message{args: [4]uintptr{uintptr(p), b, c, d}})
}

func (r *Runtime) SendError(to objc.ID, s objc.Selector, args ...uintptr) (uintptr, objc.ID) {
	m := new(message)
	copy(m.args[:], args)
	result := r.send(withError, to, s, m)
	if m.failure == nil {
		return result, 0
	}
	return result, m.failure.id
}

func (r *Runtime) SendFloat(to objc.ID, s objc.Selector) float64 {
	m := new(message)
	r.send(withFloat, to, s, m)
	return m.float
}

func (r *Runtime) SendSizes(to objc.ID, s objc.Selector, a, b objc.Size) {
	r.send(withSizes, to, s, &message{sizes: [2]objc.Size{a, b}})
}

func (r *Runtime) String(s string) objc.ID {
	if !utf8.ValidString(s) {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.new("NSString", s).id
}

func (r *Runtime) GoString(id objc.ID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id == 0 {
		return ""
	}
	if o := r.objects[id]; o != nil && o.refs > 0 {
		if s, ok := o.value.(string); ok {
			return s
		}
	}
	r.violate("%#x is no NSString, or was released", id)
	return ""
}

func (r *Runtime) Data(b []byte) objc.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.new("dispatch_data", slices.Clone(b)).id
}

func (r *Runtime) ReleaseData(id objc.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.objects[id]; o == nil || o.class != "dispatch_data" {
		r.violate("dispatch_release of what is no dispatch_data")
	} else {
		r.drop(o)
	}
}

func (r *Runtime) Device() objc.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.new("MTLDevice", nil).id
}

// fail sets the NSError of a message, which is autoreleased.
func (m *message) fail(words string) uintptr {
	m.failure = m.new("NSError", words)
	m.autorelease(m.failure)
	return 0
}

// arg returns argument i, an object of a class that is alive.
func (m *message) arg(i int, class string) *object {
	o := m.objects[objc.ID(m.args[i])]
	if o == nil || o.refs <= 0 || o.class != class {
		m.violate("argument %d of a message to %s is no %s that is alive", i, m.to.class, class)
		return nil
	}
	return o
}

// page is the size of one.
func page() int { return os.Getpagesize() }
