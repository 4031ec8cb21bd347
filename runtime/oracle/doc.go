// Package oracle says what a mixture-of-experts layer computes: the formulas of
// the weight formats and of routing, in float64, as plainly as they can be
// written. Devices and codecs are judged by it, so it shares no code with them
// and is built for reading, not for speed.
//
// Floating-point sums are judged against the size of what was summed, not
// against a result in which terms may have cancelled. A Vector therefore
// carries, next to each value, its magnitude: an implementation whose products
// and sums are good to a relative error of ε is within about ε·magnitude.
package oracle
