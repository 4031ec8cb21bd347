package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A ModelVariant is one way to run a whole model.
type ModelVariant struct {
	Override  string // symbol of a kernel that runs in its pass; empty for those that are selected
	Precision string // of the device
	Tolerance float64
	Model     *model.Model
	Prompter  *model.Model  // of the same weights, runs prompts that tokens follow; nil for Model. A kernel for single rows runs none
	Counters  *moe.Counters // of its layers, and of no other model's
}

// TokenOptions say what RunTokens measures: how long a model takes for each
// token that follows a prompt, or for the prompts themselves.
type TokenOptions struct {
	Name     string          // of the model
	Variants []*ModelVariant // of the same weights
	Weights  []moe.Weights   // of all layers of experts
	Layers   []int           // their numbers in the model

	Prompts [][]int32
	Text    bool          // prompts are a text's tokens, not random ones
	Tokens  int           // that follow each prompt, and are timed one by one; 0 to time the prompts
	Rounds  int           // of all prompts on all variants in turn
	Time    time.Duration // at least, of a prompt in a round; a prompt is run again until then. Not for Tokens
	Known   int           // tokens that the oracle computes, of the first and the last layer

	Seed     uint64
	Progress func(done, total int) // or nil
}

// RunTokens measures, and fills d with what came of it; of a run that fails or is
// interrupted, with its check alone. Tokens are the likeliest ones; one that ends the text
// is followed like any other. Before that, the first and the last layer of experts
// of each variant are held to the oracle.
func RunTokens(ctx context.Context, o TokenOptions, d *result.Document) error {
	b := &tokenBencher{TokenOptions: o}
	for _, p := range o.Prompts {
		for _, v := range o.Variants {
			if most := v.Model.MaxPositions(); len(p)+o.Tokens > most {
				return fmt.Errorf("a prompt of %d tokens and %d that follow; the model takes %d (max_position_embeddings)", len(p), o.Tokens, most)
			}
			b.cells = append(b.cells, &tokenCell{variant: v, prompt: p})
		}
	}
	b.total = len(o.Variants) + len(b.cells)*(1+o.Rounds)
	for _, v := range o.Variants {
		if err := b.verify(ctx, v, d); err != nil {
			return err
		}
		b.step()
	}
	for round := range 1 + o.Rounds { // the first warms up
		for _, c := range b.cells {
			ms, err := b.measure(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", b.name(c), err)
			}
			if round == 0 {
				c.counted, c.calls = moe.Snapshot{}, 0
			} else {
				c.times = append(c.times, ms...)
				c.rounds = append(c.rounds, median(ms))
			}
			b.step()
		}
	}
	return b.fill(d)
}

type tokenBencher struct {
	TokenOptions
	cells       []*tokenCell
	done, total int
}

// A tokenCell is a prompt on a variant.
type tokenCell struct {
	variant       *ModelVariant
	prompt        []int32
	times, rounds []float64    // ms
	counted       moe.Snapshot // of what is timed
	calls         int          // that were timed, of the model
}

func (b *tokenBencher) step() {
	b.done++
	if b.Progress != nil {
		b.Progress(b.done, b.total)
	}
}

// verify holds the first and the last layer of v to the oracle.
func (b *tokenBencher) verify(ctx context.Context, v *ModelVariant, d *result.Document) error {
	if len(b.Layers) == 0 {
		return errors.New("the model has no layers of experts")
	}
	for _, i := range slices.Compact([]int{0, len(b.Layers) - 1}) {
		ks, err := knowns(b.Weights[i], b.Known, rand.New(rand.NewPCG(b.Seed, uint64(i))))
		if err != nil {
			return err
		}
		for _, k := range ks {
			out, err := v.Model.MoE(b.Layers[i]).Forward(ctx, k.x)
			if err != nil {
				return fmt.Errorf("layer %d: %w", b.Layers[i], err)
			}
			off := oracle.Distance(oracle.Floats(out), k.out)
			d.Correctness.Merge(result.Correctness{Passed: off <= v.Tolerance, Checked: 1, Worst: off, Tolerance: v.Tolerance})
			if !(off <= v.Tolerance) {
				return fmt.Errorf("layer %d: the output is %.2g from the oracle's; the tolerance is %.0e", b.Layers[i], off, v.Tolerance)
			}
		}
	}
	return nil
}

// measure runs c once: its prompt, and what follows. It returns the milliseconds
// of each token, or of each run of the prompt.
func (b *tokenBencher) measure(ctx context.Context, c *tokenCell) (ms []float64, err error) {
	m := c.variant.Model
	if b.Tokens == 0 {
		c.variant.Counters.Reset()
		for start := time.Now(); len(ms) == 0 || time.Since(start) < b.Time; {
			cache, before := m.NewCache(), time.Now()
			states, err := m.Forward(ctx, cache, c.prompt)
			if err != nil {
				return nil, err
			}
			m.Logits(states[len(states)-m.Hidden():])
			ms = append(ms, time.Since(before).Seconds()*1e3)
		}
		return ms, c.count(len(ms), len(ms)*len(c.prompt))
	}
	sampler, err := model.NewSampler(0, 1, 0)
	if err != nil {
		return nil, err
	}
	cache, prompter := m.NewCache(), cmp.Or(c.variant.Prompter, m)
	states, err := prompter.Forward(ctx, cache, c.prompt)
	if err != nil {
		return nil, err
	}
	logits := m.Logits(states[len(states)-m.Hidden():])
	next := sampler.Choose(logits)
	c.variant.Counters.Reset()
	for range b.Tokens {
		before := time.Now()
		if states, err = m.Forward(ctx, cache, []int32{next}); err != nil {
			return nil, err
		}
		logits = m.Logits(states)
		next = sampler.Choose(logits)
		ms = append(ms, time.Since(before).Seconds()*1e3)
	}
	if slices.ContainsFunc(logits, func(l float32) bool { return l != l }) {
		return nil, errors.New("the scores of the last token are not numbers")
	}
	return ms, c.count(b.Tokens, b.Tokens)
}

// count notes what was counted of some tokens that were timed in some calls.
func (c *tokenCell) count(calls, tokens int) error {
	s := c.variant.Counters.Reset()
	rows := uint64(0)
	for _, n := range s.Assignments {
		rows += n
	}
	if s.Forwards == 0 || rows < uint64(tokens) {
		return fmt.Errorf("%d forwards of experts and %d rows were counted in %d tokens", s.Forwards, rows, tokens)
	}
	if symbol := c.variant.Override; symbol != "" && s.Launches[symbol] == 0 {
		return fmt.Errorf("no launch of %s was counted in %d tokens", symbol, tokens)
	}
	c.counted, c.calls = sum(c.counted, s), c.calls+calls
	return nil
}

func (b *tokenBencher) name(c *tokenCell) string {
	name := fmt.Sprintf("%s/prompt:%d/tokens:%d/%s", b.Name, len(c.prompt), b.Tokens, c.variant.Precision)
	return notOfNames.ReplaceAllString(name, "_")
}

// fill writes to d what was measured, the rounds that warmed up left out.
func (b *tokenBencher) fill(d *result.Document) error {
	sizes := map[runtime.BitTuple]float64{} // bytes of an expert
	for _, w := range b.Weights {
		experts := w.Experts
		if w.Shared != nil {
			experts = append(slices.Clone(experts), *w.Shared)
		}
		for _, e := range experts {
			sizes[e.Tuple()] = float64(weights.Bytes(e.Gate, e.Up, e.Down))
		}
	}
	others := slices.ContainsFunc(b.Variants, func(v *ModelVariant) bool { return v.Override != "" })
	var counted moe.Snapshot
	var errs []error
	for _, c := range b.cells {
		counted = sum(counted, c.counted)
		ms, err := result.Summarize(c.times)
		errs = append(errs, err)
		kind := "random"
		if b.Text {
			kind = "text"
		}
		cell := result.Cell{
			Name: b.name(c), Samples: len(c.times), RoundsMS: c.rounds, MS: ms,
			Labels: map[string]string{
				"model": b.Name, "batch": "1", "prompt": strconv.Itoa(len(c.prompt)), "tokens": strconv.Itoa(b.Tokens), "prompts": kind,
				"layers": strconv.Itoa(len(b.Layers)), "precision": c.variant.Precision,
			},
			Metrics: map[string]float64{"tokens": 1},
		}
		if b.Tokens == 0 {
			cell.Labels["batch"], cell.Metrics["tokens"] = strconv.Itoa(len(c.prompt)), float64(len(c.prompt))
		} else {
			// Each row of a token alone is of another expert.
			bytes := 0.
			for t, n := range c.counted.Assignments {
				bytes += float64(n) * sizes[t]
			}
			cell.Metrics["bytes"] = bytes / float64(c.calls)
			cell.Metrics["gb_s"] = cell.Metrics["bytes"] / ms.Median / 1e6
		}
		cell.Metrics["tokens_s"] = cell.Metrics["tokens"] / ms.Median * 1e3
		compared(&cell, c.variant.Override, others)
		d.Cells = append(d.Cells, cell)
	}
	d.Counters = result.NewCounters(counted)
	return errors.Join(errs...)
}
