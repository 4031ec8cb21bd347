package msl_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/msl"
)

// floatsOf returns what a kernel wrote.
func floatsOf(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// roundTo rounds to a precision in bits, to nearest even; the least positive
// number has the exponent least.
func roundTo(v float64, precision, least int) float64 {
	if v == 0 || math.IsInf(v, 0) {
		return v
	}
	_, e := math.Frexp(v)
	unit := math.Ldexp(1, max(e-precision, least))
	return math.RoundToEven(v/unit) * unit
}

func toHalf(v float64) float64 {
	r := roundTo(v, 11, -24)
	if math.Abs(r) > 65504 {
		return math.Copysign(math.Inf(1), v)
	}
	return r
}

func toBfloat(v float64) float64 { return roundTo(v, 8, -133) }

// TestRounding computes with pairs of halves x and y of many exponents.
func TestRounding(t *testing.T) {
	const pairs = `#define HALF(u) (half(u >> 21 | 1024) * as_type<half>(ushort((3 + (u >> 8 & 7)) << 10)))
const uint a = i * 2654435761u, b = (i + 77) * 2246822519u;
const half x = HALF(a), y = HALF(b);
`
	inputs := func(i int) (uint32, uint32) { return uint32(i) * 2654435761, (uint32(i) + 77) * 2246822519 }
	half := func(u uint32) float64 { // a half of 11 bits, with a small exponent
		return float64(u>>21|1024) * math.Ldexp(1, int(u>>8&7)-12)
	}
	dev := open(t, msl.Options{})
	for name, c := range map[string]struct {
		body string
		want func(a, b float64) float64
	}{
		"half +":   {"out[i] = float(x + y);", func(a, b float64) float64 { return toHalf(a + b) }},
		"half -":   {"out[i] = float(x - y);", func(a, b float64) float64 { return toHalf(a - b) }},
		"half *":   {"out[i] = float(x * y);", func(a, b float64) float64 { return toHalf(a * b) }},
		"half /":   {"out[i] = float(x / y);", func(a, b float64) float64 { return toHalf(a / b) }},
		"half + *": {"const half p = x * y; out[i] = float(p + y);", func(a, b float64) float64 { return toHalf(toHalf(a*b) + b) }},
		"half fma": {"out[i] = float(fma(x, y, y));", func(a, b float64) float64 { return toHalf(a*b + b) }},
		"bfloat":   {"out[i] = float(bfloat(float(x) * float(y)));", func(a, b float64) float64 { return toBfloat(a * b) }},
		"bfloat +": {"out[i] = float(bfloat(float(x)) + bfloat(float(y)));", func(a, b float64) float64 { return toBfloat(toBfloat(a) + toBfloat(b)) }},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := try(t, dev, pairs+c.body)
			require.NoError(t, err)
			for i, v := range floatsOf(out) {
				a, b := inputs(i)
				assert.Equal(t, c.want(half(a), half(b)), float64(v), "%v and %v", half(a), half(b))
			}
		})
	}
}

// TestSimd compares what simdgroups do with the same in Go.
func TestSimd(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	lanes := func(f func(v []uint32, lane int) uint32) func([]uint32) []uint32 {
		return func(v []uint32) []uint32 {
			w := make([]uint32, len(v))
			for i := range v {
				w[i] = f(v[i&^31:][:32], i&31)
			}
			return w
		}
	}
	fold := func(f func(a, b uint32) uint32) func([]uint32) []uint32 {
		return lanes(func(v []uint32, _ int) uint32 {
			s := v[0]
			for _, x := range v[1:] {
				s = f(s, x)
			}
			return s
		})
	}
	prefix := func(inclusive int) func([]uint32) []uint32 {
		return lanes(func(v []uint32, lane int) uint32 {
			s := uint32(0)
			for _, x := range v[:lane+inclusive] {
				s += x
			}
			return s
		})
	}
	at := func(f func(lane int) int) func([]uint32) []uint32 {
		return lanes(func(v []uint32, lane int) uint32 { return v[f(lane)] })
	}
	checker := open(t, msl.Options{Checker: true})
	fast := open(t, msl.Options{Schedule: msl.Random, Seed: r.Uint64() % 1000})
	for expression, want := range map[string]func([]uint32) []uint32{
		"simd_sum(v)":                     fold(func(a, b uint32) uint32 { return a + b }),
		"simd_product(v)":                 fold(func(a, b uint32) uint32 { return a * b }),
		"simd_min(v)":                     fold(func(a, b uint32) uint32 { return min(a, b) }),
		"simd_max(v)":                     fold(func(a, b uint32) uint32 { return max(a, b) }),
		"simd_and(v)":                     fold(func(a, b uint32) uint32 { return a & b }),
		"simd_or(v)":                      fold(func(a, b uint32) uint32 { return a | b }),
		"simd_xor(v)":                     fold(func(a, b uint32) uint32 { return a ^ b }),
		"simd_prefix_inclusive_sum(v)":    prefix(1),
		"simd_prefix_exclusive_sum(v)":    prefix(0),
		"simd_shuffle(v, 31 - lane)":      at(func(l int) int { return 31 - l }),
		"simd_shuffle_xor(v, 5)":          at(func(l int) int { return l ^ 5 }),
		"simd_shuffle_up(v, 3)":           at(func(l int) int { return l - 3*bool2int(l >= 3) }),
		"simd_shuffle_down(v, 3)":         at(func(l int) int { return l + 3*bool2int(l < 29) }),
		"simd_shuffle_rotate_up(v, 3)":    at(func(l int) int { return (l + 29) % 32 }),
		"simd_shuffle_rotate_down(v, 3)":  at(func(l int) int { return (l + 3) % 32 }),
		"simd_broadcast(v, 7)":            at(func(int) int { return 7 }),
		"simd_broadcast_first(v)":         at(func(int) int { return 0 }),
		"quad_broadcast(v, 2)":            at(func(l int) int { return l&^3 + 2 }),
		"quad_sum(v)":                     lanes(func(v []uint32, l int) uint32 { return v[l&^3] + v[l&^3+1] + v[l&^3+2] + v[l&^3+3] }),
		"uint(ulong(simd_ballot(v % 2)))": lanes(func(v []uint32, _ int) uint32 { return ballot(v) }),
		"uint(simd_all(v > 0))":           lanes(func(v []uint32, _ int) uint32 { return uint32(bool2int(allPositive(v))) }),
		"uint(simd_is_first())":           lanes(func(_ []uint32, l int) uint32 { return uint32(bool2int(l == 0)) }),
		"popcount(v) * 256 + clz(v)":      lanes(func(v []uint32, l int) uint32 { return uint32(bits.OnesCount32(v[l])*256 + bits.LeadingZeros32(v[l])) }),
		"reverse_bits(v) ^ rotate(v, 5u)": lanes(func(v []uint32, l int) uint32 { return bits.Reverse32(v[l]) ^ bits.RotateLeft32(v[l], 5) }),
		"extract_bits(v, 3, 7) + ctz(v)":  lanes(func(v []uint32, l int) uint32 { return v[l]>>3&127 + uint32(bits.TrailingZeros32(v[l])) }),
		"mulhi(v, 0x9e3779b9u)":           lanes(func(v []uint32, l int) uint32 { return uint32(uint64(v[l]) * 0x9e3779b9 >> 32) }),
	} {
		t.Run(expression, func(t *testing.T) {
			body := "const uint v = uint(in[i]) * 2654435761u;\n((device uint*)out)[i] = " + expression + ";"
			v := make([]uint32, tryFloats)
			for i := range v {
				v[i] = uint32(i) * 2654435761
			}
			for _, dev := range []*msl.Device{checker, fast} {
				out, err := try(t, dev, body)
				require.NoError(t, err)
				assert.Equal(t, bytesOf(want(v)), out, "%s", fmt.Sprint(want(v)[:8]))
			}
		})
	}
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}

func ballot(v []uint32) (votes uint32) {
	for i, x := range v {
		votes |= x % 2 << i
	}
	return votes
}

func allPositive(v []uint32) bool {
	for _, x := range v {
		if x == 0 {
			return false
		}
	}
	return true
}

// TestMatrices multiplies 8×8 matrices of small integers, which is exact.
func TestMatrices(t *testing.T) {
	dev := open(t, msl.Options{Checker: true})
	out, err := try(t, dev, `  shared[t] = float(t % 7) - 3.0f;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (group > 0 || simd > 0) return;
  simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(2.0f);
  simdgroup_load(a, shared, 8);
  simdgroup_load(b, in, 8, ulong2(1, 2), true);
  simdgroup_multiply_accumulate(c, a, b, c);
  simdgroup_store(c, out, 8);`)
	require.NoError(t, err)
	have := floatsOf(out)
	for r := range 8 {
		for c := range 8 {
			want := float32(2)
			for k := range 8 {
				want += (float32((8*r+k)%7) - 3) * float32(2*8+1+c*8+k)
			}
			assert.Equal(t, want, have[8*r+c], "row %d, column %d", r, c)
		}
	}
}

// TestFlushToZero multiplies what gives a denormal.
func TestFlushToZero(t *testing.T) {
	const body = "out[i] = (in[i] + 1.0f) * as_type<float>(1u);"
	out, err := try(t, open(t, msl.Options{}), body)
	require.NoError(t, err)
	assert.Equal(t, bytesOf([]uint32{1, 2, 3}), out[:12])
	out, err = try(t, open(t, msl.Options{FlushToZero: true}), body)
	require.NoError(t, err)
	assert.Equal(t, make([]byte, len(out)), out)
}
