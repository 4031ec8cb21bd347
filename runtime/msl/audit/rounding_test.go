package audit_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	goruntime "runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

// A format is a floating-point type of 16 bits.
type format struct {
	name      string
	precision int // in bits
	least     int // exponent of the smallest number
	max       float64
	exponents uint16 // mask of the exponent's bits
}

var (
	half   = format{"half", 11, -24, 65504, 0x7c00}
	bfloat = format{"bfloat", 8, -133, 0x1.fep127, 0x7f80}
)

// round returns the nearest number of f, of two the even one.
func (f format) round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	_, e := math.Frexp(v)
	unit := max(e-f.precision, f.least)
	r := math.Ldexp(math.RoundToEven(math.Ldexp(v, -unit)), unit)
	if math.Abs(r) > f.max {
		return math.Copysign(math.Inf(1), v)
	}
	return r
}

// value returns the number that has the bits b.
func (f format) value(b uint16) float64 {
	sign := 1 - 2*float64(b>>15)
	fraction := float64(b & (1<<(f.precision-1) - 1))
	switch e := int(b&f.exponents) >> (f.precision - 1); {
	case b&f.exponents != f.exponents && e == 0:
		return math.Copysign(math.Ldexp(fraction, f.least), sign)
	case b&f.exponents != f.exponents:
		return sign * math.Ldexp(fraction+math.Ldexp(1, f.precision-1), f.least+e-1)
	case fraction == 0:
		return math.Inf(int(sign))
	}
	return math.NaN()
}

// fma returns a*b + c, rounded once.
func (f format) fma(a, b, c float64) float64 {
	if r := a*b + c; math.IsInf(r, 0) || math.IsNaN(r) || r == 0 {
		return r
	}
	exact := new(big.Float).SetPrec(1200).SetFloat64(a)
	exact.Mul(exact, big.NewFloat(b)).Add(exact, big.NewFloat(c))
	odd, accuracy := exact.SetMode(big.ToZero).SetPrec(50).Float64()
	if exact.Acc() != big.Exact || accuracy != big.Exact { // to odd, so that it is not rounded twice
		odd = math.Float64frombits(math.Float64bits(odd) | 1<<2)
	}
	return f.round(odd)
}

// fromInteger returns what an integer may become: Metal does not say how it is
// rounded, and through float it is twice.
func (f format) fromInteger(v float64) []float64 {
	return []float64{f.round(v), f.round(float64(float32(v)))}
}

// everything returns all numbers of 16 bits, in words.
func everything() []uint32 {
	in := make([]uint32, 1<<16)
	for i := range in {
		in[i] = uint32(i)
	}
	return in
}

// around returns the floats that are numbers of f, that lie halfway between two,
// and their neighbours, and others besides.
func (f format) around() []uint32 {
	var in []uint32
	add := func(v float64) {
		b := math.Float32bits(float32(v))
		in = append(in, b, b-1, b+1, b^1<<31, (b-1)^1<<31, (b+1)^1<<31)
	}
	for b := uint16(0); b < f.exponents; b++ {
		v := f.value(b)
		next := f.value(b + 1)
		if math.IsInf(next, 0) {
			next = 2*v - f.value(b-1)
		}
		add(v)
		add(v + (next-v)/2)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1 << 16 {
		in = append(in, r.Uint32())
	}
	return append(in, math.Float32bits(float32(math.Inf(1))), math.Float32bits(float32(math.Inf(-1))), 0x7fc00000, 0xff800001, 1, 0x80000001)
}

// pairs returns pairs of numbers of f in the halves of words: those at the limits
// with each other, and random ones.
func (f format) pairs() []uint32 {
	one := uint16(f.exponents/2) &^ (1<<(f.precision-1) - 1)
	var edges []uint16
	for _, b := range []uint16{0, 1, 2, 3, one, one + 1, one - 1, f.exponents, f.exponents - 1, f.exponents - 2, f.exponents | 1<<(f.precision-2)} {
		edges = append(edges, b, b|1<<15)
	}
	smallest := uint16(1) << (f.precision - 1)
	edges = append(edges, smallest, smallest-1, smallest+1)
	var in []uint32
	for _, a := range edges {
		for _, b := range edges {
			in = append(in, uint32(a)<<16|uint32(b))
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 1 << 18 {
		a, b := r.Uint32(), r.Uint32()
		if a%2 == 0 { // exponents that are near each other, too
			b = a&uint32(f.exponents) + b&^uint32(f.exponents) ^ b&1<<(f.precision-1)
		}
		in = append(in, a<<16|b&0xffff)
	}
	return in
}

// A rounding is an expression of x, or of the numbers a and b, and its value.
type rounding struct {
	expression string
	in         []uint32
	want       func(x uint32) []float64 // any of them
}

func (f format) roundings() []rounding {
	binary := func(expression string, op func(a, b float64) float64) rounding {
		return rounding{expression, f.pairs(), func(x uint32) []float64 {
			return []float64{f.round(op(f.value(uint16(x>>16)), f.value(uint16(x))))}
		}}
	}
	float := func(x uint32) float64 { return float64(math.Float32frombits(x)) }
	integers := []uint32{0x01010001, 0x01018000, 0x01018001, 0x7fffffff, 0x80000000, 0xffffffff}
	for i := range uint32(140000) {
		integers = append(integers, i, i*2654435761)
	}
	rs := []rounding{
		{"T(as_type<T>(ushort(x)))", everything(), func(x uint32) []float64 { return []float64{f.value(uint16(x))} }},
		{"T(float(as_type<T>(ushort(x))))", everything(), func(x uint32) []float64 { return []float64{f.value(uint16(x))} }},
		{"T(as_type<float>(x))", f.around(), func(x uint32) []float64 { return []float64{f.round(float(x))} }},
		{"vec<T, 4>(float4(as_type<float>(x))).w", f.around(), func(x uint32) []float64 { return []float64{f.round(float(x))} }},
		{"T(x)", integers, func(x uint32) []float64 { return f.fromInteger(float64(x)) }},
		{"T(int(x))", integers, func(x uint32) []float64 { return f.fromInteger(float64(int32(x))) }},
		binary("a + b", func(a, b float64) float64 { return a + b }),
		binary("a - b", func(a, b float64) float64 { return a - b }),
		binary("a * b", func(a, b float64) float64 { return a * b }),
		binary("a / b", func(a, b float64) float64 { return a / b }),
		{"(vec<T, 2>(a, b) * vec<T, 2>(b)).x", f.pairs(), func(x uint32) []float64 {
			return []float64{f.round(f.value(uint16(x>>16)) * f.value(uint16(x)))}
		}},
		// A product and a sum are rounded twice, or contracted.
		{"a * b + a", f.pairs(), func(x uint32) []float64 {
			a, b := f.value(uint16(x>>16)), f.value(uint16(x))
			return []float64{f.round(f.round(a*b) + a), f.fma(a, b, a)}
		}},
	}
	if f.name == "half" {
		rs = append(rs, rounding{"fma(a, b, b)", f.pairs(), func(x uint32) []float64 {
			a, b := f.value(uint16(x>>16)), f.value(uint16(x))
			return []float64{f.fma(a, b, b)}
		}}, rounding{"sqrt(as_type<T>(ushort(x)))", everything(), func(x uint32) []float64 {
			return []float64{f.round(math.Sqrt(f.value(uint16(x))))}
		}})
	}
	return rs
}

const (
	roundingHead = "#include <metal_stdlib>\nusing namespace metal;\nstruct Shape { uint tokens, slots, experts, hidden, intermediate, rows, items; };\n"
	roundingText = `kernel void round_%[1]d(constant Shape& shape [[buffer(0)]], device const uint* in [[buffer(1)]], device float* out [[buffer(2)]],
                    uint i [[thread_position_in_grid]]) {
  typedef %[2]s T;
  if (i >= shape.items) return;
  const uint x = in[i];
  const T a = as_type<T>(ushort(x >> 16)), b = as_type<T>(ushort(x));
  const T r = %[3]s;
  out[i] = r;
}
`
)

// TestRounding computes with half and bfloat, and compares each result with the
// exact one, rounded.
func TestRounding(t *testing.T) {
	for _, f := range []format{half, bfloat} {
		t.Run(f.name, func(t *testing.T) {
			if goruntime.GOOS != "linux" {
				t.Skip("msl runs kernels on Linux only")
			}
			dev, err := msl.Open(t.Context(), msl.Options{})
			skip(t, err)
			defer dev.Close()
			rs := f.roundings()
			var text strings.Builder
			text.WriteString(roundingHead)
			var table runtime.Table
			for i, r := range rs {
				fmt.Fprintf(&text, roundingText, i, f.name, r.expression)
				table.Kernels = append(table.Kernels, &runtime.Kernel{Kind: runtime.Helper, Symbol: fmt.Sprintf("round_%d", i), Body: &runtime.Body{
					Pass: "round", Source: "round.metal", Threads: 64,
					Grid:     [3]runtime.Axis{{Dim: runtime.Items, Per: 64}, {Dim: runtime.One, Per: 1}, {Dim: runtime.One, Per: 1}},
					Bindings: []runtime.Binding{{Name: "shape", Type: "Shape", Access: runtime.Constant}, {Name: "in", Type: "uint", Access: runtime.Read}, {Name: "out", Type: "float", Access: runtime.Write}},
				}})
			}
			lib, err := dev.Load(t.Context(), &table, fstest.MapFS{"round.metal": {Data: []byte(text.String())}})
			require.NoError(t, err)
			defer lib.Close()
			for i, r := range rs {
				t.Run(r.expression, func(t *testing.T) {
					k := table.Kernels[i]
					status := lib.Availability().Of(k)
					require.Equal(t, runtime.Present, status.State, status.Words)
					r.compare(t, run(t, dev, lib, k, r.in))
				})
			}
		})
	}
}

func (r *rounding) compare(t *testing.T, out []float32) {
	wrong := 0
	for i, have := range out {
		match := false
		want := r.want(r.in[i])
		for _, w := range want {
			match = match || math.Float32bits(have) == math.Float32bits(float32(w)) || have != have && math.IsNaN(w)
		}
		if !match {
			if wrong++; wrong <= 3 {
				t.Errorf("x = %#x: %v, want %v", r.in[i], have, want)
			}
		}
	}
	assert.Zero(t, wrong, "of %d", len(out))
}

// run runs a kernel with a thread for each word.
func run(t *testing.T, dev *msl.Device, lib runtime.Library, k *runtime.Kernel, words []uint32) []float32 {
	data, err := binary.Append(nil, binary.LittleEndian, words)
	require.NoError(t, err)
	in, err := dev.Wrap(data)
	require.NoError(t, err)
	defer in.Close()
	out, err := dev.NewBuffer(len(data))
	require.NoError(t, err)
	defer out.Close()
	q, err := lib.NewQueue()
	require.NoError(t, err)
	defer q.Close()
	shape := runtime.Shape{Items: uint32(len(words))}
	require.NoError(t, q.Launch(runtime.Launch{Kernel: k, Shape: shape, Args: []runtime.Arg{{Bytes: runtime.AppendShape(nil, shape)}, {Buffer: in}, {Buffer: out}}}))
	require.NoError(t, q.Wait(t.Context()))
	result := make([]byte, len(data))
	_, err = out.ReadAt(result, 0)
	require.NoError(t, err)
	v := make([]float32, len(words))
	_, err = binary.Decode(result, binary.LittleEndian, v)
	require.NoError(t, err)
	return v
}
