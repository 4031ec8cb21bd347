package bench

import (
	"math"
	"math/rand/v2"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/runtime"
)

// layer returns what the weights of a layer of c are.
func (c Case) layer() weights.Layer {
	return weights.Layer{Hidden: c.Shape.Hidden, Intermediate: c.Shape.Intermediate, Tuples: c.Mix.Tuples(c.Shape.Experts)}
}

// layers returns as many layers of c as p has room for, at most most.
func (c Case) layers(p *weights.Pool, most int, r *rand.Rand) ([]moe.Weights, error) {
	layers, err := p.Layers(c.layer(), most)
	var all []moe.Weights
	for _, experts := range layers {
		all = append(all, moe.Weights{
			Data: p.Data, Hidden: c.Shape.Hidden, Intermediate: c.Shape.Intermediate, Experts: experts, Router: router(c.Shape, r),
		})
	}
	return all, err
}

// router returns a router that sends random tokens to random experts.
func router(s Shape, r *rand.Rand) moe.Router {
	w := moe.Router{
		Weight: make([]float32, s.Experts*s.Hidden), Bias: make([]float32, s.Experts),
		TopK: s.TopK, Groups: 1, TopKGroups: 1, Normalize: true, Scale: 1.8,
	}
	for i := range w.Weight {
		w.Weight[i] = float32(r.NormFloat64() / math.Sqrt(float64(s.Hidden)))
	}
	return w
}

// bytesOf returns the bytes of e.
func bytesOf(e *moe.Expert) int { return weights.Bytes(e.Gate, e.Up, e.Down) }

// tuples returns the number of tuples that the experts of w have.
func tuples(w moe.Weights) int {
	seen := map[runtime.BitTuple]bool{}
	for i := range w.Experts {
		seen[w.Experts[i].Tuple()] = true
	}
	return len(seen)
}
