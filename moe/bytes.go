package moe

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// bytesOf returns the little-endian bytes of vs: those of vs itself, where the
// host is little-endian.
func bytesOf[T uint32 | float32](vs []T) []byte {
	if bigEndian {
		vs = append([]T(nil), vs...)
		swap(vs)
	}
	return memoryOf(vs)
}

// readInto reads the little-endian bytes of vs with read.
func readInto[T uint32 | float32](vs []T, read func(p []byte) error) error {
	err := read(memoryOf(vs))
	if bigEndian {
		swap(vs)
	}
	return err
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

func memoryOf[T uint32 | float32](vs []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(vs))), 4*len(vs))
}

func swap[T uint32 | float32](vs []T) {
	words := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(vs))), len(vs))
	for i, w := range words {
		words[i] = bits.ReverseBytes32(w)
	}
}
