package model

import (
	"math"

	"github.com/marlingen/marlingen/moe/checkpoint"
)

// Frequencies say how the frequencies of rotary position embeddings are held.
type Frequencies uint8

// The ways to hold them. A model that was cast to bfloat16 as a whole, as in
// PyTorch's model.bfloat16(), has rounded them too, and what was recorded of
// it, even in float32, was computed with those: positions are off by up to one
// part in 256. Nothing in a checkpoint says so.
const (
	ExactFrequencies   Frequencies = iota // as computed
	RoundedFrequencies                    // to bfloat16
)

// String returns "exact" or "rounded to bfloat16".
func (f Frequencies) String() string {
	if f == RoundedFrequencies {
		return "rounded to bfloat16"
	}
	return "exact"
}

// A rotary is a rotary position embedding: pairs of numbers, turned by angles
// that grow with the position.
type rotary struct {
	frequencies []float64 // by pair, in radians per position
	interleave  bool      // pair i is at 2i and 2i+1, not at i and i+n/2
}

func newRotary(arch *checkpoint.Architecture, how Frequencies) *rotary {
	r := &rotary{interleave: arch.Interleave}
	for i := range arch.RopeDim / 2 {
		f := float32(math.Pow(arch.RopeTheta, -2*float64(i)/float64(arch.RopeDim)))
		if how == RoundedFrequencies {
			f = bfloat16(f)
		}
		r.frequencies = append(r.frequencies, float64(f))
	}
	return r
}

// bfloat16 returns the bfloat16 that is nearest to x, which is finite.
func bfloat16(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
}

// turn turns x, which is at the given position.
func (r *rotary) turn(x []float32, position int) {
	for i, f := range r.frequencies {
		a, b := i, i+len(r.frequencies)
		if r.interleave {
			a, b = 2*i, 2*i+1
		}
		sin, cos := math.Sincos(float64(position) * f)
		s, c := float32(sin), float32(cos)
		x[a], x[b] = x[a]*c-x[b]*s, x[b]*c+x[a]*s
	}
}
