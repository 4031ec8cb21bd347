package bench

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/runtime/cpu/limits"
)

// Options say what to measure, and how.
type Options struct {
	Codecs   []moe.Codec // for the host, which has to have nothing to do
	Sweeps   []Sweep
	Memory   int                   // bytes of weights, cut into layers; limits read it as well
	Layers   int                   // most of a case
	Rounds   int                   // over which medians are
	Time     time.Duration         // of a cell in a round
	Known    int                   // tokens of each case that the oracle computes
	Seed     uint64                // of inputs and routers
	Progress func(done, total int) // told after each cell of each round; or nil
}

// A Result is what came of one cell.
type Result struct {
	Sweep     string
	Mix       string
	Tuples    int // different ones in a layer
	Shape     Shape
	Batch     int
	Threads   int
	Precision string
	Override  string // symbol of the kernel that was asked for
	Layers    int
	Calls     int
	Deviation float64 // from the oracle
	MS        float64 // median over rounds of a round's median
	BestMS    float64 // of any call
	Bytes     float64 // of the experts that a call reads, on average, and of the router on a host
	MACs      float64 // of a call
	FloorMS   float64 // what the machine's limits allow; 0 for a device that has others
	Bound     string  // by which: read or multiply
	GBs       float64 // of weights
	GMACs     float64 // 10⁹ multiply-accumulates per second
	Fraction  float64 // of the limit that is reached: FloorMS / MS

	Known     int       // outputs that were held to the oracle
	Tolerance float64   // that Deviation may have
	Times     []float64 // of each call, ms
	RoundsMS  []float64 // median of each round, in order
}

// A Report is what came of a run.
type Report struct {
	Time         time.Time
	Took         time.Duration
	Machine      Machine
	Command      string
	Device       string
	Memory       int // bytes of weights
	Rounds       int
	Others       float64 // part of the processors' time that other programs took; negative if unknown
	Instructions limits.Instructions
	Limits       []limits.Limits // by threads
	Results      []Result
	Counters     moe.Snapshot // of all calls
}

// Run measures. Its error names the first cell that is not as it should be.
// While it runs, the garbage of the process is collected early: next to the
// weights, any would be allowed to pile up.
func Run(ctx context.Context, o Options) (*Report, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	others := others()
	pool := weights.NewPool(o.Memory)
	meter, err := limits.NewMeter(pool.Data)
	if err != nil {
		return nil, err
	}
	b := &bencher{Options: o, pool: pool, meter: meter, samples: map[int][]limits.Sample{}}
	b.noise = make([]float32, 4<<20)
	noise(b.noise, rand.New(rand.NewPCG(o.Seed, 1)))
	for i := range o.Sweeps {
		for _, c := range o.Sweeps[i].Cases {
			if _, err := c.layers(pool, 1, b.random()); err != nil {
				return nil, err // before much is done
			}
		}
		b.total += o.Sweeps[i].Cells() * (o.Rounds + 1)
	}
	report := &Report{
		Time: time.Now().UTC(), Machine: ThisMachine(), Memory: o.Memory, Rounds: o.Rounds, Instructions: limits.Used(),
	}
	var cells []*cell
	for i := range o.Sweeps {
		cs, err := b.sweep(ctx, &o.Sweeps[i])
		if err != nil {
			return nil, err
		}
		cells = append(cells, cs...)
	}
	for _, threads := range slices.Sorted(maps.Keys(b.samples)) {
		report.Limits = append(report.Limits, limits.Of(threads, b.samples[threads]))
	}
	for _, c := range cells {
		report.Results = append(report.Results, c.result(report.Limits))
		report.Counters = sum(report.Counters, c.counted)
	}
	report.Took, report.Others = time.Since(report.Time), others()
	return report, nil
}

type bencher struct {
	Options
	pool        *weights.Pool
	meter       *limits.Meter
	noise       []float32
	samples     map[int][]limits.Sample // by threads
	done, total int
	seed        uint64
}

// sweep measures the cells of s.
func (b *bencher) sweep(ctx context.Context, s *Sweep) (cells []*cell, err error) {
	var stacks []*stack
	defer func() {
		for _, s := range stacks {
			s.close()
		}
	}()
	for i := range s.Cases {
		c := &s.Cases[i]
		r := b.random()
		layers, err := c.layers(b.pool, b.Layers, r)
		if err != nil {
			return nil, err
		}
		ks, err := knowns(layers[0], b.Known, r)
		if err != nil {
			return nil, err
		}
		first := len(stacks)
		for _, v := range s.Variants {
			st, err := newStack(b.Options, v, layers, ks)
			if err != nil {
				return nil, err
			}
			stacks = append(stacks, st)
		}
		for _, batch := range c.Batches {
			if batch*c.Shape.Hidden > len(b.noise)/2 {
				return nil, fmt.Errorf("a batch of %d tokens of %d is too large to measure", batch, c.Shape.Hidden)
			}
			for i, v := range s.Variants {
				st := stacks[first+i]
				cl := &cell{
					stack: st, sweep: s.Name, mix: c.Mix.Name, shape: c.Shape, variant: v, batch: batch,
					noise: b.noise, random: b.random(), out: make([]float32, batch*c.Shape.Hidden),
				}
				cells = append(cells, cl)
				if err := cl.verify(ctx); err != nil {
					return nil, err
				}
				b.step()
			}
		}
	}
	for range b.Rounds {
		if err := b.round(ctx, s, cells); err != nil {
			return nil, err
		}
	}
	return cells, b.limits(s)
}

// round measures each cell once, the variants of a batch one after another, and
// the limits before each case and, of several variants, before each batch.
func (b *bencher) round(ctx context.Context, s *Sweep, cells []*cell) error {
	for i, c := range cells {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i == 0 || &cells[i-1].weights[0] != &c.weights[0] || len(s.Variants) > 1 && cells[i-1].batch != c.batch {
			if err := b.limits(s); err != nil {
				return err
			}
		}
		if err := c.measure(ctx, b.Time); err != nil {
			return err
		}
		b.step()
	}
	return nil
}

// limits takes a sample for each number of threads of s.
func (b *bencher) limits(s *Sweep) error {
	var threads []int
	for _, v := range s.Variants {
		if onHost(v.Device) {
			threads = append(threads, v.Threads)
		}
	}
	slices.Sort(threads)
	for _, n := range slices.Compact(threads) {
		sample, err := b.meter.Sample(n)
		if err != nil {
			return err
		}
		b.samples[n] = append(b.samples[n], sample)
	}
	return nil
}

// random returns a source of its own for each call.
func (b *bencher) random() *rand.Rand {
	b.seed++
	return rand.New(rand.NewPCG(b.Seed, 1+b.seed))
}

func (b *bencher) step() {
	b.done++
	if b.Progress != nil {
		b.Progress(b.done, b.total)
	}
}

// result says what c measured, against the limits.
func (c *cell) result(all []limits.Limits) Result {
	r := Result{
		Sweep: c.sweep, Mix: c.mix, Tuples: tuples(c.weights[0]), Shape: c.shape, Batch: c.batch,
		Threads: c.variant.Threads, Precision: c.variant.Precision, Override: c.variant.Override,
		Layers: len(c.layers), Calls: c.calls, Deviation: c.deviation, MS: median(c.rounds), BestMS: c.best,
		Bytes: c.bytes / float64(c.calls), MACs: c.shape.MACs(c.batch * c.shape.TopK),
		Known: c.checked, Tolerance: c.variant.Tolerance, Times: c.times, RoundsMS: c.rounds,
	}
	if onHost(c.variant.Device) {
		r.FloorMS, r.Bound = floor(all, r.Threads, r.Bytes, r.MACs)
	}
	r.GBs, r.GMACs, r.Fraction = r.Bytes/r.MS/1e6, r.MACs/r.MS/1e6, r.FloorMS/r.MS
	return r
}

// floor returns the least milliseconds that some threads take for a work, as
// their limits are, and which limit that is.
func floor(all []limits.Limits, threads int, bytes, macs float64) (ms float64, bound string) {
	l := all[slices.IndexFunc(all, func(l limits.Limits) bool { return l.Threads == threads })]
	ms, bound = bytes/l.Read.Median/1e6, "read"
	peak := l.Int8.Median
	if peak == 0 {
		peak = l.FP32.Median
	}
	if multiply := macs / peak / 1e6; peak > 0 && multiply > ms {
		return multiply, "multiply"
	}
	return ms, bound
}
