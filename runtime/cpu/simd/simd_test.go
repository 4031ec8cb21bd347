package simd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A problem is a strip, inputs for it, and where to place them.
type problem struct {
	bits, rows, tiles int
	seed              uint64
	atEnd             bool // of the memory: right before a guard page
	spread            float64
}

// A strip is the arguments that a problem has for all sets.
type strip struct {
	indices, steps, su, sv, x, prob []byte
}

func (p problem) groups() int { return (p.tiles + Group - 1) / Group }

func (p problem) strip(t testing.TB) (s strip) {
	r := rand.New(rand.NewPCG(p.seed, uint64(p.bits)))
	halves := func(n int) (b []byte) {
		for range n {
			b = binary.LittleEndian.AppendUint16(b, uint16(r.IntN(2)<<15|(10+r.IntN(8))<<10|r.IntN(1024)))
		}
		return guarded(t, b, p.atEnd)
	}
	floats := func(n int) (b []byte) {
		for range n {
			v := r.NormFloat64() * math.Exp(p.spread*r.NormFloat64())
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		}
		return guarded(t, b, p.atEnd)
	}
	indices := make([]byte, p.tiles*32*p.bits)
	for i := range indices {
		indices[i] = byte(r.Uint32())
	}
	return strip{
		indices: guarded(t, indices, p.atEnd), steps: halves(16 * p.groups()), su: halves(16 * p.tiles),
		sv: halves(32), x: floats(p.rows * p.tiles * 16), prob: floats(p.rows),
	}
}

func ptr[T any](b []byte) *T { return (*T)(unsafe.Pointer(unsafe.SliceData(b))) }

// A way is one of the ways of a Set to multiply.
type way struct{ exact, panel bool }

func (w way) String() string { return fmt.Sprintf("exact=%v,panel=%v", w.exact, w.panel) }

// of returns the functions of set for a width, by rows.
func (w way) of(set *Set, bits int) []Multiplier {
	switch {
	case w.exact && w.panel:
		return set.MultiplyExact[bits]
	case w.exact:
		return set.DotExact[bits]
	case w.panel:
		return set.Multiply[bits]
	}
	return set.Dot[bits]
}

// spread returns what makes panels, and how many rows it multiplies.
func (w way) spread(set *Set, bits int) (Spreader, int) {
	if w.exact {
		return set.SpreadExact[bits], set.SpreadRowsExact
	}
	return set.Spread[bits], set.SpreadRows
}

// blocks returns how to divide rows for set to multiply them in this way: at
// once, or those of the Spreader, as many as there is a function for, again and
// again, and the rest. It returns none if set does not.
func (w way) blocks(set *Set, bits, rows int) (blocks []int) {
	of := w.of(set, bits)
	most := len(of) - 1
	if w.panel {
		_, lead := w.spread(set, bits)
		blocks = append(blocks, lead)
		rows -= lead
	} else if rows > most {
		return nil
	}
	for rows > 0 && of[min(rows, most)] != nil {
		blocks = append(blocks, min(rows, most))
		rows -= min(rows, most)
	}
	if rows != 0 {
		return nil
	}
	return blocks
}

// run returns what set makes of a problem, in blocks of rows: sums, and h.
func (p problem) run(t testing.TB, set *Set, s strip, how way, blocks []int) (y, h []byte) {
	digits, quantize, metas := 1, set.Quantize, 2
	if how.exact {
		digits, quantize, metas = 4, set.QuantizeExact, 3
	}
	fresh := func(n int) []byte { return guarded(t, make([]byte, n), p.atEnd) }
	sums := fresh(64 * p.rows)
	w := ptr[byte](s.indices)
	ahead := uintptr(unsafe.Pointer(w)) // and over the guard pages
	first := 0
	for i, rows := range blocks {
		acts, meta := fresh(rows*p.tiles*16*digits), fresh(4*metas*rows*p.groups())
		if rows > 0 {
			x := make([]*float32, rows)
			for r := range x {
				x[r] = ptr[float32](s.x[64*p.tiles*(first+r):])
			}
			quantize(ptr[int8](acts), ptr[float32](meta), &x[0], ptr[byte](s.su), p.bits, rows, p.tiles)
		}
		to := ptr[[16]float32](sums[64*first:])
		first += rows
		if how.panel && i == 0 {
			panel := ptr[byte](fresh(PanelHead + 256*p.tiles))
			spread, _ := how.spread(set, p.bits)
			spread(panel, to, w, ptr[int8](acts), ptr[float32](meta), ptr[byte](s.steps), 32, p.tiles, ahead, ahead, 64*p.tiles)
			w = panel
			continue
		}
		how.of(set, p.bits)[rows](to, w, ptr[int8](acts), ptr[float32](meta), ptr[byte](s.steps), 32, p.tiles, ahead)
	}
	y, h = fresh(64*p.rows), fresh(64*p.rows)
	set.Scale(ptr[float32](y), 64, ptr[[16]float32](sums), ptr[byte](s.sv), ptr[float32](s.prob), p.bits, p.rows)
	set.Silu(ptr[float32](h), 64, ptr[[16]float32](sums), ptr[[16]float32](sums), ptr[byte](s.sv), ptr[byte](s.sv[32:]), p.bits, p.bits, p.rows)
	return y, h
}

// check holds every set to the portable one.
func (p problem) check(t testing.TB) {
	s := p.strip(t)
	sets := Sets()
	plain := sets[len(sets)-1]
	for _, exact := range []bool{false, true} {
		reference := way{exact, true}
		wantY, wantH := p.run(t, plain, s, reference, reference.blocks(plain, p.bits, p.rows))
		for _, set := range sets {
			for _, how := range []way{{exact, false}, {exact, true}} {
				blocks := how.blocks(set, p.bits, p.rows)
				if blocks == nil {
					continue
				}
				y, h := p.run(t, set, s, how, blocks)
				require.Equal(t, bitsOf(wantY), bitsOf(y), "%s, %v: %+v", set.Name, how, p)
				require.Equal(t, bitsOf(wantH), bitsOf(h), "%s, %v, silu: %+v", set.Name, how, p)
			}
		}
	}
}

// bitsOf returns the bits of floats, with one NaN for all.
func bitsOf(b []byte) []uint32 {
	u := make([]uint32, len(b)/4)
	for i := range u {
		u[i] = binary.LittleEndian.Uint32(b[4*i:])
		if u[i]&math.MaxInt32 > infinity {
			u[i] = infinity + 1
		}
	}
	return u
}

// maxRows are as many as take each of the kernels: those that make a panel, and
// all that multiply with one.
const maxRows = 32

func TestSets(t *testing.T) {
	for bits := 2; bits <= 8; bits++ {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			for rows := 1; rows <= maxRows; rows++ {
				t.Run(fmt.Sprint(rows), func(t *testing.T) {
					sizes := []int{1, 7, 8, 9, 19}
					if rows > 20 {
						sizes = []int{1, 9} // they are blocks of fewer
					}
					for _, tiles := range sizes {
						for _, atEnd := range []bool{false, true} {
							problem{bits: bits, rows: rows, tiles: tiles, seed: uint64(tiles), atEnd: atEnd}.check(t)
						}
					}
				})
			}
		})
	}
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	negativeZero := uint32(1 << 31)
	for _, n := range []int{16, 32, 48, 2048} {
		for count := 1; count <= 5; count++ {
			for _, atEnd := range []bool{false, true} {
				const rows, gap = 7, 3
				var y, numbers []byte
				for range rows*(n+gap) - gap {
					bits := negativeZero
					if r.IntN(4) > 0 {
						bits = math.Float32bits(float32(r.NormFloat64()))
					}
					y = binary.LittleEndian.AppendUint32(y, bits)
				}
				want := make([]float32, n)
				for _, row := range r.Perm(rows)[:count] {
					numbers = binary.LittleEndian.AppendUint32(numbers, uint32(row))
					for i := range want {
						want[i] += math.Float32frombits(binary.LittleEndian.Uint32(y[4*(row*(n+gap)+i):]))
					}
				}
				y, numbers = guarded(t, y, atEnd), guarded(t, numbers, atEnd)
				for _, set := range Sets() {
					got := guarded(t, bytes.Repeat([]byte{0xff}, 4*n), atEnd)
					set.Sum(ptr[float32](got), ptr[float32](y), ptr[uint32](numbers), count, 4*(n+gap), n)
					for i, bits := range bitsOf(got) {
						require.Equal(t, math.Float32bits(want[i]), bits, "%s: %d of %d, %d rows", set.Name, i, n, count)
					}
				}
			}
		}
	}
}

// TestGolden shows that other architectures compute the same bits.
func TestGolden(t *testing.T) {
	h := fnv.New64a()
	for bits := 2; bits <= 8; bits++ {
		p := problem{bits: bits, rows: 3, tiles: 19, seed: 1}
		s := p.strip(t)
		for _, exact := range []bool{false, true} {
			how := way{exact, true}
			y, silu := p.run(t, portable(), s, how, how.blocks(portable(), bits, p.rows))
			h.Write(y)
			h.Write(silu)
		}
	}
	require.Equal(t, uint64(0xf45efdabfa2489f0), h.Sum64())
}

func FuzzSets(f *testing.F) {
	f.Add(uint8(6), uint8(1), uint8(17), uint64(1), 0.0)
	f.Add(uint8(2), uint8(5), uint8(8), uint64(2), 3.0)
	f.Add(uint8(3), uint8(8), uint8(16), uint64(34), 28.9) // sums are infinite
	f.Fuzz(func(t *testing.T, bits, rows, tiles uint8, seed uint64, spread float64) {
		if math.IsNaN(spread) {
			return
		}
		problem{
			bits: 2 + int(bits)%7, rows: 1 + int(rows)%maxRows, tiles: 1 + int(tiles)%40, seed: seed,
			atEnd: seed%2 == 0, spread: math.Mod(spread, 30),
		}.check(t)
	})
}
