package moe

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Router chooses the experts of each token, as the glm4_moe_lite, glm4_moe
// and deepseek_v3 architectures do: sigmoid scores, a correction bias that
// takes part in the choice alone, and optional groups.
type Router struct {
	Weight     []float32 // [experts, hidden]
	Bias       []float32 // [experts]: e_score_correction_bias
	TopK       int       // experts per token: num_experts_per_tok
	Groups     int       // n_group; 1 for none
	TopKGroups int       // topk_group
	Normalize  bool      // norm_topk_prob
	Scale      float32   // routed_scaling_factor
}

// A Routing is what a Router decided for some tokens.
type Routing struct {
	Tokens, TopK int
	Logits       []float32 // [tokens, experts]: x·Wrᵀ
	Experts      []int     // [tokens, top-k], in descending order of choice
	Weights      []float32 // [tokens, top-k]
}

// Check reports what is wrong with r for inputs of the given width.
func (r *Router) Check(hidden int) error {
	experts := len(r.Bias)
	var errs []error
	if experts == 0 || len(r.Weight) != experts*hidden {
		errs = append(errs, fmt.Errorf("router: %d weights for %d experts of %d inputs", len(r.Weight), experts, hidden))
	}
	if r.Groups < 1 || experts%r.Groups != 0 || r.TopKGroups < 1 || r.TopKGroups > r.Groups {
		errs = append(errs, fmt.Errorf("router: n_group %d and topk_group %d do not fit %d experts", r.Groups, r.TopKGroups, experts))
	} else if size := experts / r.Groups; r.Groups > 1 && size < 2 {
		errs = append(errs, fmt.Errorf("router: groups of %d expert have no two best", size))
	} else if r.TopK < 1 || r.TopK > size*r.TopKGroups {
		errs = append(errs, fmt.Errorf("router: num_experts_per_tok %d of %d experts", r.TopK, size*r.TopKGroups))
	}
	if s := float64(r.Scale); math.IsNaN(s) || math.IsInf(s, 0) {
		errs = append(errs, fmt.Errorf("router: routed_scaling_factor is %v", s))
	}
	return errors.Join(errs...)
}

// Route decides for the tokens of x, [tokens, hidden]. It relies on Check. A
// token whose scores are not finite is an error.
func (r *Router) Route(x []float32, hidden int) (*Routing, error) {
	experts, tokens := len(r.Bias), len(x)/hidden
	routing := &Routing{
		Tokens: tokens, TopK: r.TopK,
		Logits:  make([]float32, tokens*experts),
		Experts: make([]int, 0, tokens*r.TopK),
		Weights: make([]float32, 0, tokens*r.TopK),
	}
	scores := make([]float32, experts)
	choice := make([]float32, experts)
	for t := range tokens {
		for e := range experts {
			logit := float32(dot(x[t*hidden:][:hidden], r.Weight[e*hidden:][:hidden]))
			routing.Logits[t*experts+e] = logit
			scores[e] = float32(1 / (1 + math.Exp(-float64(logit))))
			choice[e] = scores[e] + r.Bias[e]
			if c := float64(choice[e]); math.IsNaN(c) || math.IsInf(c, 0) {
				return nil, fmt.Errorf("router: the score of token %d for expert %d is %v", t, e, c)
			}
		}
		chosen := best(r.eligible(choice), r.TopK, func(e int) float32 { return choice[e] })
		norm := float32(1)
		if r.Normalize {
			norm = 1e-20
			for _, e := range chosen {
				norm += scores[e]
			}
		}
		for _, e := range chosen {
			routing.Experts = append(routing.Experts, e)
			routing.Weights = append(routing.Weights, scores[e]/norm*r.Scale)
		}
	}
	return routing, nil
}

// eligible returns the experts of the groups that are kept: those whose two
// best choices have the largest sums.
func (r *Router) eligible(choice []float32) []int {
	all := upTo(len(choice))
	if r.Groups == 1 {
		return all
	}
	size := len(choice) / r.Groups
	kept := best(upTo(r.Groups), r.TopKGroups, func(g int) float32 {
		two := best(all[g*size:][:size], 2, func(e int) float32 { return choice[e] })
		return choice[two[0]] + choice[two[1]]
	})
	slices.Sort(kept)
	var experts []int
	for _, g := range kept {
		experts = append(experts, all[g*size:][:size]...)
	}
	return experts
}

// best returns the n of xs with the largest values, largest first; the earlier
// of equals wins.
func best(xs []int, n int, value func(int) float32) []int {
	sorted := slices.Clone(xs)
	slices.SortStableFunc(sorted, func(a, b int) int { return cmp.Compare(value(b), value(a)) })
	return sorted[:n]
}

// upTo returns 0 to n-1.
func upTo(n int) []int {
	xs := make([]int, n)
	for i := range xs {
		xs[i] = i
	}
	return xs
}

// dot returns the dot product of a and b, summed in float64.
func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return (s0 + s1) + (s2 + s3)
}
