// Package moe runs mixture-of-experts layers whose experts are quantised to
// bit tuples of their own.
//
// A Layer takes one path, the fairway: a Router chooses the experts of each
// token, Assign sorts the assignments by expert, a Plan gathers the experts by
// tuple and gives each tuple the best kernel that its device has, and Forward
// runs the plan in two passes and sums over the slots of each token. Where a
// tuple has no kernel, or a launch of it fails, that tuple alone steps down:
// from its specialised kernel to the generic one, from there to the host, and
// then to an error. Steps never change the result beyond rounding, and
// Counters hold every one of them.
//
// The package knows neither a device nor the generated table; both are handed
// to it.
package moe
