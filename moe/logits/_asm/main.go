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
	token("tokenAVX512", vectors{8, ZMM})
	token("tokenAVX2", vectors{4, YMM})
	for tokens := 1; tokens <= most; tokens++ {
		tile(fmt.Sprintf("tile%dAVX512", tokens), tokens)
	}
	widen("widenAVX512")
	Generate()
}

const (
	rows = 4 // of the weights that are multiplied together
	most = 6 // tokens that are multiplied together
)

// vectors are registers of some float64.
type vectors struct {
	width int
	next  func() VecVirtual
}

// token keeps the 8 lanes of 4 rows in registers.
func token(name string, v vectors) {
	TEXT(name, NOSPLIT, "func(sums *[4][8]float64, w *float32, x *float64, stride int, n int)")
	Pragma("noescape")
	Doc(name+" adds the products of a token at x and 4 rows at w, each stride elements after the one before, to sums.",
		"Lane i of a sum is that of elements i, i+8, … of the first n, a positive multiple of 8.")
	sums, x, w := Load(Param("sums"), GP64()), Load(Param("x"), GP64()), []Register{Load(Param("w"), GP64())}
	stride, n := Load(Param("stride"), GP64()), Load(Param("n"), GP64())
	for len(w) < rows {
		next := GP64()
		LEAQ(Mem{Base: w[len(w)-1], Index: stride, Scale: 4}, next)
		w = append(w, next)
	}
	acc := accumulators(rows*8/v.width, v.next)
	for i, a := range acc {
		VMOVUPD(Mem{Base: sums, Disp: 8 * v.width * i}, a)
	}
	loop := name + "Loop"
	Label(loop)
	for i := range 8 / v.width {
		in := v.next()
		VMOVUPD(Mem{Base: x, Disp: 8 * v.width * i}, in)
		for r, p := range w {
			weights := v.next()
			VCVTPS2PD(Mem{Base: p, Disp: 4 * v.width * i}, weights)
			VFMADD231PD(in, weights, acc[r*8/v.width+i])
		}
	}
	ADDQ(Imm(64), x)
	for _, p := range w {
		ADDQ(Imm(32), p)
	}
	SUBQ(Imm(8), n)
	JG(LabelRef(loop))
	for i, a := range acc {
		VMOVUPD(a, Mem{Base: sums, Disp: 8 * v.width * i})
	}
	VZEROUPPER()
	RET()
}

// tile keeps the 8 lanes of 4 rows and some tokens in registers.
func tile(name string, tokens int) {
	TEXT(name, NOSPLIT, "func(sums *[4][8]float64, w *float64, x *float64, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds the products of tokens at x, %d of them, and 4 rows at w to sums, by token. Of both there are 8 elements of each in turn.", name, tokens),
		"Lane i of a sum is that of elements i, i+8, … of the first n, a positive multiple of 8.")
	sums, w, x, n := Load(Param("sums"), GP64()), Load(Param("w"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	acc := accumulators(tokens*rows, ZMM)
	for i, a := range acc {
		VMOVUPD(Mem{Base: sums, Disp: 64 * i}, a)
	}
	loop := name + "Loop"
	Label(loop)
	weights := make([]VecVirtual, rows)
	for r := range weights {
		weights[r] = ZMM()
		VMOVUPD(Mem{Base: w, Disp: 64 * r}, weights[r])
	}
	for t := range tokens {
		in := ZMM()
		VMOVUPD(Mem{Base: x, Disp: 64 * t}, in)
		for r := range weights {
			VFMADD231PD(in, weights[r], acc[t*rows+r])
		}
	}
	ADDQ(I32(64*rows), w)
	ADDQ(I32(64*tokens), x)
	SUBQ(Imm(8), n)
	JG(LabelRef(loop))
	for i, a := range acc {
		VMOVUPD(a, Mem{Base: sums, Disp: 64 * i})
	}
	VZEROUPPER()
	RET()
}

func accumulators(n int, next func() VecVirtual) (acc []VecVirtual) {
	for range n {
		acc = append(acc, next())
	}
	return acc
}

// widen converts 8 elements at a time.
func widen(name string) {
	TEXT(name, NOSPLIT, "func(dst *float64, src *float32, stride int, n int)")
	Pragma("noescape")
	Doc(name + " converts n elements, a positive multiple of 8; each 8 of dst begin stride elements after those before.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	stride, n := Load(Param("stride"), GP64()), Load(Param("n"), GP64())
	SHLQ(Imm(3), stride)
	loop := name + "Loop"
	Label(loop)
	v := ZMM()
	VCVTPS2PD(Mem{Base: src}, v)
	VMOVUPD(v, Mem{Base: dst})
	ADDQ(stride, dst)
	ADDQ(Imm(32), src)
	SUBQ(Imm(8), n)
	JG(LabelRef(loop))
	VZEROUPPER()
	RET()
}
