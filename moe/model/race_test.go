//go:build race

package model_test

// The race detector makes float64 sums ten times as long and finds no more in
// longer texts.
func init() { slow = true }
