package limits

import "golang.org/x/sys/cpu"

func best() loops {
	l := neon
	if !cpu.ARM64.HasASIMDDP {
		l.dot, l.names.Int8 = nil, ""
	}
	return l
}

var neon = loops{
	read: func(p []byte) uint64 {
		var words [8]uint64
		readNEON(&p[0], len(p), &words)
		return xor(&words)
	},
	dot:   dotNEON,
	fma:   fmaNEON,
	names: Instructions{"16-byte loads", "SDOT on 16 bytes", "FMLA on 16 bytes"},
}

// readNEON xors the 8-byte words of n bytes into words, in some order. n is a
// multiple of 512.
//
//go:noescape
func readNEON(p *byte, n int, words *[8]uint64)

// dotNEON adds 1·1 as bytes, 256 times a turn, and leaves the sum spread over
// a quarter of sums.
//
//go:noescape
func dotNEON(turns int, sums *[16]uint32)

// fmaNEON adds 1·1 as floats, 64 times a turn, and leaves the sum spread over
// a quarter of sums.
//
//go:noescape
func fmaNEON(turns int, sums *[16]float32)
