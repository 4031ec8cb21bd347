package trellis

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"
)

func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		got, want := half([]byte{byte(h), byte(h >> 8)}), float16.Frombits(uint16(h)).Float32()
		if math.IsNaN(float64(want)) {
			require.True(t, math.IsNaN(float64(got)), "%#04x", h)
			continue
		}
		require.Equal(t, math.Float32bits(want), math.Float32bits(got), "%#04x", h)
	}
}
