// Package msl proves Metal shaders without Apple's compiler or a GPU of theirs.
//
// Clang compiles the very text that ships, as C++ for OpenCL with a Metal
// standard library of our own (see shim). That language has Metal's address
// spaces, so Check finds what Apple's front end would. A Device runs what was
// compiled on the host: a threadgroup is a set of fibers that take turns, in an
// order that can be reversed or shuffled, and a simdgroup is 32 of them. With
// Options.Checker each access to memory is checked, too, against the rules of a
// GPU: bounds, races, barriers, what was never written.
//
// Kernels run in processes of their own, which may crash or hang without harm.
//
// It is another compiler and another library than Apple's: what passes here may
// still fail there, and nothing is learnt about speed.
package msl
