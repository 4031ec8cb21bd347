// Package logits multiplies a token with the weights of a router. Sums are in
// float64 and in one order, so that every machine finds the same logits, and
// sends the same token to the same experts.
package logits

import "unsafe"

//go:generate go run -C _asm main.go -out ../lanes_amd64.s -stubs ../stubs_amd64.go -pkg logits

// block is the number of rows that are multiplied together.
const block = 4

// width is the number of lanes of a sum: lane i is that of elements i, i+8, ….
const width = 8

// A Multiplier multiplies; it holds the memory for that. The zero value is
// ready.
type Multiplier struct {
	x    []float64
	sums [block][width]float64
}

// Times sets element e of dst to the product of x and row e of w, which is
// [len(dst), len(x)].
func (m *Multiplier) Times(dst, x, w []float32) {
	n := len(x)
	w = w[:len(dst)*n]
	m.x = m.x[:0]
	for _, v := range x {
		m.x = append(m.x, float64(v))
	}
	whole := n / width * width
	for first := 0; first < len(dst); first += block {
		rows := min(block, len(dst)-first)
		m.sums = [block][width]float64{}
		if whole > 0 && rows == block {
			lanes(&m.sums, &w[first*n], n, &m.x[0], whole)
		} else {
			for r := range rows {
				row(&m.sums[r], w[(first+r)*n:][:whole], m.x)
			}
		}
		for r := range rows {
			s := &m.sums[r]
			for i, v := range w[(first+r)*n:][:n][whole:] {
				s[i] += float64(v) * m.x[whole+i]
			}
			a, b, c, d := s[0]+s[4], s[1]+s[5], s[2]+s[6], s[3]+s[7]
			dst[first+r] = float32((a + c) + (b + d))
		}
	}
}

// A loop sets sums to the lanes of 4 rows at w, stride elements apart, over n
// elements, a positive multiple of 8.
type loop func(sums *[block][width]float64, w *float32, stride int, x *float64, n int)

// lanes is the machine's loop.
var lanes = best()

// row adds the products of w and x to the lanes of s. Products of two float32
// are exact in float64, so a machine may add them fused or not.
func row(s *[width]float64, w []float32, x []float64) {
	for ; len(w) >= width && len(x) >= width; w, x = w[width:], x[width:] {
		s[0] += float64(w[0]) * x[0]
		s[1] += float64(w[1]) * x[1]
		s[2] += float64(w[2]) * x[2]
		s[3] += float64(w[3]) * x[3]
		s[4] += float64(w[4]) * x[4]
		s[5] += float64(w[5]) * x[5]
		s[6] += float64(w[6]) * x[6]
		s[7] += float64(w[7]) * x[7]
	}
}

// portable is the loop of a machine that has none of its own.
func portable(sums *[block][width]float64, w *float32, stride int, x *float64, n int) {
	for r := range sums {
		row(&sums[r], unsafe.Slice(w, (block-1)*stride+n)[r*stride:][:n], unsafe.Slice(x, n))
	}
}
