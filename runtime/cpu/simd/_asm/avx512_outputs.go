package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// halves returns the 16 factors at a parameter.
func (k *z) halves(name string) reg.VecVirtual {
	v := k.ZMM()
	k.VCVTPH2PS(at(k.load(name), 0), v)
	return v
}

// inOrder returns what puts the sums of the width at a parameter in the order of
// outputs.
func (k *z) inOrder(bits string) reg.VecVirtual {
	width, table := k.load(bits), k.GP64()
	k.SHLQ(U8(6), width)
	k.LEAQ(k.lanes, table)
	return k.constant(indexed(table, width, 1, 0))
}

// silu writes the kernel that makes a strip of h.
func (k *z) silu() {
	k.function("Silu", siluArgs)
	h, stride, gate, up, rows := k.load("h"), k.load("stride"), k.load("gate"), k.load("up"), k.load("rows")
	gateLanes, upLanes := k.inOrder("gateBits"), k.inOrder("upBits")
	gateSV, upSV := k.halves("gateSV"), k.halves("upSV")
	float := func(f float32) reg.VecVirtual { return k.dwordsOf(math.Float32bits(f)) }
	low, high, log2e, magic := float(-86), float(88), float(expLog2), float(expMagic)
	ln2High, ln2Low, one := float(expLn2High), float(expLn2Low), float(1)
	var poly []reg.VecVirtual
	for _, f := range expPoly {
		poly = append(poly, float(f))
	}
	sign := k.dwordsOf(1 << 31)
	k.loop(rows, func() {
		t, u := k.ZMM(), k.ZMM()
		k.VPERMPS(at(gate, 0), gateLanes, t)
		k.VPERMPS(at(up, 0), upLanes, u)
		k.VMULPS(gateSV, t, t)
		k.VMULPS(upSV, u, u)
		// e = exp(−t)
		v, n, r, p, x := k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()
		k.VPXORD(sign, t, v)
		k.VMAXPS(low, v, v)
		k.VMINPS(high, v, v)
		k.VMULPS(log2e, v, n)
		k.VADDPS(magic, n, n) // its low bits are the rounded product
		k.VSUBPS(magic, n, x)
		k.VMULPS(ln2High, x, r)
		k.VSUBPS(r, v, r)
		k.VMULPS(ln2Low, x, x)
		k.VSUBPS(x, r, r)
		k.VMOVAPS(poly[0], p)
		for _, f := range poly[1:] {
			k.VMULPS(r, p, p)
			k.VADDPS(f, p, p)
		}
		k.VMULPS(r, r, x)
		k.VMULPS(x, p, p)
		k.VADDPS(r, p, p)
		k.VADDPS(one, p, p)
		k.VPSLLD(U8(23), n, n)
		k.VPADDD(n, p, p)
		// t / (1 + e)·u
		k.VADDPS(one, p, p)
		k.VDIVPS(p, t, t)
		k.VMULPS(u, t, t)
		k.VMOVUPS(t, at(h, 0))
		k.PREFETCHT0(at(h, 64)) // the next strip's
		k.ADDQ(stride, h)
		k.ADDQ(U32(64), gate)
		k.ADDQ(U32(64), up)
	})
	k.end()
}

// The exponential function: e^v = 2^n·e^r, with n the nearest integer to
// v·log2(e) and a polynomial for e^r − 1 − r, as in Cephes.
const (
	expLog2    = 1.44269504088896341
	expMagic   = 1.5 * (1 << 23)
	expLn2High = 0.693359375
	expLn2Low  = -2.12194440e-4
)

var expPoly = []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}

// scale writes the kernel that makes a strip of y.
func (k *z) scale() {
	k.function("Scale", scaleArgs)
	y, stride, sums, prob, rows := k.load("y"), k.load("stride"), k.load("sums"), k.load("prob"), k.load("rows")
	lanes, sv := k.inOrder("bits"), k.halves("sv")
	k.loop(rows, func() {
		v := k.ZMM()
		k.VPERMPS(at(sums, 0), lanes, v)
		k.VMULPS(sv, v, v)
		k.VMULPS_BCST(at(prob, 0), v, v)
		k.VMOVUPS(v, at(y, 0))
		k.PREFETCHT0(at(y, 64))
		k.ADDQ(stride, y)
		k.ADDQ(U32(64), sums)
		k.ADDQ(U32(4), prob)
	})
	k.end()
}

const (
	siluArgs  = "func(h *float32, stride int, gate, up *[16]float32, gateSV, upSV *byte, gateBits, upBits, rows int)"
	scaleArgs = "func(y *float32, stride int, sums *[16]float32, sv *byte, prob *float32, bits, rows int)"
)

const sumArgs = "func(sum, y *float32, rows *uint32, count, stride, n int)"

// sum writes the kernel that sums rows.
func (k *z) sum() { k.sumRows(64, k.zero) }

// sumRows writes the kernel that sums rows, size bytes at a time, beginning with
// what zero returns.
func (c *asm) sumRows(size uint32, zero func() reg.VecVirtual) {
	c.function("Sum", sumArgs)
	sum, y, rows, stride, n := c.load("sum"), c.load("y"), c.load("rows"), c.load("stride"), c.load("n")
	c.SHLQ(U8(2), n)
	end := c.GP64()
	c.LEAQ(indexed(sum, n, 1, 0), end)
	again, toAgain := c.label("columns")
	c.Label(again)
	v, left, row := zero(), c.load("count"), c.GP64()
	c.MOVQ(rows, row)
	c.loop(left, func() {
		offset := c.GP64()
		c.MOVL(Mem{Base: row}, offset.As32())
		c.IMULQ(stride, offset)
		c.VADDPS(indexed(y, offset, 1, 0), v, v)
		c.ADDQ(U32(4), row)
	})
	c.VMOVUPS(v, at(sum, 0))
	c.ADDQ(U32(size), y)
	c.ADDQ(U32(size), sum)
	c.CMPQ(sum, end)
	c.JNE(toAgain)
	c.end()
}
