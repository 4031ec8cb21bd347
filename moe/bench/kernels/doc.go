// Package kernels times rows of the table: the launches of one pass over
// experts of given tuples and numbers of rows, without a layer around them.
//
// A launch is made from the kernel's row alone: its grid, threads, tile and
// bindings. Weights are random; a case has as many sets of experts as fit into
// the memory for them, and launches take turns on them, so that caches hold
// little of what a launch reads. Every set is first run on poisoned outputs and
// held to the float64 oracle: what is off it cannot be timed.
package kernels
