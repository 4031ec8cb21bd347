// Package cuda is the device for NVIDIA's GPUs, on Linux and without cgo: the
// driver's library is loaded when a device is opened.
//
// It runs PTX, which was compiled from the same Metal text that the other
// devices run. The sources that Load is given hold it in files *.ptx, each of
// which begins with the digest of the manifest that lies next to it, and is
// refused when the digest is another one. The driver compiles PTX for the GPU
// that is there, and keeps the result in a cache of its own.
//
// A binding of a kernel is a parameter of its function: a buffer a pointer, a
// constant its bytes. A threadgroup is a block, a simdgroup a warp, threadgroup
// memory dynamic shared memory.
//
// A Queue is a stream: launches begin while the host enqueues others, and run
// one after another. Wait cannot stop what runs. A Queue is a runtime.Recorder,
// a runtime.Copier and a runtime.Timer. Buffers lie in the GPU's memory, those that Wrap returns
// as well: they are copies.
//
// A kernel that goes wrong, with an address that is none, leaves the whole
// process without the device: from then on everything fails with a *LostError.
package cuda
