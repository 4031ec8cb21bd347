//go:build race

package metal_test

// The race detector makes kernels twenty times slower.
const racing = true
