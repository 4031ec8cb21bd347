package simd

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

func hostSets() []*Set {
	if cpu.ARM64.HasASIMDDP {
		return []*Set{neonSet()}
	}
	return nil
}

// neonFields is how to take 16 indices apart, in the order in which neonSpread
// loads it: bytes for the low and high eight of a row at the start of 16 bytes
// and at their end, how far each is to be shifted, the bits of an index, 128.
type neonFields struct {
	bytes       [4][16]uint8
	shifts      [2][8]int16
	mask, minus [16]uint8
	row, before int
}

func newNeonFields(bits int) *neonFields {
	f := &neonFields{row: 2 * bits, before: 16 - 2*bits}
	for i := range 16 {
		half, lane := i/8, i%8
		first := i * bits / 8
		for b := range 2 {
			for end := range 2 {
				at := uint8(255) // none
				if first+b < 2*bits {
					at = uint8(first + b + end*f.before)
				}
				f.bytes[2*end+half][2*lane+b] = at
			}
		}
		f.shifts[half][lane] = -int16(i * bits % 8)
		f.mask[i], f.minus[i] = 1<<bits-1, 128
	}
	return f
}

// neonSpread makes a panel of [tiles, 16 outputs, 16 inputs] indices less 128.
//
//go:noescape
func neonSpread(panel, indices *byte, tiles int, f *neonFields)

// neonSums computes the sums of (index − 128)·activation of 16 outputs. The
// activations of tiles are stride bytes apart.
//
//go:noescape
func neonSums(sums *[16]int32, panel *byte, acts *int8, stride, tiles int)

// neonDigitSums is neonSums for activations of four digits.
//
//go:noescape
func neonDigitSums(sums *[16]int64, panel *byte, acts *int8, stride, tiles int)

// neonFinish adds to y twice the sums of a group and a number for each, times
// scale and steps.
//
//go:noescape
func neonFinish(y *[16]float32, sums *[16]int32, steps *byte, scale float32, plus int32)

// neonSet stores activations as the portable set does, but those of four digits
// as digits.
func neonSet() *Set {
	s := portable()
	s.Name = "neon"
	s.QuantizeExact = quantizer(neonQuantizeExact, nil, 4, 3)
	for bits := 2; bits <= 8; bits++ {
		f := newNeonFields(bits)
		s.Spread[bits] = decoder(func(panel, indices *byte, tiles int) { neonSpread(panel, indices, tiles, f) })
		s.SpreadExact[bits] = s.Spread[bits]
		s.Dot[bits] = []Multiplier{1: func(y *[16]float32, indices *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
			var panel [Group * 256]byte
			for t := 0; t < tiles; t += Group {
				n := min(Group, tiles-t)
				neonSpread(&panel[0], add(indices, t*32*bits), n, f)
				neonMultiply(bits, 1, y, &panel[0], add(acts, t*16), add(meta, t/Group*2), add(steps, t/Group*stride), stride, n)
			}
		}}
		for rows := 1; rows <= portableRows; rows++ {
			s.Multiply[bits][rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
				neonMultiply(bits, rows, y, panel, acts, meta, steps, stride, tiles)
			}
			s.MultiplyExact[bits][rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
				neonMultiplyExact(bits, rows, y, panel, acts, meta, steps, stride, tiles)
			}
		}
	}
	return s
}

// neonQuantizeExact makes the four bytes of an activation its digits.
func neonQuantizeExact(acts *int8, meta, x *float32, su *byte, bits, row, rows, tiles int) {
	portableQuantizeExact(acts, meta, x, su, bits, row, rows, tiles)
	const balance = 0x80808080
	for t := range tiles {
		digits := unsafe.Slice((*uint32)(unsafe.Pointer(add(acts, (t*rows+row)*64))), 16)
		for i, d := range digits {
			digits[i] = (d + balance) ^ balance
		}
	}
}

func neonMultiply(bits, rows int, y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int) {
	ys := unsafe.Slice(y, rows)
	var sums [16]int32
	for t := 0; t < tiles; t += Group {
		metas := unsafe.Slice(add(meta, t/Group*2*rows), 2*rows)
		for r := range rows {
			neonSums(&sums, add(panel, 256*t), add(acts, 16*(t*rows+r)), 16*rows, min(Group, tiles-t))
			middle := bitsAt(&metas[r], rows)
			total := -middle / (1<<bits - 1) // of the activations
			neonFinish(&ys[r], &sums, add(steps, t/Group*stride), metas[r], 256*total+middle)
		}
	}
}

func neonMultiplyExact(bits, rows int, y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int) {
	ys := unsafe.Slice(y, rows)
	var sums [16]int64
	for t := 0; t < tiles; t += Group {
		metas, step := unsafe.Slice(add(meta, t/Group*3*rows), 3*rows), halves(add(steps, t/Group*stride))
		for r := range rows {
			neonDigitSums(&sums, add(panel, 256*t), add(acts, 64*(t*rows+r)), 64*rows, min(Group, tiles-t))
			y, scale := &ys[r], metas[r]
			middle := int64(bitsAt(&metas[r], rows))<<16 + int64(bitsAt(&metas[r], 2*rows))
			total := 2 * middle / (1<<bits - 1)
			for o := range y {
				y[o] = fused(sumExact(sums[o]+128*total, &metas[r], rows), float32(step[o]*scale), y[o])
			}
		}
	}
}
