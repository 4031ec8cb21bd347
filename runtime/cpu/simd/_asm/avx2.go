package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A file of AVX2 kernels. Sums and activations stand in their natural order, in
// two registers of 8 outputs.
type y struct {
	*asm
	constants map[string]Mem
}

func avx2(c *asm) {
	k := &y{asm: c, constants: map[string]Mem{}}
	for _, bits := range widths {
		k.dot(bits)
	}
	for _, bits := range widths {
		k.spread(bits)
	}
	for _, wide := range []bool{false, true} {
		for n := 2; n <= 4; n++ {
			k.multiply(n, wide)
		}
		k.multiplyExact(wide)
	}
	k.quantize()
	k.quantizeExact()
	k.silu()
	k.scale()
	k.sum()
}

// once returns a constant, made when it is first asked for.
func (k *y) once(name string, b []byte) Mem {
	if _, ok := k.constants[name]; !ok {
		k.constants[name] = k.data(name, b)
	}
	return k.constants[name]
}

// equal returns a constant of 8 equal dwords.
func (k *y) equal(v uint32) Mem {
	var b []byte
	for range 8 {
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return k.once(fmt.Sprintf("All%08x", v), b)
}

func (k *y) float(f float32) Mem { return k.equal(math.Float32bits(f)) }

func (k *y) zero() reg.VecVirtual {
	v := k.YMM()
	k.VPXOR(v, v, v)
	return v
}

// fields returns constants that bring 8 of 16 indices to words, with the other
// bits of two bytes around them, and that move them to the top. The indices are
// bytes from off on of 16 bytes.
func (k *y) fields(bits, first, off int) (shuffle, factor Mem) {
	var bytes, factors []byte
	for f := first; f < first+8; f++ {
		low := f * bits / 8
		high := byte(0x80) // none
		if low+1 < 2*bits {
			high = byte(off + low + 1)
		}
		bytes = append(bytes, byte(off+low), high)
		by := 1 << (16 - bits - f*bits%8)
		factors = append(factors, byte(by), byte(by>>8))
	}
	return k.once(fmt.Sprintf("Fields%dFrom%dAt%d", bits, first, off), append(bytes, bytes...)),
		k.once(fmt.Sprintf("Factors%dFrom%d", bits, first), append(factors, factors...))
}

// unpack returns the indices of outputs 8·half to 8·half+7 of the tile at w:
// four registers with four inputs of each output. It loads 16 bytes for the 16
// indices of an output: those that begin with them in the first half of a tile,
// and that end with them in the second, so that all are of the tile.
func (k *y) unpack(bits int, w reg.GPVirtual, half int) (c [4]reg.VecVirtual) {
	off := 0
	if half == 1 {
		off = 16 - 2*bits
	}
	var a, t [4]reg.VecVirtual
	for i := range a {
		a[i] = k.YMM()
		o := 8*half + i
		k.VBROADCASTI128(at(w, 2*bits*o-off), a[i])
		k.VINSERTI128(U8(1), at(w, 2*bits*(o+4)-off), a[i], a[i])
		if bits == 8 {
			continue
		}
		high := k.YMM()
		for j, v := range []reg.VecVirtual{high, a[i]} {
			shuffle, factor := k.fields(bits, 8-8*j, off)
			k.VPSHUFB(shuffle, a[i], v)
			k.VPMULLW(factor, v, v)
			k.VPSRLW(U8(16-bits), v, v)
		}
		k.VPACKUSWB(high, a[i], a[i])
	}
	for i := range 2 {
		t[i], t[2+i] = k.YMM(), k.YMM()
		k.VPUNPCKLDQ(a[2*i+1], a[2*i], t[i])
		k.VPUNPCKHDQ(a[2*i+1], a[2*i], t[2+i])
	}
	for i := range 2 {
		c[2*i], c[2*i+1] = k.YMM(), k.YMM()
		k.VPUNPCKLQDQ(t[2*i+1], t[2*i], c[2*i])
		k.VPUNPCKHQDQ(t[2*i+1], t[2*i], c[2*i+1])
	}
	return c
}

// An operand is four indices of 8 outputs. Products of 8-bit indices do not fit
// in words, so that their highest bit stands apart.
type operand8 struct {
	low, high reg.VecVirtual
	wide      bool
}

func (k *y) operand(v reg.VecVirtual, wide bool) operand8 {
	w := operand8{low: v, wide: wide}
	if wide {
		w.high = k.YMM()
		k.VPSRLW(U8(7), v, w.high)
		k.VPAND(k.equal(0x01010101), w.high, w.high)
		k.VPAND(k.equal(0x7f7f7f7f), v, v)
	}
	return w
}

// add adds to acc the products of w with the four activations at m.
func (k *y) add(w operand8, m Mem, acc reg.VecVirtual) {
	act, p := k.YMM(), k.YMM()
	k.VPBROADCASTD(m, act)
	if w.wide {
		k.VPMADDUBSW(act, w.high, p)
		k.VPMADDWD(k.equal(128<<16|128), p, p)
		k.VPADDD(p, acc, acc)
	}
	k.VPMADDUBSW(act, w.low, p)
	k.VPMADDWD(k.equal(1<<16|1), p, p)
	k.VPADDD(p, acc, acc)
}

// steps returns half of the steps of a group.
func (k *y) steps(steps reg.GPVirtual, half int) reg.VecVirtual {
	v := k.YMM()
	k.VCVTPH2PS(at(steps, 16*half), v)
	return v
}

// broadcast returns a register of 8 equal floats.
func (k *y) broadcast(m Mem) reg.VecVirtual {
	v := k.YMM()
	k.VBROADCASTSS(m, v)
	return v
}

// finish does sum += (2·acc + middle)·(step·scale).
func (k *y) finish(acc, step reg.VecVirtual, middle, scale Mem, sum reg.VecVirtual) {
	v := k.YMM()
	k.VPBROADCASTD(middle, v)
	k.VPADDD(acc, acc, acc)
	k.VPADDD(v, acc, acc)
	k.VCVTDQ2PS(acc, acc)
	k.VBROADCASTSS(scale, v)
	k.VMULPS(v, step, v)
	k.VFMADD231PS(v, acc, sum)
}

// groups runs body for the tiles of each group, with their number in a register
// that body may change, and end after each group.
func (c *asm) groups(tiles reg.GPVirtual, body func(n reg.GPVirtual), end func()) {
	n, most := c.GP64(), c.GP64()
	c.MOVQ(U32(8), most)
	again, ref := c.label("group")
	c.Label(again)
	c.MOVQ(tiles, n)
	c.CMPQ(n, most)
	c.CMOVQGT(most, n)
	c.SUBQ(n, tiles)
	body(n)
	end()
	c.TESTQ(tiles, tiles)
	c.JNZ(ref)
}

// dot writes the kernel of one row.
func (k *y) dot(bits int) {
	k.function(dotName(bits, 1), multiplyArgs)
	y, w, acts, meta := k.load("y"), k.load("w"), k.load("acts"), k.load("meta")
	steps, stride, tiles := k.load("steps"), k.load("stride"), k.load("tiles")
	sum, acc := [2]reg.VecVirtual{k.YMM(), k.YMM()}, [2]reg.VecVirtual{k.YMM(), k.YMM()}
	for half := range 2 {
		k.VMOVUPS(at(y, 32*half), sum[half])
	}
	k.groups(tiles, func(n reg.GPVirtual) {
		for _, a := range acc {
			k.VPXOR(a, a, a)
		}
		k.loop(n, func() {
			for half := range 2 {
				for s, v := range k.unpack(bits, w, half) {
					k.add(k.operand(v, bits == 8), at(acts, 4*s), acc[half])
				}
			}
			k.ADDQ(U32(32*bits), w)
			k.ADDQ(U32(16), acts)
		})
	}, func() {
		for half := range 2 {
			k.finish(acc[half], k.steps(steps, half), at(meta, 4), at(meta, 0), sum[half])
		}
		k.ADDQ(stride, steps)
		k.ADDQ(U32(8), meta)
	})
	for half := range 2 {
		k.VMOVUPS(sum[half], at(y, 32*half))
	}
	k.end()
}

// spread writes the kernel that makes bytes of the indices of tiles: of each
// tile four times the four indices of each output.
func (k *y) spread(bits int) {
	k.function(fmt.Sprint("Spread", bits), "func(panel, indices *byte, tiles int)")
	panel, w, tiles := k.load("panel"), k.load("indices"), k.load("tiles")
	k.loop(tiles, func() {
		for half := range 2 {
			for s, v := range k.unpack(bits, w, half) {
				k.VMOVDQU(v, at(panel, 64*s+32*half))
			}
		}
		k.ADDQ(U32(32*bits), w)
		k.ADDQ(U32(256), panel)
	})
	k.end()
}

// products multiplies a group of a panel with planes of activations. It calls
// end with the sums of each plane, for each half of the outputs.
func (k *y) products(planes int, wide bool, end func(half int, acc []reg.VecVirtual, step reg.VecVirtual), after func()) {
	panel, acts := k.load("w"), k.load("acts")
	steps, stride, tiles := k.load("steps"), k.load("stride"), k.load("tiles")
	ahead := k.load("ahead")
	acc := make([]reg.VecVirtual, 2*planes)
	for i := range acc {
		acc[i] = k.YMM()
	}
	k.groups(tiles, func(n reg.GPVirtual) {
		for _, a := range acc {
			k.VPXOR(a, a, a)
		}
		k.loop(n, func() {
			k.prefetch(ahead)
			for s := range 4 {
				for half := range 2 {
					v := k.YMM()
					k.VMOVDQU(at(panel, 64*s+32*half), v)
					w := k.operand(v, wide)
					for p := range planes {
						k.add(w, at(acts, 4*(s*planes+p)), acc[half*planes+p])
					}
				}
			}
			k.ADDQ(U32(256), panel)
			k.ADDQ(U32(16*planes), acts)
		})
	}, func() {
		for half := range 2 {
			end(half, acc[half*planes:(half+1)*planes], k.steps(steps, half))
		}
		k.ADDQ(stride, steps)
		after()
	})
	k.end()
}

// suffix distinguishes the kernels for 8-bit indices.
func suffix(wide bool) string {
	if wide {
		return "Wide"
	}
	return ""
}

// multiply writes the kernel that adds to y the products of a panel with rows
// of 8-bit activations.
func (k *y) multiply(rows int, wide bool) {
	k.function(fmt.Sprint("Multiply", suffix(wide), rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(rows, wide, func(half int, acc []reg.VecVirtual, step reg.VecVirtual) {
		for r := range rows {
			sum, to := k.YMM(), at(y, 64*r+32*half)
			k.VMOVUPS(to, sum)
			k.finish(acc[r], step, at(meta, 4*(rows+r)), at(meta, 4*r), sum)
			k.VMOVUPS(sum, to)
		}
	}, func() { k.ADDQ(U32(8*rows), meta) })
}

// multiplyExact writes the kernel that adds to y the products of a panel with a
// row of activations in four digits.
func (k *y) multiplyExact(wide bool) {
	k.function(fmt.Sprint("MultiplyExact", suffix(wide), 1), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(4, wide, func(half int, d []reg.VecVirtual, step reg.VecVirtual) {
		// d[2] and d[0] become the sum, in units of 2^16 and of 1.
		v := k.YMM()
		for i := range 2 {
			k.VPSLLD(U8(8), d[2*i+1], d[2*i+1])
			k.VPADDD(d[2*i+1], d[2*i], d[2*i])
			k.VPBROADCASTD(at(meta, 4*(2-i)), v)
			k.VPSUBD(v, d[2*i], d[2*i])
		}
		k.VPSRAD(U8(16), d[0], d[1])
		k.VPADDD(d[1], d[2], d[2])
		k.VPAND(k.equal(0xffff), d[0], d[0])
		k.VCVTDQ2PS(d[0], d[0])
		k.VCVTDQ2PS(d[2], d[2])
		k.VMULPS(k.float(1<<16), d[2], d[2])
		k.VADDPS(d[2], d[0], d[0])
		k.VBROADCASTSS(at(meta, 0), v)
		k.VMULPS(v, step, v)
		k.VFMADD213PS(at(y, 32*half), v, d[0])
		k.VMOVUPS(d[0], at(y, 32*half))
	}, func() { k.ADDQ(U32(12), meta) })
}

// scaled returns 8 inputs from x on, times su.
func (k *y) scaled(x, su reg.GPVirtual, half int) reg.VecVirtual {
	v := k.YMM()
	k.VCVTPH2PS(at(su, 16*half), v)
	k.VMULPS(at(x, 32*half), v, v)
	return v
}

// largest returns the bits of the largest magnitude of n tiles of inputs, which
// are above those of infinity if there is a NaN.
func (k *y) largest(x, su, n reg.GPVirtual) reg.GPVirtual {
	x2, su2, n2 := k.GP64(), k.GP64(), k.GP64()
	k.MOVQ(x, x2)
	k.MOVQ(su, su2)
	k.MOVQ(n, n2)
	most := k.zero()
	k.loop(n2, func() {
		for half := range 2 {
			v := k.scaled(x2, su2, half)
			k.VPAND(k.equal(math.MaxInt32), v, v)
			k.VPMAXUD(v, most, most)
		}
		k.ADDQ(U32(64), x2)
		k.ADDQ(U32(32), su2)
	})
	return k.across(most, k.VPMAXUD)
}

// across combines the 8 dwords of v.
func (k *y) across(v reg.VecVirtual, combine func(...Op)) reg.GPVirtual {
	half := k.XMM()
	k.VEXTRACTI128(U8(1), v, half)
	combine(v.AsX(), half, half)
	return k.acrossFour(half, combine)
}

// acrossFour combines the 4 dwords of v, which it changes.
func (c *asm) acrossFour(v reg.VecVirtual, combine func(...Op)) reg.GPVirtual {
	some := c.XMM()
	for _, order := range []uint8{0x4e, 0xb1} {
		c.VPSHUFD(U8(order), v, some)
		combine(some, v, v)
	}
	g := c.GP32()
	c.VMOVD(v, g)
	return g
}

// quantize writes the kernel that makes 8-bit activations of a row of inputs.
func (k *y) quantize() {
	k.function("Quantize", quantizeArgs)
	acts, meta, x, su := k.load("acts"), k.load("meta"), k.load("x"), k.load("su")
	bits, row, rows, tiles := k.load("bits"), k.load("row"), k.load("rows"), k.load("tiles")
	k.LEAQ(indexed(acts, row, 4, 0), acts)
	k.LEAQ(indexed(meta, row, 4, 0), meta)
	levels, thrice := k.levels(bits), k.GP64()
	k.LEAQ(indexed(rows, rows, 2, 0), thrice)
	k.groups(tiles, func(n reg.GPVirtual) {
		step, inverse := k.scaleOf(k.largest(x, su, n))
		k.VMOVSS(step, at(meta, 0))
		by, sum := k.YMM(), k.zero()
		k.VBROADCASTSS(inverse, by)
		k.loop(n, func() {
			var words [2]reg.VecVirtual
			for half := range words {
				v := k.scaled(x, su, half)
				k.VMULPS(by, v, v)
				k.VCVTPS2DQ(v, v)
				k.VPADDD(v, sum, sum)
				words[half] = k.XMM()
				k.VEXTRACTI128(U8(1), v, words[half])
				k.VPACKSSDW(words[half], v.AsX(), words[half])
			}
			b := words[0]
			k.VPACKSSWB(words[1], b, b)
			k.VMOVD(b, at(acts, 0))
			k.VPEXTRD(U8(1), b, indexed(acts, rows, 4, 0))
			k.VPEXTRD(U8(2), b, indexed(acts, rows, 8, 0))
			k.VPEXTRD(U8(3), b, indexed(acts, thrice, 4, 0))
			k.LEAQ(indexed(acts, rows, 8, 0), acts)
			k.LEAQ(indexed(acts, rows, 8, 0), acts)
			k.ADDQ(U32(64), x)
			k.ADDQ(U32(32), su)
		})
		k.middle(k.across(sum, k.VPADDD), levels, indexed(meta, rows, 4, 0))
		k.LEAQ(indexed(meta, rows, 8, 0), meta)
	}, func() {})
	k.end()
}

// quantizeExact writes the kernel that makes activations of four digits of a
// row of inputs.
func (k *y) quantizeExact() {
	k.function("QuantizeExact", quantizeArgs)
	acts, meta, x, su := k.load("acts"), k.load("meta"), k.load("x"), k.load("su")
	bits, row, wide, tiles := k.load("bits"), k.load("row"), k.load("rows"), k.load("tiles")
	k.LEAQ(indexed(meta, row, 4, 0), meta)
	k.SHLQ(U8(4), row)
	k.ADDQ(row, acts)
	k.SHLQ(U8(4), wide) // the bytes of four inputs of all rows
	levels := k.levels(bits)
	var places []byte
	for i := range 32 {
		places = append(places, byte(4*(i%4)+i%16/4))
	}
	digits := k.once("Digits", places)
	k.groups(tiles, func(n reg.GPVirtual) {
		to, step := k.exponents(k.largest(x, su, n))
		k.MOVL(step, at(meta, 0))
		by, sum := k.YMM(), k.zero()
		k.VMOVD(to, by.AsX())
		k.VPBROADCASTD(by.AsX(), by)
		k.loop(n, func() {
			for half := range 2 {
				v := k.scaled(x, su, half)
				k.VMULPS(by, v, v)
				k.VCVTPS2DQ(v, v)
				for i := range 2 {
					part, q := k.XMM(), k.YMM()
					k.VEXTRACTI128(U8(i), v, part)
					k.VPMOVSXDQ(part, q)
					k.VPADDQ(q, sum, sum)
				}
				k.VPADDD(v, v, v)
				k.VPADDD(k.equal(0x80808080), v, v)
				k.VPXOR(k.equal(0x80808080), v, v)
				k.VPSHUFB(digits, v, v)
				for i := range 2 {
					k.VEXTRACTI128(U8(i), v, at(acts, 0))
					k.ADDQ(wide, acts)
				}
			}
			k.ADDQ(U32(64), x)
			k.ADDQ(U32(32), su)
		})
		half, some := k.XMM(), k.XMM()
		k.VEXTRACTI128(U8(1), sum, half)
		k.VPADDQ(sum.AsX(), half, half)
		k.VPSHUFD(U8(0x4e), half, some)
		k.VPADDQ(some, half, half)
		rows := k.GP64()
		k.MOVQ(wide, rows)
		k.SHRQ(U8(4), rows)
		k.middleExact(half, levels, rows, meta)
	}, func() {})
	k.end()
}

// silu writes the kernel that makes a strip of h.
func (k *y) silu() {
	k.function("Silu", siluArgs)
	h, stride, gate, up, rows := k.load("h"), k.load("stride"), k.load("gate"), k.load("up"), k.load("rows")
	gateSV, upSV := k.load("gateSV"), k.load("upSV")
	k.loop(rows, func() {
		for half := range 2 {
			t, u := k.steps(gateSV, half), k.steps(upSV, half)
			k.VMULPS(at(gate, 32*half), t, t)
			k.VMULPS(at(up, 32*half), u, u)
			// e = exp(−t)
			v, n, r, p, x := k.YMM(), k.YMM(), k.YMM(), k.YMM(), k.YMM()
			k.VXORPS(k.equal(1<<31), t, v)
			k.VMAXPS(k.float(-86), v, v)
			k.VMINPS(k.float(88), v, v)
			k.VMULPS(k.float(expLog2), v, n)
			k.VADDPS(k.float(expMagic), n, n) // its low bits are the rounded product
			k.VSUBPS(k.float(expMagic), n, x)
			k.VMULPS(k.float(expLn2High), x, r)
			k.VSUBPS(r, v, r)
			k.VMULPS(k.float(expLn2Low), x, x)
			k.VSUBPS(x, r, r)
			k.VMOVUPS(k.float(expPoly[0]), p)
			for _, f := range expPoly[1:] {
				k.VMULPS(r, p, p)
				k.VADDPS(k.float(f), p, p)
			}
			k.VMULPS(r, r, x)
			k.VMULPS(x, p, p)
			k.VADDPS(r, p, p)
			k.VADDPS(k.float(1), p, p)
			k.VPSLLD(U8(23), n, n)
			k.VPADDD(n, p, p)
			// t / (1 + e)·u
			k.VADDPS(k.float(1), p, p)
			k.VDIVPS(p, t, t)
			k.VMULPS(u, t, t)
			k.VMOVUPS(t, at(h, 32*half))
		}
		k.ADDQ(stride, h)
		k.ADDQ(U32(64), gate)
		k.ADDQ(U32(64), up)
	})
	k.end()
}

// scale writes the kernel that makes a strip of y.
func (k *y) scale() {
	k.function("Scale", scaleArgs)
	y, stride, sums, prob, rows := k.load("y"), k.load("stride"), k.load("sums"), k.load("prob"), k.load("rows")
	sv := k.load("sv")
	k.loop(rows, func() {
		p := k.broadcast(at(prob, 0))
		for half := range 2 {
			v := k.steps(sv, half)
			k.VMULPS(at(sums, 32*half), v, v)
			k.VMULPS(p, v, v)
			k.VMOVUPS(v, at(y, 32*half))
		}
		k.ADDQ(stride, y)
		k.ADDQ(U32(64), sums)
		k.ADDQ(U32(4), prob)
	})
	k.end()
}

// sum writes the kernel that sums rows.
func (k *y) sum() { k.sumRows(32, k.zero) }
