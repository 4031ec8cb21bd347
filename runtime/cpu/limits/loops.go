package limits

import "encoding/binary"

//go:generate go run -C _asm main.go -out ../loops_amd64.s -stubs ../stubs_amd64.go -pkg limits

// loops are what a kind of machine is measured with.
type loops struct {
	read func(p []byte) uint64 // the xor of its 8-byte words; its length is a multiple of 512

	// dot and fma multiply 1 by 1 and leave the sum of the products spread
	// over sums. They are nil if there is no loop for the machine.
	dot func(turns int, sums *[16]uint32)  // of bytes
	fma func(turns int, sums *[16]float32) // of floats

	names Instructions
}

// Instructions name what each quantity is measured with.
type Instructions struct {
	Read string
	Int8 string // empty if it is not measured on this machine
	FP32 string
}

// machine is the best that the machine has.
var machine = best()

// Used returns what this machine is measured with.
func Used() Instructions { return machine.names }

// portable is for machines without loops of their own.
var portable = loops{read: readWords, names: Instructions{Read: "8-byte loads"}}

func readWords(p []byte) uint64 {
	var a, b, c, d uint64
	for ; len(p) >= 32; p = p[32:] {
		a ^= binary.LittleEndian.Uint64(p)
		b ^= binary.LittleEndian.Uint64(p[8:])
		c ^= binary.LittleEndian.Uint64(p[16:])
		d ^= binary.LittleEndian.Uint64(p[24:])
	}
	return a ^ b ^ c ^ d
}

// xor returns the xor of words.
func xor(words *[8]uint64) uint64 {
	x := uint64(0)
	for _, w := range words {
		x ^= w
	}
	return x
}
