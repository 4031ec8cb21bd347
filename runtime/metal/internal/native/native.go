//go:build (darwin || linux) && (amd64 || arm64)

// Package native is the system's Objective-C runtime, called without cgo. It is
// built for Linux so that its calls are tested there, against a library of C
// that has the same symbols.
package native

import (
	"fmt"
	goruntime "runtime"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// Images are the files that hold the functions. All are loaded, in this order.
type Images struct{ ObjC, System, Foundation, CoreGraphics, Metal string }

// System is where macOS has them. A command line tool has to load CoreGraphics
// itself, or there is no default device.
var System = Images{
	ObjC:         "/usr/lib/libobjc.A.dylib",
	System:       "/usr/lib/libSystem.B.dylib",
	Foundation:   "/System/Library/Frameworks/Foundation.framework/Foundation",
	CoreGraphics: "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics",
	Metal:        "/System/Library/Frameworks/Metal.framework/Metal",
}

// A Runtime calls the functions of Images.
type Runtime struct {
	msgSend, push, pop, createData, releaseData, createDevice uintptr

	class     func(string) objc.ID
	register  func(string) objc.Selector
	sendFloat func(objc.ID, objc.Selector) float64

	mu        sync.Mutex
	selectors map[string]objc.Selector

	nsString                                               objc.ID
	alloc, initWithCString, utf8String, lengthOfBytesUsing objc.Selector
}

var _ objc.Runtime = (*Runtime)(nil)

// Load loads the images.
func Load(images Images) (*Runtime, error) {
	handles := map[string]uintptr{}
	for _, path := range []string{images.ObjC, images.System, images.Foundation, images.CoreGraphics, images.Metal} {
		h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", path, err)
		}
		handles[path] = h
	}
	r := &Runtime{selectors: map[string]objc.Selector{}}
	var class, register uintptr
	for _, f := range []struct {
		at    *uintptr
		image string
		name  string
	}{
		{&class, images.ObjC, "objc_getClass"},
		{&register, images.ObjC, "sel_registerName"},
		{&r.msgSend, images.ObjC, "objc_msgSend"},
		{&r.push, images.ObjC, "objc_autoreleasePoolPush"},
		{&r.pop, images.ObjC, "objc_autoreleasePoolPop"},
		{&r.createData, images.System, "dispatch_data_create"},
		{&r.releaseData, images.System, "dispatch_release"},
		{&r.createDevice, images.Metal, "MTLCreateSystemDefaultDevice"},
	} {
		p, err := purego.Dlsym(handles[f.image], f.name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.image, err)
		}
		*f.at = p
	}
	purego.RegisterFunc(&r.class, class)
	purego.RegisterFunc(&r.register, register)
	purego.RegisterFunc(&r.sendFloat, r.msgSend)
	for name, at := range r.own() {
		*at = r.Selector(name)
	}
	if r.nsString = r.Class("NSString"); r.nsString == 0 {
		return nil, fmt.Errorf("%s has no class NSString", images.Foundation)
	}
	return r, nil
}

// own are the selectors that a Runtime sends by itself.
func (r *Runtime) own() map[string]*objc.Selector {
	return map[string]*objc.Selector{
		"alloc":                       &r.alloc,
		"initWithCString:encoding:":   &r.initWithCString,
		"UTF8String":                  &r.utf8String,
		"lengthOfBytesUsingEncoding:": &r.lengthOfBytesUsing,
	}
}

// Class returns 0 for a class of no image that is loaded.
func (r *Runtime) Class(name string) objc.ID { return r.class(name) }

// Selector keeps what it returns: sel_registerName takes a lock of the whole
// process.
func (r *Runtime) Selector(name string) objc.Selector {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.selectors[name]
	if !ok {
		s = r.register(name)
		r.selectors[name] = s
	}
	return s
}

func (r *Runtime) Send(to objc.ID, s objc.Selector, a, b, c, d uintptr) uintptr {
	result, _, _ := purego.SyscallN(r.msgSend, uintptr(to), uintptr(s), a, b, c, d)
	return result
}

// SendPointer converts p in the call itself, which keeps what it points to.
func (r *Runtime) SendPointer(to objc.ID, s objc.Selector, p unsafe.Pointer, b, c, d uintptr) uintptr {
	result, _, _ := purego.SyscallN(r.msgSend, uintptr(to), uintptr(s), uintptr(p), b, c, d)
	return result
}

func (r *Runtime) SendError(to objc.ID, s objc.Selector, args ...uintptr) (uintptr, objc.ID) {
	failure := new(objc.ID)
	var result uintptr
	switch len(args) {
	case 1:
		result, _, _ = purego.SyscallN(r.msgSend, uintptr(to), uintptr(s), args[0], uintptr(unsafe.Pointer(failure)))
	case 2:
		result, _, _ = purego.SyscallN(r.msgSend, uintptr(to), uintptr(s), args[0], args[1], uintptr(unsafe.Pointer(failure)))
	default:
		panic("native: a message with an error has one or two other arguments")
	}
	return result, *failure
}

func (r *Runtime) SendFloat(to objc.ID, s objc.Selector) float64 { return r.sendFloat(to, s) }

// SendSizes passes structs of 24 bytes as the ABI has it. AAPCS64 (B.4): each is
// copied, and its address passed in its place. System V: each is of class
// MEMORY, so it lies on the stack, behind what goes in the six registers.
func (r *Runtime) SendSizes(to objc.ID, s objc.Selector, a, b objc.Size) {
	if goruntime.GOARCH == "arm64" {
		purego.SyscallN(r.msgSend, uintptr(to), uintptr(s), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&b)))
		return
	}
	purego.SyscallN(r.msgSend, uintptr(to), uintptr(s), 0, 0, 0, 0,
		uintptr(a.Width), uintptr(a.Height), uintptr(a.Depth), uintptr(b.Width), uintptr(b.Height), uintptr(b.Depth))
}

func (r *Runtime) Push() uintptr {
	pool, _, _ := purego.SyscallN(r.push)
	return pool
}

func (r *Runtime) Pop(pool uintptr) { purego.SyscallN(r.pop, pool) }

const nsUTF8StringEncoding = 4

func (r *Runtime) String(s string) objc.ID {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return 0
	}
	text := append([]byte(s), 0)
	to := objc.ID(r.Send(r.nsString, r.alloc, 0, 0, 0, 0))
	return objc.ID(r.SendPointer(to, r.initWithCString, unsafe.Pointer(&text[0]), nsUTF8StringEncoding, 0, 0))
}

func (r *Runtime) GoString(s objc.ID) string {
	if s == 0 {
		return ""
	}
	p := r.Send(s, r.utf8String, 0, 0, 0, 0)
	n := r.Send(s, r.lengthOfBytesUsing, nsUTF8StringEncoding, 0, 0, 0)
	return string(objc.Bytes(p, int(n)))
}

// Data gives neither queue nor destructor, which has the bytes copied.
func (r *Runtime) Data(b []byte) objc.ID {
	data, _, _ := purego.SyscallN(r.createData, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0)
	return objc.ID(data)
}

func (r *Runtime) ReleaseData(data objc.ID) { purego.SyscallN(r.releaseData, uintptr(data)) }

func (r *Runtime) Device() objc.ID {
	device, _, _ := purego.SyscallN(r.createDevice)
	return objc.ID(device)
}
