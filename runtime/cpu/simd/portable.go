package simd

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// The portable functions are the reference of all others, in plain Go.
// Activations are stored as [tiles, rows, 16], those of four digits as one
// int32; a panel as [tiles, 16 outputs, 16 inputs].

const portableRows = 16

func portable() *Set {
	s := &Set{Name: "go", PanelRows: 2, PanelRowsExact: 1, Quantize: quantizer(portableQuantize, nil, 1, 2), QuantizeExact: quantizer(portableQuantizeExact, nil, 4, 3), Silu: portableSilu, Scale: portableScale, Sum: portableSum}
	for bits := 2; bits <= 8; bits++ {
		spreader := newSpreader(bits)
		s.Spread[bits] = decoder(func(panel, indices *byte, tiles int) {
			spreader.spread(unsafe.Slice((*[256]uint8)(unsafe.Pointer(panel)), tiles), unsafe.Slice(indices, tiles*32*bits))
		})
		s.SpreadExact[bits] = s.Spread[bits]
		s.Dot[bits] = []Multiplier{1: func(y *[16]float32, indices *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
			var panel [Group][256]uint8
			for t := 0; t < tiles; t += Group {
				n := min(Group, tiles-t)
				spreader.spread(panel[:n], unsafe.Slice(add(indices, t*32*bits), n*32*bits))
				multiplyRow(y, panel[:n], unsafe.Slice(add(acts, t*16), n*16), add(meta, t/Group*2), add(steps, t/Group*stride), sumFast)
			}
		}}
		s.Multiply[bits], s.MultiplyExact[bits] = make([]Multiplier, portableRows+1), make([]Multiplier, portableRows+1)
		for rows := 1; rows <= portableRows; rows++ {
			s.Multiply[bits][rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
				var w weights
				for t := 0; t < tiles; t += Group {
					n := min(Group, tiles-t)
					w.load(unsafe.Slice((*[256]uint8)(unsafe.Pointer(add(panel, t*256))), n))
					multiply(rows, y, &w, unsafe.Slice(add(acts, t*16*rows), n*16*rows), add(meta, t/Group*2*rows), add(steps, t/Group*stride), sumFast)
				}
			}
			if rows == 1 {
				s.MultiplyExact[bits][rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
					for t := 0; t < tiles; t += Group {
						n := min(Group, tiles-t)
						digits := unsafe.Slice((*int32)(unsafe.Pointer(add(acts, t*64))), n*16)
						tiles := unsafe.Slice((*[256]uint8)(unsafe.Pointer(add(panel, t*256))), n)
						multiplyRow(y, tiles, digits, add(meta, t/Group*3), add(steps, t/Group*stride), sumExact)
					}
				}
				continue
			}
			s.MultiplyExact[bits][rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, _ uintptr) {
				var w weights
				for t := 0; t < tiles; t += Group {
					n := min(Group, tiles-t)
					w.load(unsafe.Slice((*[256]uint8)(unsafe.Pointer(add(panel, t*256))), n))
					digits := unsafe.Slice((*int32)(unsafe.Pointer(add(acts, t*64*rows))), n*16*rows)
					multiply(rows, y, &w, digits, add(meta, t/Group*3*rows), add(steps, t/Group*stride), sumExact)
				}
			}
		}
	}
	return s
}

// add returns the pointer n elements after p.
func add[T any](p *T, n int) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(p), n*int(unsafe.Sizeof(*p))))
}

// A spreader makes bytes of indices: it takes eight of them apart into halves,
// quarters and single ones.
type spreader struct {
	bits, toQuarter, toOne uint
	half, quarter, one     uint64
}

func newSpreader(bits int) spreader {
	b := uint(bits)
	return spreader{
		bits: b, toQuarter: 16 - 2*b, toOne: 8 - b,
		half:    1<<(4*b) - 1,
		quarter: (1<<(2*b) - 1) * (1<<32 + 1),
		one:     (1<<b - 1) * (1<<48 + 1<<32 + 1<<16 + 1),
	}
}

// eight returns the indices in the low bits of v.
func (s *spreader) eight(v uint64) uint64 {
	high := v >> (4 * s.bits & 63) & s.half
	v = v&s.half | high<<32
	v = v&s.quarter | v<<(s.toQuarter&63)&(s.quarter<<16)
	return v&s.one | v<<(s.toOne&63)&(s.one<<8)
}

// sixteen returns the indices in a row of a tile.
func (s *spreader) sixteen(row []byte) (low, high uint64) {
	switch {
	case len(row) >= 8:
		return binary.LittleEndian.Uint64(row), binary.LittleEndian.Uint64(row[len(row)-8:]) >> ((64 - 8*s.bits) & 63)
	case len(row) == 6:
		low, high := uint64(binary.LittleEndian.Uint32(row)), uint64(binary.LittleEndian.Uint16(row[4:]))
		return low, low>>24 | high<<8
	}
	both := uint64(binary.LittleEndian.Uint32(row))
	return both, both >> 16
}

func (s *spreader) spread(panel [][256]uint8, src []byte) {
	f, size := *s, 2*int(s.bits)
	for t := range panel {
		dst := &panel[t]
		for o := range 16 {
			low, high := f.sixteen(src[:size])
			binary.LittleEndian.PutUint64(dst[16*o:], f.eight(low))
			binary.LittleEndian.PutUint64(dst[16*o+8:], f.eight(high))
			src = src[size:]
		}
	}
}

// A weights holds the indices of a group, [16 outputs, inputs]. Sums of their
// products with activations are exact in float64, in any order.
type weights [16][16 * Group]float64

// floats holds each index, which takes less time to look up than to convert.
var floats = func() (of [256]float64) {
	for i := range of {
		of[i] = float64(i)
	}
	return of
}()

func (w *weights) load(panel [][256]uint8) {
	level := &floats
	for t := range panel {
		for o := range w {
			src, dst := (*[16]uint8)(panel[t][16*o:]), (*[16]float64)(w[o][16*t:])
			dst[0], dst[1], dst[2], dst[3] = level[src[0]], level[src[1]], level[src[2]], level[src[3]]
			dst[4], dst[5], dst[6], dst[7] = level[src[4]], level[src[5]], level[src[6]], level[src[7]]
			dst[8], dst[9], dst[10], dst[11] = level[src[8]], level[src[9]], level[src[10]], level[src[11]]
			dst[12], dst[13], dst[14], dst[15] = level[src[12]], level[src[13]], level[src[14]], level[src[15]]
		}
	}
}

// A sum is the sum of (2·index − M)·activation of a group, from that of
// index·activation and what is at meta for one of several rows.
type sum = func(products int64, meta *float32, rows int) float32

func sumFast(products int64, meta *float32, rows int) float32 {
	return float32(2*int32(products) + bitsAt(meta, rows))
}

func sumExact(products int64, meta *float32, rows int) float32 {
	s := products - int64(bitsAt(meta, rows))<<16 - int64(bitsAt(meta, 2*rows))
	return float32(float32(s>>16)*(1<<16)) + float32(s&0xffff)
}

// bitsAt returns the integer that stands n floats after p.
func bitsAt(p *float32, n int) int32 { return *(*int32)(unsafe.Pointer(add(p, n))) }

// fused returns a·b + c, rounded once.
func fused(a, b, c float32) float32 {
	product := float64(a) * float64(b) // is exact
	sum := product + float64(c)
	// If the sum is not exact, it is made odd in the direction of what is lost, so
	// that the second rounding is not misled. Of infinities, NaN is lost.
	rest := sum - product
	if lost := (product - (sum - rest)) + (float64(c) - rest); lost < 0 || lost > 0 {
		if u := math.Float64bits(sum); u&1 == 0 {
			if (lost > 0) == (sum > 0) {
				u++
			} else {
				u--
			}
			sum = math.Float64frombits(u)
		}
	}
	return float32(sum)
}

// multiply adds to y what a group adds to it, for rows of activations whose
// scales are at meta.
func multiply[T int8 | int32](rows int, y *[16]float32, w *weights, acts []T, meta *float32, steps *byte, sum sum) {
	ys, scales, step := unsafe.Slice(y, rows), unsafe.Slice(meta, rows), halves(steps)
	n := len(acts) / rows
	var x [2][16 * Group]float64
	for r := 0; r < rows; r += 2 {
		pair := min(2, rows-r)
		for i := range pair {
			for t := range n / 16 {
				for j, a := range acts[16*(t*rows+r+i):][:16] {
					x[i][16*t+j] = float64(a)
				}
			}
		}
		if pair == 1 {
			for o := range w {
				s := sum(int64(dot1(w[o][:n], x[0][:n])), &scales[r], rows)
				ys[r][o] = fused(s, float32(step[o]*scales[r]), ys[r][o])
			}
			continue
		}
		for o := range w {
			a, b := dot2(w[o][:n], x[0][:n], x[1][:n])
			ys[r][o] = fused(sum(int64(a), &scales[r], rows), float32(step[o]*scales[r]), ys[r][o])
			ys[r+1][o] = fused(sum(int64(b), &scales[r+1], rows), float32(step[o]*scales[r+1]), ys[r+1][o])
		}
	}
}

// multiplyRow is multiply for one row, for which it does not pay to look up
// floats.
func multiplyRow[T int8 | int32](y *[16]float32, panel [][256]uint8, acts []T, meta *float32, steps *byte, sum sum) {
	var x [16 * Group]int64
	step := halves(steps)
	for i, a := range acts {
		x[i] = int64(a)
	}
	for o := range y {
		products := int64(0)
		for t := range panel {
			w, x := (*[16]uint8)(panel[t][16*o:]), (*[16]int64)(x[16*t:])
			s0 := int64(w[0])*x[0] + int64(w[1])*x[1] + int64(w[2])*x[2] + int64(w[3])*x[3]
			s1 := int64(w[4])*x[4] + int64(w[5])*x[5] + int64(w[6])*x[6] + int64(w[7])*x[7]
			s2 := int64(w[8])*x[8] + int64(w[9])*x[9] + int64(w[10])*x[10] + int64(w[11])*x[11]
			s3 := int64(w[12])*x[12] + int64(w[13])*x[13] + int64(w[14])*x[14] + int64(w[15])*x[15]
			products += (s0 + s1) + (s2 + s3)
		}
		y[o] = fused(sum(products, meta, 1), float32(step[o]**meta), y[o])
	}
}

// dot1 returns Σ w·x. There are multiples of 16.
func dot1(w, x []float64) float64 {
	var s0, s1, s2, s3 float64
	x = x[:len(w)]
	for i := 0; i+16 <= len(w); i += 16 {
		w, x := (*[16]float64)(w[i:]), (*[16]float64)(x[i:])
		s0 += w[0]*x[0] + w[4]*x[4] + w[8]*x[8] + w[12]*x[12]
		s1 += w[1]*x[1] + w[5]*x[5] + w[9]*x[9] + w[13]*x[13]
		s2 += w[2]*x[2] + w[6]*x[6] + w[10]*x[10] + w[14]*x[14]
		s3 += w[3]*x[3] + w[7]*x[7] + w[11]*x[11] + w[15]*x[15]
	}
	return (s0 + s1) + (s2 + s3)
}

// dot2 returns Σ w·x and Σ w·z.
func dot2(w, x, z []float64) (float64, float64) {
	var s0, s1, s2, s3, t0, t1, t2, t3 float64
	x, z = x[:len(w)], z[:len(w)]
	for i := 0; i+8 <= len(w); i += 8 {
		w, x, z := (*[8]float64)(w[i:]), (*[8]float64)(x[i:]), (*[8]float64)(z[i:])
		s0 += w[0]*x[0] + w[4]*x[4]
		t0 += w[0]*z[0] + w[4]*z[4]
		s1 += w[1]*x[1] + w[5]*x[5]
		t1 += w[1]*z[1] + w[5]*z[5]
		s2 += w[2]*x[2] + w[6]*x[6]
		t2 += w[2]*z[2] + w[6]*z[6]
		s3 += w[3]*x[3] + w[7]*x[7]
		t3 += w[3]*z[3] + w[7]*z[7]
	}
	return (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3)
}

// halves returns the 16 halves at p.
func halves(p *byte) (f [16]float32) {
	for i, h := range unsafe.Slice((*[2]byte)(unsafe.Pointer(p)), 16) {
		f[i] = Half(binary.LittleEndian.Uint16(h[:]))
	}
	return f
}

// Half returns the value of an IEEE 754 half.
func Half(half uint16) float32 {
	h := uint32(half)
	sign, rest := h>>15<<31, h&0x7fff
	if rest >= 0x7c00 { // infinities and NaNs
		return math.Float32frombits(sign | 0x7f800000 | rest<<13)
	}
	// The bits as those of a float are too small by the difference of the
	// biases, subnormals included.
	v := math.Float32frombits(rest<<13) * (1 << 112)
	return math.Float32frombits(math.Float32bits(v) | sign)
}

const (
	infinity = 0x7f800000 // bits of a float
	tiny     = 7 << 23    // 2^-120, whose inverse is finite
	magic    = 1.5 * (1 << 23)
)

// scaled returns the inputs of up to a group times su, and the bits of their
// largest magnitude, which are above those of infinity if there is a NaN.
func scaled(x *float32, su *byte, tiles int) (v [16 * Group]float32, most uint32) {
	for t := range tiles {
		su := halves(add(su, 32*t))
		for i, x := range unsafe.Slice(add(x, 16*t), 16) {
			p := x * su[i]
			v[16*t+i] = p
			most = max(most, math.Float32bits(p)&math.MaxInt32)
		}
	}
	return v, most
}

func portableQuantize(acts *int8, meta, x *float32, su *byte, bits, row, rows, tiles int) {
	for t := 0; t < tiles; t += Group {
		n := min(Group, tiles-t)
		v, most := scaled(add(x, 16*t), add(su, 32*t), n)
		scale, inverse := math.Float32frombits(most)/254, 127/math.Float32frombits(most)
		switch {
		case most < tiny:
			scale, inverse = 0, 0
		case most >= infinity:
			scale, inverse = float32(math.NaN()), 0
		}
		sum := int32(0)
		for i := range n {
			dst := unsafe.Slice(add(acts, ((t+i)*rows+row)*16), 16)
			for j := range dst {
				q := float32(v[16*i+j]*inverse) + magic
				q8 := int8(math.Float32bits(q)) // the low bits are the rounded number
				dst[j] = q8
				sum += int32(q8)
			}
		}
		meta := unsafe.Slice(add(meta, t/Group*2*rows+row), rows+1)
		meta[0], meta[rows] = scale, math.Float32frombits(uint32(-sum*int32(1<<bits-1)))
	}
}

func portableQuantizeExact(acts *int8, meta, x *float32, su *byte, bits, row, rows, tiles int) {
	for t := 0; t < tiles; t += Group {
		n := min(Group, tiles-t)
		v, most := scaled(add(x, 16*t), add(su, 32*t), n)
		exponent := max(most>>23, 30)
		by, scale := math.Float32frombits((282-exponent)<<23), math.Float32frombits((exponent-29)<<23)
		if most >= infinity {
			by, scale = 0, float32(math.NaN())
		}
		sum := int64(0)
		for i := range n {
			dst := unsafe.Slice((*int32)(unsafe.Pointer(add(acts, ((t+i)*rows+row)*64))), 16)
			for j := range dst {
				q := int32(math.RoundToEven(float64(v[16*i+j] * by)))
				dst[j] = 2 * q
				sum += int64(q)
			}
		}
		middle := sum * (1<<bits - 1)
		high := (middle + 1<<15) >> 16
		meta := unsafe.Slice(add(meta, t/Group*3*rows+row), 2*rows+1)
		meta[0] = scale
		meta[rows], meta[2*rows] = math.Float32frombits(uint32(high)), math.Float32frombits(uint32(middle-high<<16))
	}
}

func portableSilu(h *float32, stride int, gate, up *[16]float32, gateSV, upSV *byte, _, _, rows int) {
	gs, us := halves(gateSV), halves(upSV)
	gates, ups := unsafe.Slice(gate, rows), unsafe.Slice(up, rows)
	for r := range rows {
		h := unsafe.Slice(add(h, r*stride/4), 16)
		for i := range h {
			t := gates[r][i] * gs[i]
			h[i] = t / (1 + exp(-t)) * (ups[r][i] * us[i])
		}
	}
}

// exp returns e^v, within the range of a float: 2^n·e^r, with n the nearest
// integer to v·log2(e) and a polynomial for e^r − 1 − r, as in Cephes.
func exp(v float32) float32 {
	v = min(max(v, -86), 88)
	n := float32(v*1.44269504088896341) + magic
	x := n - magic
	r := v - float32(x*0.693359375)
	r -= float32(x * -2.12194440e-4)
	p := float32(1.9875691500e-4)
	for _, f := range [...]float32{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		p = float32(p*r) + f
	}
	p = float32(p*float32(r*r)) + r + 1
	return math.Float32frombits(math.Float32bits(p) + math.Float32bits(n)<<23)
}

func portableScale(y *float32, stride int, sums *[16]float32, sv *byte, prob *float32, _, rows int) {
	factors := halves(sv)
	for r, sum := range unsafe.Slice(sums, rows) {
		y, p := unsafe.Slice(add(y, r*stride/4), 16), unsafe.Slice(prob, rows)[r]
		for i := range y {
			y[i] = sum[i] * factors[i] * p
		}
	}
}

func portableSum(sum, y *float32, rows *uint32, count, stride, n int) {
	s := unsafe.Slice(sum, n)
	clear(s)
	for _, r := range unsafe.Slice(rows, count) {
		for i, v := range unsafe.Slice(add(y, int(r)*stride/4), n) {
			s[i] += v
		}
	}
}
