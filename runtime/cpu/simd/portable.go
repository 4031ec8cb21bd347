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
	s := &Set{Name: "go", Quantize: portableQuantize, QuantizeExact: portableQuantizeExact, Silu: portableSilu, Scale: portableScale}
	products, exact := make([]Multiplier, portableRows+1), make([]Multiplier, portableRows+1)
	s.Multiply, s.MultiplyExact = everyWidth(products), everyWidth(exact)
	for bits := 2; bits <= 8; bits++ {
		spread := spreader(bits)
		s.Spread[bits] = func(panel, indices *byte, tiles int) {
			spread(unsafe.Slice((*[256]uint8)(unsafe.Pointer(panel)), tiles), unsafe.Slice(indices, tiles*32*bits))
		}
		s.Dot[bits] = func(y *[16]float32, indices *byte, acts *int8, meta *float32, steps *byte, stride, tiles int) {
			*y = [16]float32{}
			var panel [Group][256]uint8
			for ; tiles > 0; tiles -= Group {
				n := min(Group, tiles)
				spread(panel[:n], unsafe.Slice(indices, n*32*bits))
				multiply(1, y, panel[:n], unsafe.Slice(acts, n*16), meta, steps)
				if tiles > Group {
					indices, acts = add(indices, n*32*bits), add(acts, n*16)
					meta, steps = add(meta, 2), add(steps, stride)
				}
			}
		}
	}
	for rows := 1; rows <= portableRows; rows++ {
		products[rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int) {
			for g := 0; g < tiles; g += Group {
				n := min(Group, tiles-g)
				multiply(rows, y, unsafe.Slice((*[256]uint8)(unsafe.Pointer(add(panel, g*256))), n),
					unsafe.Slice(add(acts, g*16*rows), n*16*rows), add(meta, g/Group*2*rows), add(steps, g/Group*stride))
			}
		}
		exact[rows] = func(y *[16]float32, panel *byte, acts *int8, meta *float32, steps *byte, stride, tiles int) {
			for g := 0; g < tiles; g += Group {
				n := min(Group, tiles-g)
				multiplyExact(rows, y, unsafe.Slice((*[256]uint8)(unsafe.Pointer(add(panel, g*256))), n),
					unsafe.Slice((*int32)(unsafe.Pointer(add(acts, g*64*rows))), n*16*rows), add(meta, g/Group*3*rows), add(steps, g/Group*stride))
			}
		}
	}
	return s
}

// everyWidth returns kernels that do not depend on the width.
func everyWidth(kernels []Multiplier) (of [9][]Multiplier) {
	for bits := 2; bits <= 8; bits++ {
		of[bits] = kernels
	}
	return of
}

// add returns the pointer n elements after p.
func add[T any](p *T, n int) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(p), n*int(unsafe.Sizeof(*p))))
}

// spreader returns a function that makes a byte of each index of tiles.
func spreader(bits int) func(panel [][256]uint8, src []byte) {
	// Eight indices are taken apart into halves, quarters and bytes.
	b := uint(bits)
	half := uint64(1)<<(4*b) - 1
	quarter := (uint64(1)<<(2*b) - 1) * (1<<32 + 1)
	one := (uint64(1)<<b - 1) * (1<<48 + 1<<32 + 1<<16 + 1)
	eight := func(v uint64) uint64 {
		v = v&half | v>>(4*b&63)<<32&(half<<32)
		v = v&quarter | v<<((16-2*b)&63)&(quarter<<16)
		return v&one | v<<((8-b)&63)&(one<<8)
	}
	size := 2 * bits
	return func(panel [][256]uint8, src []byte) {
		for t := range panel {
			dst := &panel[t]
			for o := range 16 {
				var low, high uint64
				switch row := src[:size:size]; {
				case len(row) >= 8:
					low, high = binary.LittleEndian.Uint64(row), binary.LittleEndian.Uint64(row[len(row)-8:])>>((64-8*b)&63)
				case len(row) == 6:
					high = uint64(row[5])<<16 | uint64(row[4])<<8 | uint64(row[3])
					low = uint64(binary.LittleEndian.Uint32(row))
				default:
					low = uint64(binary.LittleEndian.Uint32(row))
					high = low >> 16
				}
				binary.LittleEndian.PutUint64(dst[16*o:], eight(low))
				binary.LittleEndian.PutUint64(dst[16*o+8:], eight(high))
				src = src[size:]
			}
		}
	}
}

// products returns Σ index·activation of output o for a row.
func products[T int8 | int32](panel [][256]uint8, acts []T, o, row, rows int) (sum int64) {
	for t := range panel {
		w, a := (*[16]uint8)(panel[t][16*o:]), (*[16]T)(acts[16*(t*rows+row):])
		s0 := int64(w[0])*int64(a[0]) + int64(w[1])*int64(a[1]) + int64(w[2])*int64(a[2]) + int64(w[3])*int64(a[3])
		s1 := int64(w[4])*int64(a[4]) + int64(w[5])*int64(a[5]) + int64(w[6])*int64(a[6]) + int64(w[7])*int64(a[7])
		s2 := int64(w[8])*int64(a[8]) + int64(w[9])*int64(a[9]) + int64(w[10])*int64(a[10]) + int64(w[11])*int64(a[11])
		s3 := int64(w[12])*int64(a[12]) + int64(w[13])*int64(a[13]) + int64(w[14])*int64(a[14]) + int64(w[15])*int64(a[15])
		sum += (s0 + s1) + (s2 + s3)
	}
	return sum
}

func multiply(rows int, y *[16]float32, panel [][256]uint8, acts []int8, meta *float32, steps *byte) {
	ys, metas, step := unsafe.Slice(y, rows), unsafe.Slice(meta, 2*rows), halves(steps)
	for r := range rows {
		y, scale, middle := &ys[r], metas[r], metas[rows+r]
		for o := range y {
			sum := float32(products(panel, acts, o, r, rows)) - middle
			y[o] += float32(sum * float32(step[o]*scale))
		}
	}
}

func multiplyExact(rows int, y *[16]float32, panel [][256]uint8, acts []int32, meta *float32, steps *byte) {
	ys, metas, step := unsafe.Slice(y, rows), unsafe.Slice(meta, 3*rows), halves(steps)
	for r := range rows {
		y, scale := &ys[r], metas[r]
		middle := int64(int32(math.Float32bits(metas[rows+r])))<<16 + int64(int32(math.Float32bits(metas[2*rows+r])))
		for o := range y {
			sum := products(panel, acts, o, r, rows) - middle
			rounded := float32(float32(sum>>16)*(1<<16)) + float32(sum&0xffff)
			y[o] += float32(rounded * float32(step[o]*scale))
		}
	}
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
		scale, inverse := math.Float32frombits(most)/127, 127/math.Float32frombits(most)
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
		meta[0], meta[rows] = scale, float32(sum*int32(1<<bits-1))/2
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

func portableSilu(h *float32, stride int, gate, up *[16]float32, gateSV, upSV *byte, rows int) {
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

func portableScale(y *float32, stride int, sums *[16]float32, sv *byte, prob *float32, rows int) {
	factors := halves(sv)
	for r, sum := range unsafe.Slice(sums, rows) {
		y, p := unsafe.Slice(add(y, r*stride/4), 16), unsafe.Slice(prob, rows)[r]
		for i := range y {
			y[i] = sum[i] * factors[i] * p
		}
	}
}
