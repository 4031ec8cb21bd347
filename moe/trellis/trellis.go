// Package trellis stores weights as indices into a uniform grid, in tiles of
// 16×16, with a step for every 128 inputs of an output.
//
// A matrix W of [out, in] has four components, all little-endian:
//
//	indices  U8   [out/16, in/16, 32·bits]  a tile of 256 indices per row of bytes
//	scales   F16  [ceil(in/128), out]       step of a group of 128 inputs, per output
//	su       F16  [in]                      factor per input
//	sv       F16  [out]                     factor per output
//
// In a tile, index (o%16)·16 + i%16 takes bits bits, least significant first,
// so that 16 inputs of an output are 2·bits consecutive bytes. The grid is
// mid-rise, without a zero:
//
//	W[o,i] = (index − (2^bits − 1)/2) · scales[i/128, o] · su[i] · sv[o]
package trellis

import (
	"errors"
	"fmt"
	"math"
)

// What the format fixes.
const (
	MinBits = 2   // narrowest index
	MaxBits = 8   // widest index
	Tile    = 16  // rows and columns of a tile; out and in are multiples of it
	Group   = 128 // inputs that share a step; the last group may be shorter
)

// Align is the alignment, in bytes from the start of a layer's weights, that
// indices need; the other components need that of an fp16 number.
const Align = 16

// A Component numbers the parts of a matrix.
type Component int

// The components, in their order.
const (
	Indices Component = iota
	Scales
	SU
	SV
)

// Components lists all components, in their order.
var Components = [...]Component{Indices, Scales, SU, SV}

func (c Component) String() string {
	switch c {
	case Indices:
		return "indices"
	case Scales:
		return "scales"
	case SU:
		return "su"
	case SV:
		return "sv"
	}
	return fmt.Sprintf("Component(%d)", int(c))
}

// Shape returns the shape of c in a matrix of [out, in]: bytes for Indices,
// fp16 numbers for the others.
func (c Component) Shape(bits uint8, out, in int) []int {
	switch c {
	case Indices:
		return []int{out / Tile, in / Tile, 32 * int(bits)}
	case Scales:
		return []int{groups(in), out}
	case SU:
		return []int{in}
	}
	return []int{out}
}

// Size returns the bytes of c in a matrix of [out, in].
func (c Component) Size(bits uint8, out, in int) int {
	n := 2
	if c == Indices {
		n = 1
	}
	for _, d := range c.Shape(bits, out, in) {
		n *= d
	}
	return n
}

// CheckShape reports everything that keeps a matrix of [out, in] from being
// stored with indices of the given width.
func CheckShape(bits uint8, out, in int) error {
	var errs []error
	if bits < MinBits || bits > MaxBits {
		errs = append(errs, fmt.Errorf("width %d is not in %d..%d", bits, MinBits, MaxBits))
	}
	for _, d := range []struct {
		name string
		size int
	}{{"out", out}, {"in", in}} {
		if d.size <= 0 || d.size%Tile != 0 {
			errs = append(errs, fmt.Errorf("%s is %d, not a positive multiple of %d", d.name, d.size, Tile))
		}
	}
	if errs == nil && in > math.MaxInt/4/out {
		errs = append(errs, fmt.Errorf("a matrix of %d×%d does not fit in memory", out, in))
	}
	return errors.Join(errs...)
}

// groups returns the number of steps that an output with in inputs has.
func groups(in int) int { return (in + Group - 1) / Group }
