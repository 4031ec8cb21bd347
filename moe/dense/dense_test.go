package dense_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/stretchr/testify/require"
	"github.com/x448/float16"
)

func encode(c dense.Codec, data []byte, x float32) []byte {
	switch c {
	case dense.BF16:
		return binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(x)>>16))
	case dense.F16:
		return binary.LittleEndian.AppendUint16(data, float16.Fromfloat32(x).Bits())
	}
	return binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
}

func TestRow(t *testing.T) {
	const out, in = 3, 5
	for c, name := range map[dense.Codec]string{dense.BF16: "bf16", dense.F16: "f16", dense.F32: "f32"} {
		require.Equal(t, name, c.Name())
		data := make([]byte, 8)
		var want []float32
		for i := range out * in {
			want = append(want, float32(i-7)/4)
			data = encode(c, data, want[i])
		}
		m := moe.Matrix{Bits: c.Bits(), Out: out, In: in, Parts: []moe.Span{{Offset: 8, Size: len(data) - 8}}}
		require.NoError(t, c.Check(m, len(data)))
		row := make([]float32, in)
		for o := range out {
			c.Row(row, data, m, o)
			require.Equal(t, want[o*in:(o+1)*in], row, "%s, row %d", name, o)
		}
	}
}

func TestCheck(t *testing.T) {
	for want, m := range map[string]moe.Matrix{
		"width 4, want 16":              {Bits: 4, Out: 2, In: 3, Parts: make([]moe.Span, 1)},
		"2×0 is not a shape":            {Bits: 16, Out: 2, Parts: make([]moe.Span, 1)},
		"does not fit in memory":        {Bits: 16, Out: math.MaxInt / 2, In: 3, Parts: make([]moe.Span, 1)},
		"0 parts, want 1":               {Bits: 16, Out: 2, In: 3},
		"11 bytes, want 12":             {Bits: 16, Out: 2, In: 3, Parts: []moe.Span{{Size: 11}}},
		"outside the data: 12 bytes at": {Bits: 16, Out: 2, In: 3, Parts: []moe.Span{{Offset: 90, Size: 12}}},
		"at 3, not a multiple of 2":     {Bits: 16, Out: 2, In: 3, Parts: []moe.Span{{Offset: 3, Size: 12}}},
	} {
		require.ErrorContains(t, dense.BF16.Check(m, 100), want)
	}
	require.ErrorContains(t, dense.Codec(7).Check(moe.Matrix{Bits: 16, Out: 1, In: 1, Parts: make([]moe.Span, 1)}, 2), "Codec(7) is no codec")
}
