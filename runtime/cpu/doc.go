// Package cpu is the device that is always there: every pass of a layer on as
// many goroutines as there are processors.
//
// Experts are multiplied by the vector instructions of package simd, or by its
// plain Go where there are none. Their inputs are taken as integers of a group
// of 128, of 8 bits or of 30; see Precision. A launch goes through an expert's
// weights once: they are decoded for all of its rows together, in pieces that
// goroutines take by the bytes that they cost, not by expert.
//
// A Queue of this device runs launches one after another when Wait is called, and
// as one those that follow each other and differ in their work lists alone.
// Results depend neither on the number of workers, nor on the instructions that
// the host has, nor on what else is in a launch: a row of an expert has the same
// bits in every family.
//
// The device is strict. What a kernel is told to touch is checked before it
// touches anything: sizes of arguments, work lists, widths, offsets of weights,
// and the indices that earlier kernels wrote. What does not fit is a
// *runtime.LaunchError that names the argument, and the launch writes nothing.
package cpu
