package trellis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/moe"
)

// Codec decodes trellis matrices, whose parts are the Components in order.
type Codec struct{}

var _ moe.Codec = Codec{}

// Name returns "trellis".
func (Codec) Name() string { return "trellis" }

// Check implements moe.Codec. Besides width, dimensions and spans it checks
// the alignment that kernels rely on: Align for indices, 2 for the others.
func (Codec) Check(m moe.Matrix, size int) error {
	if err := CheckShape(m.Bits, m.Out, m.In); err != nil {
		return err
	}
	if len(m.Parts) != len(Components) {
		return fmt.Errorf("%d parts, want %d", len(m.Parts), len(Components))
	}
	var errs []error
	for _, c := range Components {
		align := 2
		if c == Indices {
			align = Align
		}
		s, want := m.Parts[c], c.Size(m.Bits, m.Out, m.In)
		switch {
		case s.Size != want:
			errs = append(errs, fmt.Errorf("%v has %d bytes, want %d", c, s.Size, want))
		case s.Offset < 0 || s.Offset > size-s.Size:
			errs = append(errs, fmt.Errorf("%v lies outside the data: %d bytes at %d of %d", c, s.Size, s.Offset, size))
		case s.Offset%align != 0:
			errs = append(errs, fmt.Errorf("%v lies at %d, not a multiple of %d", c, s.Offset, align))
		}
	}
	return errors.Join(errs...)
}

// Row implements moe.Codec.
func (Codec) Row(dst []float32, data []byte, m moe.Matrix, o int) {
	var (
		bits    = int(m.Bits)
		indices = m.Parts[Indices].Of(data)
		scales  = m.Parts[Scales].Of(data)
		su      = m.Parts[SU].Of(data)
		sv      = half(m.Parts[SV].Of(data)[2*o:])
		mask    = uint64(1)<<bits - 1
		mid     = float32(mask) / 2
	)
	// Eight indices are bits bytes: half of a tile's row.
	tile := o / Tile * (m.In / Tile) * 32 * bits
	at := tile + o%Tile*2*bits
	for i := 0; i < m.In; {
		step := half(scales[2*(i/Group*m.Out+o):]) * sv
		for end := min(i+Group, m.In); i < end; i += Tile {
			row := indices[at : at+2*bits]
			at += 32 * bits
			for k := 0; k < Tile; k += 8 {
				word := load(row[k/8*bits:], bits)
				d, f := dst[i+k:i+k+8], su[2*(i+k):2*(i+k)+16]
				for j := range d {
					d[j] = (float32(int32(word&mask)) - mid) * step * half(f[2*j:])
					word >>= bits
				}
			}
		}
	}
}

// load reads n bytes, at most eight, as a little-endian number. It may read
// more of b and leave it in the bits above.
func load(b []byte, n int) uint64 {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b)
	}
	var word uint64
	for i := n - 1; i >= 0; i-- {
		word = word<<8 | uint64(b[i])
	}
	return word
}

// half reads an fp16 number.
func half(b []byte) float32 {
	h := uint32(b[0]) | uint32(b[1])<<8
	// The exponent's bias is 15 in fp16 and 127 in float32, but the exponent of
	// what is not finite has all bits set in both.
	f := math.Float32bits(math.Float32frombits(h&0x7fff<<13) * 0x1p112)
	if h&0x7c00 == 0x7c00 {
		f |= 0x7f800000
	}
	return math.Float32frombits(f | h&0x8000<<16)
}
