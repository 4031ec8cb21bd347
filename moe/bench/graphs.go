package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
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

	Override  string        // symbol of a kernel to run in its pass, next to those that are selected; or empty
	Layers    int           // with weights of their own, that run one after another
	Known     int           // tokens of the first and the last layer that the oracle computes
	Tolerance float64       // of outputs, as ‖output − oracle‖ / ‖oracle‖
	Rounds    int           // over all cells
	Samples   int           // of a cell in a round, at most
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
	Mix       string
	Override  string // symbol of the kernel that was asked for
	Batch     int
	Launches  int        // per layer, at most
	Checked   int        // outputs that were held to the oracle
	Deviation float64    // from the oracle
	Bytes     float64    // of distinct experts that a layer reads, on average
	Graph     GraphTimes // of a layer in a replayed graph
	Forward   GraphTimes // of Layer.Forward, routing on the device, from input to output on the host
	GBs       float64    // of Graph
	Fraction  float64    // of the copy rate
}

// GraphTimes are milliseconds of a layer.
type GraphTimes struct {
	Rounds []float64 // medians, in order
	All    []float64 // samples
}

// Median is that of all samples.
func (t GraphTimes) Median() float64 { return median(t.All) }

// Tenths are what a tenth of the samples is below, and above.
func (t GraphTimes) Tenths() (low, high float64) {
	s := slices.Sorted(slices.Values(t.All))
	return s[len(s)/10], s[len(s)-1-len(s)/10]
}

func (t *GraphTimes) add(round []float64) {
	t.Rounds, t.All = append(t.Rounds, median(round)), append(t.All, round...)
}

// A GraphReport is what came of RunGraphs.
type GraphReport struct {
	Device    runtime.Info
	Shape     Shape
	Layers    int
	CopyGBs   float64
	Tolerance float64 // that outputs may be off the oracle's
	Results   []GraphResult
	Counters  moe.Snapshot // of what was timed: launches of graphs as often as they were replayed
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
	report := &GraphReport{Device: o.Device.Info(), Shape: o.Shape, Layers: o.Layers, Tolerance: o.Tolerance}
	total, done := (1+o.Rounds)*len(g.cells), 0
	step := func() {
		done++
		if o.Progress != nil {
			o.Progress(done, total)
		}
	}
	for _, c := range g.cells {
		if err := c.prepare(ctx); err != nil {
			return nil, fmt.Errorf("%v: %w", c, err)
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
	for range o.Rounds {
		for _, c := range g.cells {
			if err := c.measure(ctx); err != nil {
				return nil, fmt.Errorf("%v: %w", c, err)
			}
			step()
		}
	}
	for _, c := range g.cells {
		r := c.result()
		r.Fraction = r.GBs / report.CopyGBs
		report.Results = append(report.Results, r)
		report.Counters = sum(report.Counters, c.counted)
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
	name     string
	override string // symbol of the kernel that was asked for
	weights  []moe.Weights
	layers   []*moe.Layer
	counters *moe.Counters    // of the layers
	experts  []runtime.Buffer // descriptors, by layer
	knowns   [][]known        // by layer; empty but for the first and the last
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
	for _, c := range g.cells {
		if c.recorded != nil {
			_ = c.recorded.Close()
		}
	}
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
		g.mixes = append(g.mixes, m)
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return err
	}
	if g.Override != "" {
		for _, m := range g.mixes {
			g.mixes = append(g.mixes, &graphMix{name: m.name, override: g.Override, weights: m.weights, knowns: m.knowns})
		}
		slices.SortStableFunc(g.mixes, func(a, b *graphMix) int { return slices.IndexFunc(cases, a.of) - slices.IndexFunc(cases, b.of) })
	}
	for _, m := range g.mixes {
		if err := g.open(m); err != nil {
			return err
		}
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

// of reports whether m is of case c.
func (m *graphMix) of(c Case) bool { return m.name == c.Mix.Name }

// open makes the layers of m, and their descriptors.
func (g *grapher) open(m *graphMix) error {
	m.counters = new(moe.Counters)
	for _, w := range m.weights {
		l, err := moe.NewLayer(w, moe.Options{
			Device: g.Device, Library: g.Library, Table: g.Table, Codecs: g.Codecs, Weights: g.weights, RouteOnDevice: true,
			Counters: m.counters, KernelOverride: m.override,
		})
		if err != nil {
			return err
		}
		m.layers = append(m.layers, l)
		var descriptors []byte
		for i := range w.Experts {
			descriptors = w.Experts[i].AppendDescriptor(descriptors)
		}
		b, err := g.buffer(descriptors, 0)
		if err != nil {
			return err
		}
		m.experts = append(m.experts, b)
	}
	return nil
}

// Fill sets what r measured in d: its correctness, counters and cells.
func (r *GraphReport) Fill(d *result.Document) error {
	d.Counters = result.NewCounters(r.Counters)
	others := slices.ContainsFunc(r.Results, func(r GraphResult) bool { return r.Override != "" })
	var errs []error
	for _, g := range r.Results {
		d.Correctness.Merge(result.Correctness{
			Passed: g.Checked > 0 && g.Deviation <= r.Tolerance, Checked: g.Checked, Worst: g.Deviation, Tolerance: r.Tolerance,
		})
		for _, path := range []struct {
			name    string
			times   GraphTimes
			metrics map[string]float64
		}{
			{"graph", g.Graph, map[string]float64{"fraction": g.Fraction, "copy_gb_s": r.CopyGBs, "floor_ms": g.Bytes / r.CopyGBs / 1e6, "deviation": g.Deviation}},
			{"forward", g.Forward, map[string]float64{}},
		} {
			ms, err := result.Summarize(path.times.All)
			errs = append(errs, err)
			path.metrics["bytes"], path.metrics["gb_s"] = g.Bytes, g.Bytes/ms.Median/1e6
			path.metrics["macs"] = r.Shape.MACs(g.Batch * r.Shape.TopK)
			path.metrics["gmac_s"] = path.metrics["macs"] / ms.Median / 1e6
			c := result.Cell{
				Name:    notOfNames.ReplaceAllString(fmt.Sprintf("%s/%s/experts:%d/batch:%d", path.name, g.Mix, r.Shape.Experts, g.Batch), "_"),
				Samples: len(path.times.All), RoundsMS: path.times.Rounds, MS: ms, Metrics: path.metrics,
				Labels: map[string]string{
					"path": path.name, "mix": g.Mix, "shape": r.Shape.String(), "experts": strconv.Itoa(r.Shape.Experts),
					"batch": strconv.Itoa(g.Batch), "layers": strconv.Itoa(r.Layers), "launches": strconv.Itoa(g.Launches),
				},
			}
			compared(&c, g.Override, others)
			d.Cells = append(d.Cells, c)
		}
	}
	return errors.Join(errs...)
}
