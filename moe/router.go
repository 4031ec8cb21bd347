package moe

import (
	"errors"
	"fmt"
	"math"
	gort "runtime"
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
	routing := new(Routing)
	if err := (&decision{workers: newGoroutines(gort.GOMAXPROCS(0))}).route(r, routing, x, hidden); err != nil {
		return nil, err
	}
	return routing, nil
}

// sized returns n elements of any content, in the memory of s if that is
// enough.
func sized[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }
