package oracle

import "fmt"

// A Layer is a mixture-of-experts layer.
type Layer struct {
	Router  Router
	Experts []Expert // routed
	Shared  *Expert  // added to every token with weight 1, or nil
}

// Forward returns the output of l for each token of x, and what was chosen for
// it. The error is the router's, or says that it does not fit the experts.
func (l Layer) Forward(x [][]float64) ([]Vector, []Choice, error) {
	if err := l.Router.Check(); err != nil {
		return nil, nil, err
	}
	if len(l.Experts) != l.Router.Weight.Out {
		return nil, nil, fmt.Errorf("layer: %d experts, but the router knows %d", len(l.Experts), l.Router.Weight.Out)
	}
	out, choices := make([]Vector, len(x)), make([]Choice, len(x))
	parallel(len(x), func(t int) {
		choices[t] = l.Router.Route(x[t])
		out[t] = newVector(len(x[t]))
		for i, e := range choices[t].Experts {
			out[t].add(choices[t].Weights[i], l.Experts[e].Forward(x[t]))
		}
		if l.Shared != nil {
			out[t].add(1, l.Shared.Forward(x[t]))
		}
	})
	return out, choices, nil
}
