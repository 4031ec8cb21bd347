// This program writes the loops of package limits for amd64.
package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	read("readAVX512", 64, ZMM)
	read("readAVX2", 32, YMM)
	dotVNNI()
	dotAVX2()
	fma("fmaAVX512", 16, ZMM)
	fma("fmaAVX2", 12, YMM)
	Generate()
}

// read xors n bytes at p, eight registers of the given width at a time.
func read(name string, width int, vector func() VecVirtual) {
	TEXT(name, NOSPLIT, "func(p *byte, n int, words *[8]uint64)")
	Pragma("noescape")
	Doc(name + " xors the 8-byte words of n bytes into words, in some order. n is a multiple of 512.")
	p, n, words := Load(Param("p"), GP64()), Load(Param("n"), GP64()), Load(Param("words"), GP64())
	acc := zeros(8, vector)
	loop := name + "Loop"
	Label(loop)
	for i, a := range acc {
		VXORPS(Mem{Base: p, Disp: width * i}, a, a)
	}
	ADDQ(U32(8*width), p)
	SUBQ(U32(8*width), n)
	JG(LabelRef(loop))
	reduce(acc, VXORPS)
	VMOVUPS(acc[0], Mem{Base: words})
	VZEROUPPER()
	RET()
}

// dotVNNI keeps 16 chains of VPDPBUSD going: it takes 5 cycles, and a core
// starts up to 2 in each.
func dotVNNI() {
	TEXT("dotVNNI", NOSPLIT, "func(turns int, sums *[16]uint32)")
	Pragma("noescape")
	Doc("dotVNNI adds 1·1 as bytes, 1024 times a turn, and leaves the sum spread over sums.")
	turns, sums := Load(Param("turns"), GP64()), Load(Param("sums"), GP64())
	one := ZMM()
	VPTERNLOGD(Imm(255), one, one, one)
	VPABSB(one, one)
	acc := zeros(16, ZMM)
	Label("dotVNNILoop")
	for _, a := range acc {
		VPDPBUSD(one, one, a)
	}
	DECQ(turns)
	JNE(LabelRef("dotVNNILoop"))
	reduce(acc, VPADDD)
	VMOVUPS(acc[0], Mem{Base: sums})
	VZEROUPPER()
	RET()
}

// dotAVX2 does what VPDPBUSD does in three instructions.
func dotAVX2() {
	TEXT("dotAVX2", NOSPLIT, "func(turns int, sums *[16]uint32)")
	Pragma("noescape")
	Doc("dotAVX2 adds 1·1 as bytes, 256 times a turn, and leaves the sum spread over half of sums.")
	turns, sums := Load(Param("turns"), GP64()), Load(Param("sums"), GP64())
	ones, bytes, words := YMM(), YMM(), YMM()
	VPCMPEQD(ones, ones, ones)
	VPABSB(ones, bytes)
	VPABSW(ones, words)
	acc := zeros(8, YMM)
	Label("dotAVX2Loop")
	for _, a := range acc {
		t := YMM()
		VPMADDUBSW(bytes, bytes, t)
		VPMADDWD(words, t, t)
		VPADDD(t, a, a)
	}
	DECQ(turns)
	JNE(LabelRef("dotAVX2Loop"))
	reduce(acc, VPADDD)
	VMOVUPS(acc[0], Mem{Base: sums})
	VZEROUPPER()
	RET()
}

// fma keeps the given number of chains of VFMADD231PS going.
func fma(name string, chains int, vector func() VecVirtual) {
	TEXT(name, NOSPLIT, "func(turns int, sums *[16]float32)")
	Pragma("noescape")
	Doc(name + " adds 1·1 as floats to each lane of its registers in each turn, and leaves the sum spread over sums.")
	turns, sums := Load(Param("turns"), GP64()), Load(Param("sums"), GP64())
	bits, low, one := GP32(), XMM(), vector()
	MOVL(U32(math.Float32bits(1)), bits)
	VMOVD(bits, low)
	VBROADCASTSS(low, one)
	acc := zeros(chains, vector)
	loop := name + "Loop"
	Label(loop)
	for _, a := range acc {
		VFMADD231PS(one, one, a)
	}
	DECQ(turns)
	JNE(LabelRef(loop))
	reduce(acc, VADDPS)
	VMOVUPS(acc[0], Mem{Base: sums})
	VZEROUPPER()
	RET()
}

// zeros returns n registers that hold zero.
func zeros(n int, vector func() VecVirtual) []VecVirtual {
	acc := make([]VecVirtual, n)
	for i := range acc {
		acc[i] = vector()
		VXORPS(acc[i], acc[i], acc[i])
	}
	return acc
}

// reduce leaves in the first of acc what add makes of all of them.
func reduce(acc []VecVirtual, add func(...Op)) {
	for _, a := range acc[1:] {
		add(a, acc[0], acc[0])
	}
}
