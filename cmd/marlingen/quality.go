package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/quantize"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

type qualityCmd struct {
	Model     string `help:"Unquantised checkpoint, with a record of eval_ids." required:"" type:"existingdir" placeholder:"DIR"`
	Calibrate string `help:"Text that the model reads while it is quantised." required:"" type:"existingfile" placeholder:"FILE"`
	Profile   string `help:"Mixture whose size the best mixtures have to keep: ${profiles}." default:"glm47" placeholder:"NAME"`
	Windows   int    `help:"Windows of eval_ids to take at most; 0 for all." default:"0" placeholder:"N"`
	Markdown  string `help:"Page to write, instead of the table." type:"path" placeholder:"FILE"`
	JSON      bool   `help:"Write JSON."`
}

// Help is shown by marlingen quality --help.
func (*qualityCmd) Help() string {
	return `Quantises a model in several ways, runs every one of them on the device cpu and tabulates what they
cost and what is left of the quality. Takes minutes.

  marlingen quality --model glm-tiny --calibrate text.txt --markdown quality.md`
}

// A variant is one way to quantise a model.
type variant struct {
	name       string
	calibrated string // how
	stage      trellis.Stage
	plan       func(ctx context.Context) (quantize.Plan, error)
}

// A measured variant is one that was quantised and run.
type measured struct {
	Name       string                   `json:"name"`
	Calibrated string                   `json:"calibrated"`        // how: no, scaling, feedback or yes
	Experts    map[runtime.BitTuple]int `json:"experts,omitempty"` // routed ones, by tuple
	Shared     map[runtime.BitTuple]int `json:"shared,omitempty"`
	Bits       float64                  `json:"bits_per_weight"` // of experts, all components counted
	Bytes      int                      `json:"bytes"`           // of experts
	Perplexity float64                  `json:"perplexity"`
	Loss       float64                  `json:"loss"`       // mean negative log likelihood over that of the unquantised model, in nats
	LossError  float64                  `json:"loss_error"` // standard error of Loss, from its spread over windows
	Fallbacks  uint64                   `json:"fallbacks"`
}

func (c *qualityCmd) Run(ctx context.Context, a *app) (err error) {
	m, err := modelFlags{placeFlags: placeFlags{deviceFlag{"cpu"}, "exact"}, Model: c.Model, Rope: "auto"}.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if m.record == nil {
		return fmt.Errorf("%s: the model has no %s", c.Model, reference)
	}
	q := &quality{app: a, from: c.Model, model: m}
	if q.windows, err = recordedWindows(m.record); err != nil {
		return err
	}
	if c.Windows > 0 && len(q.windows) > c.Windows {
		q.windows = q.windows[:c.Windows]
	}
	if q.calibration, err = readCalibration(m, c.Calibrate); err != nil {
		return err
	}
	variants, err := q.variants(c.Profile)
	if err != nil {
		return err
	}
	results, err := q.measure(ctx, variants)
	if err != nil {
		return err
	}
	switch {
	case c.Markdown != "":
		err = writeFile(c.Markdown, func(w io.Writer) error { c.page(w, q, results); return nil })
	case c.JSON:
		err = a.json(results)
	default:
		tabulate(a, results)
	}
	return err
}

// A quality measures variants of one model.
type quality struct {
	*app
	from        string // the model's folder
	model       *languageModel
	windows     [][]int32 // to predict
	calibration *quantize.Calibration
}

// variants returns what is to be compared: all widths, the mixture of a
// profile, and mixtures of its size.
func (q *quality) variants(profile string) ([]variant, error) {
	mix, err := (&quantizeCmd{Profile: profile}).profile()
	if err != nil {
		return nil, err
	}
	src := q.model.weights
	fixed := func(p *runtime.Profile) func(context.Context) (quantize.Plan, error) {
		return func(context.Context) (quantize.Plan, error) { return quantize.Spread(src, p), nil }
	}
	size := quantize.Spread(src, mix).BitsPerWeight(src)
	var sensitivity *quantize.Sensitivity
	var any []runtime.BitTuple
	best := func(tuples []runtime.BitTuple) func(context.Context) (quantize.Plan, error) {
		return func(ctx context.Context) (p quantize.Plan, err error) {
			if sensitivity == nil {
				show, end := q.progress("measuring")
				defer end()
				if sensitivity, err = quantize.Measure(ctx, src, q.calibration, any, show); err != nil {
					return nil, err
				}
			}
			return sensitivity.Allocate(tuples, size)
		}
	}
	var vs []variant
	for _, calibrated := range []string{"no", "yes"} {
		for b := uint8(trellis.MinBits); b <= trellis.MaxBits; b++ {
			t := runtime.BitTuple{Gate: b, Up: b, Down: b}
			vs = append(vs, variant{t.String(), calibrated, trellis.Complete, fixed(&runtime.Profile{Experts: 1, Mix: []runtime.Share{{Tuple: t, Experts: 1}}, Shared: t})})
		}
	}
	vs = append(vs,
		variant{profile, "no", trellis.Complete, fixed(mix)},
		variant{profile, "scaling", trellis.Scaling, fixed(mix)},
		variant{profile, "feedback", trellis.Feedback, fixed(mix)},
		variant{profile, "yes", trellis.Complete, fixed(mix)},
	)
	for g := uint8(trellis.MinBits); g <= trellis.MaxBits; g++ {
		for u := uint8(trellis.MinBits); u <= trellis.MaxBits; u++ {
			for d := uint8(trellis.MinBits); d <= trellis.MaxBits; d++ {
				any = append(any, runtime.BitTuple{Gate: g, Up: u, Down: d})
			}
		}
	}
	listed := generated.Table.Codec(trellis.Codec{}.Name()).Tuples
	return append(vs,
		variant{"best of the listed tuples", "yes", trellis.Complete, best(listed)},
		variant{"best of all tuples", "yes", trellis.Complete, best(any)},
	), nil
}

// measure quantises and runs the unquantised model and the variants.
func (q *quality) measure(ctx context.Context, variants []variant) ([]measured, error) {
	dir, err := os.MkdirTemp("", "marlingen-quality-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	base, err := q.likelihoods(ctx, q.model.Model, q.windows)
	if err != nil {
		return nil, err
	}
	src := q.model.weights.Config
	weights := len(src.MoELayers()) * (src.Experts + src.SharedExperts) * 3 * src.Hidden * src.Intermediate
	results := []measured{{Name: "unquantised", Bits: 16, Bytes: 2 * weights, Perplexity: together(base).Perplexity()}}
	for _, v := range variants {
		r, err := q.variant(ctx, v, filepath.Join(dir, "model"), base)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// variant quantises and runs one variant.
func (q *quality) variant(ctx context.Context, v variant, to string, base []model.Likelihood) (r measured, err error) {
	plan, err := v.plan(ctx)
	if err != nil {
		return r, err
	}
	o := quantize.Options{Stage: v.stage}
	if v.calibrated != "no" {
		o.Calibration = q.calibration
	}
	show, end := q.progress("quantising " + v.name)
	o.Progress = show
	err = quantize.Write(ctx, q.model.weights, q.from, to, plan, o)
	end()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()
	c, err := checkpoint.Open(to)
	if err != nil {
		return r, err
	}
	defer c.Close()
	m, err := model.Open(c, q.model.options())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	q.model.counters.Reset()
	ls, err := q.likelihoods(ctx, m, q.windows)
	if err != nil {
		return r, err
	}
	r = measured{Name: v.name, Calibrated: v.calibrated, Bits: plan.BitsPerWeight(q.model.weights), Perplexity: together(ls).Perplexity()}
	r.Bytes, _ = plan.Size(q.model.weights)
	r.Experts, r.Shared = plan.Tuples(q.model.weights)
	r.Loss, r.LossError = compare(ls, base)
	for _, n := range q.model.counters.Snapshot().Fallbacks {
		r.Fallbacks += n
	}
	return r, nil
}

// compare returns by how much ls are worse than base, in nats per token, and
// the standard error of that from its spread over windows.
func compare(ls, base []model.Likelihood) (loss, stderr float64) {
	n := float64(len(ls))
	var sum, squares float64
	for i := range ls {
		d := ls[i].NLL/float64(ls[i].Tokens) - base[i].NLL/float64(base[i].Tokens)
		sum += d
		squares += d * d
	}
	loss = sum / n
	return loss, math.Sqrt(max(squares/n-loss*loss, 0) / max(n-1, 1))
}

func qualityRow(r measured) table.Row {
	loss, fallbacks := "", ""
	if r.Calibrated != "" {
		loss, fallbacks = fmt.Sprintf("%.4f ± %.4f", r.Loss, r.LossError), fmt.Sprint(r.Fallbacks)
	}
	return table.Row{r.Name, r.Calibrated, fmt.Sprintf("%.3f", r.Bits), fmt.Sprintf("%.2f", float64(r.Bytes)/1e6), fmt.Sprintf("%.4f", r.Perplexity), loss, fallbacks}
}

var qualityHeader = table.Row{"experts", "calibrated", "bits per weight", "MB", "perplexity", "loss, nats", "fallbacks"}

func tabulate(a *app, results []measured) {
	var rows []table.Row
	for _, r := range results {
		rows = append(rows, qualityRow(r))
	}
	a.table(qualityHeader, rows, 3, 4, 5, 6, 7)
}

// page writes the results as Markdown.
func (c *qualityCmd) page(w io.Writer, q *quality, results []measured) {
	command := fmt.Sprintf("marlingen quality --model %s --calibrate %s --markdown %s", c.relative(c.Model), c.relative(c.Calibrate), c.relative(c.Markdown))
	tokens := 0
	for _, ids := range q.calibration.Windows {
		tokens += len(ids)
	}
	fmt.Fprintf(w, qualityHead, command, len(q.windows), len(q.windows[0]), tokens, time.Now().UTC().Format(time.DateOnly), q.model.session.device.Info().Name)
	cells := func(row table.Row) string {
		var s []string
		for _, c := range row {
			s = append(s, fmt.Sprint(c))
		}
		return "| " + strings.Join(s, " | ") + " |\n"
	}
	fmt.Fprint(w, cells(qualityHeader), "|---|---|--:|--:|--:|--:|--:|\n")
	for _, r := range results {
		fmt.Fprint(w, cells(qualityRow(r)))
	}
	last := results[len(results)-1]
	if loss, ok := uniform(results, last.Bits); ok {
		fmt.Fprintf(w, "\nUniform widths, calibrated, would lose %.4f nats at the %.3f bits of the mixtures, by the logarithms of their losses on either side.\nThat is what giving each expert a tuple of its own has to beat.\n", loss, last.Bits)
	}
	fmt.Fprint(w, "\nTuples of the mixtures:\n\n")
	for _, r := range results {
		if r.Calibrated == "yes" && len(r.Experts) > 1 {
			fmt.Fprintf(w, "- %s: %s; shared %s\n", r.Name, countTuples(r.Experts), countTuples(r.Shared))
		}
	}
}

// uniform returns the loss of calibrated uniform widths at a size between two
// of them.
func uniform(results []measured, bits float64) (loss float64, ok bool) {
	var below, above *measured
	for i := range results {
		r := &results[i]
		if r.Calibrated != "yes" || len(r.Experts) != 1 {
			continue
		}
		if r.Bits <= bits && (below == nil || r.Bits > below.Bits) {
			below = r
		}
		if r.Bits > bits && (above == nil || r.Bits < above.Bits) {
			above = r
		}
	}
	if below == nil || above == nil || below.Loss <= 0 || above.Loss <= 0 {
		return 0, false
	}
	share := (bits - below.Bits) / (above.Bits - below.Bits)
	return math.Exp((1-share)*math.Log(below.Loss) + share*math.Log(above.Loss)), true
}

// relative returns a path as seen from the working directory, if it is below.
func (c *qualityCmd) relative(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if r, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(r) {
		return r
	}
	return path
}

const qualityHead = `<!-- Written by marlingen quality; DO NOT EDIT. -->

# What quantising costs

One model, quantised in several ways, and what is left of its predictions. Written by

` + "```\n%s\n```" + `

Every row is a live run: the experts are quantised, written as a checkpoint, opened, and run through the fairway over %d windows of %d tokens, whose
perplexity Hugging Face transformers found to be that of the first row. Calibration reads %d tokens of another text.
(%s, device %s.)

- *bits per weight* and *MB* are of all experts, shared ones included, with scales, su and sv.
- *calibrated*: *no*, every weight is rounded for itself, with steps that make the squared error of weights least; *yes*, with all that the quantiser
  has; for one mixture also what its stages gain: *scaling*, factors per input and steps are fitted to the second moments of the inputs; *feedback*,
  besides, each weight is rounded after the errors of those before it. What *yes* adds to that is the descent over indices, steps and factors.
- *loss* is the mean negative log likelihood per token over that of the unquantised model, with its standard error over windows: rows whose difference
  is within it are not told apart.
- *fallbacks* are counted steps down from what the specs prefer, for tuples that no spec lists; they change no result beyond rounding.

`
