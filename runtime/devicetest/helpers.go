package devicetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A routeCase is a launch of a route kernel.
type routeCase struct {
	tokens, hidden, experts  int // routed experts
	topK, groups, topKGroups int
	normalize, shared        bool
	ties                     bool // experts come in identical copies
}

var routeCases = []routeCase{
	{tokens: 33, hidden: 144, experts: 64, topK: 4, groups: 1, topKGroups: 1, normalize: true, shared: true},
	{tokens: 1, hidden: 80, experts: 16, topK: 4, groups: 1, topKGroups: 1, normalize: true},
	{tokens: 17, hidden: 80, experts: 16, topK: 3, groups: 4, topKGroups: 2, shared: true},
	{tokens: 20, hidden: 2064, experts: 300, topK: 8, groups: 1, topKGroups: 1, normalize: true, shared: true},
	{tokens: 9, hidden: 112, experts: 320, topK: 8, groups: 4, topKGroups: 3, normalize: true},
	{tokens: 25, hidden: 80, experts: 64, topK: 6, groups: 1, topKGroups: 1, normalize: true, ties: true},
	{tokens: 25, hidden: 48, experts: 300, topK: 5, groups: 4, topKGroups: 2, shared: true, ties: true},
	{tokens: 3, hidden: 48, experts: 5, topK: 5, groups: 1, topKGroups: 1},
	{tokens: 3, hidden: 48, experts: 6, topK: 1, groups: 3, topKGroups: 1, normalize: true},
}

func checkRoute(s *session, k *runtime.Kernel) error {
	for i, c := range routeCases {
		if err := c.check(s, k, uint64(i)); err != nil {
			return fmt.Errorf("%+v: %w", c, err)
		}
	}
	return nil
}

func (c routeCase) check(s *session, k *runtime.Kernel, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 2))
	const scale = 1.75
	slots := c.topK
	if c.shared {
		slots++
	}
	x, router, bias := c.random(r)
	routing := runtime.Routing{TopK: uint32(c.topK), Groups: uint32(c.groups), TopKGroups: uint32(c.topKGroups), Scale: scale}
	if c.normalize {
		routing.Normalize = 1
	}
	shape := runtime.Shape{
		Tokens: uint32(c.tokens), Slots: uint32(slots), Experts: uint32(c.experts + slots - c.topK),
		Hidden: uint32(c.hidden), Intermediate: 16, Rows: uint32(c.tokens * slots),
	}
	in := inputs{"routing": runtime.AppendRouting(nil, routing), "router": encode(router), "bias": encode(bias), "x": encode(x)}
	out := outputs{"scores": 4 * c.tokens * (c.experts + c.groups), "chosen": 4 * c.tokens * slots, "chosen_prob": 4 * c.tokens * slots}
	first, err := s.run(k, shape, in, out)
	if err != nil {
		return err
	}

	truth := oracle.Router{
		Weight: oracle.Matrix{Out: c.experts, In: c.hidden, W: oracle.Floats(router)}, Bias: oracle.Floats(bias),
		TopK: c.topK, Groups: c.groups, TopKGroups: c.topKGroups, Normalize: c.normalize, Scale: scale,
	}
	if err := truth.Check(); err != nil {
		return err
	}
	chosen, prob := decodeUints(first["chosen"]), decodeFloats(first["chosen_prob"])
	close := 0 // calls that rounding may decide
	for t := range c.tokens {
		want := truth.Route(oracle.Floats(x[t*c.hidden : (t+1)*c.hidden]))
		if want.Margin < tolerance*want.Magnitude/4 { // of the sigmoid, whose slope is at most 1/4
			close++
			continue
		}
		chosen, prob := chosen[t*slots:(t+1)*slots], prob[t*slots:(t+1)*slots]
		for i, e := range want.Experts {
			// The sigmoid passes on at most the score's error, relatively.
			allowed := want.Weights[i] * tolerance * (1 + want.Magnitude)
			if chosen[i] != uint32(e) || !(math.Abs(float64(prob[i])-want.Weights[i]) <= allowed) {
				return fmt.Errorf("token %d, slot %d: expert %d with %v, want %d with %v within %.2g", t, i, chosen[i], prob[i], e, want.Weights[i], allowed)
			}
		}
		if c.shared && (chosen[c.topK] != uint32(c.experts) || prob[c.topK] != 1) {
			return fmt.Errorf("token %d: expert %d with %v in the shared slot, want %d with 1", t, chosen[c.topK], prob[c.topK], c.experts)
		}
	}
	if close > c.tokens/2 {
		return fmt.Errorf("the suite made %d of %d tokens that rounding decides", close, c.tokens)
	}

	again, err := s.run(k, shape, in, out)
	if err != nil {
		return err
	}
	delete(first, "scores") // scratch
	return first.equal(again)
}

// random returns the x, router and bias of c. Those of ties are small multiples
// of 1/8, whose sums are exact in any order.
func (c routeCase) random(r *rand.Rand) (x, router, bias []float32) {
	if !c.ties {
		return normal(r, c.tokens*c.hidden, 1), normal(r, c.experts*c.hidden, 2/math.Sqrt(float64(c.hidden))), normal(r, c.experts, 0.1)
	}
	eighths := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.IntN(3)-1) / 4
		}
		return v
	}
	const kinds = 7
	distinct := eighths(kinds * c.hidden)
	biases := eighths(kinds)
	for e := range c.experts {
		kind := r.IntN(kinds)
		if c.groups > 1 {
			kind = e % kinds * (1 + e/(c.experts/c.groups)%2) % kinds // groups that are copies, too
		}
		router = append(router, distinct[kind*c.hidden:(kind+1)*c.hidden]...)
		bias = append(bias, biases[kind])
	}
	return eighths(c.tokens * c.hidden), router, bias
}

// block is the number of assignments that are counted together.
const block = 256

// A groupCase is assignments, grouped by expert.
type groupCase struct {
	shape  runtime.Shape
	chosen []uint32
	prob   []float32

	counts, base []uint32 // [blocks, experts]
	offsets      []uint32 // [experts + 1]
	token, row   []uint32
	rowProb      []float32
}

func newGroupCase(tokens, slots, experts int, seed uint64) *groupCase {
	r := rand.New(rand.NewPCG(seed, 3))
	rows := tokens * slots
	c := &groupCase{shape: runtime.Shape{
		Tokens: uint32(tokens), Slots: uint32(slots), Experts: uint32(experts), Hidden: 16, Intermediate: 16, Rows: uint32(rows),
	}}
	for range rows {
		// A crowd around some experts; others nobody chose.
		e := r.IntN(experts)
		if r.IntN(2) == 0 {
			e = e * e / experts
		}
		if e%3 == 1 && experts > 2 {
			e--
		}
		c.chosen, c.prob = append(c.chosen, uint32(e)), append(c.prob, r.Float32())
	}

	blocks := (rows + block - 1) / block
	c.counts, c.base = make([]uint32, blocks*experts), make([]uint32, blocks*experts)
	c.offsets = make([]uint32, experts+1)
	for i, e := range c.chosen {
		c.counts[i/block*experts+int(e)]++
	}
	first := uint32(0)
	for e := range experts {
		c.offsets[e] = first
		for b := range blocks {
			c.base[b*experts+e] = first
			first += c.counts[b*experts+e]
		}
	}
	c.offsets[experts] = first

	order := make([]int, rows) // assignments by row
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return int(c.chosen[i]) - int(c.chosen[j]) })
	c.row = make([]uint32, rows)
	for r, i := range order {
		c.token, c.rowProb = append(c.token, uint32(i/slots)), append(c.rowProb, c.prob[i])
		c.row[i] = uint32(r)
	}
	return c
}

func checkGrouping(s *session, k *runtime.Kernel) error {
	for i, size := range []struct{ tokens, slots, experts int }{
		{1, 4, 64}, {64, 4, 65}, {67, 5, 65}, {512, 3, 16}, {257, 5, 300}, {1, 1, 2}, {51, 5, 257}, {700, 9, 1},
	} {
		if err := newGroupCase(size.tokens, size.slots, size.experts, uint64(i)).check(s, k); err != nil {
			return fmt.Errorf("%d tokens of %d slots, %d experts: %w", size.tokens, size.slots, size.experts, err)
		}
	}
	return nil
}

func (c *groupCase) check(s *session, k *runtime.Kernel) error {
	in := inputs{}
	want := results{}
	switch k.Pass {
	case runtime.Count:
		in["chosen"] = encode(c.chosen)
		want["counts"] = encode(c.counts)
	case runtime.Prefix:
		in["counts"] = encode(c.counts)
		want["base"], want["offsets"] = encode(c.base), encode(c.offsets)
	case runtime.Scatter:
		in["chosen"], in["chosen_prob"], in["base"] = encode(c.chosen), encode(c.prob), encode(c.base)
		want["token"], want["prob"], want["row"] = encode(c.token), encode(c.rowProb), encode(c.row)
	}
	return checkExactly(s, k, c.shape, in, want)
}

// checkExactly runs k twice and compares the bits of its outputs.
func checkExactly(s *session, k *runtime.Kernel, shape runtime.Shape, in inputs, want results) error {
	out := outputs{}
	for name, data := range want {
		out[name] = len(data)
	}
	for range 2 {
		have, err := s.run(k, shape, in, out)
		if err != nil {
			return err
		}
		var errs []error
		for name, data := range want {
			if bytes.Equal(have[name], data) {
				continue
			}
			h, w := decodeUints(have[name]), decodeUints(data)
			for i := range w {
				if h[i] != w[i] {
					errs = append(errs, fmt.Errorf("argument %s: element %d is %#x, want %#x", name, i, h[i], w[i]))
					break
				}
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func checkCombine(s *session, k *runtime.Kernel) error {
	for i, size := range []struct{ tokens, slots, hidden int }{
		{1, 5, 80}, {17, 4, 144}, {3, 9, 2064}, {40, 1, 272}, {2, 2, 16},
	} {
		r := rand.New(rand.NewPCG(uint64(i), 4))
		rows := size.tokens * size.slots
		row := make([]uint32, rows)
		for i, r := range r.Perm(rows) {
			row[i] = uint32(r)
		}
		y := normal(r, rows*size.hidden, 1)
		sum := make([]float32, size.tokens*size.hidden)
		for t := range size.tokens {
			for slot := range size.slots {
				for j := range size.hidden {
					sum[t*size.hidden+j] += y[int(row[t*size.slots+slot])*size.hidden+j]
				}
			}
		}
		shape := runtime.Shape{
			Tokens: uint32(size.tokens), Slots: uint32(size.slots), Experts: 16,
			Hidden: uint32(size.hidden), Intermediate: 16, Rows: uint32(rows),
		}
		in := inputs{"row": encode(row), "y": encode(y)}
		if err := checkExactly(s, k, shape, in, results{"out": encode(sum)}); err != nil {
			return fmt.Errorf("%d tokens of %d slots, hidden %d: %w", size.tokens, size.slots, size.hidden, err)
		}
	}
	return nil
}
