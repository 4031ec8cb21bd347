// Package simd multiplies uniform indices with quantised activations, 16
// outputs of a matrix at a time, with the vector instructions of the host.
//
// A strip is 16 outputs of a matrix: one tile of 32·bits bytes after another,
// each 16 outputs by 16 inputs, in the layout of codec trellis. A group is 8
// tiles, the last one of a strip perhaps fewer. An output is
//
//	Σ over groups of float(Σ (2·index − M)·activation) · (step · scale)
//
// with M = 2^bits − 1, a step of the group and output, and a scale of the group
// and row, which is half the step of its activations. The inner sum is exact, and
// the outer one in the order of groups, each addition to it fused with its
// multiplication, so that every Set gives the same bits.
//
// Activations have 8 bits, or 32 bits in four digits of 8: a Set multiplies
// digits as if they were rows. A row's 8-bit activations are multiples of
// 1/127 of the largest magnitude in their group. Those of four digits are
// multiples of a power of two that is at most 2^-28 of it.
//
// Functions take pointers and check nothing. They read and write no byte
// besides those described, wherever these lie.
package simd

import "unsafe"

//go:generate go run -C _asm .

// Group is the number of tiles that share steps and scales.
const Group = 8

// PanelHead is the bytes of a panel before those of its tiles, which a Set may
// keep to itself.
const PanelHead = 64

// Ahead is the number of bytes that a Multiplier may fetch for each tile.
const Ahead = 128

// Own returns how many of the bytes that follow tiles of indices a Multiplier of
// several rows may fetch by itself: all but the last 64 for each tile, of indices
// of more than 2 bits.
func Own(bits, tiles int) int { return 64 * tiles * max(1, (bits-1)/2) }

// A Set holds the functions for one instruction set. The order of activations,
// panels and sums in memory is its own, and another for each width.
type Set struct {
	Name string

	// Quantize makes the activations of rows, from tiles·16 inputs at each of the
	// pointers at x, times the halves at su. Acts are rows·tiles·16 bytes, meta
	// 2·rows floats for each group. QuantizeExact makes activations of four digits:
	// rows·tiles·64 bytes, and 3·rows floats for each group.
	Quantize, QuantizeExact Quantizer

	// Dot multiplies 8-bit activations with the indices of tiles, by width and
	// the number of rows, from 1 on; DotExact those of four digits.
	Dot, DotExact [9][]Multiplier

	// From PanelRows on, and PanelRowsExact, it is faster to decode indices into
	// a panel, once for all rows, than time and again. Spread makes a panel, by
	// width, and multiplies SpreadRows rows on the way. Multiply multiplies
	// others with a panel, by width and the number of rows; all widths take as
	// many. The functions for activations of four digits have panels of their own.
	PanelRows, PanelRowsExact   int
	Spread, SpreadExact         [9]Spreader
	SpreadRows, SpreadRowsExact int
	Multiply, MultiplyExact     [9][]Multiplier

	// Silu sets 16 elements of each row of h, stride bytes apart, to
	// silu(gate·gateSV)·(up·upSV). SV are 16 halves. Gate and up are sums of
	// weights of gateBits and upBits.
	Silu func(h *float32, stride int, gate, up *[16]float32, gateSV, upSV *byte, gateBits, upBits, rows int)

	// Sum sets the n floats at sum to the sums of rows of y, added to 0 in the
	// order in which the numbers of the rows, count of them, stand at rows. Rows
	// begin stride bytes apart. N is a multiple of 16; neither it nor count is 0.
	Sum func(sum, y *float32, rows *uint32, count, stride, n int)

	// Scale sets 16 elements of each row of y, stride bytes apart, to
	// sums·sv·prob. Prob has an element for each row; the sums are of weights of
	// so many bits.
	Scale func(y *float32, stride int, sums *[16]float32, sv *byte, prob *float32, bits, rows int)
}

type (
	Quantizer = func(acts *int8, meta *float32, x **float32, su *byte, bits, rows, tiles int)

	// A Multiplier adds to y the outputs of tiles for some rows, 16 sums each.
	// W are the indices, or a panel of them. Steps points at 16 halves for each
	// group, stride bytes apart. Meanwhile it may fetch Ahead bytes for each tile
	// into the caches, from ahead on; that of one row of 8-bit activations, some
	// near there, as many as its tiles have.
	Multiplier = func(y *[16]float32, w *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, ahead uintptr)

	// A Spreader writes the indices of tiles to a panel, of PanelHead and
	// tiles·256 bytes, and does what a Multiplier does for the number of rows that belongs to it. If
	// that is 0, it takes no notice of y, acts, meta and steps. Meanwhile it may fetch 64 bytes for
	// each tile from ahead on, from next on, and if Own has more than that, from places that are
	// apart bytes after next and after each other.
	Spreader = func(panel *byte, y *[16]float32, indices *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, next, ahead uintptr, apart int)
)

// A rowQuantizer is a Quantizer of one of several rows, whose inputs are at x.
type rowQuantizer = func(acts *int8, meta, x *float32, su *byte, bits, row, rows, tiles int)

// A fourQuantizer is a Quantizer of 8 tiles of the first four of several rows,
// whose inputs are so many bytes after each of the pointers at x.
type fourQuantizer = func(acts *int8, meta *float32, x **float32, at int, su *byte, bits, rows int)

// quantizer returns a Quantizer of activations of so many digits and floats for
// each group. It goes through the rows of one group after another, which share
// cache lines. Four may be nil.
func quantizer(row rowQuantizer, four fourQuantizer, digits, metas int) Quantizer {
	return func(acts *int8, meta *float32, x **float32, su *byte, bits, rows, tiles int) {
		inputs := unsafe.Slice(x, rows)
		for t := 0; t < tiles; t += Group {
			n := min(Group, tiles-t)
			acts, meta, su := add(acts, t*16*rows*digits), add(meta, t/Group*rows*metas), add(su, 32*t)
			r := 0
			if four != nil && n == Group {
				for ; r+4 <= rows; r += 4 {
					four(add(acts, 4*r), add(meta, r), &inputs[r], 64*t, su, bits, rows)
				}
			}
			for ; r < rows; r++ {
				row(acts, meta, add(inputs[r], 16*t), su, bits, r, rows, n)
			}
		}
	}
}

// decoder returns a Spreader of 0 rows.
func decoder(decode func(panel, indices *byte, tiles int)) Spreader {
	return func(panel *byte, _ *[16]float32, indices *byte, _ *int8, _ *float32, _ *byte, _, tiles int, _, _ uintptr, _ int) {
		decode(panel, indices, tiles)
	}
}

// Sets returns what the host can run, the best first and plain Go last.
func Sets() []*Set { return append(hostSets(), portable()) }
