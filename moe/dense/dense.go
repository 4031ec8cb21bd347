// Package dense reads weights that are not quantised: row-major [out, in],
// little-endian numbers of one type in a single part.
package dense

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/moe"
	"github.com/x448/float16"
)

// A Codec is a type of number.
type Codec uint8

// The codecs.
const (
	BF16 Codec = iota // upper half of a float32
	F16               // IEEE 754 binary16
	F32               // IEEE 754 binary32
)

var _ moe.Codec = BF16

// Name returns "bf16", "f16" or "f32".
func (c Codec) Name() string {
	switch c {
	case BF16:
		return "bf16"
	case F16:
		return "f16"
	case F32:
		return "f32"
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// Bits returns the width of a number.
func (c Codec) Bits() uint8 {
	if c == F32 {
		return 32
	}
	return 16
}

// Check implements moe.Codec. Besides width, dimensions and span it checks
// that the numbers are aligned.
func (c Codec) Check(m moe.Matrix, size int) error {
	var errs []error
	if c > F32 {
		errs = append(errs, fmt.Errorf("%s is no codec", c.Name()))
	}
	if m.Bits != c.Bits() {
		errs = append(errs, fmt.Errorf("width %d, want %d", m.Bits, c.Bits()))
	}
	if m.Out <= 0 || m.In <= 0 {
		errs = append(errs, fmt.Errorf("%d×%d is not a shape", m.Out, m.In))
	} else if m.In > math.MaxInt/4/m.Out {
		errs = append(errs, fmt.Errorf("a matrix of %d×%d does not fit in memory", m.Out, m.In))
	}
	if len(m.Parts) != 1 {
		errs = append(errs, fmt.Errorf("%d parts, want 1", len(m.Parts)))
	}
	if errs != nil {
		return errors.Join(errs...)
	}
	width := int(c.Bits() / 8)
	s, want := m.Parts[0], m.Out*m.In*width
	switch {
	case s.Size != want:
		return fmt.Errorf("%d bytes, want %d", s.Size, want)
	case s.Offset < 0 || s.Offset > size-s.Size:
		return fmt.Errorf("outside the data: %d bytes at %d of %d", s.Size, s.Offset, size)
	case s.Offset%width != 0:
		return fmt.Errorf("at %d, not a multiple of %d", s.Offset, width)
	}
	return nil
}

// Row implements moe.Codec.
func (c Codec) Row(dst []float32, data []byte, m moe.Matrix, o int) {
	width := int(c.Bits() / 8)
	c.Decode(dst[:m.In], m.Parts[0].Of(data)[o*m.In*width:])
}

// Decode sets dst to the numbers that src starts with.
func (c Codec) Decode(dst []float32, src []byte) {
	switch c {
	case BF16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case F16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = float16.Frombits(binary.LittleEndian.Uint16(src[2*i:])).Float32()
		}
	case F32:
		src = src[:4*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}
