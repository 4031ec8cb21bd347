package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// GraphOptions say what RunGraphs measures: layers of each mix at each batch,
// routed and planned beforehand.
type GraphOptions struct {
	Device  runtime.Device  // with queues that are runtime.Recorders and runtime.Timers
	Library runtime.Library // that Device loaded of Table
	Table   *runtime.Table
	Codecs  []moe.Codec
	Shape   Shape
	Mixes   []Mix
	Batches []int

	Layers    int           // with weights of their own, that run one after another
	Known     int           // tokens of the first and the last layer that the oracle computes
	Tolerance float64       // of outputs, as ‖output − oracle‖ / ‖oracle‖
	Samples   int           // over which the median is
	Time      time.Duration // of the device, for a sample
	Copy      int           // bytes, to measure the copy rate with
	Seed      uint64
	Progress  func(done, total int) // or nil
}

// A CopyMeter is a device that can say how fast it copies in its own memory.
type CopyMeter interface {
	// CopyRate returns the bytes that are read and written in a second, by
	// copying size bytes.
	CopyRate(size int) (float64, error)
}

// A GraphResult is what came of one mix and batch.
type GraphResult struct {
	Mix       string  `json:"mix"`
	Batch     int     `json:"batch"`
	Launches  int     `json:"launches"`  // per layer, at most
	Deviation float64 `json:"deviation"` // from the oracle
	US        float64 `json:"us"`        // per layer, median over samples
	LowUS     float64 `json:"low_us"`    // a tenth of the samples is below
	HighUS    float64 `json:"high_us"`   // a tenth of the samples is above
	Bytes     float64 `json:"bytes"`     // of distinct experts that a layer reads, on average
	GBs       float64 `json:"gb_s"`
	Fraction  float64 `json:"fraction"`   // of the copy rate
	ForwardUS float64 `json:"forward_us"` // of Layer.Forward, routing on the device, from input to output on the host, median
	Fallbacks int     `json:"fallbacks"`
}

// A GraphReport is what came of RunGraphs.
type GraphReport struct {
	Device  runtime.Info  `json:"device"`
	Shape   Shape         `json:"shape"`
	Layers  int           `json:"layers"`
	CopyGBs float64       `json:"copy_gb_s"`
	Results []GraphResult `json:"results"`
}

// RunGraphs measures layers on a device that replays graphs: gate_up, down and
// the sum over slots; routing is not in the time. Every batch is held to the
// oracle before anything is timed, and the first that is off it is the error.
func RunGraphs(ctx context.Context, o GraphOptions) (*GraphReport, error) {
	g, err := newGrapher(o)
	if err != nil {
		return nil, err
	}
	defer g.close()
	if err := g.prepare(ctx); err != nil {
		return nil, err
	}
	report := &GraphReport{Device: o.Device.Info(), Shape: o.Shape, Layers: o.Layers}
	total, done := 2*len(g.cells), 0
	step := func() {
		done++
		if o.Progress != nil {
			o.Progress(done, total)
		}
	}
	for _, c := range g.cells {
		if err := c.verify(ctx); err != nil {
			return nil, fmt.Errorf("%s, batch %d: %w", c.mix.name, c.batch, err)
		}
		step()
	}
	meter, ok := o.Device.(CopyMeter)
	if !ok {
		return nil, fmt.Errorf("device %s does not say how fast it copies", o.Device.Info().Kind)
	}
	rate, err := meter.CopyRate(o.Copy)
	if err != nil {
		return nil, err
	}
	report.CopyGBs = rate / 1e9
	for _, c := range g.cells {
		r, err := c.measure(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s, batch %d: %w", c.mix.name, c.batch, err)
		}
		r.Fraction = r.GBs / report.CopyGBs
		report.Results = append(report.Results, r)
		step()
	}
	return report, nil
}

// A recorder is a queue that records, and knows the time.
type recorder interface {
	runtime.Recorder
	runtime.Timer
}

// A grapher is what the cells of a run share.
type grapher struct {
	GraphOptions
	queue   recorder
	weights runtime.Buffer // of all layers of all mixes
	results map[string]runtime.Buffer
	mixes   []*graphMix
	cells   []*graphCell
	buffers []runtime.Buffer
}

// A graphMix is the layers of one mix.
type graphMix struct {
	name    string
	weights []moe.Weights
	layers  []*moe.Layer
	experts []runtime.Buffer // descriptors, by layer
	knowns  [][]known        // by layer; empty but for the first and the last
}

// A graphCell is one batch of a mix.
type graphCell struct {
	*grapher
	mix       *graphMix
	batch     int
	random    *rand.Rand
	known     []int // rows of known tokens
	launches  [][]runtime.Launch
	bytes     float64 // of distinct experts, of all layers
	fallbacks int
	deviation float64
}

func newGrapher(o GraphOptions) (*grapher, error) {
	g := &grapher{GraphOptions: o, results: map[string]runtime.Buffer{}}
	q, err := o.Library.NewQueue()
	if err != nil {
		return nil, err
	}
	var ok bool
	if g.queue, ok = q.(recorder); !ok {
		return nil, errors.Join(fmt.Errorf("queues of device %s do not record", o.Device.Info().Kind), q.Close())
	}
	return g, nil
}

// close frees everything. An error is of no use to anybody any more.
func (g *grapher) close() {
	for _, m := range g.mixes {
		for _, l := range m.layers {
			_ = l.Close()
		}
	}
	_ = g.queue.Close()
	for _, b := range g.buffers {
		_ = b.Close()
	}
}

// buffer returns a buffer with some content, or of some size if that is more.
func (g *grapher) buffer(content []byte, size int) (runtime.Buffer, error) {
	b, err := g.Device.NewBuffer(max(size, len(content)))
	if err != nil {
		return nil, err
	}
	g.buffers = append(g.buffers, b)
	_, err = b.WriteAt(content, 0)
	return b, err
}

// prepare makes the layers of all mixes, what the oracle knows of them, and the
// buffers.
func (g *grapher) prepare(ctx context.Context) error {
	var cases []Case
	var layers []weights.Layer
	for _, m := range g.Mixes {
		c := Case{Mix: m, Shape: g.Shape}
		cases, layers = append(cases, c), append(layers, c.layer())
	}
	pool := weights.PoolFor(layers, g.Layers)
	all, err := g.Device.Wrap(pool.Data)
	if err != nil {
		return err
	}
	g.weights, g.buffers = all, append(g.buffers, all)
	random := func(stream int) *rand.Rand { return rand.New(rand.NewPCG(g.Seed, uint64(stream))) }
	var group errgroup.Group
	for i, c := range cases {
		m := &graphMix{name: c.Mix.Name, knowns: make([][]known, g.Layers)}
		if m.weights, err = c.layers(pool, g.Layers, random(i)); err != nil {
			return err
		}
		for _, n := range slices.Compact([]int{0, g.Layers - 1}) {
			group.Go(func() (err error) {
				m.knowns[n], err = knowns(m.weights[n], g.Known, random(100*(n+1)+i))
				return err
			})
		}
		if err := g.open(m); err != nil {
			return err
		}
		g.mixes = append(g.mixes, m)
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return err
	}
	most := slices.Max(g.Batches)
	for name, columns := range map[string]int{"h": g.Shape.TopK * g.Shape.Intermediate, "y": g.Shape.TopK * g.Shape.Hidden, "out": g.Shape.Hidden} {
		if g.results[name], err = g.buffer(nil, 4*most*columns); err != nil {
			return err
		}
	}
	for i, m := range g.mixes {
		for _, batch := range g.Batches {
			g.cells = append(g.cells, &graphCell{grapher: g, mix: m, batch: batch, random: random(10000*(i+1) + batch)})
		}
	}
	return nil
}

// open makes the layers of m, and their descriptors.
func (g *grapher) open(m *graphMix) error {
	for _, w := range m.weights {
		l, err := moe.NewLayer(w, moe.Options{
			Device: g.Device, Library: g.Library, Table: g.Table, Codecs: g.Codecs, Weights: g.weights, RouteOnDevice: true,
		})
		if err != nil {
			return err
		}
		m.layers = append(m.layers, l)
		var descriptors []byte
		for i := range w.Experts {
			for _, matrix := range []moe.Matrix{w.Experts[i].Gate, w.Experts[i].Up, w.Experts[i].Down} {
				p := runtime.Projection{Bits: uint32(matrix.Bits)}
				for _, s := range matrix.Parts {
					p.Components = append(p.Components, uint64(s.Offset))
				}
				descriptors = runtime.AppendProjection(descriptors, p)
			}
		}
		b, err := g.buffer(descriptors, 0)
		if err != nil {
			return err
		}
		m.experts = append(m.experts, b)
	}
	return nil
}

// verify makes the launches of all layers, and holds the outputs of those with
// known tokens to the oracle.
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
		c.deviation = max(c.deviation, d)
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
	for _, s := range plan.Steps() {
		for _, group := range s.Groups {
			c.fallbacks += len(group.Fallbacks)
		}
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
	return launches, add(combine.Kernel, nil)
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

// warm returns a graph of all layers, a number of times, that has run, and how
// long that takes.
func (c *graphCell) warm(ctx context.Context, rounds int) (runtime.Graph, time.Duration, error) {
	graph, err := c.queue.Record(func() error {
		for range rounds {
			for n := range c.launches {
				if err := c.enqueue(n); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if _, err := c.replay(ctx, graph, 1); err != nil { // its first run uploads it
		return nil, 0, errors.Join(err, graph.Close())
	}
	once, err := c.replay(ctx, graph, 1)
	if err != nil {
		return nil, 0, errors.Join(err, graph.Close())
	}
	return graph, once, nil
}

// replay returns the device's time of a graph, run a number of times.
func (c *graphCell) replay(ctx context.Context, g runtime.Graph, times int) (time.Duration, error) {
	for range times {
		if err := g.Launch(); err != nil {
			return 0, err
		}
	}
	err := c.queue.Wait(ctx)
	return c.queue.GPUTime(), err
}

// What lies between two graphs must not count, so short ones hold all layers
// several times. A cell of long ones gets fewer samples.
const (
	shortGraph  = time.Millisecond
	shortRounds = 4
	fewSamples  = 5
	longCell    = 50 // samples' time
)

// measure records all layers, and takes samples of replays.
func (c *graphCell) measure(ctx context.Context) (r GraphResult, err error) {
	rounds := 1
	graph, once, err := c.warm(ctx, rounds)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, graph.Close()) }()
	if once < shortGraph {
		rounds = shortRounds
		longer, took, err := c.warm(ctx, rounds)
		if err != nil {
			return r, err
		}
		short := graph
		graph, once = longer, took
		if err := short.Close(); err != nil {
			return r, err
		}
	}
	times := 1 + int(c.Time/max(once, time.Microsecond))
	var us []float64
	var all time.Duration
	for len(us) < c.Samples && (len(us) < fewSamples || all < longCell*c.Time) {
		t, err := c.replay(ctx, graph, times)
		if err != nil {
			return r, err
		}
		all += t
		us = append(us, float64(t.Nanoseconds())/1e3/float64(times*rounds*len(c.launches)))
	}
	slices.Sort(us)
	r = GraphResult{
		Mix: c.mix.name, Batch: c.batch, Deviation: c.deviation, Fallbacks: c.fallbacks, Bytes: c.bytes / float64(len(c.launches)),
		US: median(us), LowUS: us[len(us)/10], HighUS: us[len(us)-1-len(us)/10],
	}
	for _, l := range c.launches {
		r.Launches = max(r.Launches, len(l))
	}
	r.GBs = r.Bytes / r.US / 1e3
	r.ForwardUS, err = c.forward(ctx)
	return r, err
}

// forward returns the time of Layer.Forward, which routes, plans and copies, in
// microseconds: the median over calls of all layers in turn.
func (c *graphCell) forward(ctx context.Context) (float64, error) {
	x, out := make([]float32, c.batch*c.Shape.Hidden), make([]float32, c.batch*c.Shape.Hidden)
	noise(x, c.random)
	var us []float64
	start := time.Now()
	for i := 0; i < 2 || i <= c.Samples && time.Since(start) < longCell*c.Time; i++ {
		for _, l := range c.mix.layers {
			before := time.Now()
			if err := l.ForwardInto(ctx, out, x); err != nil {
				return 0, err
			}
			us = append(us, float64(time.Since(before).Nanoseconds())/1e3)
		}
	}
	return median(us[len(c.mix.layers):]), nil // the first call of each gets its buffers
}
