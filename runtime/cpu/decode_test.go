package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/marlingen/marlingen/runtime/oracle"
)

func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// checkDecode compares every weight of src, a strip of tiles, with the oracle.
func checkDecode(t *testing.T, bits int, src []byte) {
	t.Helper()
	var dst [strip * group]float32
	decoders[bits](&dst, src)
	size := 32 * bits
	for tile := range len(src) / size {
		for i := range 256 {
			index := oracle.TrellisIndex(src[tile*size:(tile+1)*size], bits, i)
			want := float64(index) - float64(int(1)<<bits-1)/2
			if have := dst[i/16*group+tile*16+i%16]; float64(have) != want {
				t.Fatalf("%d bits, tile %d, index %d: %v, want %v", bits, tile, i, have, want)
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for bits := 2; bits <= 8; bits++ {
		for tiles := 1; tiles <= 8; tiles++ {
			checkDecode(t, bits, random(uint64(bits), tiles*32*bits))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for bits := 2; bits <= 8; bits++ {
		f.Add(bits, random(7, 64*bits))
	}
	f.Fuzz(func(t *testing.T, bits int, src []byte) {
		if bits < 2 || bits > 8 {
			return
		}
		checkDecode(t, bits, src[:min(len(src), 8*32*bits)])
	})
}

func TestHalf(t *testing.T) {
	var b [2]byte
	for h := range 1 << 16 {
		binary.LittleEndian.PutUint16(b[:], uint16(h))
		have, want := half(b[:], 0), oracle.Half(uint16(h))
		if math.IsNaN(want) {
			assert.True(t, have != have, "%#04x", h)
		} else if math.Float64bits(float64(have)) != math.Float64bits(want) {
			t.Fatalf("%#04x: %v, want %v", h, have, want)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for bits := 2; bits <= 8; bits++ {
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			var dst [strip * group]float32
			src := random(1, 8*32*bits)
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				decoders[bits](&dst, src)
			}
			b.ReportMetric(float64(b.N)*strip*group/float64(b.Elapsed().Nanoseconds()), "weights/ns")
		})
	}
}
