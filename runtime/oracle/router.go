package oracle

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A Router chooses the experts of a token: the best TopK by sigmoid score plus
// bias, of the best TopKGroups groups. The bias takes part in the choice alone.
type Router struct {
	Weight     Matrix    // [experts, hidden]
	Bias       []float64 // [experts]
	TopK       int
	Groups     int // of Weight.Out/Groups consecutive experts; 1 for none
	TopKGroups int
	Normalize  bool // divide the weights by their sum + 1e-20
	Scale      float64
}

// A Choice is what a router decided for one token.
type Choice struct {
	Experts []int     // best first; of equals, the lower index first
	Weights []float64 // of the experts

	// Margin is the smallest difference that decided anything, exact ties
	// aside. An implementation whose scores are off by more may choose
	// otherwise and still be right.
	Margin float64

	// Magnitude is the largest Σ|w·x| of a score.
	Magnitude float64
}

// Check reports what makes r unable to choose.
func (r Router) Check() error {
	experts := r.Weight.Out
	switch {
	case len(r.Bias) != experts:
		return fmt.Errorf("router: %d biases for %d experts", len(r.Bias), experts)
	case r.Groups < 1 || experts%r.Groups != 0:
		return fmt.Errorf("router: %d experts in %d groups", experts, r.Groups)
	case r.Groups > 1 && experts/r.Groups < 2:
		return fmt.Errorf("router: groups of one expert have no two best")
	case r.Groups > 1 && (r.TopKGroups < 1 || r.TopKGroups > r.Groups):
		return fmt.Errorf("router: the best %d of %d groups", r.TopKGroups, r.Groups)
	case r.TopK < 1 || r.TopK > r.candidates():
		return fmt.Errorf("router: the best %d of %d experts", r.TopK, r.candidates())
	}
	return nil
}

// candidates returns the number of experts in the groups that are kept.
func (r Router) candidates() int {
	if r.Groups > 1 {
		return r.Weight.Out / r.Groups * r.TopKGroups
	}
	return r.Weight.Out
}

// Route chooses the experts of the token x, of Weight.In elements. It relies on
// Check.
func (r Router) Route(x []float64) Choice {
	scores := r.Weight.Times(x)
	s := make([]float64, r.Weight.Out)
	choice := make([]float64, r.Weight.Out)
	for e := range s {
		s[e] = 1 / (1 + math.Exp(-scores.Value[e]))
		choice[e] = s[e] + r.Bias[e]
	}

	c := Choice{Margin: math.Inf(1), Magnitude: slices.Max(scores.Magnitude)}
	candidates := make([]int, 0, r.Weight.Out)
	if r.Groups == 1 {
		for e := range s {
			candidates = append(candidates, e)
		}
	} else {
		size := r.Weight.Out / r.Groups
		groups, worth := make([]int, r.Groups), make([]float64, r.Groups)
		for g := range groups {
			members := slices.Clone(choice[g*size : (g+1)*size])
			slices.Sort(members)
			groups[g], worth[g] = g, members[size-1]+members[size-2]
		}
		kept := c.best(groups, worth, r.TopKGroups, false)
		slices.Sort(kept)
		for _, g := range kept {
			for e := g * size; e < (g+1)*size; e++ {
				candidates = append(candidates, e)
			}
		}
	}
	c.Experts = c.best(candidates, choice, r.TopK, true)

	sum := 0.0
	for _, e := range c.Experts {
		c.Weights = append(c.Weights, s[e])
		sum += s[e]
	}
	for i := range c.Weights {
		if r.Normalize {
			c.Weights[i] /= sum + 1e-20
		}
		c.Weights[i] *= r.Scale
	}
	return c
}

// best returns the k members of ids that are worth most, best first, and
// narrows the margin to the differences that decided: which are in and, if
// ordered, in which order.
func (c *Choice) best(ids []int, worth []float64, k int, ordered bool) []int {
	sorted := slices.Clone(ids)
	slices.SortStableFunc(sorted, func(a, b int) int { return cmp.Compare(worth[b], worth[a]) })
	for i := 1; i < len(sorted); i++ {
		decided := i == k || ordered && i < k
		if gap := worth[sorted[i-1]] - worth[sorted[i]]; decided && gap > 0 {
			c.Margin = min(c.Margin, gap)
		}
	}
	return sorted[:k]
}
