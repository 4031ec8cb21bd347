package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A graphCell is one batch of a mix.
type graphCell struct {
	*grapher
	mix       *graphMix
	batch     int
	random    *rand.Rand
	known     []int // rows of known tokens
	launches  [][]runtime.Launch
	each      moe.Snapshot // what is counted when all layers have run once
	bytes     float64      // of distinct experts, of all layers
	checked   int
	deviation float64

	recorded runtime.Graph // of all layers, repeats times
	repeats  int
	once     time.Duration // that the graph takes

	graph, forward GraphTimes
	counted        moe.Snapshot // of what was timed
}

func (c *graphCell) String() string {
	s := fmt.Sprintf("%s, batch %d", c.mix.name, c.batch)
	if c.mix.override != "" {
		s += ", " + c.mix.override
	}
	return s
}

// prepare makes the launches of all layers, holds the outputs of those with known
// tokens to the oracle, and warms up.
func (c *graphCell) prepare(ctx context.Context) error {
	if err := c.verify(ctx); err != nil {
		return err
	}
	if err := c.record(ctx, 1); err != nil {
		return err
	}
	if c.once < shortGraph {
		if err := c.record(ctx, shortRepeats); err != nil {
			return err
		}
	}
	_, err := c.forwards(ctx) // the first call of each layer gets its buffers
	c.mix.counters.Reset()
	return err
}

// verify makes the launches, and holds their outputs to the oracle.
func (c *graphCell) verify(ctx context.Context) error {
	for i := range min(c.Known, c.batch) {
		c.known = append(c.known, i*(c.batch-1)/max(1, min(c.Known, c.batch)-1))
	}
	for n := range c.mix.layers {
		x := make([]float32, c.batch*c.Shape.Hidden)
		noise(x, c.random)
		for i := range c.mix.knowns[n] {
			if i < len(c.known) {
				copy(x[c.known[i]*c.Shape.Hidden:], c.mix.knowns[n][i].x)
			}
		}
		launches, err := c.layer(n, x)
		if err != nil {
			return fmt.Errorf("layer %d: %w", n, err)
		}
		c.launches = append(c.launches, launches)
		if symbol := c.mix.override; symbol != "" && c.each.Launches[symbol] == 0 {
			return fmt.Errorf("layer %d: no launch of %s", n, symbol)
		}
		if err := c.check(ctx, n); err != nil {
			return fmt.Errorf("layer %d: %w", n, err)
		}
	}
	return nil
}

// check runs layer n and compares its known tokens.
func (c *graphCell) check(ctx context.Context, n int) error {
	nan := make([]byte, 4*c.batch*c.Shape.Hidden)
	for i := range nan {
		nan[i] = 0xff
	}
	if _, err := c.results["out"].WriteAt(nan, 0); err != nil {
		return err
	}
	if err := errors.Join(c.enqueue(n), c.queue.Wait(ctx)); err != nil {
		return err
	}
	got := make([]byte, len(nan))
	if _, err := c.results["out"].ReadAt(got, 0); err != nil {
		return err
	}
	out := make([]float64, len(got)/4)
	for i := range out {
		v := float64(math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("output %d is %v", i, v)
		}
		out[i] = v
	}
	for i, row := range c.known {
		if i >= len(c.mix.knowns[n]) {
			break
		}
		d := oracle.Distance(out[row*c.Shape.Hidden:][:c.Shape.Hidden], c.mix.knowns[n][i].out)
		if !(d <= c.Tolerance) {
			return fmt.Errorf("token %d is %.2g from the oracle's; the tolerance is %.0e", row, d, c.Tolerance)
		}
		c.deviation, c.checked = max(c.deviation, d), c.checked+1
	}
	return nil
}

// layer returns the launches of layer n for x.
func (c *graphCell) layer(n int, x []float32) ([]runtime.Launch, error) {
	l := c.mix.layers[n]
	routing, err := l.Route(x)
	if err != nil {
		return nil, err
	}
	a, err := l.Assign(routing)
	if err != nil {
		return nil, err
	}
	plan, err := l.Plan(a)
	if err != nil {
		return nil, err
	}
	if len(plan.Host) > 0 {
		return nil, fmt.Errorf("the host would run %v", plan.Host[0].Tuple)
	}
	for e := range c.mix.weights[n].Experts {
		if a.Rows(e) > 0 {
			c.bytes += float64(bytesOf(&c.mix.weights[n].Experts[e]))
		}
	}
	args := map[string]runtime.Arg{"weights": {Buffer: c.weights}, "experts": {Buffer: c.mix.experts[n]}}
	for name, b := range c.results {
		args[name] = runtime.Arg{Buffer: b}
	}
	for name, content := range map[string]any{"x": x, "token": a.Token, "prob": a.Prob, "row": a.Row} {
		b, err := c.buffer(encode(content), 0)
		if err != nil {
			return nil, err
		}
		args[name] = runtime.Arg{Buffer: b}
	}
	shape := runtime.Shape{
		Tokens: uint32(a.Tokens), Slots: uint32(a.Slots), Experts: uint32(c.Shape.Experts),
		Hidden: uint32(c.Shape.Hidden), Intermediate: uint32(c.Shape.Intermediate), Rows: uint32(len(a.Token)),
	}
	var launches []runtime.Launch
	add := func(k *runtime.Kernel, work []runtime.Work) error {
		s := shape
		s.Items = uint32(len(work))
		launch, err := k.Launch(s, args)
		launches = append(launches, launch)
		return err
	}
	counted := moe.Snapshot{
		Launches: map[string]uint64{}, Assignments: map[runtime.BitTuple]uint64{}, Fallbacks: map[moe.Fallback]uint64{},
	}
	for _, s := range plan.GateUp { // a group is in one step of each pass
		for _, group := range s.Groups {
			counted.Assignments[group.Tuple] += uint64(group.Rows)
			for _, f := range group.Fallbacks {
				counted.Fallbacks[f]++
			}
		}
	}
	for _, s := range plan.Steps() {
		b, err := c.buffer(encode(s.Work), 0)
		if err != nil {
			return nil, err
		}
		args["work"] = runtime.Arg{Buffer: b}
		if err := add(s.Kernel, s.Work); err != nil {
			return nil, err
		}
	}
	combine, err := runtime.Select(c.Table, c.Library.Availability(), runtime.Request{Pass: runtime.Combine})
	if err != nil {
		return nil, err
	}
	if err := add(combine.Kernel, nil); err != nil {
		return nil, err
	}
	for _, l := range launches {
		counted.Launches[l.Kernel.Symbol]++
	}
	c.each = sum(c.each, counted)
	return launches, nil
}

func encode(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err) // v has no fixed size
	}
	return b
}

// enqueue launches layer n.
func (c *graphCell) enqueue(n int) error {
	for i, l := range c.launches[n] {
		if i > 0 && l.Kernel.Pass != c.launches[n][i-1].Kernel.Pass {
			c.queue.Barrier()
		}
		if err := c.queue.Launch(l); err != nil {
			return err
		}
	}
	c.queue.Barrier()
	return nil
}

// record makes a graph of all layers, a number of times, that has run, in the place
// of the one that there is.
func (c *graphCell) record(ctx context.Context, repeats int) (err error) {
	if c.recorded != nil {
		if err := c.recorded.Close(); err != nil {
			return err
		}
	}
	c.recorded, err = c.queue.Record(func() error {
		for range repeats {
			for n := range c.launches {
				if err := c.enqueue(n); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.repeats = repeats
	for range 2 { // its first run uploads it
		if c.once, err = c.replay(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

// replay returns the device's time of the graph, run a number of times.
func (c *graphCell) replay(ctx context.Context, times int) (time.Duration, error) {
	for range times {
		if err := c.recorded.Launch(); err != nil {
			return 0, err
		}
	}
	err := c.queue.Wait(ctx)
	return c.queue.GPUTime(), err
}

// What lies between two graphs must not count, so short ones hold all layers
// several times. A cell of long ones gets fewer samples.
const (
	shortGraph   = time.Millisecond
	shortRepeats = 4
	longCell     = 10 // samples' time, of a round
)

// measure takes a round's samples of c, of replays and of forwards.
func (c *graphCell) measure(ctx context.Context) error {
	times := 1 + int(c.Time/max(c.once, time.Microsecond))
	var ms []float64
	for all := time.Duration(0); len(ms) < c.Samples && (len(ms) == 0 || all < longCell*c.Time); {
		t, err := c.replay(ctx, times)
		if err != nil {
			return err
		}
		all += t
		ms = append(ms, t.Seconds()*1e3/float64(times*c.repeats*len(c.launches)))
		c.counted = sum(c.counted, repeated(c.each, uint64(times*c.repeats)))
	}
	c.graph.add(ms)
	ms, err := c.forwards(ctx)
	if err != nil {
		return err
	}
	c.forward.add(ms)
	c.counted = sum(c.counted, c.mix.counters.Reset())
	return nil
}

// repeated returns s, counted a number of times.
func repeated(s moe.Snapshot, times uint64) moe.Snapshot {
	s = sum(moe.Snapshot{}, s)
	for k := range s.Launches {
		s.Launches[k] *= times
	}
	for k := range s.Assignments {
		s.Assignments[k] *= times
	}
	for k := range s.Fallbacks {
		s.Fallbacks[k] *= times
	}
	return s
}

// forwards returns the milliseconds of calls of Layer.Forward, which routes, plans
// and copies, of all layers in turn.
func (c *graphCell) forwards(ctx context.Context) (ms []float64, err error) {
	x, out := make([]float32, c.batch*c.Shape.Hidden), make([]float32, c.batch*c.Shape.Hidden)
	noise(x, c.random)
	start := time.Now()
	for i := 0; i == 0 || i < c.Samples && time.Since(start) < longCell*c.Time; i++ {
		for _, l := range c.mix.layers {
			before := time.Now()
			if err := l.ForwardInto(ctx, out, x); err != nil {
				return nil, err
			}
			ms = append(ms, time.Since(before).Seconds()*1e3)
		}
	}
	return ms, nil
}

// result says what c measured.
func (c *graphCell) result() GraphResult {
	r := GraphResult{
		Mix: c.mix.name, Override: c.mix.override, Batch: c.batch, Checked: c.checked, Deviation: c.deviation,
		Bytes: c.bytes / float64(len(c.launches)), Graph: c.graph, Forward: c.forward,
	}
	for _, l := range c.launches {
		r.Launches = max(r.Launches, len(l))
	}
	r.GBs = r.Bytes / r.Graph.Median() / 1e6
	return r
}
