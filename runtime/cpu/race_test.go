//go:build race

package cpu_test

// The race detector makes float64 sums ten times as long and finds no more in
// the larger shapes.
func init() { short = true }
