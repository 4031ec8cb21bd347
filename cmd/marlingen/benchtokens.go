package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/runtime"
)

// modelBenchFlags say which model is measured, if any, and on what text.
type modelBenchFlags struct {
	Model         string `help:"Checkpoint of a whole model to measure, instead of layers of the profile." type:"existingdir" placeholder:"DIR"`
	PromptFile    string `help:"File of the text of prompts, with --model; without it, they are of random tokens." type:"existingfile" placeholder:"FILE"`
	RouteOnDevice bool   `help:"With --model: choose experts on the device, and not on the host."`
}

type benchDecodeCmd struct {
	workloadFlags
	modelBenchFlags
	Prompt int `help:"Tokens of the prompt, with --model." default:"32" placeholder:"N"`
	Tokens int `help:"Tokens that follow the prompt in each round, with --model." default:"64" placeholder:"N"`
}

// Help is shown by marlingen bench decode --help.
func (*benchDecodeCmd) Help() string {
	return `With --model, has the model go on with a prompt, a token at a time, and times each: attention, experts
and the choice of the next one. Without it, times single tokens in layers of the profile, each call
with another token; the result says which of the two it is. GB/s are of experts' weights.

  marlingen bench decode --model testdata/glm-tiny-mixed
  marlingen bench decode --precision exact,fast --history runs.jsonl
  marlingen bench decode --tuples 6_2_3 --kernel-override moe_trellis_swiglu_decode`
}

func (c *benchDecodeCmd) Run(ctx context.Context, a *app) error {
	w, err := c.workload()
	if err != nil {
		return err
	}
	if c.Model == "" {
		return c.layers(ctx, a, "decode", w, []int{1})
	}
	if c.Prompt < 1 || c.Tokens < 1 {
		return fmt.Errorf("--prompt %d, --tokens %d: want at least 1", c.Prompt, c.Tokens)
	}
	return c.tokens(ctx, a, "decode", c.modelBenchFlags, []int{c.Prompt}, c.Tokens)
}

type benchPrefillCmd struct {
	workloadFlags
	modelBenchFlags
	Batches []int `help:"Tokens at once, instead of the profile's." placeholder:"N"`
}

// Help is shown by marlingen bench prefill --help.
func (*benchPrefillCmd) Help() string {
	return `With --model, times prompts of each number of tokens, up to the scores of the next token. Without it,
times batches of as many tokens in layers of the profile; the result says which of the two it is.

  marlingen bench prefill --model testdata/glm-tiny-mixed --batches 64 --prompt-file moe/layer.go
  marlingen bench prefill --batches 16,256 --gobench`
}

func (c *benchPrefillCmd) Run(ctx context.Context, a *app) error {
	w, err := c.workload()
	if err != nil {
		return err
	}
	batches, err := numbers("batches", c.Batches, w.profile.Bench.Batches, w.profile)
	if err != nil {
		return err
	}
	if c.Model == "" {
		return c.layers(ctx, a, "prefill", w, batches)
	}
	return c.tokens(ctx, a, "prefill", c.modelBenchFlags, batches, 0)
}

// tokens measures a whole model: prompts of some sizes, or the tokens after them.
func (f *workloadFlags) tokens(ctx context.Context, a *app, benchmark string, m modelBenchFlags, prompts []int, tokens int) (err error) {
	if len(f.Threads) > 0 || len(f.Tuples) > 0 || len(f.Shape) > 0 {
		return errors.New("--threads, --tuples and --shape are for layers: a model has its own, and GOMAXPROCS says how many threads it uses")
	}
	d := newResult(a.args, time.Now(), runtime.Info{Kind: string(f.Device)})
	d.Benchmark, d.Level = benchmark, result.Models
	o := bench.TokenOptions{
		Name: filepath.Base(filepath.Clean(m.Model)), Text: m.PromptFile != "", Tokens: tokens,
		Rounds: f.Rounds, Time: f.Time, Known: 2, Seed: 1,
	}
	models, err := f.models(ctx, a, m, &o, d)
	defer func() {
		for _, m := range slices.Backward(models) { // what is overridden is in the session of the one before
			err = errors.Join(err, m.close())
		}
	}()
	if err == nil {
		o.Prompts, err = m.prompts(models[0], prompts)
	}
	if err == nil {
		show, finish := a.progress("measuring")
		o.Progress = show
		err = bench.RunTokens(ctx, o, d.Document)
		finish()
	}
	return f.finish(ctx, a, d, err)
}

// models opens the model in every precision and, if a kernel is to be overridden,
// with it. It fills o and d with what they say; of an error it returns those that
// are open.
func (f *workloadFlags) models(ctx context.Context, a *app, m modelBenchFlags, o *bench.TokenOptions, d resultDocument) (models []*languageModel, err error) {
	for _, precision := range f.Precision {
		tolerance := exactTolerance
		if f.Device == "cpu" && precision == "fast" {
			tolerance = fastTolerance
		}
		flags := modelFlags{
			placeFlags: placeFlags{deviceFlag: f.deviceFlag, Precision: precision}, Model: m.Model, Rope: "auto", RouteOnDevice: m.RouteOnDevice,
		}
		lm, err := flags.open(ctx, a)
		if err != nil {
			return models, err
		}
		models = append(models, lm)
		info := lm.session.device.Info()
		d.Device = result.Device{Kind: info.Kind, Name: info.Name, Driver: info.Driver}
		v := &bench.ModelVariant{Precision: precision, Tolerance: max(tolerance, info.Tolerance), Model: lm.Model, Counters: lm.counters}
		o.Variants = append(o.Variants, v)
		if f.KernelOverride != "" {
			if err := lm.session.checkOverride(f.KernelOverride); err != nil {
				return models, err
			}
			other, err := lm.overridden(f.KernelOverride)
			if err != nil {
				return models, err
			}
			models = append(models, other)
			o.Variants = append(o.Variants, &bench.ModelVariant{
				Override: f.KernelOverride, Precision: precision, Tolerance: v.Tolerance, Model: other.Model, Prompter: lm.Model, Counters: other.counters,
			})
		}
		if f.Device != "cpu" {
			v.Precision = "exact"
			break
		}
	}
	o.Layers = models[0].weights.MoELayers()
	for _, n := range o.Layers {
		w, err := models[0].weights.Layer(n)
		if err != nil {
			return models, err
		}
		o.Weights = append(o.Weights, w)
	}
	return models, nil
}

// overridden opens the model once more, on the session of m, with a kernel that runs
// in its pass whatever would be selected.
func (m *languageModel) overridden(symbol string) (*languageModel, error) {
	other := &languageModel{counters: new(moe.Counters)}
	o := m.options()
	o.MoE.Counters, o.MoE.KernelOverride = other.counters, symbol
	var err error
	other.Model, err = model.Open(m.weights, o)
	return other, err
}

// prompts returns prompts of some numbers of tokens.
func (f modelBenchFlags) prompts(m *languageModel, sizes []int) (prompts [][]int32, err error) {
	var ids []int32
	if f.PromptFile != "" {
		text, err := os.ReadFile(f.PromptFile)
		if err != nil {
			return nil, err
		}
		if ids, err = m.tokenizer.Encode(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", f.PromptFile, err)
		}
		before, _ := m.tokenizer.Template()
		ids = slices.Concat(before, ids)
		if most := slices.Max(sizes); len(ids) < most {
			return nil, fmt.Errorf("%s has %d tokens; want %d", f.PromptFile, len(ids), most)
		}
	} else {
		r := rand.New(rand.NewPCG(1, 2))
		for range slices.Max(sizes) {
			ids = append(ids, int32(r.IntN(m.tokenizer.Size())))
		}
	}
	for _, n := range sizes {
		prompts = append(prompts, ids[:n])
	}
	return prompts, nil
}
