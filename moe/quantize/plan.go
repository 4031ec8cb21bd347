package quantize

import (
	"fmt"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

// A Plan says which tuple each expert of each MoE layer gets: the routed ones
// by index and, behind them, the shared one if there is one.
type Plan map[int][]runtime.BitTuple

// Spread returns the plan that gives the experts of c the tuples of p's mix,
// interleaved over experts and layers, in the shares of the mix.
func Spread(c *checkpoint.Checkpoint, p *runtime.Profile) Plan {
	layers, experts := c.MoELayers(), c.Config.Experts
	tuples := p.Spread(len(layers) * experts)
	plan := Plan{}
	for i, layer := range layers {
		plan[layer] = append(plan[layer], tuples[i*experts:(i+1)*experts]...)
		if c.Config.SharedExperts > 0 {
			plan[layer] = append(plan[layer], p.Shared)
		}
	}
	return plan
}

// Tuples returns how many routed experts have each tuple, and how many shared
// ones.
func (p Plan) Tuples(c *checkpoint.Checkpoint) (routed, shared map[runtime.BitTuple]int) {
	routed, shared = map[runtime.BitTuple]int{}, map[runtime.BitTuple]int{}
	for _, tuples := range p {
		for e, t := range tuples {
			if e < c.Config.Experts {
				routed[t]++
			} else {
				shared[t]++
			}
		}
	}
	return routed, shared
}

// Size returns the bytes that the experts take, with all components, and the
// number of their weights.
func (p Plan) Size(c *checkpoint.Checkpoint) (bytes, weights int) {
	for _, tuples := range p {
		for _, t := range tuples {
			bytes += size(c.Config, t)
			weights += 3 * c.Config.Hidden * c.Config.Intermediate
		}
	}
	return bytes, weights
}

// BitsPerWeight returns the bits that the experts take per weight, with all
// components.
func (p Plan) BitsPerWeight(c *checkpoint.Checkpoint) float64 {
	bytes, weights := p.Size(c)
	return 8 * float64(bytes) / float64(weights)
}

// size returns the bytes of an expert with tuple t.
func size(c checkpoint.Config, t runtime.BitTuple) int {
	n := 0
	for _, p := range projections(c, t) {
		for _, part := range trellis.Components {
			n += part.Size(p.bits, p.out, p.in)
		}
	}
	return n
}

// A projection is a matrix of an expert, [out, in].
type projection struct {
	name    string
	bits    uint8
	out, in int
}

// projections returns the three of an expert with tuple t: gate, up and down.
func projections(c checkpoint.Config, t runtime.BitTuple) [3]projection {
	return [3]projection{
		{"gate_proj", t.Gate, c.Intermediate, c.Hidden},
		{"up_proj", t.Up, c.Intermediate, c.Hidden},
		{"down_proj", t.Down, c.Hidden, c.Intermediate},
	}
}

// prefix returns what the names of an expert's tensors begin with.
func prefix(c checkpoint.Config, layer, e int) string {
	if e == c.Experts {
		return fmt.Sprintf("model.layers.%d.mlp.shared_experts.", layer)
	}
	return fmt.Sprintf("model.layers.%d.mlp.experts.%d.", layer, e)
}
