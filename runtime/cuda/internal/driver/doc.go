// Package driver calls the CUDA driver's library, libcuda, without cgo: of its
// functions those that package cuda has a use for, typed.
//
// The driver's current context belongs to an operating system's thread. All
// but Load, Devices, Device and what they return has to be called between
// SetCurrent and the end of the goroutine's hold on its thread; see
// runtime.LockOSThread.
package driver
