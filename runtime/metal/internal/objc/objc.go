// Package objc is what package metal needs of an Objective-C runtime. Package
// native is the system's; package fake is one that plays Metal and is strict.
package objc

import "unsafe"

// An ID is an object or a class; 0 is nil.
type ID uintptr

// A Selector names a message.
type Selector uintptr

// A Size has the layout of MTLSize: three NSUIntegers, passed by value.
type Size struct{ Width, Height, Depth uint64 }

// Count returns the number of things that s counts.
func (s Size) Count() uint64 { return s.Width * s.Height * s.Depth }

// A Runtime sends messages. No message that Metal needs for compute has more
// than four arguments besides receiver and selector, so that all of them go in
// registers; a method that takes fewer does not see the others.
//
// A result that is a BOOL is defined in its low byte only; see Bool.
type Runtime interface {
	Class(name string) ID
	Selector(name string) Selector

	Send(to ID, s Selector, a, b, c, d uintptr) uintptr

	// SendPointer is Send whose first argument points to memory of Go, which
	// stays where it is until the message returns.
	SendPointer(to ID, s Selector, p unsafe.Pointer, b, c, d uintptr) uintptr

	// SendError is Send of a message whose last argument, which follows args,
	// is an NSError **. The error is autoreleased.
	SendError(to ID, s Selector, args ...uintptr) (result uintptr, err ID)

	// SendFloat is Send of a message that returns a double.
	SendFloat(to ID, s Selector) float64

	// SendSizes is Send of a message that takes two MTLSize.
	SendSizes(to ID, s Selector, a, b Size)

	// Push pushes an autorelease pool of this thread, Pop pops it and those
	// above it.
	Push() uintptr
	Pop(pool uintptr)

	// String returns a new NSString, which the caller releases; 0 if s is not
	// UTF-8 or holds a zero byte. GoString returns the text of one.
	String(s string) ID
	GoString(s ID) string

	// Data returns a new dispatch_data with a copy of b.
	Data(b []byte) ID
	ReleaseData(ID)

	// Device returns MTLCreateSystemDefaultDevice(), which the caller
	// releases; 0 if there is none.
	Device() ID
}

// Bool returns the BOOL in a result.
func Bool(result uintptr) bool { return byte(result) != 0 }

// Bytes returns n bytes of memory at address p.
//
//go:nocheckptr
func Bytes(p uintptr, n int) []byte {
	if p == 0 || n == 0 {
		return nil
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n)
}
