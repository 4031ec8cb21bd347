package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/cpu/simd"
)

// TestStrips holds every set, at rows that share panels and rows that do not, to
// plain Go, in strips of more tiles than a panel has.
func TestStrips(t *testing.T) {
	const in, out = 16 * (2*panelTiles + 9), 32
	r := rand.New(rand.NewPCG(1, 2))
	for _, bits := range []uint8{2, 6} {
		m := matrix{bits: bits, out: out, in: in}
		for i, n := range []int{out * in * int(bits) / 8, 2 * groups(in) * out, 2 * in, 2 * out} {
			part := make([]byte, n)
			for j := range part {
				part[j] = byte(r.Uint32())
				if i != indices && j%2 == 1 {
					part[j] = part[j]&0x83 | 0x2c // halves that are numbers
				}
			}
			m.parts[i] = part
		}
		x := make([]float32, 40*in)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		for _, rows := range []int{1, 2, 5, 17, 20, 21, 33, 40} {
			for _, precision := range []Precision{Exact, Fast} {
				t.Run(fmt.Sprintf("%d bits, %d rows, %v", bits, rows, precision), func(t *testing.T) {
					var want [][strip]float32
					names := Sets()
					for i := range names {
						name := names[len(names)-1-i] // plain Go first
						e := newEngine(Options{Set: name, Precision: precision})
						got := stripOf(e, &m, rows, x)
						if want == nil {
							want = got
						}
						require.Equal(t, want, got, name)
					}
				})
			}
		}
	}
}

// TestUpcoming shows that a worker looks ahead to the chunk that it takes next,
// and past its own to none.
func TestUpcoming(t *testing.T) {
	e := expertJob{chunks: []chunk{{0, 0, 3}, {0, 3, 6}, {1, 0, 4}}, strips: make([]cursor, 2)}
	deal(e.strips, len(e.chunks))
	require.Equal(t, e.chunks[0], e.upcoming(0))
	for _, want := range []chunk{{0, 3, 6}, {1, 0, 4}, {}} {
		require.Equal(t, want, e.upcoming(1))
		take(e.strips, 1)
	}
	require.Equal(t, chunk{}, e.upcoming(0), "taken by the other")
}

// TestLookahead shows that multipliers of two projections fetch all of the next
// strips of both, whichever fetches what: of the same expert or of another.
func TestLookahead(t *testing.T) {
	const in, out = 2048, 32
	for gate := uint8(2); gate <= 8; gate++ {
		for up := uint8(2); up <= 8; up++ {
			for _, rows := range []int{2, evenRows} {
				expert := func() []matrix {
					ms := []matrix{{bits: gate, out: out, in: in}, {bits: up, out: out, in: in}}
					for p := range ms {
						ms[p].parts[indices] = make([]byte, out*in*int(ms[p].bits)/8)
					}
					return ms
				}
				ms, to := expert(), expert()
				var next lookahead
				next.strip(0, ms, rows, to, 1)
				type stretch struct{ from, end uintptr }
				var fetched []stretch
				for p, m := range ms {
					own := uintptr(simd.Own(int(m.bits), in/16))
					fetched = append(fetched, stretch{next.at[p], next.at[p] + own}, stretch{next.rest[p], next.rest[p] + in/16*64})
				}
				for _, m := range to {
					size := uintptr(len(m.parts[indices])) / 2
					for at := address(m.parts[indices]) + size; at < address(m.parts[indices])+2*size; at += 64 {
						require.True(t, slices.ContainsFunc(fetched, func(s stretch) bool { return s.from <= at && at < s.end }),
							"%d and %d bits, %d rows", gate, up, rows)
					}
				}
			}
		}
	}
}

// stripOf returns the second strip of m times rows of x, times sv.
func stripOf(e engine, m *matrix, rows int, x []float32) [][strip]float32 {
	rest := rowBlock{rows, make([]int8, rows*m.in*e.digits()), make([]float32, rows*groups(m.in)*e.metas())}
	of := matmul{matrix: m, plan: e.plan(m.bits, rows)}
	for left := rows; left > 0; left = rest.rows {
		b := rest.take(e.block(rows, left))
		var inputs []*float32
		for r := range b.rows {
			inputs = append(inputs, &x[(rows-left+r)*m.in:][:m.in][0])
		}
		e.load(b, m, inputs)
		of.blocks = append(of.blocks, b)
	}
	var next lookahead
	next.strip(1, []matrix{*m}, rows, []matrix{*m}, 2)
	y, out, ones := make([][strip]float32, rows), make([][strip]float32, rows), make([]float32, rows)
	for i := range ones {
		ones[i] = 1
	}
	// Bytes behind the panel that have to stay as they are.
	var panel struct {
		panel panel
		after [4096]byte
	}
	e.strip(y, &of, 1, &next, &panel.panel)
	if panel.after != [4096]byte{} {
		panic("wrote behind the panel")
	}
	e.set.Scale(&out[0][0], 4*strip, &y[0], m.sv(1), &ones[0], int(m.bits), rows) // undoes the set's order of outputs
	return out
}
