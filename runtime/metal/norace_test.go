//go:build !race

package metal_test

const racing = false
