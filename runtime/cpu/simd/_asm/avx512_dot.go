package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

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
			if place := func(i int) uint32 { return uint32(transposed(outputAt(bits, i))) }; place(1) != 1 {
				k.VPERMD(acc[0], k.constant(k.once("Transposed", bits, dwords(16, place))), acc[0])
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
