// This program writes the loops of package logits for amd64.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	lanes("lanesAVX512", 1, 8, ZMM)
	lanes("lanes4AVX512", 4, 8, ZMM)
	lanes("lanesAVX2", 1, 4, YMM)
	Generate()
}

// rows is how many rows of the weights are multiplied together.
const rows = 4

// lanes keeps the 8 lanes of 4 rows and some tokens in registers of the given
// number of float64, so that weights are converted once for all the tokens.
func lanes(name string, tokens, width int, vector func() VecVirtual) {
	TEXT(name, NOSPLIT, fmt.Sprintf("func(sums *[%d][4][8]float64, w *float32, x *float64, stride int, n int)", tokens))
	Pragma("noescape")
	Doc(name+" multiplies 4 rows at w and tokens at x, each row and token stride elements apart.",
		"Lane i of a sum is that of elements i, i+8, … of the first n, a positive multiple of 8.")
	sums, w, x := Load(Param("sums"), GP64()), pointers(rows, "w"), pointers(tokens, "x")
	stride, n := Load(Param("stride"), GP64()), Load(Param("n"), GP64())
	apart(w, stride, 4)
	apart(x, stride, 8)
	acc := make([][]VecVirtual, tokens*rows)
	for i := range acc {
		for range 8 / width {
			a := vector()
			VXORPD(a, a, a)
			acc[i] = append(acc[i], a)
		}
	}
	loop := name + "Loop"
	Label(loop)
	for i := range 8 / width {
		weights := make([]VecVirtual, rows)
		for r := range weights {
			weights[r] = vector()
			VCVTPS2PD(Mem{Base: w[r], Disp: 4 * width * i}, weights[r])
		}
		for t := range x {
			in := vector()
			VMOVUPD(Mem{Base: x[t], Disp: 8 * width * i}, in)
			for r := range weights {
				VFMADD231PD(in, weights[r], acc[t*rows+r][i])
			}
		}
	}
	for _, p := range x {
		ADDQ(Imm(64), p)
	}
	for _, p := range w {
		ADDQ(Imm(32), p)
	}
	SUBQ(Imm(8), n)
	JG(LabelRef(loop))
	for i := range acc {
		for j, a := range acc[i] {
			VMOVUPD(a, Mem{Base: sums, Disp: 64*i + 8*width*j})
		}
	}
	VZEROUPPER()
	RET()
}

// pointers returns n registers, of which the first holds a parameter.
func pointers(n int, param string) []Register {
	ps := []Register{Load(Param(param), GP64())}
	for len(ps) < n {
		ps = append(ps, GP64())
	}
	return ps
}

// apart makes pointers lie stride elements of some bytes apart.
func apart(ps []Register, stride Register, bytes uint8) {
	for i := 1; i < len(ps); i++ {
		LEAQ(Mem{Base: ps[i-1], Index: stride, Scale: bytes}, ps[i])
	}
}
