package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

type benchKernelsCmd struct {
	workloadFlags
	Rows    []int          `help:"Rows of each expert, instead of the profile's." placeholder:"N"`
	Pass    []runtime.Pass `help:"Passes: gate_up, down." enum:"gate_up,down" default:"gate_up,down"`
	Experts int            `help:"Experts of a launch; without it, top-k of one row each, and all of more rows." placeholder:"N"`
}

// Help is shown by marlingen bench kernels --help.
func (*benchKernelsCmd) Help() string {
	return `Times each pass at each number of rows, for each tuple of the profile's mixture and for the mixture
itself: on the kernels that a layer selects and, in turns with them, on those of the other kind (of one
tuple, or fairway) and on the one that is asked for. Every kernel is first held to the oracle on poisoned
outputs. GB/s are of what a launch reads and writes: weights, rows and lists, each once.

  marlingen bench kernels --rows 1,4 --tuples 6_2_3
  marlingen bench kernels --kernel-override moe_trellis_swiglu_decode --rows 1 --gobench > new.txt`
}

func (c *benchKernelsCmd) Run(ctx context.Context, a *app) error {
	w, err := c.workload()
	if err != nil {
		return err
	}
	rows, err := numbers("rows", c.Rows, w.profile.Bench.Rows, w.profile)
	if err != nil {
		return err
	}
	if c.Experts < 0 {
		return fmt.Errorf("--experts %d: want at least 1", c.Experts)
	}
	if len(w.mixes) > 1 {
		return errors.New("--tuples: want one tuple or profile")
	}
	return c.run(ctx, a, "kernels", result.Kernels, w, func(variants []*bench.Variant, d resultDocument, progress func(done, total int)) error {
		return bench.RunKernels(ctx, bench.KernelOptions{
			Variants: overriding(variants), Shape: w.shape, Mix: w.mixes[0], Passes: c.Pass, Rows: rows, Experts: c.Experts,
			Memory: c.Memory * 1e6, Rounds: c.Rounds, Time: c.Time, Copy: graphCopy, Seed: 1, Progress: progress,
		}, d.Document)
	})
}

// overriding returns the variants that override a kernel, or all if none does: those
// measure what is selected, too.
func overriding(variants []*bench.Variant) (vs []*bench.Variant) {
	for _, v := range variants {
		if v.Override != "" {
			vs = append(vs, v)
		}
	}
	if len(vs) == 0 {
		return variants
	}
	return vs
}
