package moe

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/marlingen/marlingen/moe/logits"
	"github.com/marlingen/marlingen/runtime"
)

// A decision is how a Router routes some tokens on workers. It keeps its memory
// from call to call.
type decision struct {
	workers    runtime.Workers
	times      logits.Multiplier
	candidates []candidates        // by worker
	task       func(worker, i int) // made once, so that a call allocates nothing

	// Of one call.
	router  *Router
	routing *Routing
	mu      sync.Mutex
	err     error
	failed  int // the token of err
}

// together is the number of tokens that a worker decides for at a time.
const together = 16

// route is Route of r into the memory of routing.
func (d *decision) route(r *Router, routing *Routing, x []float32, hidden int) error {
	experts, tokens := len(r.Bias), len(x)/hidden
	routing.Tokens, routing.TopK = tokens, r.TopK
	routing.Logits = sized(routing.Logits, tokens*experts)
	routing.Experts, routing.Weights = sized(routing.Experts, tokens*r.TopK), sized(routing.Weights, tokens*r.TopK)
	d.times.Times(routing.Logits, x, r.Weight, hidden, d.workers)
	for len(d.candidates) < d.workers.Workers() {
		d.candidates = append(d.candidates, candidates{})
	}
	if d.task == nil {
		d.task = d.choose
	}
	d.router, d.routing, d.err = r, routing, nil
	d.workers.Each((tokens+together-1)/together, d.task)
	d.router, d.routing = nil, nil
	return d.err
}

// choose decides for the i-th tokens, until one fails.
func (d *decision) choose(worker, i int) {
	c := &d.candidates[worker]
	for t := i * together; t < min((i+1)*together, d.routing.Tokens); t++ {
		if err := c.choose(d.router, d.routing, t); err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.err == nil || t < d.failed {
				d.err, d.failed = err, t
			}
			return
		}
	}
}

// candidates are what a router chooses from, for one token.
type candidates struct {
	scores, choice []float32 // [experts]; the choice is with the bias
	experts        []int     // of the groups that are kept
	groups, kept   []int
	worth          []float32 // [groups]
	chosen         []int
	_              [128]byte // workers have cache lines of their own
}

// choose decides for token t, whose logits are known.
func (c *candidates) choose(r *Router, routing *Routing, t int) error {
	experts := len(r.Bias)
	c.scores, c.choice = sized(c.scores, experts), sized(c.choice, experts)
	row, scores, choice := routing.Logits[t*experts:][:experts], c.scores, c.choice
	for e, bias := range r.Bias {
		scores[e] = float32(1 / (1 + math.Exp(-float64(row[e]))))
		choice[e] = scores[e] + bias
	}
	for e, v := range choice {
		if v-v != 0 { // not finite
			return fmt.Errorf("router: the score of token %d for expert %d is %v", t, e, v)
		}
	}
	c.narrow(r)
	c.chosen = best(c.chosen[:0], c.experts, r.TopK, c.choice)
	norm := float32(1)
	if r.Normalize {
		norm = 1e-20
		for _, e := range c.chosen {
			norm += c.scores[e]
		}
	}
	copy(routing.Experts[t*r.TopK:], c.chosen)
	for i, e := range c.chosen {
		routing.Weights[t*r.TopK+i] = c.scores[e] / norm * r.Scale
	}
	return nil
}

// narrow leaves in c the experts of the groups that are kept: those whose two
// best choices have the largest sums.
func (c *candidates) narrow(r *Router) {
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
		switch {
		case len(dst) < n:
			dst = append(dst, x)
		case !(values[dst[n-1]] < values[x]):
			continue
		}
		at := len(dst) - 1
		for ; at > 0 && values[dst[at-1]] < values[x]; at-- {
			dst[at] = dst[at-1]
		}
		dst[at] = x
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
