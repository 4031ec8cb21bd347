package trellis_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/stretchr/testify/require"
	"github.com/x448/float16"
)

// random returns a tensor whose components are random but finite.
func random(r *rand.Rand, bits uint8, out, in int) *trellis.Tensor {
	indices := make([]uint8, out*in)
	for i := range indices {
		indices[i] = uint8(r.IntN(1 << bits))
	}
	packed, err := trellis.Pack(indices, bits, out, in)
	if err != nil {
		panic(err)
	}
	halves := func(n int) []float16.Float16 {
		h := make([]float16.Float16, n)
		for i := range h {
			h[i] = float16.Fromfloat32(float32(r.NormFloat64()))
		}
		return h
	}
	return &trellis.Tensor{
		Bits: bits, Out: out, In: in, Indices: packed,
		Scales: halves((in + 127) / 128 * out), SU: halves(in), SV: halves(out),
	}
}

// weight computes one weight from the format's formula, byte by byte.
func weight(t *trellis.Tensor, o, i int) float64 {
	bits := int(t.Bits)
	tile := t.Indices[(o/16*(t.In/16)+i/16)*32*bits:][:32*bits]
	ib := (o%16*16 + i%16) * bits
	word := int(tile[ib>>3])
	if ib&7+bits > 8 {
		word |= int(tile[ib>>3+1]) << 8
	}
	index := word >> (ib & 7) & (1<<bits - 1)
	return (float64(index) - float64(int(1)<<bits-1)/2) *
		float64(t.Scales[i/128*t.Out+o].Float32()) * float64(t.SU[i].Float32()) * float64(t.SV[o].Float32())
}

func TestRow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for bits := uint8(2); bits <= 8; bits++ {
		for _, shape := range [][2]int{{16, 16}, {32, 144}, {48, 256}, {16, 400}} {
			tensor := random(r, bits, shape[0], shape[1])
			data, m := tensor.AppendTo([]byte{0xaa})
			require.NoError(t, trellis.Codec{}.Check(m, len(data)))
			row := make([]float32, m.In)
			for o := range m.Out {
				trellis.Codec{}.Row(row, data, m, o)
				for i, got := range row {
					require.InEpsilon(t, weight(tensor, o, i), got, 3e-7, "bits %d, row %d, column %d", bits, o, i)
				}
			}
		}
	}
}

func TestCheck(t *testing.T) {
	good := func() (moe.Matrix, int) {
		data, m := random(rand.New(rand.NewPCG(1, 2)), 3, 32, 144).AppendTo(nil)
		return m, len(data)
	}
	for name, c := range map[string]struct {
		spoil func(m *moe.Matrix, size *int)
		want  []string
	}{
		"good":     {func(*moe.Matrix, *int) {}, nil},
		"width":    {func(m *moe.Matrix, _ *int) { m.Bits, m.Out = 9, 17 }, []string{"width 9 is not in 2..8", "out is 17, not a positive multiple of 16"}},
		"in":       {func(m *moe.Matrix, _ *int) { m.In = 0 }, []string{"in is 0"}},
		"huge":     {func(m *moe.Matrix, _ *int) { m.In, m.Out = 1<<20, 1<<(strconv.IntSize-16) }, []string{"does not fit in memory"}},
		"parts":    {func(m *moe.Matrix, _ *int) { m.Parts = m.Parts[:3] }, []string{"3 parts, want 4"}},
		"size":     {func(m *moe.Matrix, _ *int) { m.Parts[0].Size--; m.Parts[2].Size += 2 }, []string{"indices has 1727 bytes, want 1728", "su has 290 bytes, want 288"}},
		"outside":  {func(_ *moe.Matrix, size *int) { *size -= 2 }, []string{"sv lies outside the data: 64 bytes at "}},
		"negative": {func(m *moe.Matrix, _ *int) { m.Parts[1].Offset = -2 }, []string{"scales lies outside"}},
		"overflow": {func(m *moe.Matrix, _ *int) { m.Parts[1].Offset = math.MaxInt }, []string{"scales lies outside"}},
		"aligned":  {func(m *moe.Matrix, _ *int) { m.Parts[0].Offset = 8; m.Parts[3].Offset-- }, []string{"indices lies at 8, not a multiple of 16", "not a multiple of 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, size := good()
			c.spoil(&m, &size)
			err := trellis.Codec{}.Check(m, size)
			if c.want == nil {
				require.NoError(t, err)
			}
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestPackErrors(t *testing.T) {
	_, err := trellis.Pack(make([]uint8, 256), 1, 16, 16)
	require.ErrorContains(t, err, "width 1 is not in 2..8")
	_, err = trellis.Pack(make([]uint8, 255), 2, 16, 16)
	require.ErrorContains(t, err, "255 indices for 16×16 weights")
	indices := make([]uint8, 256)
	indices[35] = 4
	_, err = trellis.Pack(indices, 2, 16, 16)
	require.ErrorContains(t, err, "index 4 at row 2, column 3 does not fit in 2 bits")
	_, err = trellis.Unpack(make([]byte, 63), 2, 16, 16)
	require.ErrorContains(t, err, "63 bytes of indices")
	_, err = trellis.Unpack(nil, 2, 16, 15)
	require.ErrorContains(t, err, "in is 15")
}

func FuzzPack(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0xff, 0x80, 77}, uint8(3), uint8(1), uint8(2))
	f.Add([]byte{0xff}, uint8(8), uint8(2), uint8(1))
	f.Add([]byte{}, uint8(0), uint8(3), uint8(9))
	f.Fuzz(func(t *testing.T, seed []byte, width, outTiles, inTiles uint8) {
		bits, out, in := 2+width%7, 16*int(1+outTiles%4), 16*int(1+inTiles%12)
		indices := make([]uint8, out*in)
		for i := range indices {
			if len(seed) > 0 {
				indices[i] = (seed[i%len(seed)] + uint8(i/len(seed))) & (1<<bits - 1)
			}
		}
		packed, err := trellis.Pack(indices, bits, out, in)
		require.NoError(t, err)
		require.Len(t, packed, out*in*int(bits)/8)
		unpacked, err := trellis.Unpack(packed, bits, out, in)
		require.NoError(t, err)
		require.Equal(t, indices, unpacked)
	})
}

// FuzzUnpack checks that tiles are dense: whatever the bytes, they come back.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0xff, 0x80, 77}, uint8(3))
	f.Add([]byte{0xff}, uint8(8))
	f.Fuzz(func(t *testing.T, seed []byte, width uint8) {
		bits := 2 + width%7
		packed := make([]byte, 2*3*32*int(bits))
		for i := range packed {
			if len(seed) > 0 {
				packed[i] = seed[i%len(seed)] ^ uint8(i/len(seed))
			}
		}
		indices, err := trellis.Unpack(packed, bits, 32, 48)
		require.NoError(t, err)
		again, err := trellis.Pack(indices, bits, 32, 48)
		require.NoError(t, err)
		require.Equal(t, packed, again)
	})
}

func TestNew(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const bits, out, in = 4, 32, 272
	indices := random(r, bits, out, in).Indices
	draw := func(n int, scale float64) []float32 {
		f := make([]float32, n)
		for i := range f {
			f[i] = float32(scale * (0.5 + r.Float64()))
		}
		return f
	}
	for name, c := range map[string]struct{ scales, sv float64 }{
		"plain": {0.01, 1}, "tiny": {3e-8, 1}, "both tiny": {1e-5, 1e-3}, "large": {1e6, 1}, "large rows": {0.5, 3e5}, "small rows": {0.5, 1e-6},
	} {
		t.Run(name, func(t *testing.T) {
			scales, su, sv := draw(3*out, c.scales), draw(in, 1), draw(out, c.sv)
			tensor, err := trellis.New(bits, out, in, indices, scales, su, sv)
			require.NoError(t, err)
			w, err := tensor.Dequantize()
			require.NoError(t, err)
			unpacked, err := trellis.Unpack(indices, bits, out, in)
			require.NoError(t, err)
			for at, index := range unpacked {
				o, i := at/in, at%in
				want := (float64(index) - 7.5) * float64(scales[i/128*out+o]) * float64(su[i]) * float64(sv[o])
				require.InEpsilon(t, want, w[at], 3*0x1p-11, "row %d, column %d", o, i)
			}
		})
	}

	scales, su, sv := draw(3*out, 1), draw(in, 1), draw(out, 1)
	scales[33], su[5], sv[2] = float32(math.NaN()), 1e6, float32(math.Inf(-1))
	_, err := trellis.New(bits, out, in, indices, scales, su, sv)
	for _, want := range []string{"scales[1,1] is NaN", "su[5] is 1e+06", "sv[2] is -Inf"} {
		require.ErrorContains(t, err, want)
	}
	_, err = trellis.New(bits, out, in, indices[1:], scales[:2], su, nil)
	for _, want := range []string{"indices has 4351 elements, want 4352", "scales has 2 elements, want 96", "sv has 0 elements"} {
		require.ErrorContains(t, err, want)
	}
}

func BenchmarkRow(b *testing.B) {
	for _, bits := range []uint8{2, 3, 6, 8} {
		b.Run(string('0'+rune(bits)), func(b *testing.B) {
			data, m := random(rand.New(rand.NewPCG(1, 2)), bits, 64, 2048).AppendTo(nil)
			row := make([]float32, m.In)
			b.SetBytes(int64(m.In))
			for i := 0; b.Loop(); i++ {
				trellis.Codec{}.Row(row, data, m, i%m.Out)
			}
		})
	}
}

func BenchmarkCalibrate(b *testing.B) {
	const out, in = 256, 2048
	w, x := gaussian(out, in, 1), correlated(rand.New(rand.NewPCG(1, 2)), 1000, in)
	values := moment(x, in)
	h, err := trellis.NewHessian(in, values, 1000)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(w)))
	for b.Loop() {
		if _, err := trellis.Quantize(context.Background(), w, out, in, 4, trellis.Options{Hessian: h, Workers: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuantize(b *testing.B) {
	w := gaussian(64, 2048, 1)
	b.SetBytes(int64(len(w)))
	for b.Loop() {
		if _, err := trellis.Quantize(context.Background(), w, 64, 2048, 4, trellis.Options{Workers: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
