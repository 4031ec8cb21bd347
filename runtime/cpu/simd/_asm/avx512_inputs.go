package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	quantizeArgs     = "func(acts *int8, meta, x *float32, su *byte, bits, row, rows, tiles int)"
	quantizeFourArgs = "func(acts *int8, meta *float32, x **float32, at int, su *byte, bits, rows int)"
)

// scaled returns the 16 inputs at x, times su.
func (k *z) scaled(x, su reg.GPVirtual) reg.VecVirtual {
	v := k.ZMM()
	k.VCVTPH2PS(at(su, 0), v)
	k.VMULPS(at(x, 0), v, v)
	return v
}

// largest returns the bits of the largest magnitude of n tiles of inputs, which
// are above those of infinity if there is a NaN.
func (k *z) largest(x, su, n reg.GPVirtual) reg.GPVirtual {
	x2, su2, n2 := k.GP64(), k.GP64(), k.GP64()
	k.MOVQ(x, x2)
	k.MOVQ(su, su2)
	k.MOVQ(n, n2)
	most, and := k.zero(), k.dwordsOf(math.MaxInt32)
	k.loop(n2, func() {
		v := k.scaled(x2, su2)
		k.VPANDD(and, v, v)
		k.VPMAXUD(v, most, most)
		k.ADDQ(U32(64), x2)
		k.ADDQ(U32(32), su2)
	})
	return k.across(most, k.VPMAXUD)
}

// half combines the halves of v.
func (k *z) half(v reg.VecVirtual, combine func(...Op)) reg.VecVirtual {
	h := k.YMM()
	k.VEXTRACTI64X4(U8(1), v, h)
	combine(v.AsY(), h, h)
	return h
}

// across combines the 16 dwords of v.
func (k *z) across(v reg.VecVirtual, combine func(...Op)) reg.GPVirtual {
	half, quarter := k.half(v, combine), k.XMM()
	k.VEXTRACTI32X4(U8(1), half, quarter)
	combine(half.AsX(), quarter, quarter)
	return k.acrossFour(quarter, combine)
}

const infinity = 0x7f800000

// scaleOf computes half the step of 8-bit activations from the bits of the
// largest, and what to multiply with to get there.
func (c *asm) scaleOf(most reg.GPVirtual) (step, inverse reg.VecVirtual) {
	step, inverse = c.XMM(), c.XMM()
	x, half, most127 := c.XMM(), c.XMM(), c.XMM()
	g := c.GP32()
	c.VMOVD(most, x)
	c.MOVL(U32(math.Float32bits(254)), g)
	c.VMOVD(g, half)
	c.VDIVSS(half, x, step)
	c.MOVL(U32(math.Float32bits(127)), g)
	c.VMOVD(g, most127)
	c.VDIVSS(x, most127, inverse)
	done, toDone := c.label("scaled")
	small, toSmall := c.label("small")
	c.CMPL(most, U32(7<<23)) // 2^-120, whose inverse is finite
	c.JB(toSmall)
	c.CMPL(most, U32(infinity))
	c.JB(toDone)
	c.MOVL(U32(0x7fc00000), g)
	c.VMOVD(g, step)
	c.VXORPS(inverse, inverse, inverse)
	c.JMP(toDone)
	c.Label(small)
	c.VXORPS(step, step, step)
	c.VXORPS(inverse, inverse, inverse)
	c.Label(done)
	return step, inverse
}

// A quantizer is the parameters of the kernel that makes 8-bit activations.
type quantizer struct {
	*z
	acts, meta, x, su    reg.GPVirtual // from the group on
	rows, thrice, levels reg.GPVirtual // thrice the rows
	place, ones          reg.VecVirtual
}

// quantizer returns a quantizer without inputs.
func (k *z) quantizer() *quantizer {
	q := &quantizer{z: k, acts: k.load("acts"), meta: k.load("meta"), su: k.load("su"), rows: k.load("rows")}
	bits := k.load("bits")
	q.levels, q.thrice = k.levels(bits), k.GP64()
	k.LEAQ(indexed(q.rows, q.rows, 2, 0), q.thrice)
	places := k.GP64()
	k.LEAQ(k.packed, places)
	k.SHLQ(U8(6), bits)
	q.place, q.ones = k.constant(indexed(places, bits, 1, 0)), k.dwordsOf(0x01010101)
	return q
}

// quantize writes the kernel that makes 8-bit activations of a row of inputs.
func (k *z) quantize() {
	k.function("Quantize", quantizeArgs)
	q := k.quantizer()
	row, tiles := k.load("row"), k.load("tiles")
	q.x = k.load("x")
	k.LEAQ(indexed(q.acts, row, 4, 0), q.acts)
	k.LEAQ(indexed(q.meta, row, 4, 0), q.meta)
	k.groups(tiles, func(n reg.GPVirtual) {
		few, toFew := k.label("few")
		done, toDone := k.label("done")
		k.CMPQ(n, U8(8))
		k.JNE(toFew)
		q.group()
		k.JMP(toDone)
		k.Label(few)
		q.tiles(n)
		k.Label(done)
	}, func() {})
	k.end()
}

// group makes the activations of a group of 8 tiles, whose inputs it keeps in
// registers.
func (q *quantizer) group() {
	var su [8]reg.VecVirtual
	for t := range su {
		su[t] = q.ZMM()
		q.VCVTPH2PS(at(q.su, 32*t), su[t])
	}
	sum := q.zero()
	for _, v := range q.row(q.x, su, q.dwordsOf(math.MaxInt32), q.meta) {
		q.VPDPBUSD(v, q.ones, sum)
		q.store(v, 4)
	}
	q.finish(sum)
	q.ADDQ(U32(8*64), q.x)
	q.ADDQ(U32(8*32), q.su)
}

// row returns the activations of 8 tiles of inputs at x with factors su, in
// which it may leave something else, and stores their step at meta.
func (q *quantizer) row(x reg.GPVirtual, su [8]reg.VecVirtual, and reg.VecVirtual, meta reg.GPVirtual) (packed [2]reg.VecVirtual) {
	var v [8]reg.VecVirtual
	var most [2]reg.VecVirtual
	for t := range v {
		v[t] = q.ZMM()
		q.VMULPS(at(x, 64*t), su[t], v[t])
		size := q.ZMM()
		q.VPANDD(and, v[t], size)
		if t < 2 {
			most[t] = size
			continue
		}
		q.VPMAXUD(size, most[t%2], most[t%2])
	}
	q.VPMAXUD(most[1], most[0], most[0])
	by := q.scale(q.across(most[0], q.VPMAXUD), meta)
	for t := range v {
		q.VMULPS(by, v[t], v[t])
		q.VCVTPS2DQ(v[t], v[t])
	}
	for half := range packed {
		packed[half] = q.pack([4]reg.VecVirtual(v[4*half:]))
	}
	return packed
}

// tiles makes the activations of n tiles that are a group.
func (q *quantizer) tiles(n reg.GPVirtual) {
	by, sum, none := q.scale(q.largest(q.x, q.su, n), q.meta), q.zero(), q.zero()
	q.loop(n, func() {
		v, rest := q.scaled(q.x, q.su), q.zero()
		q.VMULPS(by, v, v)
		q.VCVTPS2DQ(v, v)
		v = q.pack([4]reg.VecVirtual{v, none, rest, none})
		q.VPDPBUSD(v, q.ones, sum)
		q.store(v, 1)
		q.ADDQ(U32(64), q.x)
		q.ADDQ(U32(32), q.su)
	})
	q.finish(sum)
}

// scale stores at meta the step for inputs of which the largest has the given
// bits, and returns what to multiply them with.
func (q *quantizer) scale(most, meta reg.GPVirtual) reg.VecVirtual {
	step, inverse := q.scaleOf(most)
	q.VMOVSS(step, at(meta, 0))
	by := q.ZMM()
	q.VBROADCASTSS(inverse, by)
	return by
}

// pack makes bytes of the dwords of four tiles, in the order of the width. It
// changes the first and the third.
func (q *quantizer) pack(v [4]reg.VecVirtual) reg.VecVirtual {
	q.VPACKSSDW(v[1], v[0], v[0])
	q.VPACKSSDW(v[3], v[2], v[2])
	q.VPACKSSWB(v[2], v[0], v[0])
	q.VPERMB(v[0], q.place, v[0])
	return v[0]
}

// store stores the activations of the first of four tiles, and moves on.
func (q *quantizer) store(v reg.VecVirtual, tiles int) {
	for t := range tiles {
		tile := v.AsX()
		if t > 0 {
			tile = q.XMM()
			q.VEXTRACTI32X4(U8(t), v, tile)
		}
		for dword, to := range q.dwords() {
			if dword == 0 {
				q.VMOVD(tile, to)
				continue
			}
			q.VPEXTRD(U8(dword), tile, to)
		}
		q.nextTile()
	}
}

// dwords returns where the four inputs of each dword of a tile belong.
func (q *quantizer) dwords() [4]Mem {
	return [4]Mem{at(q.acts, 0), indexed(q.acts, q.rows, 4, 0), indexed(q.acts, q.rows, 8, 0), indexed(q.acts, q.thrice, 4, 0)}
}

// nextTile moves on to the next tile of activations.
func (q *quantizer) nextTile() {
	q.LEAQ(indexed(q.acts, q.rows, 8, 0), q.acts)
	q.LEAQ(indexed(q.acts, q.rows, 8, 0), q.acts)
}

// finish stores the middle of a group, and moves on.
func (q *quantizer) finish(sum reg.VecVirtual) {
	q.middle(q.across(sum, q.VPADDD), q.levels, indexed(q.meta, q.rows, 4, 0))
	q.LEAQ(indexed(q.meta, q.rows, 8, 0), q.meta)
}

// quantizeFour writes the kernel that makes 8-bit activations of 8 tiles of four
// rows, whose inputs begin so many bytes after each of the pointers at x. Dwords
// of four rows, which stand side by side, are stored at once.
func (k *z) quantizeFour() {
	k.function("QuantizeFour", quantizeFourArgs)
	q := k.quantizer()
	rows, offset, and := k.load("x"), k.load("at"), k.dwordsOf(math.MaxInt32)
	var su [8]reg.VecVirtual
	for t := range su {
		su[t] = k.ZMM()
		k.VCVTPH2PS(at(q.su, 32*t), su[t])
	}
	var packed [2][4]reg.VecVirtual
	for r := range 4 {
		x, meta := k.GP64(), k.GP64()
		k.MOVQ(at(rows, 8*r), x)
		k.ADDQ(offset, x)
		k.LEAQ(at(q.meta, 4*r), meta)
		for half, v := range q.row(x, su, and, meta) {
			packed[half][r] = v
		}
	}
	sum := k.zero() // of each row, by tiles
	for _, v := range packed {
		dwords := k.transpose(v)
		for _, v := range dwords {
			k.VPDPBUSD(v, q.ones, sum)
		}
		for tile := range 4 {
			for i, to := range q.dwords() {
				k.VEXTRACTI32X4(U8(tile), dwords[i], to)
			}
			q.nextTile()
		}
	}
	half, middle, levels := k.half(sum, k.VPADDD), k.XMM(), k.XMM()
	k.VEXTRACTI128(U8(1), half, middle)
	k.VPADDD(half.AsX(), middle, middle)
	k.VPBROADCASTD(q.levels.As32(), levels)
	k.VPMULLD(levels, middle, middle)
	none := k.XMM()
	k.VPXOR(none, none, none)
	k.VPSUBD(middle, none, middle)
	k.VMOVDQU(middle, indexed(q.meta, q.rows, 4, 0))
	k.end()
}

// transpose returns dword i of each 128-bit lane of four registers, by i.
func (k *z) transpose(v [4]reg.VecVirtual) (dwords [4]reg.VecVirtual) {
	var pairs [4]reg.VecVirtual // of low dwords, and of high ones
	for i := range 2 {
		pairs[i], pairs[2+i] = k.ZMM(), k.ZMM()
		k.VPUNPCKLDQ(v[2*i+1], v[2*i], pairs[i])
		k.VPUNPCKHDQ(v[2*i+1], v[2*i], pairs[2+i])
	}
	for i := range 2 {
		dwords[2*i], dwords[2*i+1] = k.ZMM(), k.ZMM()
		k.VPUNPCKLQDQ(pairs[2*i+1], pairs[2*i], dwords[2*i])
		k.VPUNPCKHQDQ(pairs[2*i+1], pairs[2*i], dwords[2*i+1])
	}
	return dwords
}

// levels returns 2^bits − 1.
func (c *asm) levels(bits reg.GPVirtual) reg.GPVirtual {
	m := c.GP64()
	c.XORQ(m, m)
	c.BTSQ(bits, m)
	c.DECQ(m)
	return m
}

// middle stores the product of the sum of activations and the levels, negated.
func (c *asm) middle(s, levels reg.GPVirtual, to Mem) {
	c.IMULL(levels.As32(), s)
	c.NEGL(s)
	c.MOVL(s, to)
}

// exponents computes from the bits of the largest input what to multiply with
// to get below 2^29, and the step of the doubled result.
func (c *asm) exponents(most reg.GPVirtual) (by, step reg.GPVirtual) {
	e, least := c.GP32(), c.GP32()
	by, step = c.GP32(), c.GP32()
	c.MOVL(most, e)
	c.SHRL(U8(23), e)
	c.MOVL(U32(30), least)
	c.CMPL(e, least)
	c.CMOVLLT(least, e)
	c.MOVL(U32(282), by)
	c.SUBL(e, by)
	c.SHLL(U8(23), by)
	c.LEAL(Mem{Base: e, Disp: -29}, step)
	c.SHLL(U8(23), step)
	nan := c.GP32()
	c.MOVL(U32(0x7fc00000), nan)
	c.CMPL(most, U32(infinity))
	c.CMOVLCC(nan, step)
	return by, step
}

// quantizeExact writes the kernel that makes activations of four digits of a
// row of inputs.
func (k *z) quantizeExact() {
	k.function("QuantizeExact", quantizeArgs)
	acts, meta, x, su := k.load("acts"), k.load("meta"), k.load("x"), k.load("su")
	bits, rows, tiles := k.load("bits"), k.load("rows"), k.load("tiles")
	row := k.load("row")
	k.LEAQ(indexed(meta, row, 4, 0), meta)
	k.SHLQ(U8(4), row)
	k.ADDQ(row, acts)
	places := k.GP64()
	k.LEAQ(k.digits, places)
	k.SHLQ(U8(6), bits)
	place := k.constant(indexed(places, bits, 1, 0))
	k.SHRQ(U8(6), bits)
	levels := k.levels(bits)
	balance, double := k.dwordsOf(0x80808080), k.XMM()
	k.SHRQ(U8(3), bits) // is 1 where indices are not doubled
	k.VMOVD(bits.As32(), double)
	wide := k.GP64() // the bytes of four inputs of all rows
	k.MOVQ(rows, wide)
	k.SHLQ(U8(4), wide)
	k.groups(tiles, func(n reg.GPVirtual) {
		to, step := k.exponents(k.largest(x, su, n))
		k.MOVL(step, at(meta, 0))
		by, sum := k.ZMM(), k.zero()
		k.VPBROADCASTD(to, by)
		k.loop(n, func() {
			v := k.scaled(x, su)
			k.VMULPS(by, v, v)
			k.VCVTPS2DQ(v, v)
			for half := range 2 {
				y, q := k.YMM(), k.ZMM()
				k.VEXTRACTI64X4(U8(half), v, y)
				k.VPMOVSXDQ(y, q)
				k.VPADDQ(q, sum, sum)
			}
			k.VPSLLD(double, v, v)
			k.VPADDD(balance, v, v)
			k.VPXORD(balance, v, v)
			k.VPERMB(v, place, v)
			for s := range 4 {
				k.VEXTRACTI32X4(U8(s), v, at(acts, 0))
				k.ADDQ(wide, acts)
			}
			k.ADDQ(U32(64), x)
			k.ADDQ(U32(32), su)
		})
		half, quarter, some := k.half(sum, k.VPADDQ), k.XMM(), k.XMM()
		k.VEXTRACTI128(U8(1), half, quarter)
		k.VPADDQ(quarter, half.AsX(), quarter)
		k.VPSHUFD(U8(0x4e), quarter, some)
		k.VPADDQ(some, quarter, quarter)
		k.middleExact(quarter, levels, rows, meta)
	}, func() {})
	k.end()
}

// middleExact stores the product of half the sum of activations and the levels,
// in units of 2^16 and of 1, and moves on to the next group.
func (c *asm) middleExact(sum reg.VecVirtual, levels, rows, meta reg.GPVirtual) {
	s, high := c.GP64(), c.GP64()
	c.VMOVQ(sum, s)
	c.IMULQ(levels, s)
	c.LEAQ(at(s, 1<<15), high)
	c.SARQ(U8(16), high)
	c.MOVL(high.As32(), indexed(meta, rows, 4, 0))
	c.SHLQ(U8(16), high)
	c.SUBQ(high, s)
	c.MOVL(s.As32(), indexed(meta, rows, 8, 0))
	c.LEAQ(indexed(meta, rows, 8, 0), meta)
	c.LEAQ(indexed(meta, rows, 4, 0), meta)
}
