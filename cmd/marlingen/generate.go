package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/marlingen/marlingen/moe/model"
)

type generateCmd struct {
	modelFlags
	Prompt      string  `help:"Text to go on with." required:"" xor:"prompt" placeholder:"TEXT"`
	PromptFile  string  `help:"File of a text to go on with." required:"" xor:"prompt" type:"existingfile" placeholder:"FILE"`
	MaxTokens   int     `help:"Tokens to generate at most." default:"64" placeholder:"N"`
	Temperature float64 `help:"Temperature of the choice of tokens; 0 takes the likeliest." default:"0" placeholder:"T"`
	TopP        float64 `help:"Choose among the likeliest tokens that have this probability together." default:"1" placeholder:"P"`
	Seed        uint64  `help:"Seed of the choice: the same seed chooses the same tokens." default:"0" placeholder:"N"`
	Stats       bool    `help:"Show what the mixtures of experts did: launches, rows by tuple, fallbacks."`
	JSON        bool    `help:"Write JSON, once the text is complete."`
}

// Help is shown by marlingen generate --help.
func (*generateCmd) Help() string {
	return `Writes the prompt and what the model goes on with, token by token, to standard output, and tokens per
second to standard error. Ctrl-C ends it early, with what there is by then.

  marlingen generate --prompt "func (r *Reader) Read("
  marlingen generate --model glm-tiny --prompt "package main" --temperature 0.8 --top-p 0.9 --seed 1`
}

// A generation is the JSON form of what generate did.
type generation struct {
	Prompt       string        `json:"prompt"`
	Text         string        `json:"text"` // without the prompt
	PromptTokens []int32       `json:"prompt_tokens"`
	Tokens       []int32       `json:"tokens"`
	Stop         string        `json:"stop"`            // why it ended: end, max_tokens, max_positions or interrupted
	PromptRate   float64       `json:"prompt_rate"`     // tokens per second, until the first new one
	Rate         float64       `json:"rate"`            // tokens per second after it; 0 for less than two
	Device       string        `json:"device"`          //
	Frequencies  string        `json:"frequencies"`     // of position embeddings
	Stats        *fairwayStats `json:"stats,omitempty"` // with --stats
}

func (c *generateCmd) Run(ctx context.Context, a *app) (err error) {
	sampler, err := model.NewSampler(c.Temperature, c.TopP, c.Seed)
	if err != nil {
		return err
	}
	if c.MaxTokens < 1 {
		return fmt.Errorf("--max-tokens %d: want at least 1", c.MaxTokens)
	}
	prompt, source := c.Prompt, "--prompt"
	if c.PromptFile != "" {
		text, err := os.ReadFile(c.PromptFile)
		if err != nil {
			return err
		}
		prompt, source = string(text), c.PromptFile
	}
	m, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()

	g := generation{Prompt: prompt, Device: m.session.device.Info().Name, Frequencies: m.positions.String()}
	if g.PromptTokens, err = m.tokenizer.Encode(prompt); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	if len(g.PromptTokens) > 0 {
		before, after := m.tokenizer.Template()
		g.PromptTokens = slices.Concat(before, g.PromptTokens, after)
	}
	out := a.out
	if c.JSON {
		out = io.Discard
	}
	m.counters.Reset()
	failure := g.run(ctx, m, sampler, c.MaxTokens, out)
	if failure != nil && ctx.Err() == nil {
		return failure
	}
	stats := newFairwayStats(m.counters.Snapshot())
	if c.JSON {
		if c.Stats {
			g.Stats = &stats
		}
		return errors.Join(failure, a.json(g))
	}
	fmt.Fprintf(a.err, "%d tokens, %.1f tokens/s; prompt %d tokens, %.1f tokens/s; %s; stopped at %s\n",
		len(g.Tokens), g.Rate, len(g.PromptTokens), g.PromptRate, g.Device, strings.ReplaceAll(g.Stop, "_", " "))
	if c.Stats {
		a.fairway(stats.Snapshot)
	}
	return failure
}

// run generates tokens and writes their text to out as they come.
func (g *generation) run(ctx context.Context, m *languageModel, s *model.Sampler, most int, out io.Writer) error {
	fmt.Fprint(out, g.Prompt)
	text := m.tokenizer.NewDecoder()
	var written strings.Builder
	out = io.MultiWriter(out, &written)
	defer func() {
		fmt.Fprint(out, text.Flush())
		g.Text = written.String()
		fmt.Fprintln(out)
	}()
	start := time.Now()
	var first time.Time
	for id, err := range m.Generate(ctx, g.PromptTokens, most, s) {
		if err != nil {
			g.Stop = "interrupted"
			return err
		}
		if first.IsZero() {
			first = time.Now()
			g.PromptRate = float64(len(g.PromptTokens)) / first.Sub(start).Seconds()
		}
		g.Tokens = append(g.Tokens, id)
		if m.Ends(id) {
			g.Stop = "end"
			break
		}
		piece, err := text.Next(id)
		if err != nil {
			return err
		}
		fmt.Fprint(out, piece)
	}
	if n := len(g.Tokens) - 1; n > 0 {
		g.Rate = float64(n) / time.Since(first).Seconds()
	}
	switch {
	case g.Stop != "":
	case len(g.Tokens) == most:
		g.Stop = "max_tokens"
	default:
		g.Stop = "max_positions"
	}
	return nil
}
