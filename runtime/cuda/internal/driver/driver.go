package driver

import (
	"fmt"
	"strings"
	"unsafe"
)

// An API is a driver's library that was loaded.
type API struct {
	// Version is of CUDA, the newest that the driver supports: 1000·major +
	// 10·minor.
	Version int

	functions [symbols]uintptr
}

// The handles of the driver's things.
type (
	Device   int32
	Context  uintptr
	Stream   uintptr
	Event    uintptr
	Module   uintptr
	Function uintptr
	Graph    uintptr
	Exec     uintptr // a graph that can be launched

	Pointer uint64 // into a device's memory
)

// Load loads the library at path, which the system's loader looks for, and
// starts the driver. The error of a library that is too old names the functions
// that it lacks.
func Load(path string) (*API, error) {
	find, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("no NVIDIA driver: %w", err)
	}
	a := new(API)
	var missing []string
	for s, name := range names {
		a.functions[s] = find(name)
		if a.functions[s] == 0 && symbol(s) < optional {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("the NVIDIA driver is too old: %s lacks %s", path, strings.Join(missing, ", "))
	}
	if err := a.call(cuInit, 0); err != nil {
		return nil, err
	}
	var version int32
	err = a.call(cuDriverGetVersion, uintptr(unsafe.Pointer(&version)))
	a.Version = int(version)
	return a, err
}

// call calls a function that returns a code. Pointers among args are kept alive.
//
//go:uintptrescapes
func (a *API) call(s symbol, args ...uintptr) error {
	code := int32(invoke(a.functions[s], args...))
	if code == 0 {
		return nil
	}
	return a.error(names[s], code)
}

func (a *API) error(call string, code int32) error {
	e := &Error{Call: call, Code: int(code), Name: "unknown code", Words: "unknown error"}
	for s, words := range map[symbol]*string{cuGetErrorName: &e.Name, cuGetErrorString: &e.Words} {
		text := new(uintptr) // static text of the library
		if invoke(a.functions[s], uintptr(code), uintptr(unsafe.Pointer(text))) == 0 && *text != 0 {
			*words = cString(*text)
		}
	}
	return e
}

// cString copies the text at an address of C.
func cString(address uintptr) string {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&address)) // not Go's memory, so no misuse
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}

// text returns the bytes of b before the first zero.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// Devices returns the number of devices.
func (a *API) Devices() (int, error) {
	var n int32
	err := a.call(cuDeviceGetCount, uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// Device returns the device of an index.
func (a *API) Device(index int) (Device, error) {
	var d Device
	err := a.call(cuDeviceGet, uintptr(unsafe.Pointer(&d)), uintptr(index))
	return d, err
}

// Name returns what a device is called.
func (a *API) Name(d Device) (string, error) {
	b := make([]byte, 256)
	err := a.call(cuDeviceGetName, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(d))
	return text(b), err
}

// A DeviceAttribute is a number that a device has.
type DeviceAttribute int

// Attributes of devices.
const (
	MaxThreads     DeviceAttribute = 1  // per block
	ComputeMajor   DeviceAttribute = 75 // of the compute capability
	ComputeMinor   DeviceAttribute = 76
	MaxSharedOptin DeviceAttribute = 97 // bytes per block, for functions that ask for them
)

// Attribute returns an attribute of a device.
func (a *API) Attribute(d Device, attribute DeviceAttribute) (int, error) {
	var n int32
	err := a.call(cuDeviceGetAttribute, uintptr(unsafe.Pointer(&n)), uintptr(attribute), uintptr(d))
	return int(n), err
}

// Retain returns the device's primary context. Each Retain wants a Release.
func (a *API) Retain(d Device) (Context, error) {
	var c Context
	err := a.call(cuDevicePrimaryCtxRetain, uintptr(unsafe.Pointer(&c)), uintptr(d))
	return c, err
}

// Release gives a device's primary context back.
func (a *API) Release(d Device) error { return a.call(cuDevicePrimaryCtxRelease, uintptr(d)) }

// SetCurrent makes a context that of the calling thread.
func (a *API) SetCurrent(c Context) error { return a.call(cuCtxSetCurrent, uintptr(c)) }
