//go:build !amd64 && !arm64

package simd

func hostSets() []*Set { return nil }
