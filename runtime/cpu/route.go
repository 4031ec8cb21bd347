package cpu

import (
	"fmt"
	"math"

	"github.com/marlingen/marlingen/runtime"
)

// A routing is a router's constants and the number of routed experts.
type routing struct {
	runtime.Routing
	experts uint64
}

// routed returns the number of routed experts of a launch: all but those of the
// slots beyond the top k.
func routed(s runtime.Shape, r runtime.Routing) uint64 {
	if s.Slots < r.TopK || s.Slots-r.TopK > s.Experts {
		return 0
	}
	return uint64(s.Experts - (s.Slots - r.TopK))
}

var route = &pass{
	params: []param{
		constant("shape", "Shape"),
		constant("routing", "Routing"),
		read("router", "float", words(routedExperts, hidden)),
		read("bias", "float", words(routedExperts)),
		read("x", "float", words(tokens, hidden)),
		write("scores", "float", words(tokens, scoresOf)),
		write("chosen", "uint", words(tokens, slots)),
		write("chosen_prob", "float", words(tokens, slots)),
	},
	check: checkRouting,
	run:   runRoute,
}

func checkRouting(s runtime.Shape, r *routing) error {
	switch {
	case s.Slots < r.TopK || s.Slots-r.TopK > 1:
		return fmt.Errorf("routing: %d slots for the top %d and at most one shared expert", s.Slots, r.TopK)
	case r.Groups < 1 || r.experts%uint64(r.Groups) != 0:
		return fmt.Errorf("routing: %d routed experts in %d groups", r.experts, r.Groups)
	case r.Groups > 1 && r.experts/uint64(r.Groups) < 2:
		return fmt.Errorf("routing: groups of %d routed experts have no two best", r.experts/uint64(r.Groups))
	case r.Groups > 1 && (r.TopKGroups < 1 || r.TopKGroups > r.Groups):
		return fmt.Errorf("routing: the best %d of %d groups", r.TopKGroups, r.Groups)
	case r.Normalize > 1:
		return fmt.Errorf("routing: normalize is %d, want 0 or 1", r.Normalize)
	}
	candidates := r.experts
	if r.Groups > 1 {
		candidates = r.experts / uint64(r.Groups) * uint64(r.TopKGroups)
	}
	if r.TopK < 1 || uint64(r.TopK) > candidates {
		return fmt.Errorf("routing: the best %d of %d experts", r.TopK, candidates)
	}
	return nil
}

func runRoute(c *call) error { return c.each(int(c.shape.Tokens), routeToken) }

func routeToken(c *call, sc *scratch, t int) {
	r := c.routing
	n, columns, slots := int(r.experts), int(c.shape.Hidden), int(c.shape.Slots)
	width := n + int(r.Groups)
	router, bias, row := c.floats("router"), c.floats("bias"), c.floats("x")[t*columns:(t+1)*columns]
	scores := c.floats("scores")[t*width : (t+1)*width]
	choice, worth := scores[:n], scores[n:]
	s, out := sized(&sc.scores, n), sized(&sc.out, width)
	for e := range s {
		s[e] = sigmoid(dot(router[e*columns:(e+1)*columns], row))
		choice[e] = s[e] + bias[e]
	}
	clear(out)
	if r.Groups > 1 {
		dropGroups(choice, out[:n], worth, out[n:], int(r.TopKGroups))
	}
	chosen, prob := c.uints("chosen")[t*slots:(t+1)*slots], c.floats("chosen_prob")[t*slots:(t+1)*slots]
	sum := float32(0)
	for k := range int(r.TopK) {
		e := largest(choice, out[:n])
		out[e] = true
		chosen[k], prob[k] = uint32(e), s[e]
		sum += s[e]
	}
	for k := range int(r.TopK) {
		if r.Normalize == 1 {
			prob[k] /= sum + 1e-20
		}
		prob[k] *= r.Scale
	}
	if slots > int(r.TopK) {
		chosen[r.TopK], prob[r.TopK] = uint32(n), 1
	}
}

// dropGroups puts out the experts of all but the keep best groups. A group is
// worth the sum of its two best experts.
func dropGroups(choice []float32, out []bool, worth []float32, kept []bool, keep int) {
	size := len(choice) / len(worth)
	for g := range worth {
		members, out := choice[g*size:(g+1)*size], out[g*size:(g+1)*size]
		best := largest(members, out)
		out[best] = true
		worth[g] = members[best] + members[largest(members, out)]
	}
	for range keep {
		kept[largest(worth, kept)] = true
	}
	for e := range out {
		out[e] = !kept[e/size]
	}
}

// largest returns the index of the largest value that is not out; of equals,
// the lowest. A NaN is less than any number.
func largest(values []float32, out []bool) int {
	best := -1
	for i, v := range values {
		if !out[i] && (best < 0 || v > values[best] || values[best] != values[best] && v == v) {
			best = i
		}
	}
	return best
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// dot returns Σ a·b, for slices of one length.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(a) >= 4 && len(b) >= 4 {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	for i, v := range a {
		s0 += v * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}
