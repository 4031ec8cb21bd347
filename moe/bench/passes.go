package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/kernels"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu/limits"
)

// KernelOptions say what RunKernels measures: each pass of experts with each
// number of rows, of each tuple of a mix and of the mix itself.
type KernelOptions struct {
	Variants []*Variant // on which devices; Override is the same in all
	Shape    Shape
	Mix      Mix
	Passes   []runtime.Pass
	Rows     []int // of each expert
	Experts  int   // of a launch; 0 for top-k of one row each, and all of more
	Memory   int   // bytes of weights
	Rounds   int
	Time     time.Duration         // of a cell in a round
	Copy     int                   // bytes, to measure the copy rate of a CopyMeter with
	Seed     uint64                // of inputs
	Progress func(done, total int) // told after each cell of each round; or nil
}

// RunKernels measures kernels without a layer around them, and fills d with
// what came of it; of a run that fails or is interrupted, what came until then.
// The kernels that a layer selects, those of another kind that are for the same,
// and the one that was asked for take turns, on all devices.
func RunKernels(ctx context.Context, o KernelOptions, d *result.Document) (err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	b := &kernelBencher{KernelOptions: o, samples: map[int][]limits.Sample{}}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(); err != nil {
		return err
	}
	groups, err := b.groups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		b.total += len(g) * (1 + o.Rounds)
	}
	defer b.fill(d)
	for _, g := range groups {
		if err := b.measure(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

type kernelBencher struct {
	KernelOptions
	benches []*kernels.Bench // by variant; the first has the weights
	meter   *limits.Meter
	samples map[int][]limits.Sample // by threads
	copies  map[*Variant]float64    // GB/s
	done    []*kernelCell
	steps   int
	total   int
}

// A kernelCell is some experts on some kernels of a variant.
type kernelCell struct {
	bench   *kernels.Bench
	variant *Variant
	c       kernels.Case
	what    string // a tuple, or the mix
	which   string // Selected, Other or Overridden

	run           *kernels.Run
	rounds, times []float64 // ms
}

func (c *kernelCell) symbols() (symbols []string) {
	for _, k := range c.c.Kernels {
		symbols = append(symbols, k.Symbol)
	}
	return symbols
}

func (c *kernelCell) String() string {
	return fmt.Sprintf("%s of %s, %d rows, %s, %d threads, %s",
		c.c.Pass(), c.what, c.c.Experts[0].Rows, strings.Join(c.symbols(), " and "), c.variant.Threads, c.variant.Precision)
}

// open makes a bench for each variant, and measures what copies take.
func (b *kernelBencher) open() error {
	b.copies = map[*Variant]float64{}
	for _, v := range b.Variants {
		o := kernels.Options{Device: v.Device, Library: v.Library, Table: v.Table, Memory: b.Memory, Seed: b.Seed}
		open := kernels.New
		if len(b.benches) > 0 {
			open = b.benches[0].Beside
		}
		kb, err := open(o)
		if err != nil {
			return err
		}
		b.benches = append(b.benches, kb)
		if onHost(v.Device) && b.meter == nil {
			if b.meter, err = limits.NewMeter(kb.Weights()); err != nil {
				return err
			}
		}
		if meter, ok := v.Device.(CopyMeter); ok {
			rate, err := meter.CopyRate(b.Copy)
			if err != nil {
				return err
			}
			b.copies[v] = rate / 1e9
		}
	}
	return nil
}

func (b *kernelBencher) close() error {
	var errs []error
	for _, kb := range slices.Backward(b.benches) {
		errs = append(errs, kb.Close())
	}
	return errors.Join(errs...)
}

// groups returns the cells, those together that take turns.
func (b *kernelBencher) groups() (groups [][]*kernelCell, err error) {
	var why error // the first reason why the kernel that was asked for cannot run something
	asked := 0    // cases that it runs
	for _, pass := range b.Passes {
		for _, rows := range b.Rows {
			n := b.Experts
			if n == 0 {
				n = b.Shape.Experts
				if rows == 1 {
					n = b.Shape.TopK
				}
			}
			for _, e := range b.experts(n) {
				var group []*kernelCell
				for i, v := range b.Variants {
					sets, refused, err := b.kernels(v, pass, e.tuples, rows)
					if err != nil {
						return nil, err
					}
					switch {
					case refused == nil:
						asked++
					case why == nil:
						why = refused
					}
					for _, s := range sets {
						group = append(group, &kernelCell{
							bench: b.benches[i], variant: v, what: e.name, which: s.which,
							c: kernels.Case{
								Kernels: s.kernels, Hidden: b.Shape.Hidden, Intermediate: b.Shape.Intermediate,
								TopK: min(n, b.Shape.TopK), Experts: kernels.Even(e.tuples, rows),
							},
						})
					}
				}
				groups = append(groups, group)
			}
		}
	}
	if asked == 0 && why != nil {
		return nil, why
	}
	return groups, nil
}

// namedExperts are the experts of a launch.
type namedExperts struct {
	name   string
	tuples []runtime.BitTuple
}

// experts returns n experts of each tuple of the mix, and of the mix if they are
// of several.
func (b *kernelBencher) experts(n int) (all []namedExperts) {
	for _, t := range distinct(b.Mix.Tuples(b.Shape.Experts)) {
		all = append(all, namedExperts{t.String(), slices.Repeat([]runtime.BitTuple{t}, n)})
	}
	if mixed := b.Mix.Tuples(n); len(distinct(mixed)) > 1 {
		all = append(all, namedExperts{b.Mix.Name, mixed})
	}
	return all
}

// A kernelSet is kernels that run some experts together.
type kernelSet struct {
	kernels []*runtime.Kernel
	which   string
}

// kernels returns the sets of kernels that run experts of some tuples: that which
// a layer selects; each other kind that is there for all of them, generic kernels
// aside; and the kernel that was asked for, or why it cannot run them.
func (b *kernelBencher) kernels(v *Variant, pass runtime.Pass, tuples []runtime.BitTuple, rows int) (sets []kernelSet, refused, err error) {
	have := v.Library.Availability()
	layer := rows * len(tuples)
	tuples = distinct(tuples)
	request := func(t runtime.BitTuple) runtime.Request {
		return runtime.Request{Pass: pass, Codec: kernels.Codec, Tuple: t, Rows: rows, Layer: layer, Shared: len(tuples) > 1}
	}
	selected := kernelSet{which: Selected}
	for _, t := range tuples {
		choice, err := runtime.Select(v.Table, have, request(t))
		if err != nil {
			return nil, nil, err
		}
		selected.add(choice.Kernel)
	}
	sets = append(sets, selected)
	for _, kind := range []runtime.Kind{runtime.Tuple, runtime.Fairway} {
		other := kernelSet{which: Other}
		for _, t := range tuples {
			at := slices.IndexFunc(v.Table.Kernels, func(k *runtime.Kernel) bool {
				r := request(t)
				r.Override = k.Symbol
				choice, err := runtime.Select(v.Table, have, r)
				return k.Kind == kind && err == nil && choice.Kernel == k
			})
			if at < 0 {
				other.kernels = nil
				break
			}
			other.add(v.Table.Kernels[at])
		}
		sets = appendSet(sets, other)
	}
	if v.Override == "" {
		return sets, nil, nil
	}
	asked := kernelSet{which: Overridden}
	for _, t := range tuples {
		r := request(t)
		r.Override = v.Override
		choice, err := runtime.Select(v.Table, have, r)
		if err != nil {
			return sets, err, nil
		}
		asked.add(choice.Kernel)
	}
	for i := range sets {
		if slices.Equal(sets[i].kernels, asked.kernels) { // it is there anyway
			if sets[i].which == Other {
				sets[i].which = Overridden
			}
			return sets, nil, nil
		}
	}
	return append(sets, asked), nil, nil
}

// add adds a kernel once. Those that run more tuples come later.
func (s *kernelSet) add(k *runtime.Kernel) {
	if slices.Contains(s.kernels, k) {
		return
	}
	s.kernels = append(s.kernels, k)
	order := []runtime.Kind{runtime.Tuple, runtime.Fairway, runtime.Generic}
	slices.SortStableFunc(s.kernels, func(a, b *runtime.Kernel) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
}

// appendSet appends s, if it has kernels that none of sets has.
func appendSet(sets []kernelSet, s kernelSet) []kernelSet {
	if len(s.kernels) == 0 || slices.ContainsFunc(sets, func(o kernelSet) bool { return slices.Equal(o.kernels, s.kernels) }) {
		return sets
	}
	return append(sets, s)
}

func distinct[T comparable](s []T) (d []T) {
	for _, v := range s {
		if !slices.Contains(d, v) {
			d = append(d, v)
		}
	}
	return d
}

// measure holds the cells of a group to the oracle, and times them in turns.
func (b *kernelBencher) measure(ctx context.Context, group []*kernelCell) (err error) {
	defer func() {
		for _, c := range group {
			if c.run != nil {
				err = errors.Join(err, c.run.Close())
			}
		}
	}()
	for _, c := range group {
		if c.run, err = c.bench.Prepare(ctx, c.c); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
		b.step()
	}
	if err := b.limits(); err != nil {
		return err
	}
	for range b.Rounds {
		for _, c := range group {
			ms, err := c.run.Sample(ctx, b.Time)
			if err != nil {
				return fmt.Errorf("%v: %w", c, err)
			}
			c.times = append(c.times, ms...)
			c.rounds = append(c.rounds, median(ms))
			b.step()
		}
	}
	b.done = append(b.done, group...)
	return nil
}

// limits takes a sample for each number of threads.
func (b *kernelBencher) limits() error {
	var threads []int
	for _, v := range b.Variants {
		if onHost(v.Device) && !slices.Contains(threads, v.Threads) {
			threads = append(threads, v.Threads)
			s, err := b.meter.Sample(v.Threads)
			if err != nil {
				return err
			}
			b.samples[v.Threads] = append(b.samples[v.Threads], s)
		}
	}
	return nil
}

func (b *kernelBencher) step() {
	b.steps++
	if b.Progress != nil {
		b.Progress(b.steps, b.total)
	}
}

// fill writes to d what is done.
func (b *kernelBencher) fill(d *result.Document) {
	var all []limits.Limits
	for _, threads := range slices.Sorted(maps.Keys(b.samples)) {
		all = append(all, limits.Of(threads, b.samples[threads]))
	}
	var counted moe.Snapshot
	for _, c := range b.done {
		counts := c.run.Counts()
		counted = sum(counted, moe.Snapshot{Launches: counts.Launches, Assignments: counts.Assignments})
		d.Correctness.Merge(result.Correctness{
			Passed:  c.run.Checked > 0 && c.run.Deviation <= c.bench.Tolerance,
			Checked: c.run.Checked, Worst: c.run.Deviation, Tolerance: c.bench.Tolerance,
		})
		d.Cells = append(d.Cells, b.cell(c, all))
	}
	d.Counters = result.NewCounters(counted)
}

// cell returns what c measured.
func (b *kernelBencher) cell(c *kernelCell, all []limits.Limits) result.Cell {
	k, rows := c.c.Kernels[0], c.c.Experts[0].Rows
	symbols := strings.Join(c.symbols(), "+")
	what := symbols
	if len(c.c.Kernels) > 1 {
		what = "each_" + string(k.Kind)
	}
	ms, _ := result.Summarize(c.times) // there are some
	cell := result.Cell{
		Name: notOfNames.ReplaceAllString(fmt.Sprintf("%s/rows:%d/%s/%s/threads:%d/%s",
			k.Pass, rows, c.what, what, c.variant.Threads, c.variant.Precision), "_"),
		Samples: len(c.times), RoundsMS: c.rounds, MS: ms,
		Labels: map[string]string{
			"pass": string(k.Pass), "symbol": symbols, "tuple": c.what, "family": k.Family, "kind": string(k.Kind), "rows": strconv.Itoa(rows),
			"variant": c.which, "kernels": symbols, "experts": strconv.Itoa(len(c.c.Experts)), "sets": strconv.Itoa(c.run.Sets),
			"hidden": strconv.Itoa(c.c.Hidden), "intermediate": strconv.Itoa(c.c.Intermediate),
			"threads": strconv.Itoa(c.variant.Threads), "precision": c.variant.Precision,
		},
		Metrics: map[string]float64{
			"bytes": c.run.Bytes, "weight_bytes": c.run.WeightBytes, "macs": c.run.MACs, "deviation": c.run.Deviation,
			"gb_s": c.run.Bytes / ms.Median / 1e6, "gmac_s": c.run.MACs / ms.Median / 1e6,
		},
	}
	switch rate := b.copies[c.variant]; {
	case onHost(c.variant.Device):
		at, bound := floor(all, c.variant.Threads, c.run.Bytes, c.run.MACs)
		cell.Labels["bound"], cell.Metrics["floor_ms"], cell.Metrics["fraction"] = bound, at, at/ms.Median
	case rate > 0:
		cell.Metrics["copy_gb_s"], cell.Metrics["floor_ms"] = rate, c.run.Bytes/rate/1e6
		cell.Labels["bound"], cell.Metrics["fraction"] = "copy", c.run.Bytes/rate/1e6/ms.Median
	}
	return cell
}
