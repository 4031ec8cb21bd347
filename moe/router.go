package moe

import (
	"errors"
	"fmt"
	"math"
	gort "runtime"
	"slices"

	"github.com/marlingen/marlingen/moe/logits"
	"github.com/marlingen/marlingen/runtime"
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
	routing := new(Routing)
	if err := r.route(routing, &candidates{workers: newGoroutines(gort.GOMAXPROCS(0))}, x, hidden); err != nil {
		return nil, err
	}
	return routing, nil
}

// candidates are what a router chooses from, for one token. It keeps its memory
// from token to token.
type candidates struct {
	workers        runtime.Workers
	times          logits.Multiplier
	scores, choice []float32 // [experts]; the choice is with the bias
	experts        []int     // of the groups that are kept
	groups, kept   []int
	worth          []float32 // [groups]
	chosen         []int
}

// route is Route into the memory of routing.
func (r *Router) route(routing *Routing, c *candidates, x []float32, hidden int) error {
	experts, tokens := len(r.Bias), len(x)/hidden
	routing.Tokens, routing.TopK = tokens, r.TopK
	routing.Logits = sized(routing.Logits, tokens*experts)
	routing.Experts, routing.Weights = routing.Experts[:0], routing.Weights[:0]
	c.scores, c.choice = sized(c.scores, experts), sized(c.choice, experts)
	c.times.Times(routing.Logits, x, r.Weight, hidden, c.workers)
	for t := range tokens {
		for e, logit := range routing.Logits[t*experts:][:experts] {
			c.scores[e] = float32(1 / (1 + math.Exp(-float64(logit))))
			c.choice[e] = c.scores[e] + r.Bias[e]
			if v := float64(c.choice[e]); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("router: the score of token %d for expert %d is %v", t, e, v)
			}
		}
		r.narrow(c)
		c.chosen = best(c.chosen[:0], c.experts, r.TopK, c.choice)
		norm := float32(1)
		if r.Normalize {
			norm = 1e-20
			for _, e := range c.chosen {
				norm += c.scores[e]
			}
		}
		for _, e := range c.chosen {
			routing.Experts = append(routing.Experts, e)
			routing.Weights = append(routing.Weights, c.scores[e]/norm*r.Scale)
		}
	}
	return nil
}

// narrow leaves in c the experts of the groups that are kept: those whose two
// best choices have the largest sums.
func (r *Router) narrow(c *candidates) {
	c.experts = c.experts[:0]
	if r.Groups == 1 {
		c.experts = appendRange(c.experts, 0, len(c.choice))
		return
	}
	size := len(c.choice) / r.Groups
	c.groups, c.worth = appendRange(c.groups[:0], 0, r.Groups), c.worth[:0]
	for g := range r.Groups {
		first, second := float32(math.Inf(-1)), float32(math.Inf(-1))
		for _, v := range c.choice[g*size:][:size] {
			first, second = max(first, v), max(second, min(first, v))
		}
		c.worth = append(c.worth, first+second)
	}
	c.kept = best(c.kept[:0], c.groups, r.TopKGroups, c.worth)
	slices.Sort(c.kept)
	for _, g := range c.kept {
		c.experts = appendRange(c.experts, g*size, (g+1)*size)
	}
}

// best appends to dst, which is empty, the n of xs with the largest values,
// largest first; the earlier of equals wins.
func best(dst, xs []int, n int, values []float32) []int {
	for _, x := range xs {
		at := len(dst)
		for at > 0 && values[dst[at-1]] < values[x] {
			at--
		}
		if at < n {
			dst = slices.Insert(dst[:min(len(dst), n-1)], at, x)
		}
	}
	return dst
}

// appendRange appends first to end-1.
func appendRange(xs []int, first, end int) []int {
	for x := first; x < end; x++ {
		xs = append(xs, x)
	}
	return xs
}

// sized returns n elements of any content, in the memory of s if that is
// enough.
func sized[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }
