// This program writes the loops of package logits for amd64.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	lanes("lanesAVX512", 8, ZMM)
	lanes("lanesAVX2", 4, YMM)
	Generate()
}

// lanes keeps the 8 lanes of 4 rows in registers of the given number of
// float64.
func lanes(name string, width int, vector func() VecVirtual) {
	const rows = 4
	TEXT(name, NOSPLIT, "func(sums *[4][8]float64, w *float32, stride int, x *float64, n int)")
	Pragma("noescape")
	Doc(name+" multiplies x, of n elements, with 4 rows at w that are stride elements apart.",
		"Lane i of a sum is that of elements i, i+8, …; n is a positive multiple of 8.")
	sums, w0, stride := Load(Param("sums"), GP64()), Load(Param("w"), GP64()), Load(Param("stride"), GP64())
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	w := [rows]Register{w0, GP64(), GP64(), GP64()}
	for i := 1; i < rows; i++ {
		LEAQ(Mem{Base: w[i-1], Index: stride, Scale: 4}, w[i])
	}
	var acc [rows][]VecVirtual
	for r := range acc {
		for range 8 / width {
			a := vector()
			VXORPD(a, a, a)
			acc[r] = append(acc[r], a)
		}
	}
	loop := name + "Loop"
	Label(loop)
	for i := range 8 / width {
		in := vector()
		VMOVUPD(Mem{Base: x, Disp: 8 * width * i}, in)
		for r := range acc {
			weights := vector()
			VCVTPS2PD(Mem{Base: w[r], Disp: 4 * width * i}, weights)
			VFMADD231PD(in, weights, acc[r][i])
		}
	}
	ADDQ(Imm(64), x)
	for _, p := range w {
		ADDQ(Imm(32), p)
	}
	SUBQ(Imm(8), n)
	JG(LabelRef(loop))
	for r := range acc {
		for i, a := range acc[r] {
			VMOVUPD(a, Mem{Base: sums, Disp: 64*r + 8*width*i})
		}
	}
	VZEROUPPER()
	RET()
}
