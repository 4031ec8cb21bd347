// Package proof holds generated Metal text to everything that can be proved of
// it without an Apple GPU: what a front end refuses, what each kernel computes,
// in several orders of its threads, and what it does to memory on the way.
package proof

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/msl"
)

// Options say what to prove.
type Options struct {
	// Kernel reports whether a kernel is to be proved; nil for all of them.
	Kernel func(*runtime.Kernel) bool

	// Progress is called after each step; it may be nil.
	Progress func(done, total int)
}

// A Result is what came of one kernel.
type Result struct {
	Kernel  *runtime.Kernel
	Check   error // of the kernel's source: a *CheckError
	Suite   error // of the suite, in every order
	Checker error // of the suite with every access checked
	Time    time.Duration
}

// Err returns what is wrong with the kernel, or nil.
func (r *Result) Err() error { return errors.Join(r.Check, r.Suite, r.Checker) }

// A CheckError is what is wrong with a source.
type CheckError struct{ Diagnostics []msl.Diagnostic }

func (e *CheckError) Error() string {
	var errs []error
	for _, d := range e.Diagnostics {
		errs = append(errs, errors.New(d.String()))
	}
	return errors.Join(errs...).Error()
}

// A stage runs the suite on a device.
type stage struct {
	name    string
	options msl.Options
	suite   devicetest.Options
	result  func(*Result) *error
}

// stages are the ways in which each kernel is run.
var stages = []stage{
	{"forward", msl.Options{Schedule: msl.Forward}, devicetest.Options{}, func(r *Result) *error { return &r.Suite }},
	{"reverse", msl.Options{Schedule: msl.Reverse}, devicetest.Options{Short: true}, func(r *Result) *error { return &r.Suite }},
	{"random", msl.Options{Schedule: msl.Random, Seed: 1}, devicetest.Options{Short: true}, func(r *Result) *error { return &r.Suite }},
	{"fast math", msl.Options{FastMath: true, FlushToZero: true}, devicetest.Options{Short: true}, func(r *Result) *error { return &r.Suite }},
	{"checker", msl.Options{Checker: true}, devicetest.Options{}, func(r *Result) *error { return &r.Checker }},
}

// Run proves the kernels of table, made of sources. The results are in the
// order of the table. The error is for a proof that could not be made, such as
// a *msl.ToolchainError; what a kernel fails in is its Result's.
func Run(ctx context.Context, table *runtime.Table, sources fs.FS, o Options) ([]*Result, error) {
	var results []*Result
	for _, k := range table.Kernels {
		if o.Kernel == nil || o.Kernel(k) {
			results = append(results, &Result{Kernel: k})
		}
	}
	done, total := 0, (1+len(stages))*len(results)
	step := func() {
		done++
		if o.Progress != nil {
			o.Progress(done, total)
		}
	}
	if err := check(ctx, table, sources, results, step); err != nil {
		return nil, err
	}
	for _, s := range stages {
		if err := s.run(ctx, table, sources, results, step); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return results, nil
}

// check checks the source of each result's kernel. A source's time is shared
// by its kernels.
func check(ctx context.Context, table *runtime.Table, sources fs.FS, results []*Result, step func()) error {
	kernels := map[string][]*Result{}
	var names []string
	for _, r := range results {
		name := r.Kernel.Source
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		kernels[name] = append(kernels[name], r)
	}
	for _, name := range names {
		start := time.Now()
		text, err := fs.ReadFile(sources, name)
		if err != nil {
			return err
		}
		diagnostics, err := msl.CheckSource(ctx, table, name, string(text))
		if err != nil {
			return err
		}
		for _, r := range kernels[name] {
			if len(diagnostics) > 0 {
				r.Check = &CheckError{diagnostics}
			}
			r.Time += time.Since(start) / time.Duration(len(kernels[name]))
			step()
		}
	}
	return nil
}

// run runs the suite on the kernels of the results.
func (s *stage) run(ctx context.Context, table *runtime.Table, sources fs.FS, results []*Result, step func()) (err error) {
	device, err := msl.Open(ctx, s.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	library, err := device.Load(ctx, table, sources)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, library.Close()) }()
	have := library.Availability()
	for _, r := range results {
		start := time.Now()
		var failure error
		if status := have.Of(r.Kernel); status.State == runtime.Present {
			failure = devicetest.CheckKernel(ctx, device, library, table, r.Kernel, s.suite)
		} else {
			failure = fmt.Errorf("%v: %s", status.State, status.Words)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failure != nil {
			to := s.result(r)
			*to = errors.Join(*to, fmt.Errorf("%s: %w", s.name, failure))
		}
		r.Time += time.Since(start)
		step()
	}
	return nil
}
