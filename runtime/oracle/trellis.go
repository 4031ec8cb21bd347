package oracle

import (
	"fmt"
	"math"
)

// Trellis dequantises a matrix of the trellis codec from the bytes of its four
// components, little-endian:
//
//	indices  U8  [out/16, in/16, 32·bits]
//	scales   F16 [ceil(in/128), out]
//	su       F16 [in]
//	sv       F16 [out]
//
//	W[o,i] = (index − (2^bits − 1)/2) · scales[i/128, o] · su[i] · sv[o]
//
// The error says which size is not that of an [out, in] matrix.
func Trellis(bits, out, in int, indices, scales, su, sv []byte) (Matrix, error) {
	if bits < 2 || bits > 8 {
		return Matrix{}, fmt.Errorf("trellis has no %d-bit weights", bits)
	}
	if out <= 0 || in <= 0 || out%16 != 0 || in%16 != 0 {
		return Matrix{}, fmt.Errorf("trellis has no [%d, %d] matrices: want multiples of 16", out, in)
	}
	groups := (in + 127) / 128
	for _, part := range []struct {
		name       string
		have, want int
	}{
		{"indices", len(indices), out / 16 * (in / 16) * 32 * bits},
		{"scales", len(scales), 2 * groups * out},
		{"su", len(su), 2 * in},
		{"sv", len(sv), 2 * out},
	} {
		if part.have != part.want {
			return Matrix{}, fmt.Errorf("trellis [%d, %d] of %d bits: %s has %d bytes, want %d", out, in, bits, part.name, part.have, part.want)
		}
	}

	m := Matrix{Out: out, In: in, W: make([]float64, out*in)}
	middle := float64(int(1)<<bits-1) / 2
	step, before, after := halves(scales), halves(su), halves(sv)
	parallel(out, func(o int) {
		row := m.Row(o)
		for i := range row {
			tile := (o/16*(in/16) + i/16) * 32 * bits
			index := TrellisIndex(indices[tile:tile+32*bits], bits, o%16*16+i%16)
			row[i] = (float64(index) - middle) * step[i/128*out+o] * before[i] * after[o]
		}
	})
	return m, nil
}

// TrellisIndex returns index number i, 0 to 255, of a tile of 32·bits bytes.
func TrellisIndex(tile []byte, bits, i int) int {
	index := 0
	for b := range bits {
		at := i*bits + b
		index |= int(tile[at/8]>>(at%8)&1) << b
	}
	return index
}

func halves(b []byte) []float64 {
	values := make([]float64, len(b)/2)
	for i := range values {
		values[i] = Half(uint16(b[2*i]) | uint16(b[2*i+1])<<8)
	}
	return values
}

// Half returns the value of an IEEE 754 half.
func Half(h uint16) float64 {
	sign := 1.0
	if h>>15 == 1 {
		sign = -1
	}
	exponent, fraction := int(h>>10&31), float64(h&1023)
	switch {
	case exponent == 0:
		return sign * math.Ldexp(fraction, -24)
	case exponent < 31:
		return sign * math.Ldexp(1024+fraction, exponent-25)
	case fraction == 0:
		return math.Inf(int(sign))
	}
	return math.NaN()
}
