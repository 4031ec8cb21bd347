package moe

import (
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
)

// views are the input and the output of a Forward where the caller has them. Nil
// shows nothing.
type views struct{ x, out runtime.View }

// newViews returns the views of a device, or nil if it has none.
func newViews(d runtime.Device) (*views, error) {
	viewer, ok := d.(runtime.Viewer)
	if !ok || bigEndian {
		return nil, nil
	}
	x, err := viewer.NewView()
	if err != nil {
		return nil, err
	}
	out, err := viewer.NewView()
	if err != nil {
		_ = x.Close()
		return nil, err
	}
	return &views{x, out}, nil
}

// show makes v show an output and an input. It reports false if it cannot: kernels
// that failed leave anything in the output, and the input is needed until the end.
func (v *views) show(out, x []float32) bool {
	if v == nil || overlap(out, x) {
		return false
	}
	v.out.Show(memoryOf(out))
	v.x.Show(memoryOf(x))
	return true
}

// overlap reports whether a and b have elements in common.
func overlap(a, b []float32) bool {
	p, q := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return p < q+uintptr(4*len(b)) && q < p+uintptr(4*len(a))
}
