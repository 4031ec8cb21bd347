package moe_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// What a forward of GLM-4.7-Flash takes besides its launches: routing,
// planning, copies. All experts share their weights, which nothing reads.
func BenchmarkForwardAroundLaunches(b *testing.B) {
	profile := generated.Profiles[0]
	r := rand.New(rand.NewPCG(51, 52))
	w := moe.Weights{Hidden: profile.Hidden, Intermediate: profile.Intermediate, Router: randomRouter(r, profile.Experts, profile.Hidden)}
	w.Router.TopK = profile.TopK
	most := 0
	matrix := func(bits uint8, out, in int) moe.Matrix {
		m := moe.Matrix{Bits: bits, Out: out, In: in}
		for _, c := range trellis.Components {
			size := c.Size(bits, out, in)
			m.Parts = append(m.Parts, moe.Span{Size: size})
			most = max(most, size)
		}
		return m
	}
	for _, t := range profile.Spread(profile.Experts) {
		w.Experts = append(w.Experts, moe.Expert{
			Codec: "trellis",
			Gate:  matrix(t.Gate, profile.Intermediate, profile.Hidden),
			Up:    matrix(t.Up, profile.Intermediate, profile.Hidden),
			Down:  matrix(t.Down, profile.Hidden, profile.Intermediate),
		})
	}
	w.Data = make([]byte, most)
	device := cpu.New(cpu.Options{})
	library, err := device.Load(b.Context(), generated.Table, generated.Sources)
	require.NoError(b, err)
	layer, err := moe.NewLayer(w, moe.Options{
		Device: device, Library: idleLibrary{Library: library}, Table: generated.Table, Codecs: []moe.Codec{trellis.Codec{}},
	})
	require.NoError(b, err)
	for _, tokens := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			noise := randomInput(r, 2*256*profile.Hidden)
			out := make([]float32, tokens*profile.Hidden)
			b.ReportAllocs()
			for b.Loop() {
				x := noise[r.IntN(256*profile.Hidden):][:len(out)]
				if err := layer.ForwardInto(b.Context(), out, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	require.NoError(b, layer.Close())
}
