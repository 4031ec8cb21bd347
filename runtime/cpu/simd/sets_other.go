//go:build !amd64

package simd

func hostSets() []*Set { return nil }
