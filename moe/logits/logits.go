// Package logits multiplies tokens with the weights of a router. Sums are in
// float64 and in one order, so that every machine finds the same logits, and
// sends the same token to the same experts.
package logits

import (
	"slices"
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
)

//go:generate go run -C _asm main.go -out ../lanes_amd64.s -stubs ../stubs_amd64.go -pkg logits

// block is the number of rows that are multiplied together, and the number of
// tokens, where there are as many.
const block = 4

// width is the number of lanes of a sum: lane i is that of elements i, i+8, ….
const width = 8

// lanes are the sums of a token and of a block of rows.
type lanes = [block][width]float64

// A Multiplier multiplies; it holds the memory for that. The zero value is
// ready.
type Multiplier struct {
	workers []worker
	task    func(worker, i int) // made once, so that a call allocates nothing

	// Of one call.
	dst, x, w []float32
	n         int
	parts     int // of the rows, each a task for every block of tokens
}

// A worker is what one goroutine of a Multiplier multiplies with.
type worker struct {
	x    []float64 // of a block of tokens
	sums [block]lanes
}

// Times sets dst, [tokens, rows], to the products of x, [tokens, n], and w,
// [rows, n].
func (m *Multiplier) Times(dst, x, w []float32, n int, workers runtime.Workers) {
	m.dst, m.x, m.w, m.n = dst, x, w, n
	for len(m.workers) < workers.Workers() {
		m.workers = append(m.workers, worker{})
	}
	if m.task == nil {
		m.task = func(worker, i int) { m.workers[worker].multiply(m, i/m.parts*block, i%m.parts) }
	}
	tokens, rows := blocks(len(x)/n), blocks(len(w)/n)
	// A task is to be worth the handing over, and there are to be enough.
	m.parts = min(max(1, rows/8), (2*workers.Workers()+tokens-1)/tokens)
	workers.Each(tokens*m.parts, m.task)
	m.dst, m.x, m.w = nil, nil, nil
}

func blocks(n int) int { return (n + block - 1) / block }

// multiply multiplies a block of tokens from token t on with a part of the rows.
func (k *worker) multiply(m *Multiplier, t, part int) {
	n, tokens, rows := m.n, len(m.x)/m.n, len(m.w)/m.n
	some := min(block, tokens-t)
	k.x = slices.Grow(k.x[:0], block*n)[:some*n]
	widen(k.x, m.x[t*n:])
	end := min(rows, (part+1)*blocks(rows)/m.parts*block)
	for r := part * blocks(rows) / m.parts * block; r < end; r += block {
		k.block(m.dst[t*rows+r:], rows, m.w[r*n:], some, min(block, rows-r), n)
	}
}

// widen sets dst to the first elements of src, eight at a time for speed.
func widen(dst []float64, src []float32) {
	for ; len(dst) >= 8 && len(src) >= 8; dst, src = dst[8:], src[8:] {
		dst[0], dst[1], dst[2], dst[3] = float64(src[0]), float64(src[1]), float64(src[2]), float64(src[3])
		dst[4], dst[5], dst[6], dst[7] = float64(src[4]), float64(src[5]), float64(src[6]), float64(src[7])
	}
	for i := range dst {
		dst[i] = float64(src[i])
	}
}

// block multiplies the tokens of k.x with a block of rows at w. dst has stride
// elements for each token.
func (k *worker) block(dst []float32, stride int, w []float32, tokens, rows, n int) {
	whole := n / width * width
	switch {
	case whole == 0 || rows < block:
		for t := range tokens {
			k.sums[t] = lanes{}
			for r := range rows {
				row(&k.sums[t][r], w[r*n:][:whole], k.x[t*n:])
			}
		}
	case tokens == block && machine.four != nil:
		machine.four(&k.sums, &w[0], &k.x[0], n, whole)
	default:
		for t := range tokens {
			machine.one((*[1][block][width]float64)(k.sums[t:t+1]), &w[0], &k.x[t*n], n, whole)
		}
	}
	for t := range tokens {
		for r := range rows {
			s := &k.sums[t][r]
			for i := whole; i < n; i++ {
				s[i-whole] += float64(w[r*n+i]) * k.x[t*n+i]
			}
			a, b, c, d := s[0]+s[4], s[1]+s[5], s[2]+s[6], s[3]+s[7]
			dst[t*stride+r] = float32((a + c) + (b + d))
		}
	}
}

// loops set sums to the lanes of a block of rows at w and of one token, or of a
// block of them, at x, over n elements, a positive multiple of 8. Rows and
// tokens are stride elements apart.
type loops struct {
	one  func(sums *[1][block][width]float64, w *float32, x *float64, stride int, n int)
	four func(sums *[block][block][width]float64, w *float32, x *float64, stride int, n int) // or nil
}

// machine is the best that the machine has.
var machine = best()

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

// portable is for machines that have no loops of their own.
var portable = loops{one: func(sums *[1][block][width]float64, w *float32, x *float64, stride int, n int) {
	for r := range sums[0] {
		sums[0][r] = [width]float64{}
		row(&sums[0][r], unsafe.Slice(w, (block-1)*stride+n)[r*stride:][:n], unsafe.Slice(x, n))
	}
}}
