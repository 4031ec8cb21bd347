package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

type runCmd struct {
	placeFlags
	Model          string `help:"Checkpoint to run; without it, the one that marlingen brings along." type:"existingdir" placeholder:"DIR"`
	Activations    string `help:"Recorded activations, if not reference.safetensors of the model." type:"existingfile" placeholder:"FILE"`
	Layers         []int  `help:"Layers to run; all MoE layers if none are named." placeholder:"N"`
	Repeat         int    `help:"Runs to time, of which the median counts." default:"5"`
	KernelOverride string `help:"Run this kernel in its pass, whatever would be best." placeholder:"SYMBOL"`
	JSON           bool   `help:"Write JSON."`
}

// Help is shown by marlingen run --help.
func (*runCmd) Help() string {
	return `Runs every MoE layer on recorded activations of the unquantised model and shows, for each, the
tuples of its experts, the plan, steps down, the time and the error. An error from the record is
the quantisation's as far as an oracle in float64, with the same weights, has it too. Exits with 1
if a layer is further from the oracle than rounding allows, or routes differently.

  marlingen run
  marlingen run --model glm-tiny-mixed --json`
}

// codecs are those that the host can decode.
var codecs = []moe.Codec{trellis.Codec{}, dense.BF16, dense.F16, dense.F32}

func (c *runCmd) Run(ctx context.Context, a *app) (err error) {
	model, record, err := c.load()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close(), model.Close()) }()
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()

	layers := c.Layers
	if len(layers) == 0 {
		layers = model.MoELayers()
	}
	for _, warning := range model.Warnings() {
		fmt.Fprintf(a.err, "marlingen: warning: %s\n", warning)
	}
	var reports []*replay.Report
	var faults []error
	show, end := a.progress("running layers")
	for i, n := range layers {
		r, err := c.layer(ctx, a, s, model, record, n)
		if err != nil {
			end()
			return err
		}
		reports = append(reports, r)
		faults = append(faults, r.Faults())
		show(i+1, len(layers))
	}
	end()
	if c.JSON {
		err = a.json(document(s, model, reports))
	} else {
		a.reports(s, model, reports)
	}
	return errors.Join(err, errors.Join(faults...))
}

// load opens the model and its recorded activations.
func (c *runCmd) load() (model *checkpoint.Checkpoint, record *checkpoint.Tensors, err error) {
	if model, err = openCheckpoint(c.Model); err != nil {
		return nil, nil, err
	}
	if c.Activations != "" {
		record, err = checkpoint.OpenTensors(c.Activations)
	} else if record, err = openRecord(c.Model); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; name a file of recorded activations with --activations", err)
	}
	if err != nil {
		return nil, nil, errors.Join(err, model.Close())
	}
	return model, record, nil
}

func (c *runCmd) layer(ctx context.Context, a *app, s *session, model *checkpoint.Checkpoint, tensors *checkpoint.Tensors, n int) (*replay.Report, error) {
	weights, err := model.Layer(n)
	if err != nil {
		return nil, err
	}
	if why, err := model.Relaid(n); err == nil && why != "" {
		fmt.Fprintf(a.err, "marlingen: layer %d is copied to memory: %s\n", n, why)
	}
	record, err := replay.Read(tensors, n, model.Config)
	if err != nil {
		return nil, fmt.Errorf("activations: %w", err)
	}
	return replay.Run(ctx, n, weights, moe.Options{
		Device: s.device, Library: s.library, Table: s.table, Codecs: codecs,
		KernelOverride: c.KernelOverride,
	}, record, c.Repeat)
}

// reports writes what came of the layers, for people.
func (a *app) reports(s *session, model *checkpoint.Checkpoint, reports []*replay.Report) {
	config := model.Config
	fmt.Fprintf(a.out, "device %s · hidden %d · intermediate %d · top-%d of %d experts, %d shared\n",
		s.device.Info().Name, config.Hidden, config.Intermediate, config.TopK, config.Experts, config.SharedExperts)
	for _, r := range reports {
		fmt.Fprintf(a.out, "\nlayer %d: %d tokens; experts %s\n", r.Layer, r.Tokens, mix(r))
		var rows []table.Row
		for _, step := range r.Plan.Steps() {
			rows = append(rows, planRow(step.Kernel.Pass, step.Kernel.Symbol, step.Groups, step.Rows(), step.Work, r.Snapshot.Launches[step.Kernel.Symbol]))
		}
		for _, g := range r.Plan.Host {
			rows = append(rows, planRow("both", "the host", []moe.Group{g}, g.Rows, nil, 0))
		}
		a.table(table.Row{"pass", "kernel", "tuples", "experts", "rows", "work items", "launches"}, rows, 4, 5, 6, 7)
		for _, f := range r.Snapshot.FallbackCounts() {
			fmt.Fprintf(a.out, "fallback: %v %s: %s → %s, %s (%d×)\n", f.Tuple, f.Pass, f.From, f.To, f.Reason, f.Count)
		}
	}
	fmt.Fprintln(a.out)
	var rows []table.Row
	for _, r := range reports {
		misrouted, weights, err, explained := "-", "-", "-", "-"
		if r.Recorded {
			misrouted, weights = fmt.Sprint(r.Misrouted), fmt.Sprintf("%.1e", r.WeightError)
			err, explained = fraction(r.Error), fraction(r.Explained)
		}
		fallbacks := uint64(0)
		for _, n := range r.Snapshot.Fallbacks {
			fallbacks += n
		}
		rows = append(rows, table.Row{
			r.Layer, fallbacks, fmt.Sprintf("%.2f", milliseconds(r.Time())), misrouted, weights, err, explained,
			fmt.Sprintf("%.1e", r.Deviation),
		})
	}
	a.table(table.Row{"layer", "fallbacks", "ms", "misrouted", "Δ weights", "error", "explained", "Δ oracle"}, rows, 1, 2, 3, 4, 5, 6, 7, 8)
	fmt.Fprint(a.out, `
ms         median of a layer's forwards, after one to warm up
misrouted  tokens whose experts differ from the record's; Δ weights, of routing, the largest
error      ‖output − record‖ / ‖record‖; the record is of the unquantised model
explained  the same for the oracle: float64 with the weights as they are
Δ oracle   ‖output − oracle‖ / ‖oracle‖
`)
}

// fraction writes an error with six digits behind the point, or what there is
// of it if it is smaller than that.
func fraction(v float64) string {
	if v < 1e-4 {
		return fmt.Sprintf("%.1e", v)
	}
	return fmt.Sprintf("%.6f", v)
}

func planRow(pass runtime.Pass, kernel string, groups []moe.Group, rows int, work []runtime.Work, launches uint64) table.Row {
	var tuples []string
	experts := 0
	for _, g := range groups {
		tuples = append(tuples, g.Tuple.String())
		experts += len(g.Experts)
	}
	return table.Row{pass, kernel, strings.Join(tuples, " "), experts, rows, len(work), launches}
}

// mix lists the tuples of a layer's experts, the most frequent first.
func mix(r *replay.Report) string {
	if r.Shared == nil {
		return countTuples(r.Experts)
	}
	return fmt.Sprintf("%s, shared %v", countTuples(r.Experts), *r.Shared)
}

// sortedTuples returns the tuples that are counted, the most frequent first.
func sortedTuples[N int | uint64](counts map[runtime.BitTuple]N) []runtime.BitTuple {
	return slices.SortedFunc(maps.Keys(counts), func(a, b runtime.BitTuple) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), a.Compare(b))
	})
}
