package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// outputAt returns which output stands in a lane of the sums of 16 outputs: the
// order in which a width's indices are decoded with the least.
func outputAt(bits, lane int) int {
	switch bits {
	case 2, 3, 4:
		return lane
	case 6:
		return 11 * lane % 16 // see sixes
	}
	return transposed(lane)
}

// transposed is the order that comes of four registers of four outputs each when
// they are transposed: lane 4·l + j, l the number of a 128-bit lane, is output
// 4·j + l. It undoes itself.
func transposed(lane int) int { return 4*(lane%4) + lane/4 }

// laneOf is the inverse of outputAt.
func laneOf(bits, output int) int {
	for lane := range 16 {
		if outputAt(bits, lane) == output {
			return lane
		}
	}
	panic("outputAt is no permutation")
}

// A file of AVX-512 kernels and the constants that they share.
type z struct {
	*asm
	evens, odds, packed, digits Mem
	outputs, lanes              Mem // by width: outputAt and laneOf, 64 bytes each, from width 0 on
}

func avx512(c *asm) {
	k := &z{asm: c}
	k.evens = c.dwords("Evens", 16, func(i int) uint32 { return uint32(2 * i) })
	k.odds = c.dwords("Odds", 16, func(i int) uint32 { return uint32(2*i + 1) })
	k.outputs = c.dwords("Outputs", 9*16, func(i int) uint32 { return uint32(outputAt(i/16, i%16)) })
	k.lanes = c.dwords("Lanes", 9*16, func(i int) uint32 { return uint32(laneOf(i/16, i%16)) })
	k.packed = c.data("Packed", packedOrders())
	k.digits = c.data("Digits", digitOrders())
	for _, bits := range widths {
		k.dot(bits)
		for n := 2; n <= dotRows; n++ {
			k.dotRows(bits, n)
		}
		for n := 1; n <= dotExactRows; n++ {
			k.dotExact(bits, n)
		}
		k.spread(bits)
		k.spreadExact(bits)
	}
	for n := 1; n <= multiplyRows; n++ {
		k.multiply(n, false)
		k.multiply(n, true)
	}
	for n := 1; n <= multiplyExactRows; n++ {
		k.multiplyExact(n)
	}
	k.quantize()
	k.quantizeExact()
	k.silu()
	k.scale()
	k.addFloats()
}

func (k *z) constant(m Mem) reg.VecVirtual {
	v := k.ZMM()
	k.VMOVDQU64(m, v)
	return v
}

// dwordsOf returns a register of 16 equal dwords.
func (k *z) dwordsOf(v uint32) reg.VecVirtual {
	r, g := k.ZMM(), k.GP32()
	k.MOVL(U32(v), g)
	k.VPBROADCASTD(g, r)
	return r
}

func (k *z) zero() reg.VecVirtual {
	v := k.ZMM()
	k.VPXORD(v, v, v)
	return v
}

// Indices are doubled when they are decoded, which takes nothing but other
// constants, and spares groups to double their sums. Only those of 8 bits have no
// room for it: their kernels are wide.
func wide(bits int) bool { return bits == 8 }

// doubled returns a mask of doubled indices, as far as they are.
func doubled(bits int) uint32 { return 0x01010101 * (1<<bits - 1) << 1 }

// An unpacker makes bytes of 64 indices: of 4 outputs by 16 inputs.
type unpacker struct {
	*z
	bits       int
	permute    [4]reg.VecVirtual // by quarter of a tile
	shift, and reg.VecVirtual
}

// unpacker returns the unpacker of a width that is not 2 or 4.
func (k *z) unpacker(bits int) *unpacker {
	u := &unpacker{z: k, bits: bits}
	if bits == 8 {
		return u
	}
	var shift []byte
	for range 8 {
		for i := range 8 {
			shift = append(shift, byte(i*bits-1))
		}
	}
	of := map[int]reg.VecVirtual{}
	for j := range u.permute {
		_, skip := u.quarter(j)
		if of[skip] == nil {
			var permute []byte
			for q := range 8 {
				for i := range 8 {
					permute = append(permute, byte(min(skip+q*bits+i, 63)))
				}
			}
			of[skip] = k.constant(k.once(fmt.Sprintf("Permute%dSkip", bits), skip, permute))
		}
		u.permute[j] = of[skip]
	}
	u.shift = k.constant(k.once("Shift", bits, shift))
	u.and = k.dwordsOf(doubled(bits))
	return u
}

// quarter returns where in a tile to load the 64 bytes that begin with, or after
// some bytes to skip hold, the indices of outputs 4·j to 4·j+3. They are all of
// the tile.
func (u *unpacker) quarter(j int) (from, skip int) {
	from = min(8*u.bits*j, 32*u.bits-64)
	return from, 8*u.bits*j - from
}

var made = map[string]Mem{}

// once returns a constant for a width, made when it is first asked for.
func (k *z) once(name string, bits int, b []byte) Mem {
	name = fmt.Sprint(name, bits)
	if _, ok := made[name]; !ok {
		made[name] = k.data(name, b)
	}
	return made[name]
}

// bytes returns the steps that set v to the indices of outputs 4·j to 4·j+3 of
// the tile at w.
func (u *unpacker) bytes(w reg.GPVirtual, j int, v reg.VecVirtual) []func() {
	if u.bits == 8 {
		return []func(){func() { u.VMOVDQU64(at(w, 64*j), v) }}
	}
	from, _ := u.quarter(j)
	return []func(){
		func() { u.VPERMB(at(w, from), u.permute[j], v) },
		func() { u.VPMULTISHIFTQB(v, u.shift, v) },
		func() { u.VPANDD(u.and, v, v) },
	}
}

// prefetchTile asks for the indices of a tile far ahead of w, for the second
// level of caches, and of one that is nearer for the first.
func (k *z) prefetchTile(bits int, w reg.GPVirtual) {
	for i := 0; i < 32*bits; i += 64 {
		k.PREFETCHT1(at(w, 8192+i))
		k.PREFETCHT0(at(w, 2048+i))
	}
}

const multiplyArgs = "func(y *[16]float32, w *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, ahead uintptr)"

// dot writes the kernel of one row of 8-bit activations.
func (k *z) dot(bits int) {
	k.function(dotName(bits, 1), multiplyArgs)
	y, w, acts, meta := k.load("y"), k.load("w"), k.load("acts"), k.load("meta")
	steps, stride, tiles := k.load("steps"), k.load("stride"), k.load("tiles")
	outputs := k.constant(offset(k.outputs, 64*bits))
	sum := k.ZMM()
	k.VMOVUPS(at(y, 0), sum)
	acc := [4]reg.VecVirtual{k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()}

	var tile func()
	var reduce func() // leaves the doubled sums in acc[0], in the order of the width
	switch bits {
	case 2:
		var and [4]reg.VecVirtual
		for s := range and {
			and[s] = k.dwordsOf(0x03030303 << (2 * s))
		}
		tile = func() {
			v := k.ZMM()
			k.VMOVDQU64(at(w, 0), v)
			for s := range and {
				part := k.ZMM()
				k.VPANDD(and[s], v, part)
				k.VPDPBUSD_BCST(at(acts, 4*s), part, acc[s])
			}
		}
		reduce = func() {
			for s := 1; s < 4; s++ {
				k.VPSRAD(U8(2*s), acc[s], acc[s])
			}
			k.VPADDD(acc[1], acc[0], acc[0])
			k.VPADDD(acc[3], acc[2], acc[2])
			k.VPADDD(acc[2], acc[0], acc[0])
			k.VPADDD(acc[0], acc[0], acc[0])
		}
	case 4:
		low, high := k.dwordsOf(0x0f0f0f0f), k.dwordsOf(0xf0f0f0f0)
		evens, odds := k.constant(k.evens), k.constant(k.odds)
		tile = func() {
			for s, and := range []reg.VecVirtual{low, high} {
				act := k.ZMM()
				k.VPBROADCASTQ(at(acts, 8*s), act)
				for half := range 2 {
					v := k.ZMM()
					k.VPANDD(at(w, 64*half), and, v)
					k.VPDPBUSD(act, v, acc[2*s+half])
				}
			}
		}
		reduce = func() {
			for half := range 2 {
				k.VPSRAD(U8(4), acc[2+half], acc[2+half])
				k.VPADDD(acc[2+half], acc[half], acc[half])
			}
			odd := k.ZMM()
			k.VMOVDQA64(acc[0], odd)
			k.VPERMT2D(acc[1], evens, acc[0])
			k.VPERMT2D(acc[1], odds, odd)
			k.VPADDD(odd, acc[0], acc[0])
			k.VPADDD(acc[0], acc[0], acc[0])
		}
	default:
		u := k.unpacker(bits)
		tile = func() {
			act := k.ZMM()
			k.VBROADCASTI32X4(at(acts, 0), act)
			for j := range acc {
				v := k.ZMM()
				for _, step := range u.bytes(w, j, v) {
					step()
				}
				k.VPDPBUSD(act, v, acc[j])
			}
		}
		reduce = func() {
			t := [4]reg.VecVirtual{k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()}
			for j := range 2 {
				k.VPUNPCKLDQ(acc[2*j+1], acc[2*j], t[2*j])
				k.VPUNPCKHDQ(acc[2*j+1], acc[2*j], t[2*j+1])
				k.VPADDD(t[2*j+1], t[2*j], t[2*j])
			}
			k.VPUNPCKLQDQ(t[2], t[0], acc[0])
			k.VPUNPCKHQDQ(t[2], t[0], acc[1])
			k.VPADDD(acc[1], acc[0], acc[0])
			if wide(bits) {
				k.VPADDD(acc[0], acc[0], acc[0])
			}
			if bits == 6 || bits == 3 {
				from := k.constant(k.once("Transposed", bits, dwords(16, func(i int) uint32 { return uint32(transposed(outputAt(bits, i))) })))
				k.VPERMD(acc[0], from, acc[0])
			}
		}
	}
	k.groups(tiles, func(n reg.GPVirtual) {
		for _, a := range acc {
			k.VPXORD(a, a, a)
		}
		k.loop(n, func() {
			k.prefetchTile(bits, w)
			tile()
			k.ADDQ(U32(32*bits), w)
			k.ADDQ(U32(16), acts)
		})
	}, func() {
		reduce()
		k.VPADDD_BCST(at(meta, 4), acc[0], acc[0])
		k.add(acc[0], k.steps(steps, stride, outputs), at(meta, 0), sum)
		k.VMOVAPS(acc[0], sum)
		k.ADDQ(U32(8), meta)
	})
	k.VMOVUPS(sum, at(y, 0))
	k.end()
}

// steps returns the steps of a group, in the order of outputs, and moves on to
// the next.
func (k *z) steps(steps, stride reg.GPVirtual, outputs reg.VecVirtual) reg.VecVirtual {
	v := k.ZMM()
	k.VCVTPH2PS(at(steps, 0), v)
	k.PREFETCHT0(at(steps, 64))
	k.VPERMPS(v, outputs, v)
	k.ADDQ(stride, steps)
	return v
}

// add sets acc, integers, to sum + acc·(step·scale).
func (k *z) add(acc, step reg.VecVirtual, scale Mem, sum Op) {
	p := k.ZMM()
	k.VCVTDQ2PS(acc, acc)
	k.VMULPS_BCST(scale, step, p)
	k.VFMADD213PS(sum, p, acc)
}

// Tiles write the code that goes through the tiles of a strip or of a panel.
type tiles interface {
	// begin comes before the first tile; n is how many there are.
	begin(n reg.GPVirtual)

	// outputs returns the order of outputs in sums.
	outputs() reg.VecVirtual

	// tile begins a tile and returns its indices: four times 16 dwords, the four
	// indices of each output, in that order.
	tile() [4]reg.VecVirtual

	// between comes after multiplication i of the n of a tile, which are those
	// with the first of its registers before those with the next.
	between(i, n int)

	// next ends a tile.
	next()
}

// A strip decodes each tile while the one before it is multiplied. Decoding is a
// matter of shuffles, which one port takes alone: in one piece they would keep
// the other waiting, since ports are given out long before anything runs.
type strip struct {
	*z
	bits    int
	w, last reg.GPVirtual // the tile to decode, and the last one
	panel   reg.GPVirtual // where to keep the order and the indices, if anywhere
	c       [4]reg.VecVirtual
	steps   []func() // to decode the tile at w
}

// strip returns the strip at parameter w.
func (k *z) strip(bits int) *strip {
	t := &strip{z: k, bits: bits, w: k.load("w"), last: k.GP64()}
	for s := range t.c {
		t.c[s] = k.ZMM()
	}
	t.steps = k.decoding(bits, t.w, t.c)
	return t
}

func (t *strip) outputs() reg.VecVirtual { return t.constant(offset(t.z.outputs, 64*t.bits)) }

func (t *strip) begin(n reg.GPVirtual) {
	if t.panel != nil {
		t.VMOVDQU64(t.outputs(), at(t.panel, 0))
		t.ADDQ(U32(panelHead), t.panel)
	}
	t.LEAQ(at(n, -1), t.last)
	t.IMUL3Q(U32(32*t.bits), t.last, t.last)
	t.ADDQ(t.w, t.last)
	t.prefetchTile(t.bits, t.w)
	for _, step := range t.steps {
		step()
	}
	t.next()
}

// next moves on to the next tile to decode, or stays at the last one.
func (t *strip) next() {
	next := t.GP64()
	t.LEAQ(at(t.w, 32*t.bits), next)
	t.CMPQ(t.w, t.last)
	t.CMOVQCS(next, t.w)
}

func (t *strip) tile() [4]reg.VecVirtual {
	t.prefetchTile(t.bits, t.w)
	if t.panel != nil {
		for s, v := range t.c {
			t.VMOVDQU64(v, at(t.panel, 64*s))
		}
		t.ADDQ(U32(256), t.panel)
	}
	return t.c
}

func (t *strip) between(i, n int) {
	for _, step := range t.steps[i*len(t.steps)/n : (i+1)*len(t.steps)/n] {
		step()
	}
}

// decoding returns the steps that set c to the indices of the tile at w: the last
// four set an element each, in order, so that each can be set once those before
// have been multiplied for the last time.
func (k *z) decoding(bits int, w reg.GPVirtual, c [4]reg.VecVirtual) (steps []func()) {
	do := func(more ...func()) { steps = append(steps, more...) }
	switch bits {
	case 2:
		v := k.ZMM()
		do(func() { k.VMOVDQU64(at(w, 0), v) })
		for s := range c {
			field := k.field(2*s, 2)
			do(func() { k.VGF2P8AFFINEQB(U8(0), field, v, c[s]) })
		}
	case 4:
		fields := [2]reg.VecVirtual{k.field(0, 4), k.field(4, 4)}
		v := [2]reg.VecVirtual{k.ZMM(), k.ZMM()}
		for half, places := range []reg.VecVirtual{k.constant(k.evens), k.constant(k.odds)} {
			do(func() {
				k.VMOVDQU64(at(w, 0), v[half])
				k.VPERMT2D(at(w, 64), places, v[half])
			})
		}
		for s := range c {
			do(func() { k.VGF2P8AFFINEQB(U8(0), fields[s/2], v[s%2], c[s]) })
		}
	case 3:
		return k.threes(w, c)
	case 6:
		return k.sixes(w, c)
	default:
		u := k.unpacker(bits)
		var a, t [4]reg.VecVirtual
		for j := range a {
			a[j], t[j] = k.ZMM(), k.ZMM()
		}
		for i := range 2 {
			for j := 2 * i; j < 2*i+2; j++ {
				do(u.bytes(w, j, a[j])...)
			}
			do(func() { k.VPUNPCKLDQ(a[2*i+1], a[2*i], t[2*i]) },
				func() { k.VPUNPCKHDQ(a[2*i+1], a[2*i], t[2*i+1]) })
		}
		for j := range 2 {
			do(func() { k.VPUNPCKLQDQ(t[2+j], t[j], c[2*j]) },
				func() { k.VPUNPCKHQDQ(t[2+j], t[j], c[2*j+1]) })
		}
	}
	return steps
}

// field returns the matrix with which VGF2P8AFFINEQB makes a doubled index of the
// bits of each byte from one on.
func (k *z) field(from, bits int) reg.VecVirtual {
	return k.constant(k.once(fmt.Sprintf("Field%dFrom", bits), from, bytesOf(func(i int) int {
		if bit := 7 - i%8; 0 < bit && bit <= bits { // of the result, whose highest comes first
			return 1 << (from + bit - 1)
		}
		return 0
	})))
}

// threes is decoding for 3 bits: 6 bytes an output, 3 of which are the indices of
// 8 inputs. Bytes from the first and the last 64 of a tile make dwords that hold
// those of an output.
func (k *z) threes(w reg.GPVirtual, c [4]reg.VecVirtual) (steps []func()) {
	const second = 10 // the first output that is not in the first 64 bytes
	last := k.K()
	g := k.GP64()
	k.MOVQ(U64(math.MaxUint64<<(4*second)&math.MaxUint64), g)
	k.KMOVQ(g, last)
	var bytes, shifts [2]reg.VecVirtual
	for half := range 2 {
		bytes[half] = k.constant(k.once("Bytes3Half", half, bytesOf(func(i int) int {
			from := 6*(i/4) + 3*half + min(i%4, 2)
			if i/4 >= second {
				from -= 32
			}
			return from
		})))
		shifts[half] = k.constant(k.once("Shift3Half", half, bytesOf(func(i int) int { return 32*(i/4%2) + 12*half + 3*(i%4) - 1 })))
	}
	and := k.dwordsOf(doubled(3))
	var halves, v [4]reg.VecVirtual
	for half := range 2 {
		halves[half] = k.ZMM()
		steps = append(steps,
			func() { k.VPERMB(at(w, 0), bytes[half], halves[half]) },
			func() { k.VPERMB(at(w, 32), bytes[half], last, halves[half]) })
		for i := range 2 {
			v[2*half+i] = k.ZMM()
			steps = append(steps, func() { k.VPMULTISHIFTQB(halves[half], shifts[i], v[2*half+i]) })
		}
	}
	for s := range v {
		steps = append(steps, func() { k.VPANDD(and, v[s], c[s]) })
	}
	return steps
}

// sixes is decoding for 6 bits: 12 bytes an output, which are three dwords. Since
// 3 and 16 have no common factor, each dword of all outputs stands in a lane of
// its own in one of three registers: that of output o in lane 3·o + i, modulo 16,
// of dword i.
func (k *z) sixes(w reg.GPVirtual, c [4]reg.VecVirtual) (steps []func()) {
	do := func(step func()) { steps = append(steps, step) }
	var every [3]reg.OpmaskVirtual // third lane, from lane i on
	for i := range every {
		lanes, g := uint32(0), k.GP32()
		for l := i; l < 16; l += 3 {
			lanes |= 1 << l
		}
		every[i] = k.K()
		k.MOVL(U32(lanes), g)
		k.KMOVW(g, every[i])
	}
	shift := k.constant(k.once("Shift6From", 0, bytesOf(func(i int) int { return 32*(i/4%2) + 6*(i%4) - 1 })))
	lastShift := k.constant(k.once("Shift6From", 8, bytesOf(func(i int) int { return 32*(i/4%2) + 8 + 6*(i%4) - 1 })))
	and := k.dwordsOf(doubled(6))
	var r, d [3]reg.VecVirtual // registers of the tile, dwords of outputs
	for i := range r {
		r[i], d[i] = k.ZMM(), k.ZMM()
		do(func() { k.VMOVDQU64(at(w, 64*i), r[i]) })
	}
	for i := range d {
		do(func() { k.VPBLENDMD(r[1], r[0], every[(i+2)%3], d[i]) })
		do(func() { k.VPBLENDMD(r[2], d[i], every[(i+1)%3], d[i]) })
		if i > 0 {
			do(func() { k.VALIGND(U8(i), d[i], d[i], d[i]) })
		}
	}
	v := [4]reg.VecVirtual{d[0], r[0], r[1], d[2]}
	do(func() { k.VPSHRDD(U8(24), d[1], d[0], v[1]) })
	do(func() { k.VPSHRDD(U8(16), d[2], d[1], v[2]) })
	for s := range v {
		by := shift
		if s == 3 {
			by = lastShift
		}
		do(func() { k.VPMULTISHIFTQB(v[s], by, v[s]) })
	}
	for s := range v {
		do(func() { k.VPANDD(and, v[s], c[s]) })
	}
	return steps
}

// bytesOf returns 64 bytes.
func bytesOf(at func(i int) int) (b []byte) {
	for i := range 64 {
		b = append(b, byte(at(i)))
	}
	return b
}

// panelHead is the bytes of a panel before its tiles: the order of its outputs.
const panelHead = 64

// The most rows that a kernel takes. The registers that hold their sums leave
// what decoding takes, or next to nothing.
const (
	dotRows           = 16
	dotExactRows      = 4
	multiplyRows      = 16
	multiplyExactRows = 6
)

// Ends say what becomes of the sums of each plane of activations.
type ends interface {
	// start sets the sums before a group.
	start(acc []reg.VecVirtual)

	// end adds the sums of a group to where they belong, and moves on.
	end(acc []reg.VecVirtual, step reg.VecVirtual)
}

// products multiplies tiles with planes of activations.
func (k *z) products(planes int, src tiles, to ends) {
	acts := k.load("acts")
	steps, stride, n := k.load("steps"), k.load("stride"), k.load("tiles")
	// Enough sums to hide how long it takes to add to one.
	sets := 1
	for sets < 4 && planes*sets < 10 {
		sets *= 2
	}
	acc := make([]reg.VecVirtual, planes*sets)
	for i := range acc {
		acc[i] = k.ZMM()
	}
	src.begin(n)
	outputs := src.outputs()
	k.groups(n, func(n reg.GPVirtual) {
		to.start(acc[:planes])
		for _, a := range acc[planes:] {
			k.VPXORD(a, a, a)
		}
		k.loop(n, func() {
			for s, v := range src.tile() {
				for p := range planes {
					i := s*planes + p
					k.VPDPBUSD_BCST(at(acts, 4*i), v, acc[s%sets*planes+p])
					src.between(i, 4*planes)
				}
			}
			k.ADDQ(U32(16*planes), acts)
			src.next()
		})
	}, func() {
		for n := len(acc) / 2; n >= planes; n /= 2 {
			for i := range n {
				k.VPADDD(acc[n+i], acc[i], acc[i])
			}
		}
		to.end(acc[:planes], k.steps(steps, stride, outputs))
	})
	k.end()
}

// A panel loads tiles that were decoded before. It fetches nothing ahead:
// decoding did.
type panel struct {
	*z
	w reg.GPVirtual
}

// panel returns the panel at parameter w.
func (k *z) panel() *panel { return &panel{k, k.load("w")} }

func (p *panel) outputs() reg.VecVirtual {
	return p.constant(at(p.w, -panelHead))
}

func (p *panel) begin(reg.GPVirtual) { p.ADDQ(U32(panelHead), p.w) }

func (p *panel) tile() (c [4]reg.VecVirtual) {
	for s := range c {
		c[s] = p.ZMM()
		p.VMOVDQU64(at(p.w, 64*s), c[s])
	}
	return c
}

func (p *panel) between(_, _ int) {}

func (p *panel) next() { p.ADDQ(U32(256), p.w) }

// dotRows writes the kernel of several rows of 8-bit activations.
func (k *z) dotRows(bits, rows int) {
	k.function(dotName(bits, rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(rows, k.strip(bits), &wholes{k, y, meta, rows, wide(bits)})
}

// dotExact writes the kernel of rows of activations in four digits.
func (k *z) dotExact(bits, rows int) {
	k.function(dotExactName(bits, rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(4*rows, k.strip(bits), &digits{k, y, meta, rows})
}

const spreadArgs = "func(panel *byte, y *[16]float32, w *byte, acts *int8, meta *float32, steps *byte, stride, tiles int)"

// spread writes the kernel that does what that of the most rows does, and makes
// a panel.
func (k *z) spread(bits int) {
	k.function(fmt.Sprint("Spread", bits), spreadArgs)
	y, meta, strip := k.load("y"), k.load("meta"), k.strip(bits)
	strip.panel = k.load("panel")
	k.products(dotRows, strip, &wholes{k, y, meta, dotRows, wide(bits)})
}

// spreadExact is spread for activations in four digits.
func (k *z) spreadExact(bits int) {
	k.function(fmt.Sprint("SpreadExact", bits), spreadArgs)
	y, meta, strip := k.load("y"), k.load("meta"), k.strip(bits)
	strip.panel = k.load("panel")
	k.products(4*dotExactRows, strip, &digits{k, y, meta, dotExactRows})
}

// multiply writes the kernel that adds to y the products of a panel with rows
// of 8-bit activations.
func (k *z) multiply(rows int, wide bool) {
	k.function(fmt.Sprint("Multiply", suffix(wide), rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(rows, k.panel(), &wholes{k, y, meta, rows, wide})
}

// multiplyExact writes the kernel that adds to y the products of a panel with
// rows of activations in four digits.
func (k *z) multiplyExact(rows int) {
	k.function(fmt.Sprint("MultiplyExact", rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(4*rows, k.panel(), &digits{k, y, meta, rows})
}

// wholes are sums of rows of 8-bit activations, which are added to those at y.
type wholes struct {
	*z
	y, meta reg.GPVirtual
	rows    int
	wide    bool
}

func (w *wholes) start(acc []reg.VecVirtual) {
	for r := range w.rows {
		if w.wide {
			w.VPXORD(acc[r], acc[r], acc[r])
			continue
		}
		w.VPBROADCASTD(at(w.meta, 4*(w.rows+r)), acc[r])
	}
}

func (w *wholes) end(acc []reg.VecVirtual, step reg.VecVirtual) {
	for r := range w.rows {
		if w.wide {
			w.VPADDD(acc[r], acc[r], acc[r])
			w.VPADDD_BCST(at(w.meta, 4*(w.rows+r)), acc[r], acc[r])
		}
		w.add(acc[r], step, at(w.meta, 4*r), at(w.y, 64*r))
		w.VMOVUPS(acc[r], at(w.y, 64*r))
	}
	w.ADDQ(U32(8*w.rows), w.meta)
}

// digits are sums of rows of activations in four digits, by rows and digits,
// which are added to those at y.
type digits struct {
	*z
	y, meta reg.GPVirtual
	rows    int
}

func (d *digits) start(acc []reg.VecVirtual) {
	for _, a := range acc {
		d.VPXORD(a, a, a)
	}
}

func (d *digits) end(acc []reg.VecVirtual, step reg.VecVirtual) {
	low, shift := d.dwordsOf(0xffff), d.dwordsOf(math.Float32bits(1<<16))
	for r := range d.rows {
		s := acc[4*r : 4*r+4]
		// s[2] and s[0] become the sum, in units of 2^16 and of 1.
		for i := range 2 {
			d.VPSLLD(U8(8), s[2*i+1], s[2*i+1])
			d.VPADDD(s[2*i+1], s[2*i], s[2*i])
			d.VPSUBD_BCST(at(d.meta, 4*((2-i)*d.rows+r)), s[2*i], s[2*i])
		}
		d.VPSRAD(U8(16), s[0], s[1])
		d.VPADDD(s[1], s[2], s[2])
		d.VPANDD(low, s[0], s[0])
		d.VCVTDQ2PS(s[0], s[0])
		d.VCVTDQ2PS(s[2], s[2])
		d.VMULPS(shift, s[2], s[2])
		d.VADDPS(s[2], s[0], s[0])
		d.VMULPS_BCST(at(d.meta, 4*r), step, s[1])
		d.VFMADD213PS(at(d.y, 64*r), s[1], s[0])
		d.VMOVUPS(s[0], at(d.y, 64*r))
	}
	d.ADDQ(U32(12*d.rows), d.meta)
}

const quantizeArgs = "func(acts *int8, meta, x *float32, su *byte, bits, row, rows, tiles int)"

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
	acts, meta, x, su    reg.GPVirtual // of the row, from the group on
	rows, thrice, levels reg.GPVirtual // thrice the rows
	place, ones          reg.VecVirtual
}

// quantize writes the kernel that makes 8-bit activations of a row of inputs.
func (k *z) quantize() {
	k.function("Quantize", quantizeArgs)
	q := &quantizer{z: k, acts: k.load("acts"), meta: k.load("meta"), x: k.load("x"), su: k.load("su"), rows: k.load("rows")}
	bits, row, tiles := k.load("bits"), k.load("row"), k.load("tiles")
	k.LEAQ(indexed(q.acts, row, 4, 0), q.acts)
	k.LEAQ(indexed(q.meta, row, 4, 0), q.meta)
	q.levels, q.thrice = k.levels(bits), k.GP64()
	k.LEAQ(indexed(q.rows, q.rows, 2, 0), q.thrice)
	places := k.GP64()
	k.LEAQ(k.packed, places)
	k.SHLQ(U8(6), bits)
	q.place, q.ones = k.constant(indexed(places, bits, 1, 0)), k.dwordsOf(0x01010101)
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
	and := q.dwordsOf(math.MaxInt32)
	most := [2]reg.VecVirtual{q.zero(), q.zero()}
	var v [8]reg.VecVirtual
	for t := range v {
		v[t] = q.ZMM()
		q.VCVTPH2PS(at(q.su, 32*t), v[t])
		q.VMULPS(at(q.x, 64*t), v[t], v[t])
		size := q.ZMM()
		q.VPANDD(and, v[t], size)
		q.VPMAXUD(size, most[t%2], most[t%2])
	}
	q.VPMAXUD(most[1], most[0], most[0])
	by, sum := q.scale(q.across(most[0], q.VPMAXUD)), q.zero()
	for t := range v {
		q.VMULPS(by, v[t], v[t])
		q.VCVTPS2DQ(v[t], v[t])
	}
	for i := 0; i < len(v); i += 4 {
		q.store(q.pack([4]reg.VecVirtual(v[i:]), sum), 4)
	}
	q.finish(sum)
	q.ADDQ(U32(8*64), q.x)
	q.ADDQ(U32(8*32), q.su)
}

// tiles makes the activations of n tiles that are a group.
func (q *quantizer) tiles(n reg.GPVirtual) {
	by, sum, none := q.scale(q.largest(q.x, q.su, n)), q.zero(), q.zero()
	q.loop(n, func() {
		v, rest := q.scaled(q.x, q.su), q.zero()
		q.VMULPS(by, v, v)
		q.VCVTPS2DQ(v, v)
		q.store(q.pack([4]reg.VecVirtual{v, none, rest, none}, sum), 1)
		q.ADDQ(U32(64), q.x)
		q.ADDQ(U32(32), q.su)
	})
	q.finish(sum)
}

// scale stores the step for inputs of which the largest has the given bits, and
// returns what to multiply them with.
func (q *quantizer) scale(most reg.GPVirtual) reg.VecVirtual {
	step, inverse := q.scaleOf(most)
	q.VMOVSS(step, at(q.meta, 0))
	by := q.ZMM()
	q.VBROADCASTSS(inverse, by)
	return by
}

// pack makes bytes of the dwords of four tiles, in the order of the width, and
// adds them to sum. It changes the first and the third.
func (q *quantizer) pack(v [4]reg.VecVirtual, sum reg.VecVirtual) reg.VecVirtual {
	q.VPACKSSDW(v[1], v[0], v[0])
	q.VPACKSSDW(v[3], v[2], v[2])
	q.VPACKSSWB(v[2], v[0], v[0])
	q.VPDPBUSD(v[0], q.ones, sum)
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
		q.VMOVD(tile, at(q.acts, 0))
		q.VPEXTRD(U8(1), tile, indexed(q.acts, q.rows, 4, 0))
		q.VPEXTRD(U8(2), tile, indexed(q.acts, q.rows, 8, 0))
		q.VPEXTRD(U8(3), tile, indexed(q.acts, q.thrice, 4, 0))
		q.LEAQ(indexed(q.acts, q.rows, 8, 0), q.acts)
		q.LEAQ(indexed(q.acts, q.rows, 8, 0), q.acts)
	}
}

// finish stores the middle of a group, and moves on.
func (q *quantizer) finish(sum reg.VecVirtual) {
	q.middle(q.across(sum, q.VPADDD), q.levels, indexed(q.meta, q.rows, 4, 0))
	q.LEAQ(indexed(q.meta, q.rows, 8, 0), q.meta)
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

const addArgs = "func(sum, y *float32, n int)"

// addFloats writes the kernel that adds floats to others.
func (k *z) addFloats() {
	k.function("Add", addArgs)
	sum, y, n := k.load("sum"), k.load("y"), k.load("n")
	k.SHRQ(U8(4), n)
	k.loop(n, func() {
		v := k.ZMM()
		k.VMOVUPS(at(sum, 0), v)
		k.VADDPS(at(y, 0), v, v)
		k.VMOVUPS(v, at(sum, 0))
		k.ADDQ(U32(64), sum)
		k.ADDQ(U32(64), y)
	})
	k.end()
}
