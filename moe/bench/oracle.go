package bench

import (
	"fmt"
	"math/rand/v2"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/replay"
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
	router := replay.Router(w)
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
		add := func(e *moe.Expert, weight float64) error {
			expert, err := replay.Expert(w.Data, e)
			if err != nil {
				return err
			}
			for j, v := range expert.Forward(x).Value {
				k.out[j] += weight * v
			}
			return nil
		}
		for i, e := range choice.Experts {
			if err := add(&w.Experts[e], choice.Weights[i]); err != nil {
				return nil, fmt.Errorf("expert %d: %w", e, err)
			}
		}
		if w.Shared != nil {
			if err := add(w.Shared, 1); err != nil {
				return nil, fmt.Errorf("shared expert: %w", err)
			}
		}
		ks = append(ks, k)
	}
	return ks, nil
}

// noise fills x with normal numbers.
func noise(x []float32, r *rand.Rand) {
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
}
