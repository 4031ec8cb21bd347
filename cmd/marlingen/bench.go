package main

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

type benchCmd struct {
	Layers  benchLayersCmd  `cmd:"" default:"withargs" help:"Time layers, against what the machine can do."`
	Decode  benchDecodeCmd  `cmd:"" help:"Time one token after another: of a whole model, or of layers alone."`
	Prefill benchPrefillCmd `cmd:"" help:"Time batches of tokens: prompts of a whole model, or layers alone."`
	Kernels benchKernelsCmd `cmd:"" help:"Time kernels alone: each pass, number of rows and tuple of a profile."`
}

// resultFlags say where the result of a run goes.
type resultFlags struct {
	Result  string `help:"Write a result, for verify-result; of a run that fails as well." type:"path" placeholder:"FILE"`
	History string `help:"Append the result, as one line, to a file of results; of a run that fails as well." type:"path" placeholder:"FILE.jsonl"`
	JSON    bool   `help:"Write the result as JSON." xor:"format"`
	Gobench bool   `help:"Write Go's benchmark format, for benchstat." xor:"format"`
}

// record ends d, the result of a run whose error is err, and writes it to where the
// flags say. It returns what is wrong with the run, and its own error.
func (f *resultFlags) record(ctx context.Context, d resultDocument, err error) error {
	if err == nil {
		err = d.CheckMeasured()
	}
	d.end(ctx, err)
	if f.Result != "" {
		err = errors.Join(err, d.write(f.Result))
	}
	if f.History != "" {
		err = errors.Join(err, d.Append(f.History))
	}
	return err
}

// show writes d in the format that the flags ask for, or as people writes it.
func (f *resultFlags) show(a *app, d resultDocument, people func()) error {
	switch {
	case f.JSON:
		return a.json(d.Document)
	case f.Gobench:
		return d.WriteGo(a.out)
	}
	people()
	return nil
}

// shapeOf returns the shape that --shape asks for or, without it, that of a
// profile.
func shapeOf(s []int, p *runtime.Profile) (bench.Shape, error) {
	if len(s) == 0 {
		return bench.Shape{Hidden: p.Hidden, Intermediate: p.Intermediate, Experts: p.Experts, TopK: p.TopK}, nil
	}
	if len(s) != 4 || s[0] < 16 || s[0]%16 != 0 || s[1] < 16 || s[1]%16 != 0 || s[3] < 1 || s[2] < s[3] {
		return bench.Shape{}, fmt.Errorf("--shape %v: want hidden, intermediate, experts and top-k, the first two multiples of 16", s)
	}
	return bench.Shape{Hidden: s[0], Intermediate: s[1], Experts: s[2], TopK: s[3]}, nil
}

// mixesOf returns the mixes that --tuples names.
func mixesOf(tuples []string) (mixes []bench.Mix, err error) {
	for _, name := range tuples {
		if p := profileOf(name); p != nil {
			mixes = append(mixes, bench.Of(p))
			continue
		}
		t, err := runtime.ParseBitTuple(name)
		if err == nil && !generated.Table.Codec("trellis").Stores(t) {
			err = fmt.Errorf("codec trellis stores widths %v", generated.Table.Codec("trellis").Widths)
		}
		if err != nil {
			return nil, fmt.Errorf("--tuples %s: %w", name, err)
		}
		mixes = append(mixes, bench.Uniform(t))
	}
	return mixes, nil
}

// What outputs may differ by from the oracle's, as ‖a − b‖ / ‖b‖: that of sums
// of floats, and that of inputs rounded to 8 bits.
const (
	exactTolerance = 1e-5
	fastTolerance  = 5e-2
)

// variants opens the device in every way that is asked for, each once as kernels
// are selected and, if one is to override them, once more with it. end closes
// them, if there is an error as well.
func (f deviceFlag) variants(ctx context.Context, threads []int, precisions []string, override string) (variants []*bench.Variant, end func(), err error) {
	var sessions []*session
	end = func() {
		for _, s := range sessions {
			s.close()
		}
	}
	add := func(precision string, threads int, tolerance float64, device runtime.Device, err error) error {
		if err != nil {
			return fmt.Errorf("device %s: %w", f.Device, err)
		}
		s, err := newSession(ctx, device, generated.All.On(f.Device.target(), device.Info()), generated.Sources)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
		v := bench.Variant{Precision: precision, Threads: threads, Device: s.device, Library: s.library, Table: s.table, Tolerance: tolerance}
		variants = append(variants, &v)
		if override != "" {
			if err := s.checkOverride(override); err != nil {
				return err
			}
			other := v
			other.Override = override
			variants = append(variants, &other)
		}
		return nil
	}
	most := goruntime.GOMAXPROCS(0)
	if f.Device != "cpu" {
		device, err := f.device(ctx, cpu.Options{})
		return variants, end, add("exact", most, exactTolerance, device, err)
	}
	for _, n := range threads {
		if n < 1 || n > most {
			return nil, end, fmt.Errorf("--threads %d: want 1 to %d", n, most)
		}
		for _, p := range precisions {
			o, tolerance := cpu.Options{Workers: n, Precision: cpu.Exact}, exactTolerance
			if p == "fast" {
				o.Precision, tolerance = cpu.Fast, fastTolerance
			}
			if err := add(p, n, tolerance, cpu.New(o), nil); err != nil {
				return nil, end, err
			}
		}
	}
	return variants, end, nil
}

// checkOverride says why no layer could run the kernel called symbol.
func (s *session) checkOverride(symbol string) error {
	k := s.table.Kernel(symbol)
	switch {
	case k == nil:
		return fmt.Errorf("--kernel-override %s: the table has no kernel of this name", symbol)
	case k.Pass != runtime.GateUp && k.Pass != runtime.Down:
		return fmt.Errorf("--kernel-override %s: it is for pass %s; want one of gate_up or down", symbol, k.Pass)
	}
	if status := s.library.Availability().Of(k); status.State != runtime.Present {
		return fmt.Errorf("--kernel-override %s: it is %v on this device: %s", symbol, status.State, status.Words)
	}
	return nil
}

// columns writes a table of words and numbers.
func (a *app) columns(header []string, rows [][]string) {
	words := func(row []string) (r table.Row) {
		for _, word := range row {
			r = append(r, word)
		}
		return r
	}
	var right []int
	for i, name := range header {
		if !report.Text(name) {
			right = append(right, i+1)
		}
	}
	var all []table.Row
	for _, row := range rows {
		all = append(all, words(row))
	}
	a.table(words(header), all, right...)
}
