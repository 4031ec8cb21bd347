package oracle_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/oracle"
)

func halves(hs ...uint16) []byte {
	var b []byte
	for _, h := range hs {
		b = binary.LittleEndian.AppendUint16(b, h)
	}
	return b
}

func repeat(h uint16, n int) []byte {
	var b []byte
	for range n {
		b = append(b, halves(h)...)
	}
	return b
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float64{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x3555: 0.333251953125, 0x7bff: 65504,
		0x0001: math.Ldexp(1, -24), 0x83ff: -math.Ldexp(1023, -24), 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1),
	} {
		assert.Equal(t, want, oracle.Half(bits), "%#04x", bits)
	}
	assert.True(t, math.IsNaN(oracle.Half(0x7e00)))
}

func TestTrellisIndex(t *testing.T) {
	// The two-byte form in which the format is written down.
	for bits := 2; bits <= 8; bits++ {
		tile := make([]byte, 32*bits)
		for i := range tile {
			tile[i] = byte(i*151 + 43*bits)
		}
		for i := range 256 {
			at := i * bits
			word := int(tile[at>>3])
			if at&7+bits > 8 {
				word |= int(tile[at>>3+1]) << 8
			}
			assert.Equal(t, word>>(at&7)&(1<<bits-1), oracle.TrellisIndex(tile, bits, i), "%d bits, index %d", bits, i)
		}
	}
}

func TestTrellis(t *testing.T) {
	// [16, 144] of 2 bits: nine tiles, two groups. One index is 3, the rest 0.
	indices := make([]byte, 9*64)
	const o, i = 5, 130
	at := (o*16 + i%16) * 2
	indices[i/16*64+at/8] = 3 << (at % 8)
	scales := append(repeat(0x3c00, 16), repeat(0x4000, 16)...) // 1, then 2
	su, sv := repeat(0x3c00, 144), repeat(0x3c00, 16)
	copy(su[2*i:], halves(0x4200)) // 3
	copy(sv[2*o:], halves(0x3800)) // 0.5

	m, err := oracle.Trellis(2, 16, 144, indices, scales, su, sv)
	require.NoError(t, err)
	assert.Equal(t, 1.5*2*3*0.5, m.Row(o)[i])
	assert.Equal(t, -1.5*2*0.5, m.Row(o)[i+1])
	assert.Equal(t, -1.5*0.5, m.Row(o)[0])
	assert.Equal(t, -1.5, m.Row(0)[127])
	assert.Equal(t, -3.0, m.Row(0)[128])

	for name, bad := range map[string]func() error{
		"no 9-bit weights":   func() error { _, err := oracle.Trellis(9, 16, 144, indices, scales, su, sv); return err },
		"multiples of 16":    func() error { _, err := oracle.Trellis(2, 16, 150, indices, scales, su, sv); return err },
		"indices has 575":    func() error { _, err := oracle.Trellis(2, 16, 144, indices[1:], scales, su, sv); return err },
		"scales has 32":      func() error { _, err := oracle.Trellis(2, 16, 144, indices, scales[:32], su, sv); return err },
		"su has 286":         func() error { _, err := oracle.Trellis(2, 16, 144, indices, scales, su[2:], sv); return err },
		"sv has 0 bytes, wa": func() error { _, err := oracle.Trellis(2, 16, 144, indices, scales, su, nil); return err },
	} {
		assert.ErrorContains(t, bad(), name)
	}
}

func TestExpert(t *testing.T) {
	e := oracle.Expert{
		Gate: oracle.Matrix{Out: 1, In: 2, W: []float64{1, 1}},
		Up:   oracle.Matrix{Out: 1, In: 2, W: []float64{1, -1}},
		Down: oracle.Matrix{Out: 2, In: 1, W: []float64{1, -2}},
	}
	y := e.Forward([]float64{2, 1})
	silu := 3 / (1 + math.Exp(-3))
	assert.InDeltaSlice(t, []float64{silu, -2 * silu}, y.Value, 1e-15)
	magnitude := 1.1*3*1 + silu*3
	assert.InDeltaSlice(t, []float64{magnitude, 2 * magnitude}, y.Magnitude, 1e-12)
}

// identity routes a token by its own elements.
func identity(n int) oracle.Matrix {
	m := oracle.Matrix{Out: n, In: n, W: make([]float64, n*n)}
	for i := range n {
		m.Row(i)[i] = 1
	}
	return m
}

func TestRoute(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	x := []float64{0, 1, 1, -1, 2, -3, 0, 0}

	r := oracle.Router{Weight: identity(8), Bias: make([]float64, 8), TopK: 3, Groups: 1, Scale: 2}
	c := r.Route(x)
	assert.Equal(t, []int{4, 1, 2}, c.Experts, "equal scores: the lower index first")
	assert.InDeltaSlice(t, []float64{2 * sigmoid(2), 2 * sigmoid(1), 2 * sigmoid(1)}, c.Weights, 1e-15)
	assert.InDelta(t, sigmoid(2)-sigmoid(1), c.Margin, 1e-15, "exact ties aside")

	r.Normalize = true
	r.Bias[5] = 10
	c = r.Route(x)
	assert.Equal(t, []int{5, 4, 1}, c.Experts)
	sum := sigmoid(-3) + sigmoid(2) + sigmoid(1)
	assert.InDeltaSlice(t, []float64{2 * sigmoid(-3) / sum, 2 * sigmoid(2) / sum, 2 * sigmoid(1) / sum}, c.Weights, 1e-15, "the bias chooses and does not weigh")
}

func TestRouteGroups(t *testing.T) {
	// Groups {0,1} {2,3} {4,5} {6,7}: the best expert is in a group that loses.
	x := []float64{3, -9, 1, 1, 2, 1, 1, 1}
	r := oracle.Router{Weight: identity(8), Bias: make([]float64, 8), TopK: 3, Groups: 4, TopKGroups: 2, Scale: 1}
	c := r.Route(x)
	assert.Equal(t, []int{4, 2, 3}, c.Experts, "of equal groups, the lower index is kept")

	for want, change := range map[string]func(*oracle.Router){
		"7 biases":          func(r *oracle.Router) { r.Bias = r.Bias[1:] },
		"in 3 groups":       func(r *oracle.Router) { r.Groups = 3 },
		"no two best":       func(r *oracle.Router) { r.Groups = 8 },
		"best 5 of 4 group": func(r *oracle.Router) { r.TopKGroups = 5 },
		"best 5 of 4 exper": func(r *oracle.Router) { r.TopK = 5 },
	} {
		bad := r
		change(&bad)
		assert.ErrorContains(t, bad.Check(), want)
	}
}

func TestLayer(t *testing.T) {
	scaled := func(s float64) oracle.Expert {
		return oracle.Expert{
			Gate: oracle.Matrix{Out: 1, In: 2, W: []float64{1, 0}},
			Up:   oracle.Matrix{Out: 1, In: 2, W: []float64{0, 1}},
			Down: oracle.Matrix{Out: 2, In: 1, W: []float64{s, 0}},
		}
	}
	shared := scaled(100)
	l := oracle.Layer{
		Router:  oracle.Router{Weight: identity(2), Bias: make([]float64, 2), TopK: 1, Groups: 1, Normalize: true, Scale: 0.5},
		Experts: []oracle.Expert{scaled(1), scaled(10)},
		Shared:  &shared,
	}
	out, choices, err := l.Forward([][]float64{{1, 2}, {2, 1}})
	require.NoError(t, err)
	assert.Equal(t, []int{1}, choices[0].Experts)
	assert.Equal(t, []int{0}, choices[1].Experts)
	assert.InDeltaSlice(t, []float64{oracle.SiLU(1) * 2 * 105, 0}, out[0].Value, 1e-12)
	assert.InDeltaSlice(t, []float64{oracle.SiLU(2) * 100.5, 0}, out[1].Value, 1e-12)

	l.Experts = l.Experts[1:]
	_, _, err = l.Forward(nil)
	assert.ErrorContains(t, err, "1 experts, but the router knows 2")
}
