package bench

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A known token is one whose output the oracle has computed.
type known struct {
	x   []float32
	out []float64
}

// margin is by how much a known token's experts are ahead of the others, so
// that rounding does not decide.
const margin = 1e-5

// knowns returns n random tokens with the output of a layer with weights w.
func knowns(w moe.Weights, n int, r *rand.Rand) ([]known, error) {
	router := oracle.Router{
		Weight: oracle.Matrix{Out: len(w.Experts), In: w.Hidden, W: oracle.Floats(w.Router.Weight)},
		Bias:   oracle.Floats(w.Router.Bias),
		TopK:   w.Router.TopK, Groups: w.Router.Groups, TopKGroups: w.Router.TopKGroups,
		Normalize: w.Router.Normalize, Scale: float64(w.Router.Scale),
	}
	if err := router.Check(); err != nil {
		return nil, err
	}
	var ks []known
	for len(ks) < n {
		k := known{x: make([]float32, w.Hidden), out: make([]float64, w.Hidden)}
		noise(k.x, r)
		x := oracle.Floats(k.x)
		choice := router.Route(x)
		if choice.Margin < margin {
			continue
		}
		for i, e := range choice.Experts {
			expert, err := ideal(w.Data, &w.Experts[e])
			if err != nil {
				return nil, fmt.Errorf("expert %d: %w", e, err)
			}
			for j, v := range expert.Forward(x).Value {
				k.out[j] += choice.Weights[i] * v
			}
		}
		ks = append(ks, k)
	}
	return ks, nil
}

// ideal returns e in float64.
func ideal(data []byte, e *moe.Expert) (o oracle.Expert, err error) {
	for _, p := range []struct {
		to   *oracle.Matrix
		from moe.Matrix
	}{{&o.Gate, e.Gate}, {&o.Up, e.Up}, {&o.Down, e.Down}} {
		part := func(c trellis.Component) []byte { return p.from.Parts[c].Of(data) }
		*p.to, err = oracle.Trellis(int(p.from.Bits), p.from.Out, p.from.In,
			part(trellis.Indices), part(trellis.Scales), part(trellis.SU), part(trellis.SV))
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

// deviation returns ‖got − want‖ / ‖want‖.
func deviation(got []float32, want []float64) float64 {
	var diff, size float64
	for i, w := range want {
		d := float64(got[i]) - w
		diff += d * d
		size += w * w
	}
	return math.Sqrt(diff / size)
}

// noise fills x with normal numbers.
func noise(x []float32, r *rand.Rand) {
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
}
