// Package cpu is the device that is always there: every pass of a layer in
// plain Go, on as many goroutines as there are processors.
//
// A Queue of this device runs launches one after another when Wait is called.
// Results do not depend on the number of workers, nor on what else is in a
// launch: a row of an expert has the same bits in every family.
//
// The device is strict. What a kernel is told to touch is checked before it
// touches anything: sizes of arguments, work lists, widths, offsets of weights,
// and the indices that earlier kernels wrote. What does not fit is a
// *runtime.LaunchError that names the argument, and the launch writes nothing.
package cpu
