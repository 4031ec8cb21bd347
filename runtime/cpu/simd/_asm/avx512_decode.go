package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Indices are doubled when they are decoded, which takes nothing but other
// constants, and spares groups to double their sums. Only those of 8 bits have no
// room for it: their kernels are wide.
func wide(bits int) bool { return bits == 8 }

// doubled returns a mask of doubled indices, as far as they are.
func doubled(bits int) uint32 { return 0x01010101 * (1<<bits - 1) << 1 }

// An unpacker makes bytes of 64 indices: of 4 outputs by 16 inputs.
type unpacker struct {
	*z
	bits    int
	permute [4]Op // by quarter of a tile: a register, or memory
	shift   reg.VecVirtual
	and     Op
}

// unpacker returns the unpacker of a width that is not 2 or 4. If registers are
// few, it loads what it can.
func (k *z) unpacker(bits int, few bool) *unpacker {
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
	of := map[int]Op{}
	for j := range u.permute {
		_, skip := u.quarter(j)
		if of[skip] == nil {
			var permute []byte
			for q := range 8 {
				for i := range 8 {
					permute = append(permute, byte(min(skip+q*bits+i, 63)))
				}
			}
			of[skip] = k.held(k.once(fmt.Sprintf("Permute%dSkip", bits), skip, permute), few)
		}
		u.permute[j] = of[skip]
	}
	u.shift = k.constant(k.once("Shift", bits, shift))
	u.and = k.mask(bits, few)
	return u
}

// held returns the constant m, in a register unless those are few.
func (k *z) held(m Mem, few bool) Op {
	if few {
		return m
	}
	return k.constant(m)
}

// mask returns a mask of doubled indices, in a register unless those are few.
func (k *z) mask(bits int, few bool) Op {
	if few {
		return k.once("Doubled", bits, dwords(16, func(int) uint32 { return doubled(bits) }))
	}
	return k.dwordsOf(doubled(bits))
}

// quarter returns where in a tile to load the 64 bytes that begin with, or after
// some bytes to skip hold, the indices of outputs 4·j to 4·j+3. They are all of
// the tile.
func (u *unpacker) quarter(j int) (from, skip int) {
	from = min(8*u.bits*j, 32*u.bits-64)
	return from, 8*u.bits*j - from
}

// bytes returns the steps that set v to the indices of outputs 4·j to 4·j+3 of
// the tile at w.
func (u *unpacker) bytes(w Mem, j int, v reg.VecVirtual) []func() {
	if u.bits == 8 {
		return []func(){func() { u.VMOVDQU64(offset(w, 64*j), v) }}
	}
	from, _ := u.quarter(j)
	return []func(){
		func() {
			permute := u.permute[j]
			if m, ok := permute.(Mem); ok {
				u.VMOVDQU64(m, v)
				permute = v
			}
			u.VPERMB(offset(w, from), permute, v)
		},
		func() { u.VPMULTISHIFTQB(v, u.shift, v) },
		func() { u.VPANDD(u.and, v, v) },
	}
}

// decoding returns the steps that set c to the indices of the tile at w, for a
// number of planes. Element i is set in no step before that which is the last of
// the first i + 1 quarters of them, when it has been multiplied for the last time.
func (k *z) decoding(bits, planes int, w reg.GPVirtual, c [4]reg.VecVirtual) (steps []func()) {
	do := func(more ...func()) { steps = append(steps, more...) }
	few := planes > spreadRows // registers are left
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
		return k.sixes(w, c, few)
	default:
		u := k.unpacker(bits, few)
		var a, t [4]reg.VecVirtual
		for j := range a {
			a[j], t[j] = k.ZMM(), k.ZMM()
		}
		for i := range 2 {
			for j := 2 * i; j < 2*i+2; j++ {
				do(u.bytes(at(w, 0), j, a[j])...)
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
// those of an output, dwords make bytes of a pair of indices each, and these make
// two elements.
func (k *z) threes(w reg.GPVirtual, c [4]reg.VecVirtual) (steps []func()) {
	const second = 10 // the first output that is not in the first 64 bytes
	last := k.K()
	g := k.GP64()
	k.MOVQ(U64(math.MaxUint64<<(4*second)&math.MaxUint64), g)
	k.KMOVQ(g, last)
	shift := k.constant(k.once("Pairs", 3, bytesOf(func(i int) int { return 32*(i/4%2) + 6*(i%4) })))
	var bytes, fields [2]reg.VecVirtual
	for half := range 2 {
		bytes[half] = k.constant(k.once("Bytes3Half", half, bytesOf(func(i int) int {
			from := 6*(i/4) + 3*half + min(i%4, 2)
			if i/4 >= second {
				from -= 32
			}
			return from
		})))
		fields[half] = k.field(3*half, 3)
	}
	for half := range 2 {
		v := k.ZMM()
		steps = append(steps,
			func() { k.VPERMB(at(w, 0), bytes[half], v) },
			func() { k.VPERMB(at(w, 32), bytes[half], last, v) },
			func() { k.VPMULTISHIFTQB(v, shift, v) })
		for i, field := range fields {
			steps = append(steps, func() { k.VGF2P8AFFINEQB(U8(0), field, v, c[2*half+i]) })
		}
	}
	return steps
}

// sixes is decoding for 6 bits: 12 bytes an output, which are three dwords. Since
// 3 and 16 have no common factor, each dword of all outputs stands in a lane of
// its own in one of three registers: that of output o in lane 3·o + i, modulo 16,
// of dword i.
func (k *z) sixes(w reg.GPVirtual, c [4]reg.VecVirtual, few bool) (steps []func()) {
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
	and := k.mask(6, few)
	r := [3]reg.VecVirtual{k.ZMM(), k.ZMM(), k.ZMM()} // of the tile
	d := [3]reg.VecVirtual{k.ZMM(), k.ZMM(), r[0]}    // dwords of outputs
	for i := range r {
		do(func() { k.VMOVDQU64(at(w, 64*i), r[i]) })
	}
	for i := range d {
		do(func() { k.VPBLENDMD(r[1], r[0], every[(i+2)%3], d[i]) })
		do(func() { k.VPBLENDMD(r[2], d[i], every[(i+1)%3], d[i]) })
		if i > 0 {
			do(func() { k.VALIGND(U8(i), d[i], d[i], d[i]) })
		}
	}
	v := [4]reg.VecVirtual{d[0], r[1], r[2], d[2]}
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
