//go:build race

package quantize_test

func init() { slow = true }
