package main

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

// workloadFlags say what of a profile is measured, and how.
type workloadFlags struct {
	deviceFlag
	resultFlags
	Profile        string        `help:"Profile that says what to measure: ${profiles}." default:"mixed_bpw_fairway_glm47" placeholder:"NAME"`
	Tuples         []string      `help:"Tuples, or profiles with their mixtures, instead of the profile's mixture." placeholder:"TUPLE"`
	Shape          []int         `help:"hidden,intermediate,experts,top-k, instead of the profile's." placeholder:"N"`
	Threads        []int         `help:"Numbers of threads of the cpu device; without it, as many as Go uses." placeholder:"N"`
	Precision      []string      `help:"Precisions of the cpu device: exact, fast. Several take turns." enum:"exact,fast" default:"fast"`
	KernelOverride string        `help:"Kernel to run in its pass, in turns with those that are selected." placeholder:"SYMBOL"`
	Rounds         int           `help:"Rounds, of which medians are taken." default:"5"`
	Time           time.Duration `help:"What a cell takes of a round." default:"200ms"`
	Memory         int           `help:"MB of weights." default:"1100"`
}

// A workload is what the flags ask for.
type workload struct {
	profile *runtime.Profile
	shape   bench.Shape
	mixes   []bench.Mix
	threads []int
}

func (f *workloadFlags) workload() (w workload, err error) {
	if w.profile = profileOf(f.Profile); w.profile == nil {
		return w, fmt.Errorf("--profile %s: there are %s", f.Profile, profileNames())
	}
	if w.profile.Codec != "trellis" {
		return w, fmt.Errorf("--profile %s is for codec %s; there are weights of trellis alone", f.Profile, w.profile.Codec)
	}
	w.mixes = []bench.Mix{bench.Of(w.profile)}
	var errs []error
	check := func(err error) { errs = append(errs, err) }
	if w.shape, err = shapeOf(f.Shape, w.profile); err != nil {
		check(err)
	}
	if len(f.Tuples) > 0 {
		if w.mixes, err = mixesOf(f.Tuples); err != nil {
			check(err)
		}
	}
	if f.Rounds < 1 || f.Memory < 1 {
		check(fmt.Errorf("--rounds %d, --memory %d: want at least 1", f.Rounds, f.Memory))
	}
	if w.threads = f.Threads; len(w.threads) == 0 {
		w.threads = []int{goruntime.GOMAXPROCS(0)}
	}
	return w, errors.Join(errs...)
}

// numbers returns those of a flag or, without it, those of a profile.
func numbers(flag string, given, listed []int, p *runtime.Profile) ([]int, error) {
	if len(given) == 0 {
		given = listed
	}
	if len(given) == 0 {
		return nil, fmt.Errorf("profile %s has no bench section, which would list them: add it to %s, or give --%s", p.Name, p.Spec, flag)
	}
	for _, n := range given {
		if n < 1 {
			return nil, fmt.Errorf("--%s %d: want at least 1", flag, n)
		}
	}
	return given, nil
}

// layers measures layers alone at some batches.
func (f *workloadFlags) layers(ctx context.Context, a *app, benchmark string, w workload, batches []int) error {
	if f.Device.kind() == "cuda" {
		return f.graphs(ctx, a, &f.resultFlags, benchmark, bench.GraphOptions{
			Shape: w.shape, Mixes: w.mixes, Batches: batches, Override: f.KernelOverride, Known: 2, Rounds: f.Rounds, Time: f.Time,
		})
	}
	return f.run(ctx, a, benchmark, result.Layers, w, func(variants []*bench.Variant, d resultDocument, progress func(done, total int)) error {
		o := bench.Options{
			Codecs: codecs, Memory: f.Memory * 1e6, Layers: 32,
			Rounds: f.Rounds, Time: f.Time, Known: 2, Seed: 1, Progress: progress,
		}
		sweep := bench.Sweep{Name: benchmark, Variants: variants}
		for _, m := range w.mixes {
			sweep.Cases = append(sweep.Cases, bench.Case{Mix: m, Shape: w.shape, Batches: batches})
		}
		o.Sweeps = []bench.Sweep{sweep}
		r, err := bench.Run(ctx, o)
		if err != nil {
			return err
		}
		return r.Fill(d.Document)
	})
}

// run opens the device, has measure fill the result, and writes it.
func (f *workloadFlags) run(ctx context.Context, a *app, benchmark string, level result.Level, w workload,
	measure func(variants []*bench.Variant, d resultDocument, progress func(done, total int)) error,
) error {
	d := newResult(a.args, time.Now(), runtime.Info{Kind: string(f.Device)})
	d.Benchmark, d.Level = benchmark, level
	variants, end, err := f.variants(ctx, w.threads, f.Precision, f.KernelOverride)
	defer end()
	if err != nil {
		return f.record(ctx, d, err)
	}
	info := variants[0].Device.Info()
	d.Device = result.Device{Kind: info.Kind, Name: info.Name, Driver: info.Driver}
	show, finish := a.progress("measuring")
	err = measure(variants, d, show)
	finish()
	return f.finish(ctx, a, d, err)
}

// finish writes d, the result of a run whose error is err.
func (f *workloadFlags) finish(ctx context.Context, a *app, d resultDocument, err error) error {
	if err := f.record(ctx, d, err); err != nil {
		return err
	}
	return f.show(a, d, func() { a.cells(d.Document) })
}

// cells writes what was measured, for people.
func (a *app) cells(d *result.Document) {
	what := map[result.Level]string{
		result.Kernels: "kernels, without a layer around them",
		result.Layers:  "layers, without a model around them",
		result.Models:  "a whole model",
	}[d.Level]
	fmt.Fprintf(a.out, "%s · %s · %s\n\n", d.Device.Name, d.Device.Driver, what)
	header, rows := report.Cells(d.Cells)
	a.columns(header, rows)
	fmt.Fprintf(a.out, "\n%s%d forwards, %d launches, %s\n", report.CellsLegend(header), d.Counters.Forwards, total(d.Counters.Launches), fallbacks(d))
}

func total(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// fallbacks says which steps down were taken.
func fallbacks(d *result.Document) string {
	var words []string
	for _, f := range d.Counters.Fallbacks {
		words = append(words, fmt.Sprintf("%d× %v in %s: %s → %s, %s", f.Count, f.Tuple, f.Pass, f.From, f.To, f.Reason))
	}
	if len(words) == 0 {
		return "no fallbacks"
	}
	slices.Sort(words)
	return "fallbacks: " + strings.Join(words, "; ")
}
