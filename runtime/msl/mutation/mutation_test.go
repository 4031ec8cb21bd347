// Package mutation_test makes mistakes in the templates and specs, one at a
// time, and holds the proof of kernels to noticing each of them.
//
// There are four levels, from the earliest to the last. The generator refuses
// specs and frames; check reads the generated text as a front end does; suite
// runs it in several orders and compares numbers; checker runs it and watches
// each access. A mistake has a level at which it must be caught, by a message
// that names its place.
package mutation_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/msl"
)

var update = flag.Bool("update", false, "rewrite docs/msl-mutations.md")

// A level is what catches a mistake.
type level int

// The levels, in their order. A mistake that the checker catches gives right
// numbers in every order of the suite.
const (
	nowhere level = iota
	generator
	check
	suite
	checker
)

func (l level) String() string {
	return [...]string{"nowhere", "generator", "check", "suite", "checker"}[l]
}

// A mutation is a mistake.
type mutation struct {
	what string // is wrong

	file     string // of specs/ or templates/
	nth      int    // of the places that old is at, if it is at several: from 1 on
	old, new string

	kernel string // that suffers from it
	level  level
	says   string // what the level must say, a regular expression

	// Of what the suite catches: what the checker must say, too, if anything.
	checker string

	// Parts of the lines that a message may name as its places. Without them
	// these are the lines of new.
	at []string
}

// A way is how the suite runs a kernel.
type way struct {
	name    string
	options msl.Options
	suite   devicetest.Options
}

var (
	ways = []way{
		{"forward", msl.Options{Schedule: msl.Forward}, devicetest.Options{}},
		{"reverse", msl.Options{Schedule: msl.Reverse}, devicetest.Options{Short: true}},
		{"random", msl.Options{Schedule: msl.Random, Seed: 1}, devicetest.Options{Short: true}},
	}
	watched = way{"checker", msl.Options{Checker: true}, devicetest.Options{}}
)

// patience is how long a launch may take: an endless loop is ended then.
const patience = 5 * time.Second

// open returns a device of its own for w: what a mistake leaves in memory is not
// for another one to find.
func (w way) open(ctx context.Context) (*msl.Device, error) {
	o := w.options
	o.Workers = 1 // mistakes run at once already; and a race has one outcome
	o.Timeout = patience
	if o.Checker {
		o.Timeout = 6 * patience
	}
	return msl.Open(ctx, o)
}

// project returns the project's specs and templates, with one tuple.
func project(t *testing.T) fstest.MapFS {
	files := fstest.MapFS{}
	root := os.DirFS("../../..")
	for _, dir := range []string{"specs", "templates"} {
		require.NoError(t, fs.WalkDir(root, dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(root, path)
			files[path] = &fstest.MapFile{Data: text}
			return err
		}))
	}
	codec := files[trellisSpec]
	head, tuples, ok := strings.Cut(string(codec.Data), "tuples:\n")
	require.True(t, ok, trellisSpec)
	require.Contains(t, tuples, tuple)
	above, _, _ := strings.Cut(tuples, tuple) // as many lines, to leave numbers alone
	codec.Data = []byte(head + "tuples:\n" + strings.Repeat("\n", strings.Count(above, "\n")) + tuple)
	return files
}

// tuple is the one tuple that kernels are made for.
const tuple = "  - 6_2_3\n"

// A mutant is the project with a mistake in it.
type mutant struct {
	mutation
	files       fstest.MapFS
	first, last int // lines of the mistake
}

// apply makes the mistake.
func (m mutation) apply(files fstest.MapFS) (*mutant, error) {
	file := files[m.file]
	if file == nil {
		return nil, fmt.Errorf("there is no %s", m.file)
	}
	text := string(file.Data)
	have := strings.Count(text, m.old)
	if m.old == "" || have == 0 || m.nth == 0 && have > 1 || m.nth > have {
		return nil, fmt.Errorf("%s has this %d times:\n%s", m.file, have, m.old)
	}
	at := -1
	for range max(m.nth, 1) {
		at += 1 + strings.Index(text[at+1:], m.old)
	}
	mutated := maps.Clone(files)
	mutated[m.file] = &fstest.MapFile{Data: []byte(text[:at] + m.new + text[at+len(m.old):])}
	first := 1 + strings.Count(text[:at], "\n")
	return &mutant{m, mutated, first, first + strings.Count(strings.TrimSuffix(m.new, "\n"), "\n")}, nil
}

// A message is what a level says of a mistake.
type message struct {
	text      string
	places    []msl.Place
	violation bool
}

// A finding is a level that caught a mistake, and all that it said.
type finding struct {
	level    level
	how      string // the way in which the suite caught it
	messages []message
}

// try runs the levels on a kernel made from files, up to the one that finds
// something.
func try(ctx context.Context, files fs.FS, symbol string) (finding, error) {
	table, sources, err := generate(files)
	if err != nil {
		return finding{level: generator, messages: complaints(err)}, nil
	}
	kernel := table.Kernel(symbol)
	if kernel == nil {
		return finding{}, fmt.Errorf("there is no kernel %s", symbol)
	}
	text, err := fs.ReadFile(sources, kernel.Source)
	if err != nil {
		return finding{}, err
	}
	diagnostics, err := msl.CheckSource(ctx, table, kernel.Source, string(text))
	if err != nil {
		return finding{}, err
	}
	if len(diagnostics) > 0 {
		f := finding{level: check}
		for _, d := range diagnostics {
			f.messages = append(f.messages, message{text: d.Message, places: []msl.Place{{File: d.File, Line: d.Line}}})
		}
		return f, nil
	}
	for _, w := range ways {
		if err := w.run(ctx, table, sources, kernel); err != nil {
			return finding{suite, w.name, failures(err)}, ctx.Err()
		}
	}
	if err := watched.run(ctx, table, sources, kernel); err != nil {
		return finding{checker, "", failures(err)}, ctx.Err()
	}
	return finding{}, nil
}

// watch runs a kernel made from files on the checker alone.
func watch(ctx context.Context, files fs.FS, symbol string) (finding, error) {
	table, sources, err := generate(files)
	if err != nil {
		return finding{}, err
	}
	if err := watched.run(ctx, table, sources, table.Kernel(symbol)); err != nil {
		return finding{checker, "", failures(err)}, ctx.Err()
	}
	return finding{}, nil
}

// run holds a kernel to the oracle.
func (w way) run(ctx context.Context, table *runtime.Table, sources fs.FS, k *runtime.Kernel) error {
	device, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer device.Close()
	alone := &runtime.Table{Codecs: table.Codecs, Kernels: []*runtime.Kernel{k}}
	library, err := device.Load(ctx, alone, sources)
	if err != nil {
		return err
	}
	defer library.Close()
	if s := library.Availability().Of(k); s.State != runtime.Present {
		return fmt.Errorf("%v: %s", s.State, s.Words)
	}
	return devicetest.CheckKernel(ctx, device, library, alone, k, w.suite)
}

// generate returns what files generate.
func generate(files fs.FS) (*runtime.Table, fs.FS, error) {
	templates, err := fs.Sub(files, "templates")
	if err != nil {
		return nil, nil, err
	}
	model, err := gen.Read(files, templates)
	if err != nil {
		return nil, nil, err
	}
	generated, err := gen.Render(model, templates)
	if err != nil {
		return nil, nil, err
	}
	sources := fstest.MapFS{}
	for name, text := range generated {
		sources[name] = &fstest.MapFile{Data: text}
	}
	return model.Table(), sources, nil
}

// complaints returns what the generator said.
func complaints(err error) (ms []message) {
	var all gen.Complaints
	if !errors.As(err, &all) {
		return []message{{text: err.Error()}}
	}
	for _, c := range all {
		ms = append(ms, message{text: c.Msg, places: []msl.Place{{File: c.File, Line: c.Line}}})
	}
	return ms
}

// failures returns what a device, or the suite on it, said.
func failures(err error) []message {
	var v *msl.Violation
	if !errors.As(err, &v) {
		return []message{{text: err.Error()}}
	}
	m := message{text: fmt.Sprintf("%s: %s", v.Kind, v.Words), places: []msl.Place{v.At}, violation: true}
	if v.Other != (msl.Place{}) {
		m.places = append(m.places, v.Other)
	}
	return []message{m}
}

// pick returns the message that has the words and the places that m wants.
func (m *mutant) pick(f finding, says string) (message, error) {
	pattern, err := regexp.Compile(says)
	if err != nil {
		return message{}, err
	}
	for _, said := range f.messages {
		if says != "" && pattern.MatchString(said.text) && !slices.ContainsFunc(said.places, m.elsewhere) {
			return said, nil
		}
	}
	var b strings.Builder
	for _, said := range f.messages {
		fmt.Fprintf(&b, "\n  %s", said.text)
		for _, p := range said.places {
			fmt.Fprintf(&b, "\n    %v: %s", p, lineOf(m.files, p))
		}
	}
	return message{}, fmt.Errorf("want %q in %s:%d-%d; %v %s says:%s", says, m.file, m.first, m.last, f.level, f.how, b.String())
}

// elsewhere reports whether p is none of the places of m.
func (m *mutant) elsewhere(p msl.Place) bool {
	switch {
	case len(m.at) > 0:
		line := lineOf(m.files, p)
		return !slices.ContainsFunc(m.at, func(part string) bool { return strings.Contains(line, part) })
	case m.file == frame: // whose lines are not all lines of the output: near is all there is
		return p.File != frame
	}
	return p.File != m.file || p.Line < m.first || m.last < p.Line
}

// lineOf returns the text of a line, without indentation.
func lineOf(files fstest.MapFS, p msl.Place) string {
	file := files[p.File]
	if file == nil {
		return ""
	}
	lines := strings.Split(string(file.Data), "\n")
	if p.Line < 1 || p.Line > len(lines) {
		return ""
	}
	return strings.TrimSpace(lines[p.Line-1])
}

// few is how many mutations short tests try.
const few = 12

func TestMutations(t *testing.T) {
	probe, err := watched.open(t.Context())
	if err != nil && os.Getenv("MARLINGEN_REQUIRE_CLANG") != "1" {
		t.Skip(err) // it says how to install what is missing
	}
	require.NoError(t, err)
	driver := probe.Info().Driver
	require.NoError(t, probe.Close())

	tried := mutations
	if testing.Short() {
		tried = nil
		for i := range few {
			tried = append(tried, mutations[i*len(mutations)/few])
		}
	}
	files := project(t)
	rows := make([]row, len(tried))
	t.Run("all", func(t *testing.T) {
		for _, symbol := range kernels(t, tried) {
			t.Run("nothing wrong in "+symbol, func(t *testing.T) {
				t.Parallel()
				f, err := try(t.Context(), files, symbol)
				require.NoError(t, err)
				require.Equal(t, nowhere, f.level, "%+v", f)
			})
		}
		for i, m := range tried {
			t.Run(m.what, func(t *testing.T) {
				t.Parallel()
				rows[i] = catch(t, m, files)
			})
		}
	})
	switch {
	case t.Failed() || testing.Short():
		return
	case !strings.HasPrefix(driver, documented):
		t.Logf("%s quotes %s, this is %s: not compared", document, documented, driver)
		return
	}
	text := render(rows)
	if *update {
		require.NoError(t, os.WriteFile(document, text, 0o644))
	}
	have, err := os.ReadFile(document)
	require.NoError(t, err)
	require.Equal(t, string(have), string(text), "run %s", command)
}

// kernels returns the kernels that mutations are made in, and refuses two
// mutations of one name.
func kernels(t *testing.T, mutations []mutation) (symbols []string) {
	names := map[string]bool{}
	for _, m := range mutations {
		require.False(t, names[m.what], "%s: there twice", m.what)
		names[m.what] = true
		symbols = append(symbols, m.kernel)
	}
	slices.Sort(symbols)
	return slices.Compact(symbols)
}

// catch tries a mutation and returns what was said of it.
func catch(t *testing.T, m mutation, files fstest.MapFS) row {
	mutant, err := m.apply(files)
	require.NoError(t, err)
	f, err := try(t.Context(), mutant.files, m.kernel)
	require.NoError(t, err)
	said, err := mutant.pick(f, m.says)
	require.NoError(t, err)
	require.Equal(t, m.level.String(), f.level.String(), "%v", f.messages)
	t.Logf("%v: %s", f.level, said.text)
	r := row{mutation: m, how: f.how, says: said.describe(mutant.files)}
	if m.checker == "" {
		return r
	}
	require.Equal(t, suite, m.level, "only what the suite caught is tried again")
	f, err = watch(t.Context(), mutant.files, m.kernel)
	require.NoError(t, err)
	said, err = mutant.pick(f, m.checker)
	require.NoError(t, err)
	t.Logf("checker: %s", said.text)
	r.watched = said.describe(mutant.files)
	return r
}
