package main

import (
	"fmt"

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
	k.quantizeFour()
	k.quantizeExact()
	k.silu()
	k.scale()
	k.sum()
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

var made = map[string]Mem{}

// once returns a constant for a width, made when it is first asked for.
func (k *z) once(name string, bits int, b []byte) Mem {
	name = fmt.Sprint(name, bits)
	if _, ok := made[name]; !ok {
		made[name] = k.data(name, b)
	}
	return made[name]
}
