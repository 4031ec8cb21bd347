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

// block is the number of rows that are multiplied together.
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
	dst, x, w    []float32
	n            int
	across, down int // parts of rows and of tokens; each of each is a task
}

// A worker is what one goroutine of a Multiplier multiplies with.
type worker struct {
	sums []lanes // [blocks of rows, tokens]
	w, x []float64
}

// Times sets dst, [tokens, rows], to the products of x, [tokens, n], and w,
// [rows, n].
func (m *Multiplier) Times(dst, x, w []float32, n int, workers runtime.Workers) {
	m.dst, m.x, m.w, m.n = dst, x, w, n
	for len(m.workers) < workers.Workers() {
		m.workers = append(m.workers, worker{})
	}
	if m.task == nil {
		m.task = func(worker, i int) { m.workers[worker].multiply(m, i/m.across, i%m.across) }
	}
	m.divide(2 * workers.Workers())
	workers.Each(m.down*m.across, m.task)
	m.dst, m.x, m.w = nil, nil, nil
}

// mostTokens is the number of tokens of a task, whose sums stay in a
// second-level cache.
const mostTokens = 64

// divide makes enough tasks, if each is worth the handing over. They are about
// square: each converts the tokens and the rows that it multiplies.
func (m *Multiplier) divide(enough int) {
	tokens, rows := len(m.x)/m.n, len(m.w)/m.n
	m.down, m.across = (tokens+mostTokens-1)/mostTokens, 1
	for m.down*m.across < enough {
		switch {
		case tokens/m.down > max(rows/m.across, 2*block):
			m.down *= 2
		case rows/m.across > 2*block:
			m.across *= 2
		default:
			return
		}
	}
}

// multiply multiplies a part of the tokens with a part of the rows.
func (k *worker) multiply(m *Multiplier, down, across int) {
	n, tokens, rows := m.n, len(m.x)/m.n, len(m.w)/m.n
	t, r := down*tokens/m.down, across*blocks(rows)/m.across*block
	x, w := m.x[t*n:(down+1)*tokens/m.down*n], m.w[r*n:min(rows, (across+1)*blocks(rows)/m.across*block)*n]
	k.sums = sized(k.sums, blocks(len(w)/n)*len(x)/n)
	clear(k.sums)
	if len(x) > n && machine.tile != nil {
		k.tiles(x, w, n)
	} else {
		k.tokens(x, w, n)
	}
	for i := range len(x) / n {
		finish(m.dst[(t+i)*rows+r:][:len(w)/n], k.sums[i:], len(x)/n, x[i*n:][:n], w)
	}
}

func blocks(rows int) int { return (rows + block - 1) / block }

// sized returns n elements of any content, in the memory of s if that is
// enough.
func sized[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

// tokens multiplies tokens with rows as they are, but for the last elements that
// are no whole width.
func (k *worker) tokens(x, w []float32, n int) {
	tokens, rows, whole := len(x)/n, len(w)/n, n/width*width
	k.x = sized(k.x, whole)
	for t := range tokens {
		if whole > 0 {
			machine.widen(&k.x[0], &x[t*n], width, whole)
		}
		for r := 0; r < rows && whole > 0; r += block {
			sums, w := &k.sums[r/block*tokens+t], w[r*n:]
			if len(w) >= block*n {
				machine.token(sums, &w[0], &k.x[0], n, whole)
				continue
			}
			for i := range len(w) / n {
				add(&sums[i], w[i*n:], k.x)
			}
		}
	}
}

// slice is the number of elements that tokens and rows are multiplied in at a
// time: a block of rows stays in the first-level cache, and the tokens in the
// second.
const slice = 512

// tiles multiplies tokens with rows that it converts first, but for the last
// elements that are no whole width.
func (k *worker) tiles(x, w []float32, n int) {
	tokens, rows, whole, most := len(x)/n, len(w)/n, n/width*width, len(machine.tile)
	k.w, k.x = sized(k.w, block*slice), sized(k.x, tokens*slice)
	for at := 0; at < whole; at += slice {
		some := min(slice, whole-at)
		for t := range tokens {
			machine.widen(&k.x[t/most*most*some+t%most*width], &x[t*n+at], min(most, tokens-t/most*most)*width, some)
		}
		for r := 0; r < rows; r += block {
			for i := range min(block, rows-r) { // where rows are lacking, anything will do
				machine.widen(&k.w[i*width], &w[(r+i)*n+at], block*width, some)
			}
			for t := 0; t < tokens; t += most {
				machine.tile[min(most, tokens-t)-1](&k.sums[r/block*tokens+t], &k.w[0], &k.x[t*some], some)
			}
		}
	}
}

// finish sets dst to the products of a token x and rows w, of which sums has
// those of a block each stride elements, but for the last elements.
func finish(dst []float32, sums []lanes, stride int, x, w []float32) {
	whole := len(x) / width * width
	for r := range dst {
		s := &sums[r/block*stride][r%block]
		for i := whole; i < len(x); i++ {
			s[i-whole] += float64(w[r*len(x)+i]) * float64(x[i])
		}
		a, b, c, d := s[0]+s[4], s[1]+s[5], s[2]+s[6], s[3]+s[7]
		dst[r] = float32((a + c) + (b + d))
	}
}

// loops add products to sums. Each n is a positive multiple of 8.
type loops struct {
	// token multiplies a token with a block of rows at w, each stride elements
	// after the one before.
	token func(sums *lanes, w *float32, x *float64, stride, n int)

	// tile, by the number of tokens less one, multiplies tokens with a block of
	// rows. Of both there are eight elements of each in turn. Nil for none.
	tile []func(sums *lanes, w, x *float64, n int)

	// widen converts n elements; each eight of dst begin stride elements after
	// those before.
	widen func(dst *float64, src *float32, stride, n int)
}

// machine is the best that the machine has.
var machine = best()

// add adds the products of x and the elements at w to the lanes of s. Products of
// two float32 are exact in float64, so a machine may add them fused or not.
func add(s *[width]float64, w []float32, x []float64) {
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
var portable = loops{token: tokenPortable, widen: widenPortable}

func tokenPortable(sums *lanes, w *float32, x *float64, stride, n int) {
	for r := range sums {
		add(&sums[r], unsafe.Slice(w, (block-1)*stride+n)[r*stride:][:n], unsafe.Slice(x, n))
	}
}

func widenPortable(dst *float64, src *float32, stride, n int) {
	to, from := unsafe.Slice(dst, (n/width-1)*stride+width), unsafe.Slice(src, n)
	for ; len(from) >= width; from = from[width:] {
		to[0], to[1], to[2], to[3] = float64(from[0]), float64(from[1]), float64(from[2]), float64(from[3])
		to[4], to[5], to[6], to[7] = float64(from[4]), float64(from[5]), float64(from[6]), float64(from[7])
		to = to[min(stride, len(to)):]
	}
}
