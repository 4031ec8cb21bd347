package driver

import "unsafe"

// Alloc returns size bytes of the device's memory, of which there have to be
// some. What they hold is undefined.
func (a *API) Alloc(size int) (Pointer, error) {
	var p Pointer
	err := a.call(cuMemAlloc, uintptr(unsafe.Pointer(&p)), uintptr(size))
	return p, err
}

// Free frees what Alloc returned. It waits for what the device still does.
func (a *API) Free(p Pointer) error { return a.call(cuMemFree, uintptr(p)) }

// AllocHost returns memory of the host that the device reads by itself.
func (a *API) AllocHost(size int) ([]byte, error) {
	p := new(unsafe.Pointer)
	if err := a.call(cuMemHostAlloc, uintptr(unsafe.Pointer(p)), uintptr(size), 0); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(*p), size), nil
}

// FreeHost frees what AllocHost returned.
func (a *API) FreeHost(b []byte) error {
	return a.call(cuMemFreeHost, uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

// Upload copies src to dst in the order of a stream. If src is not of AllocHost,
// it may change once Upload has returned; if it is, once the stream is done.
func (a *API) Upload(dst Pointer, src []byte, s Stream) error {
	return a.call(cuMemcpyHtoDAsync, uintptr(dst), uintptr(unsafe.Pointer(unsafe.SliceData(src))), uintptr(len(src)), uintptr(s))
}

// Download copies src to dst in the order of a stream, and waits if dst is not
// of AllocHost.
func (a *API) Download(dst []byte, src Pointer, s Stream) error {
	return a.call(cuMemcpyDtoHAsync, uintptr(unsafe.Pointer(unsafe.SliceData(dst))), uintptr(src), uintptr(len(dst)), uintptr(s))
}

// Copy copies size bytes within the device's memory in the order of a stream.
func (a *API) Copy(dst, src Pointer, size int, s Stream) error {
	return a.call(cuMemcpyDtoDAsync, uintptr(dst), uintptr(src), uintptr(size), uintptr(s))
}

// A side is one side of a copy of rows, as the driver lays it out.
type side struct {
	x, y  uintptr
	kind  uint32 // of memory
	_     uint32
	host  uintptr
	at    Pointer
	array uintptr
	pitch uintptr
}

// CopyRows copies count rows of size bytes within the device's memory in the
// order of a stream. Rows are a pitch apart, of at least their size.
func (a *API) CopyRows(dst, src Pointer, dstPitch, srcPitch, size, count int, s Stream) error {
	const device = 2
	c := struct {
		from, to    side
		size, count uintptr
	}{
		side{kind: device, at: src, pitch: uintptr(srcPitch)},
		side{kind: device, at: dst, pitch: uintptr(dstPitch)},
		uintptr(size), uintptr(count),
	}
	return a.call(cuMemcpy2DAsync, uintptr(unsafe.Pointer(&c)), uintptr(s))
}

// Fill sets size bytes to a value in the order of a stream.
func (a *API) Fill(dst Pointer, value byte, size int, s Stream) error {
	return a.call(cuMemsetD8Async, uintptr(dst), uintptr(value), uintptr(size), uintptr(s))
}
