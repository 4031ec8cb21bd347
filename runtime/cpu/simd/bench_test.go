package simd

import (
	"fmt"
	"testing"
	"unsafe"
)

// BenchmarkStrip multiplies strips of 2048 inputs that follow one another in
// memory larger than the caches, by width, set and rows.
func BenchmarkStrip(b *testing.B) {
	const tiles, strips = 128, 512
	for _, set := range Sets() {
		for bits := 2; bits <= 8; bits++ {
			for _, rows := range []int{1, 2, 4, 16, 32} {
				for _, how := range []way{{false, false}, {false, true}, {true, false}, {true, true}} {
					name := fmt.Sprintf("set=%s/bits=%d/rows=%d/%v", set.Name, bits, rows, how)
					b.Run(name, func(b *testing.B) {
						benchmarkStrip(b, set, problem{bits: bits, rows: rows, tiles: tiles}, how, strips)
					})
				}
			}
		}
	}
}

func benchmarkStrip(b *testing.B, set *Set, p problem, how way, strips int) {
	digits := 1
	if how.exact {
		digits = 4
	}
	blocks := how.blocks(set, p.bits, p.rows)
	if blocks == nil {
		b.Skip("the set does not")
	}
	of := how.of(set, p.bits)
	spread, _ := how.spread(set, p.bits)
	size := 32 * p.bits * p.tiles
	indices, panel := make([]byte, size*strips), make([]byte, PanelHead+256*p.tiles)
	for i := range indices {
		indices[i] = byte(i) // so that there is memory behind it
	}
	acts, meta := make([]byte, digits*16*p.rows*p.tiles), make([]byte, 12*p.rows*p.groups())
	steps, sums := make([]byte, 32*p.groups()), make([]byte, 64*p.rows)
	strip := 0
	b.SetBytes(int64(size))
	for b.Loop() {
		w := ptr[byte](indices[size*strip:])
		strip = (strip + 1) % strips
		y, a, m, st := ptr[[16]float32](sums), ptr[int8](acts), ptr[float32](meta), ptr[byte](steps)
		from := w
		for i, rows := range blocks {
			if how.panel && i == 0 {
				from = ptr[byte](panel)
				spread(from, y, w, a, m, st, 32, p.tiles, uintptr(unsafe.Pointer(w))+uintptr(size), uintptr(unsafe.Pointer(w))+uintptr(size+Own(p.bits, p.tiles)), 64*p.tiles)
				continue
			}
			of[rows](y, from, a, m, st, 32, p.tiles, uintptr(unsafe.Pointer(w))+uintptr(size))
		}
	}
	n := float64(b.N) * 256 * float64(p.tiles) / float64(b.Elapsed().Nanoseconds())
	b.ReportMetric(n, "weights/ns")
	b.ReportMetric(n*float64(p.rows), "products/ns")
}
