package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A row multiplies the tiles of a width with one row of 8-bit activations.
type row struct {
	acc []reg.VecVirtual

	// tile returns the steps that add a tile to acc, in chains: steps of one wait
	// for each other, and perhaps for the first steps of those before.
	tile func(w, acts Mem) [][]func()

	// reduce leaves the doubled sums in acc[0], in the order of the width.
	reduce func()
}

// dot writes the kernel of one row of 8-bit activations. It takes two tiles at a
// time, which are a whole number of cache lines.
func (k *z) dot(bits int) {
	k.function(dotName(bits, 1), multiplyArgs)
	w, acts, meta := k.load("w"), k.load("acts"), k.load("meta")
	steps, stride, tiles := k.load("steps"), k.load("stride"), k.load("tiles")
	past := k.past(bits, tiles)
	outputs := k.constant(offset(k.outputs, 64*bits))
	sum := k.constant(at(k.load("y"), 0))
	r := k.row(bits)
	some := func(n int) {
		var chains [][]func()
		for t := range n {
			chains = append(chains, r.tile(at(w, 32*bits*t), at(acts, 16*t))...)
		}
		staggered(chains)
		k.ADDQ(U32(32*bits*n), w)
		k.ADDQ(U32(16*n), acts)
	}
	k.groups(tiles, func(n reg.GPVirtual) {
		for _, a := range r.acc {
			k.VPXORD(a, a, a)
		}
		all := k.GP64()
		k.MOVQ(n, all)
		last, toLast := k.label("last")
		end, toEnd := k.label("end")
		k.SHRQ(U8(1), n)
		k.JZ(toLast)
		k.loop(n, func() {
			for i := range bits {
				k.PREFETCHT0(at(w, dotNear+64*i))
			}
			past.lines()
			some(2)
		})
		k.Label(last)
		k.TESTQ(U32(1), all)
		k.JZ(toEnd)
		some(1)
		k.Label(end)
	}, func() {
		r.reduce()
		k.VPADDD_BCST(at(meta, 4), r.acc[0], r.acc[0])
		k.add(r.acc[0], k.steps(steps, stride, outputs), at(meta, 0), sum)
		k.VMOVAPS(r.acc[0], sum)
		k.ADDQ(U32(8), meta)
	})
	k.VMOVUPS(sum, at(k.load("y"), 0))
	k.end()
}

// One row is multiplied two to three times as fast as memory is read, so that all
// depends on how early its indices are fetched: into the first-level cache
// dotNear bytes ahead, and into the second-level cache as many bytes ahead as a
// call takes, and dotNear more.
const dotNear = 4096

// A past asks for indices that the next call takes, in streams that begin at equal
// distances, a line of each for two tiles. Memory is read faster in several
// pages at once.
type past struct {
	*z
	streams int
	apart   reg.GPVirtual
	first   []reg.GPVirtual // of three streams each
}

// past returns what asks for as many indices as there are in a call's tiles.
func (k *z) past(bits int, tiles reg.GPVirtual) *past {
	p := &past{z: k, streams: bits, apart: k.GP64()}
	k.MOVQ(tiles, p.apart)
	k.SHLQ(U8(5), p.apart)
	first := k.load("ahead")
	k.ADDQ(U32(dotNear), first)
	for i := 0; i < bits; i += 3 {
		if i > 0 {
			next := k.GP64()
			k.LEAQ(indexed(p.apart, p.apart, 2, 0), next)
			k.ADDQ(first, next)
			first = next
		}
		p.first = append(p.first, first)
	}
	return p
}

// lines asks for a line of each stream.
func (p *past) lines() {
	for i := range p.streams {
		if first := p.first[i/3]; i%3 == 0 {
			p.PREFETCHT1(at(first, 0))
		} else {
			p.PREFETCHT1(indexed(first, p.apart, uint8(i%3), 0))
		}
	}
	for _, first := range p.first {
		p.ADDQ(U32(64), first)
	}
}

// staggered takes the steps of chains, each chain one step behind the one before:
// ports are given to instructions before they wait, evenly if neighbours are of
// different kinds.
func staggered(chains [][]func()) {
	for turn, done := 0, 0; done < len(chains); turn++ {
		for i, chain := range chains {
			if at := turn - i; 0 <= at && at < len(chain) {
				chain[at]()
				if at == len(chain)-1 {
					done++
				}
			}
		}
	}
}

func (k *z) row(bits int) *row {
	switch bits {
	case 2:
		return k.rowOfTwos()
	case 3:
		return k.rowOfThrees()
	case 4:
		return k.rowOfFours()
	}
	return k.rowOfQuarters(bits)
}

func (k *z) zmms(n int) (v []reg.VecVirtual) {
	for range n {
		v = append(v, k.ZMM())
	}
	return v
}

// rowOfTwos multiplies the fields of bytes where they are, with sums of their own
// for each place in a byte.
func (k *z) rowOfTwos() *row {
	var and [4]reg.VecVirtual
	for s := range and {
		and[s] = k.dwordsOf(0x03030303 << (2 * s))
	}
	acc := k.zmms(4)
	return &row{acc, func(w, acts Mem) (chains [][]func()) {
		v := k.ZMM()
		for s := range and {
			part := k.ZMM()
			var chain []func()
			if s == 0 {
				chain = append(chain, func() { k.VMOVDQU64(w, v) })
			}
			chains = append(chains, append(chain,
				func() { k.VPANDD(and[s], v, part) },
				func() { k.VPDPBUSD_BCST(offset(acts, 4*s), part, acc[s]) }))
		}
		return chains
	}, func() {
		for s := 1; s < 4; s++ {
			k.VPSRAD(U8(2*s), acc[s], acc[s])
		}
		k.VPADDD(acc[1], acc[0], acc[0])
		k.VPADDD(acc[3], acc[2], acc[2])
		k.VPADDD(acc[2], acc[0], acc[0])
		k.VPADDD(acc[0], acc[0], acc[0])
	}}
}

// rowOfThrees gives an output's six bytes a lane of eight, and makes the indices
// of its first eight inputs of it, and of its last eight.
func (k *z) rowOfThrees() *row {
	var bytes, shifts [2]reg.VecVirtual
	for half := range 2 {
		bytes[half] = k.constant(k.once("Lanes3Half", half, bytesOf(func(i int) int { return 16*half + 6*(i/8) + i%8 })))
		shifts[half] = k.constant(k.once("Lane3Half", half, bytesOf(func(i int) int { return (3*order(3, 8*half+i%8) + 63) % 64 })))
	}
	and := k.dwordsOf(doubled(3))
	acc := k.zmms(4)
	return &row{acc, func(w, acts Mem) (chains [][]func()) {
		act := k.zmms(2)
		for outputs := range 2 {
			lanes := k.ZMM()
			for inputs := range 2 {
				v := k.ZMM()
				var chain []func()
				if inputs == 0 {
					chain = append(chain, func() { k.VPERMB(offset(w, 32*outputs), bytes[outputs], lanes) })
				}
				if outputs == 0 {
					chain = append(chain, func() { k.VPBROADCASTQ(offset(acts, 8*inputs), act[inputs]) })
				}
				chains = append(chains, append(chain,
					func() { k.VPMULTISHIFTQB(lanes, shifts[inputs], v) },
					func() { k.VPANDD(and, v, v) },
					func() { k.VPDPBUSD(act[inputs], v, acc[2*inputs+outputs]) }))
			}
		}
		return chains
	}, func() {
		for half := range 2 {
			k.VPADDD(acc[2+half], acc[half], acc[half])
		}
		k.addPairs(acc)
	}}
}

// rowOfFours multiplies the fields of bytes where they are.
func (k *z) rowOfFours() *row {
	and := []reg.VecVirtual{k.dwordsOf(0x0f0f0f0f), k.dwordsOf(0xf0f0f0f0)}
	acc := k.zmms(4)
	return &row{acc, func(w, acts Mem) (chains [][]func()) {
		for s := range and {
			act := k.ZMM()
			for half := range 2 {
				v := k.ZMM()
				var chain []func()
				if half == 0 {
					chain = append(chain, func() { k.VPBROADCASTQ(offset(acts, 8*s), act) })
				}
				chains = append(chains, append(chain,
					func() { k.VPANDD(offset(w, 64*half), and[s], v) },
					func() { k.VPDPBUSD(act, v, acc[2*s+half]) }))
			}
		}
		return chains
	}, func() {
		for half := range 2 {
			k.VPSRAD(U8(4), acc[2+half], acc[2+half])
			k.VPADDD(acc[2+half], acc[half], acc[half])
		}
		k.addPairs(acc)
		k.VPADDD(acc[0], acc[0], acc[0])
	}}
}

// addPairs sets acc[0] to the sums of neighbours in acc[0] and acc[1].
func (k *z) addPairs(acc []reg.VecVirtual) {
	odd := k.ZMM()
	k.VMOVDQA64(acc[0], odd)
	k.VPERMT2D(acc[1], k.constant(k.evens), acc[0])
	k.VPERMT2D(acc[1], k.constant(k.odds), odd)
	k.VPADDD(odd, acc[0], acc[0])
}

// rowOfQuarters makes indices of four outputs at a time.
func (k *z) rowOfQuarters(bits int) *row {
	u := k.unpacker(bits, false)
	acc := k.zmms(4)
	return &row{acc, func(w, acts Mem) (chains [][]func()) {
		act := k.ZMM()
		for j := range acc {
			v := k.ZMM()
			var chain []func()
			if j == 0 {
				chain = append(chain, func() { k.VBROADCASTI32X4(acts, act) })
			}
			chain = append(chain, u.bytes(w, j, v)...)
			chains = append(chains, append(chain, func() { k.VPDPBUSD(act, v, acc[j]) }))
		}
		return chains
	}, func() {
		t := k.zmms(4)
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
	}}
}
