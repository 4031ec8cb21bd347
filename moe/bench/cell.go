package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A stack is layers of one case on one device.
type stack struct {
	table    *runtime.Table
	weights  []moe.Weights
	layers   []*moe.Layer
	counters *moe.Counters
	knowns   []known // of the first layer
	next     int     // layer
}

func newStack(o Options, v *Variant, weights []moe.Weights, ks []known) (*stack, error) {
	s := &stack{table: v.Table, weights: weights, counters: new(moe.Counters), knowns: ks}
	for _, w := range weights {
		l, err := moe.NewLayer(w, moe.Options{
			Device: v.Device, Library: v.Library, Table: v.Table, Codecs: o.Codecs, Counters: s.counters,
			KernelOverride: v.Override,
		})
		if err != nil {
			s.close()
			return nil, err
		}
		s.layers = append(s.layers, l)
	}
	return s, nil
}

// close closes the layers. An error is of no use to anybody any more.
func (s *stack) close() {
	for _, l := range s.layers {
		_ = l.Close()
	}
}

// A cell is one batch size of a stack.
type cell struct {
	*stack
	sweep   string
	mix     string
	shape   Shape
	variant *Variant
	batch   int
	noise   []float32 // that inputs are cut from
	random  *rand.Rand
	out     []float32

	checked   int // outputs
	deviation float64
	rounds    []float64 // median of each round, ms
	times     []float64 // of every call, ms
	counted   moe.Snapshot
	best      float64 // ms
	calls     int
	bytes     float64 // of all calls
}

func (c *cell) String() string {
	s := fmt.Sprintf("%s, batch %d, %d threads, %s", c.mix, c.batch, c.variant.Threads, c.variant.Precision)
	if c.variant.Override != "" {
		s += ", " + c.variant.Override
	}
	return s
}

// verify holds the cell to the oracle, on outputs that were poisoned, and warms all
// layers up.
func (c *cell) verify(ctx context.Context) error {
	x := slices.Clone(c.input())
	var rows []int
	for i, k := range c.knowns {
		row := i * (c.batch - 1) / max(1, len(c.knowns)-1)
		if slices.Contains(rows, row) {
			break
		}
		rows = append(rows, row)
		copy(x[row*c.shape.Hidden:], k.x)
	}
	c.counters.Reset()
	for i := range c.out {
		c.out[i] = float32(math.NaN())
	}
	if err := c.layers[0].ForwardInto(ctx, c.out, x); err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	if i := slices.IndexFunc(c.out, func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) }); i >= 0 {
		return fmt.Errorf("%v: output %d of token %d is %v", c, i%c.shape.Hidden, i/c.shape.Hidden, c.out[i])
	}
	c.checked = len(rows)
	for i, row := range rows {
		c.deviation = max(c.deviation, oracle.Distance(oracle.Floats(c.out[row*c.shape.Hidden:][:c.shape.Hidden]), c.knowns[i].out))
	}
	if !(c.deviation <= c.variant.Tolerance) {
		return fmt.Errorf("%v: the output is %.2g from the oracle's; the tolerance is %.0e", c, c.deviation, c.variant.Tolerance)
	}
	for _, l := range c.layers[1:] {
		if err := l.ForwardInto(ctx, c.out, c.input()); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	_, err := c.check(len(c.layers))
	return err
}

// measure runs the cell for some time, and at least twice.
func (c *cell) measure(ctx context.Context, enough time.Duration) error {
	var times []float64
	c.counters.Reset()
	for start := time.Now(); len(times) < 2 || time.Since(start) < enough; {
		x := c.input()
		n := c.next
		c.next = (n + 1) % len(c.layers)
		before := time.Now()
		if err := c.layers[n].ForwardInto(ctx, c.out, x); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
		ms := time.Since(before).Seconds() * 1e3
		times = append(times, ms)
		if c.best == 0 || ms < c.best {
			c.best = ms
		}
		touched, err := c.touched(n, x)
		if err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
		c.bytes += touched
	}
	c.calls += len(times)
	c.times = append(c.times, times...)
	c.rounds = append(c.rounds, median(times))
	counted, err := c.check(len(times))
	c.counted = sum(c.counted, counted)
	return err
}

// touched returns the bytes of the experts that layer n takes x to and, of a
// layer that routes in the memory that they are in, of the router.
func (c *cell) touched(n int, x []float32) (float64, error) {
	routing, err := c.layers[n].Route(x)
	if err != nil {
		return 0, err
	}
	bytes := 0
	if onHost(c.variant.Device) {
		bytes = 4 * len(c.weights[n].Router.Weight)
	}
	seen := make([]bool, c.shape.Experts)
	for _, e := range routing.Experts {
		if !seen[e] {
			seen[e] = true
			bytes += bytesOf(&c.weights[n].Experts[e])
		}
	}
	return float64(bytes), nil
}

// input returns other tokens than before, mostly.
func (c *cell) input() []float32 {
	n := c.batch * c.shape.Hidden
	return c.noise[c.random.IntN(len(c.noise)-n):][:n]
}

// check holds what was counted to the given number of forwards: each pass on a
// kernel, each row once, and no step down from a kernel that a spec asks for. It
// returns what was counted, and resets the counters.
func (c *cell) check(forwards int) (moe.Snapshot, error) {
	s := c.counters.Reset()
	for _, f := range s.FallbackCounts() {
		if f.Reason == runtime.ReasonUnlisted && f.To != moe.Host {
			continue // no spec asks for a better kernel
		}
		return s, fmt.Errorf("%v: fallback of %v in %s: %s → %s, %s (%d×)", c, f.Tuple, f.Pass, f.From, f.To, f.Reason, f.Count)
	}
	launches := map[runtime.Pass]uint64{}
	for symbol, n := range s.Launches {
		if k := c.table.Kernel(symbol); k != nil {
			launches[k.Pass] += n
		}
	}
	for _, p := range []runtime.Pass{runtime.GateUp, runtime.Down, runtime.Combine} {
		if launches[p] < uint64(forwards) {
			return s, fmt.Errorf("%v: %d launches of %s in %d forwards", c, launches[p], p, forwards)
		}
	}
	if symbol := c.variant.Override; symbol != "" && s.Launches[symbol] == 0 {
		return s, fmt.Errorf("%v: no launch in %d forwards", c, forwards)
	}
	rows := uint64(0)
	for _, n := range s.Assignments {
		rows += n
	}
	if want := uint64(forwards * c.batch * c.shape.TopK); s.Forwards != uint64(forwards) || rows != want {
		return s, fmt.Errorf("%v: %d rows in %d forwards; want %d in %d", c, rows, s.Forwards, want, forwards)
	}
	return s, nil
}

// sum adds two counts. Its maps are new.
func sum(a, b moe.Snapshot) moe.Snapshot {
	s := moe.Snapshot{
		Forwards: a.Forwards + b.Forwards,
		Launches: map[string]uint64{}, Assignments: map[runtime.BitTuple]uint64{}, Fallbacks: map[moe.Fallback]uint64{},
	}
	for _, part := range []moe.Snapshot{a, b} {
		add(s.Launches, part.Launches)
		add(s.Assignments, part.Assignments)
		add(s.Fallbacks, part.Fallbacks)
	}
	return s
}

func add[K comparable](to, counts map[K]uint64) {
	for k, n := range counts {
		to[k] += n
	}
}

// median returns the middle of vs, or the mean of its two.
func median(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	return (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2
}
