package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
)

// evalIDs is the tensor of token windows in a file of them.
const evalIDs = "eval_ids"

type perplexityCmd struct {
	modelFlags
	IDs     string `name:"ids" help:"Windows of tokens: a safetensors file with a tensor eval_ids, [windows, tokens], or a text file with a window on each line; without it, the model's reference.safetensors." type:"existingfile" xor:"text" placeholder:"FILE"`
	Text    string `help:"Text to take windows of." type:"existingfile" xor:"text" placeholder:"FILE"`
	Window  int    `help:"Tokens in a window of --text." default:"512" placeholder:"N"`
	Windows int    `help:"Windows to take at most; 0 for all." default:"0" placeholder:"N"`
	Stats   bool   `help:"Show what the mixtures of experts did: launches, rows by tuple, fallbacks."`
	JSON    bool   `help:"Write JSON."`
}

// Help is shown by marlingen perplexity --help.
func (*perplexityCmd) Help() string {
	return `Says how well a model predicts a text: e to the mean negative log likelihood of its tokens, each
predicted from those before it in its window, the first of which is not counted.

  marlingen perplexity --model glm-tiny
  marlingen perplexity --text main.go --window 256`
}

// A perplexity is the JSON form of what perplexity found.
type perplexity struct {
	Perplexity  float64       `json:"perplexity"`
	NLL         float64       `json:"nll"` // mean, in nats
	Tokens      int           `json:"tokens"`
	Windows     int           `json:"windows"`
	Rate        float64       `json:"rate"` // tokens per second
	Device      string        `json:"device"`
	Frequencies string        `json:"frequencies"` // of position embeddings
	Stats       *fairwayStats `json:"stats,omitempty"`
}

func (c *perplexityCmd) Run(ctx context.Context, a *app) (err error) {
	if c.Window < 2 || c.Windows < 0 {
		return fmt.Errorf("--window %d, --windows %d: want at least 2 and 0", c.Window, c.Windows)
	}
	m, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	windows, err := c.windows(m)
	if err != nil {
		return err
	}
	if c.Windows > 0 && len(windows) > c.Windows {
		windows = windows[:c.Windows]
	}
	m.counters.Reset()
	start := time.Now()
	ls, err := a.likelihoods(ctx, m.Model, windows)
	if err != nil {
		return err
	}
	l := together(ls)
	p := perplexity{
		Perplexity: l.Perplexity(), NLL: l.NLL / float64(l.Tokens), Tokens: l.Tokens, Windows: len(windows),
		Rate: float64(l.Tokens) / time.Since(start).Seconds(), Device: m.session.device.Info().Name, Frequencies: m.positions.String(),
	}
	stats := newFairwayStats(m.counters.Snapshot())
	if c.JSON {
		if c.Stats {
			p.Stats = &stats
		}
		return a.json(p)
	}
	fmt.Fprintf(a.out, "perplexity %.4f over %d tokens in %d windows; frequencies %s; %.0f tokens/s; %s\n",
		p.Perplexity, p.Tokens, p.Windows, p.Frequencies, p.Rate, p.Device)
	if c.Stats {
		a.fairway(stats.Snapshot)
	}
	return nil
}

// likelihoods returns how well m predicts each window.
func (a *app) likelihoods(ctx context.Context, m *model.Model, windows [][]int32) ([]model.Likelihood, error) {
	var ls []model.Likelihood
	show, end := a.progress("reading")
	defer end()
	for i, ids := range windows {
		l, err := m.Likelihood(ctx, ids)
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i, err)
		}
		ls = append(ls, l)
		show(i+1, len(windows))
	}
	return ls, nil
}

// together returns how well all windows are predicted.
func together(ls []model.Likelihood) model.Likelihood {
	var sum model.Likelihood
	for _, l := range ls {
		sum.Add(l)
	}
	return sum
}

// windows returns the windows that the flags ask for.
func (c *perplexityCmd) windows(m *languageModel) ([][]int32, error) {
	switch {
	case c.Text != "":
		return readWindows(c.Text, m, c.Window)
	case c.IDs != "" && !strings.HasSuffix(c.IDs, ".safetensors"):
		return readIDs(c.IDs)
	case c.IDs != "":
		t, err := checkpoint.OpenTensors(c.IDs)
		if err != nil {
			return nil, err
		}
		defer t.Close()
		return recordedWindows(t)
	case m.record == nil:
		return nil, fmt.Errorf("the model has no %s; name a text with --text or --ids", reference)
	}
	return recordedWindows(m.record)
}

// readWindows returns the text of a file as windows of at most size tokens.
func readWindows(file string, m *languageModel, size int) ([][]int32, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ids, err := m.tokenizer.Encode(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var windows [][]int32
	for len(ids) > 1 { // a single token predicts nothing
		n := min(size, len(ids))
		windows = append(windows, ids[:n])
		ids = ids[n:]
	}
	if windows == nil {
		return nil, fmt.Errorf("%s: %d tokens; there is nothing to predict", file, len(ids))
	}
	return windows, nil
}

// recordedWindows returns the rows of tensor eval_ids.
func recordedWindows(t *checkpoint.Tensors) ([][]int32, error) {
	ids, shape, err := t.Int32(evalIDs)
	if err != nil {
		return nil, err
	}
	if len(shape) != 2 || shape[0] == 0 || shape[1] < 2 {
		return nil, fmt.Errorf("%s: shape is %v, want [windows, tokens] of at least [1 2]", evalIDs, shape)
	}
	var windows [][]int32
	for i := range shape[0] {
		windows = append(windows, ids[i*shape[1]:(i+1)*shape[1]])
	}
	return windows, nil
}

// readIDs reads a window of numbers from each line of a file.
func readIDs(file string) ([][]int32, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var windows [][]int32
	var errs []error
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for n := 1; lines.Scan(); n++ {
		var ids []int32
		for _, word := range strings.Fields(lines.Text()) {
			id, err := strconv.ParseInt(word, 10, 32)
			if err != nil || id < 0 {
				errs = append(errs, fmt.Errorf("%s:%d: %q is no token", file, n, word))
				break
			}
			ids = append(ids, int32(id))
		}
		switch {
		case len(ids) == 1:
			errs = append(errs, fmt.Errorf("%s:%d: one token; there is nothing to predict", file, n))
		case len(ids) > 1:
			windows = append(windows, ids)
		}
	}
	if windows == nil && errs == nil {
		errs = append(errs, fmt.Errorf("%s: no tokens", file))
	}
	return windows, errors.Join(errs...)
}
