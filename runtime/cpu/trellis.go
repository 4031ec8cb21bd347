package cpu

import (
	"encoding/binary"
	"math"

	"github.com/marlingen/marlingen/runtime"
)

// group is the number of inputs that share a step.
const group = 128

// The parts of a trellis matrix.
const (
	indices = iota
	scales
	su
	sv
)

// W[o,i] = (index − (2^bits − 1)/2) · scales[i/128, o] · su[i] · sv[o], with the
// indices in tiles of 16 outputs by 16 inputs. su goes into the inputs, once
// for each row; the step into the sum of a group; sv into the whole.
var trellis = &codec{
	name: "trellis",
	parts: []part{
		indices: {runtime.Component{Name: "indices", Type: "uchar"}, rowAlign, func(bits, out, in uint64) uint64 { return out / 16 * (in / 16) * 32 * bits }},
		scales:  {runtime.Component{Name: "scales", Type: "half"}, halfAlign, func(_, out, in uint64) uint64 { return (in + group - 1) / group * out * 2 }},
		su:      {runtime.Component{Name: "su", Type: "half"}, halfAlign, func(_, _, in uint64) uint64 { return in * 2 }},
		sv:      {runtime.Component{Name: "sv", Type: "half"}, halfAlign, func(_, out, _ uint64) uint64 { return out * 2 }},
	},
	widths:   []uint8{2, 3, 4, 5, 6, 7, 8},
	multiple: 16,
	input: func(dst, src []float32, m *matrix) {
		for i, v := range src {
			dst[i] = v * half(m.parts[su], i)
		}
	},
	strip: trellisStrip,
}

// rowAlign returns what the 2·bits bytes of an output in a tile are aligned to:
// kernels load them in the largest pieces of up to 8 bytes that fit.
func rowAlign(bits uint64) uint64 { return min(8, 2*bits&-(2*bits)) }

func halfAlign(uint64) uint64 { return 2 }

func trellisStrip(y []float32, m *matrix, n int, x []float32, rows int, s *scratch) {
	clear(y)
	decode, tile := decoders[m.bits], 32*int(m.bits)
	row := m.parts[indices][n*(m.in/16)*tile:][:m.in/16*tile]
	for i := 0; i < m.in; i += group {
		width := min(group, m.in-i)
		decode(&s.weights, row[i/16*tile:(i+width)/16*tile])
		var steps [strip]float32
		for o := range steps {
			steps[o] = half(m.parts[scales], i/group*m.out+n*strip+o)
		}
		r := 0
		for ; r+2 <= rows; r += 2 {
			multiply2(y[r*strip:][:2*strip], &steps, &s.weights, x[r*m.in+i:][:width], x[(r+1)*m.in+i:][:width])
		}
		if r < rows {
			multiply1((*[strip]float32)(y[r*strip:]), &steps, &s.weights, x[r*m.in+i:][:width])
		}
	}
	for o := range strip {
		v := half(m.parts[sv], n*strip+o)
		for r := range rows {
			y[r*strip+o] *= v
		}
	}
}

// multiply1 adds to y the products of a group of weights with one row of
// inputs.
func multiply1(y, steps *[strip]float32, weights *[strip * group]float32, x []float32) {
	for o := range y {
		var s0, s1, s2, s3 float32
		ws := weights[o*group:][:len(x)]
		for i := 0; i+16 <= len(x); i += 16 {
			w, x := (*[16]float32)(ws[i:]), (*[16]float32)(x[i:])
			s0 += w[0] * x[0]
			s1 += w[1] * x[1]
			s2 += w[2] * x[2]
			s3 += w[3] * x[3]
			s0 += w[4] * x[4]
			s1 += w[5] * x[5]
			s2 += w[6] * x[6]
			s3 += w[7] * x[7]
			s0 += w[8] * x[8]
			s1 += w[9] * x[9]
			s2 += w[10] * x[10]
			s3 += w[11] * x[11]
			s0 += w[12] * x[12]
			s1 += w[13] * x[13]
			s2 += w[14] * x[14]
			s3 += w[15] * x[15]
		}
		y[o] += steps[o] * ((s0 + s1) + (s2 + s3))
	}
}

// multiply2 is multiply1 for two rows, in the same order of additions.
func multiply2(y []float32, steps *[strip]float32, weights *[strip * group]float32, x, z []float32) {
	yx, yz := (*[strip]float32)(y), (*[strip]float32)(y[strip:])
	for o := range steps {
		var s0, s1, s2, s3 float32
		var t0, t1, t2, t3 float32
		ws, z := weights[o*group:][:len(x)], z[:len(x)]
		for i := 0; i+8 <= len(x); i += 8 {
			w, x, z := (*[8]float32)(ws[i:]), (*[8]float32)(x[i:]), (*[8]float32)(z[i:])
			s0 += w[0] * x[0]
			t0 += w[0] * z[0]
			s1 += w[1] * x[1]
			t1 += w[1] * z[1]
			s2 += w[2] * x[2]
			t2 += w[2] * z[2]
			s3 += w[3] * x[3]
			t3 += w[3] * z[3]
			s0 += w[4] * x[4]
			t0 += w[4] * z[4]
			s1 += w[5] * x[5]
			t1 += w[5] * z[5]
			s2 += w[6] * x[6]
			t2 += w[6] * z[6]
			s3 += w[7] * x[7]
			t3 += w[7] * z[7]
		}
		yx[o] += steps[o] * ((s0 + s1) + (s2 + s3))
		yz[o] += steps[o] * ((t0 + t1) + (t2 + t3))
	}
}

// half returns element i of b as a float.
func half(b []byte, i int) float32 {
	h := uint32(binary.LittleEndian.Uint16(b[2*i:]))
	sign, rest := h>>15<<31, h&0x7fff
	if rest >= 0x7c00 { // infinities and NaNs
		return math.Float32frombits(sign | 0x7f800000 | rest<<13)
	}
	// The bits as those of a float are too small by the difference of the
	// biases, subnormals included.
	v := math.Float32frombits(rest<<13) * (1 << 112)
	return math.Float32frombits(math.Float32bits(v) | sign)
}
