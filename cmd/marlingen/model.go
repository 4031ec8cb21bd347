package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/tokenizer"
)

// The files of a model beside its weights.
const (
	reference     = "reference.safetensors" // recorded activations
	tokenizerFile = "tokenizer.json"
)

// modelFlags choose a model and how it runs.
type modelFlags struct {
	placeFlags
	Model string `help:"Checkpoint to run; without it, the one that marlingen brings along." type:"existingdir" placeholder:"DIR"`
	Rope  string `help:"Frequencies of position embeddings: exact; bfloat16, rounded, as in a model that was cast as a whole; auto, as in reference.safetensors of the model, or exact." enum:"auto,exact,bfloat16" default:"auto"`

	RouteOnDevice bool `help:"Choose experts on the device, which is faster on a GPU, and not on the host, where the choice is the same on every machine."`
}

// A languageModel is a whole model, with its tokenizer, on a device.
type languageModel struct {
	*model.Model
	session   *session
	weights   *checkpoint.Checkpoint
	record    *checkpoint.Tensors // nil if there is none
	tokenizer *tokenizer.Tokenizer
	counters  *moe.Counters
	positions model.Frequencies

	routeOnDevice bool
}

// open opens the model that the flags ask for.
func (f modelFlags) open(ctx context.Context, a *app) (m *languageModel, err error) {
	m = &languageModel{counters: new(moe.Counters), routeOnDevice: f.RouteOnDevice}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.weights, err = openCheckpoint(f.Model); err != nil {
		return m, err
	}
	if m.tokenizer, err = openTokenizer(f.Model); err != nil {
		return m, err
	}
	if m.record, err = openRecord(f.Model); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	if m.session, err = f.placeFlags.open(ctx); err != nil {
		return m, err
	}
	if f.Rope == "bfloat16" {
		m.positions = model.RoundedFrequencies
	}
	if m.Model, err = model.Open(m.weights, m.options()); err != nil {
		return m, err
	}
	if n := m.tokenizer.Size(); n > m.Vocabulary() {
		return m, fmt.Errorf("%s has %d tokens, and vocab_size is %d: it is another model's", tokenizerFile, n, m.Vocabulary())
	}
	return m, f.fit(ctx, a, m)
}

// fit has the model compute positions as its record does.
func (f modelFlags) fit(ctx context.Context, a *app, m *languageModel) error {
	const faithful = 1e-3 // float32 elsewhere comes to 1e-6
	if f.Rope != "auto" || m.record == nil {
		return nil
	}
	fit, ok, err := m.Fit(ctx, m.record)
	if err != nil {
		return fmt.Errorf("%s: %w", reference, err)
	}
	if ok {
		m.positions = fit.Frequencies
	}
	if ok && !(fit.Error < faithful) {
		fmt.Fprintf(a.err, "marlingen: warning: what goes into the first mixture of experts differs by %.1e from %s\n", fit.Error, reference)
	}
	return nil
}

// options returns how the model runs, and others beside it may.
func (m *languageModel) options() model.Options {
	return model.Options{
		MoE: moe.Options{
			Device: m.session.device, Library: m.session.library, Table: m.session.table, Codecs: codecs, Counters: m.counters,
			RouteOnDevice: m.routeOnDevice,
		},
		Frequencies: m.positions,
	}
}

// close closes all that is open. Errors of what was only read are of no use.
func (m *languageModel) close() error {
	var err error
	if m.Model != nil {
		err = m.Model.Close()
	}
	if m.session != nil {
		m.session.close()
	}
	if m.record != nil {
		_ = m.record.Close()
	}
	if m.weights != nil {
		_ = m.weights.Close()
	}
	return err
}

// openCheckpoint opens the checkpoint in dir or, if that is empty, the one
// that marlingen brings along.
func openCheckpoint(dir string) (*checkpoint.Checkpoint, error) {
	if dir == "" {
		return checkpoint.OpenFS(marlingen.GlmTinyMixed())
	}
	return checkpoint.Open(dir)
}

// openRecord opens the recorded activations of the model in dir.
func openRecord(dir string) (*checkpoint.Tensors, error) {
	if dir != "" {
		return checkpoint.OpenTensors(filepath.Join(dir, reference))
	}
	data, err := fs.ReadFile(marlingen.GlmTinyMixed(), reference)
	if err != nil {
		return nil, err
	}
	return checkpoint.ParseTensors(reference, data)
}

// openTokenizer opens the tokenizer of the model in dir.
func openTokenizer(dir string) (*tokenizer.Tokenizer, error) {
	if dir != "" {
		return tokenizer.Open(filepath.Join(dir, tokenizerFile))
	}
	data, err := fs.ReadFile(marlingen.GlmTinyMixed(), tokenizerFile)
	if err != nil {
		return nil, err
	}
	return tokenizer.Parse(tokenizerFile, data)
}

// A fairwayStats is the JSON form of what mixtures of experts did.
type fairwayStats struct {
	moe.Snapshot
	Fallbacks []moe.FallbackCount `json:"fallbacks"`
}

func newFairwayStats(s moe.Snapshot) fairwayStats {
	return fairwayStats{s, append([]moe.FallbackCount{}, s.FallbackCounts()...)}
}

// fairway writes what mixtures of experts did, for people.
func (a *app) fairway(s moe.Snapshot) {
	fmt.Fprintf(a.out, "\n%d forwards of mixtures of experts\n", s.Forwards)
	var rows []table.Row
	for _, k := range generated.All.Kernels {
		if n := s.Launches[k.Symbol]; n > 0 {
			rows = append(rows, table.Row{k.Symbol, n})
		}
	}
	a.table(table.Row{"kernel", "launches"}, rows, 2)
	rows = nil
	for _, t := range sortedTuples(s.Assignments) {
		rows = append(rows, table.Row{t, s.Assignments[t]})
	}
	a.table(table.Row{"tuple", "rows"}, rows, 2)
	rows = nil
	for _, f := range s.FallbackCounts() {
		rows = append(rows, table.Row{f.Tuple, f.Pass, f.From, f.To, f.Reason, f.Count})
	}
	if rows == nil {
		fmt.Fprintln(a.out, "no fallbacks")
		return
	}
	a.table(table.Row{"fallback", "pass", "from", "to", "reason", "times"}, rows, 6)
}
