// Package metal is the device of Apple GPUs, from the M1 on, under macOS 14 or
// newer. It calls Metal without cgo, and builds everywhere: on other systems
// Open says that there is no Metal.
//
// A Queue collects launches, and Wait encodes them into one command buffer: one
// concurrent compute encoder, in which a Barrier is a memory barrier. Buffers
// are memory that host and GPU share. Wrap shares what the host has mapped, and
// copies nothing, where that starts at a page.
//
// Nothing is freed by the garbage collector: what is not closed leaks, and is
// reported; see Options.
package metal
