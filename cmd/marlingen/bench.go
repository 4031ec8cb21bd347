package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

type benchCmd struct {
	deviceFlag
	Quick     bool          `help:"One mixture, two rounds, and nothing that grows."`
	Tuples    []string      `help:"Tuples, or profiles with their mixtures; the last is what grows." default:"6_2_3,6_3_4,4_4_4,glm47" placeholder:"TUPLE"`
	Batches   []int         `help:"Tokens in a call; without it, 1, 4, 16, 64 and 256, or 1 and 16 with --quick." placeholder:"N"`
	Threads   []int         `help:"Numbers of threads; without it, 1, 2, 4 and so on, as many as Go uses." placeholder:"N"`
	Precision []string      `help:"Precisions of the cpu device: exact, fast." enum:"exact,fast" default:"exact,fast"`
	Shape     []int         `help:"hidden,intermediate,experts,top-k of a layer; without it, those of profile glm47." placeholder:"N"`
	Rounds    int           `help:"Rounds, of which medians are taken." default:"5"`
	Time      time.Duration `help:"What a cell takes of a round." default:"200ms"`
	Memory    int           `help:"MB of weights." default:"1100"`
	Markdown  string        `help:"Write a document." type:"path" placeholder:"FILE"`
	Plot      string        `help:"Write a plot of what grows, as SVG." type:"path" placeholder:"FILE"`
	Result    string        `help:"Write a result, for verify-result; of a run that fails as well." type:"path" placeholder:"FILE"`
	JSON      bool          `help:"Write JSON."`
}

// Help is shown by marlingen bench --help.
func (*benchCmd) Help() string {
	return `Times layers of random weights, each call with other tokens, and shows how much of what the machine
can do they reach: of its read bandwidth or of its int8 peak, measured in the same rounds. Exits
with 1 if a layer is off the oracle, or if a tuple falls back from a kernel that a spec asks for.

On a GPU it times replayed graphs of 8 layers instead, without routing, against what the GPU copies.

  marlingen bench --quick
  marlingen bench --tuples 7_7_7,6_2_3 --batches 1,64 --threads 2
  marlingen bench --markdown docs/cpu-speed.md --plot docs/cpu-scaling.svg
  marlingen bench --device cuda --tuples 6_2_3,glm47 --batches 1,8,64,512`
}

func (c *benchCmd) Run(ctx context.Context, a *app) error {
	if c.Device.kind() == "cuda" {
		return c.graphs(ctx, a)
	}
	o, err := c.options()
	if err != nil {
		return err
	}
	started := time.Now()
	variants, end, err := c.variants(ctx)
	defer end()
	if err != nil {
		return c.record(ctx, a, nil, started, runtime.Info{Kind: string(c.Device)}, err)
	}
	if err := c.plan(&o, variants); err != nil {
		return err
	}
	show, finish := a.progress("measuring")
	o.Progress = show
	started = time.Now()
	r, err := bench.Run(ctx, o)
	finish()
	if err := c.record(ctx, a, r, started, variants[0].Device.Info(), err); err != nil {
		return err
	}
	r.Command, r.Device = c.command(), variants[0].Device.Info().Kind
	if err := c.write(c.Markdown, func(w io.Writer) error { return report.Markdown(w, r, c.picture()) }); err != nil {
		return err
	}
	if err := c.write(c.Plot, func(w io.Writer) error { return report.Plot(w, r) }); err != nil {
		return err
	}
	if c.JSON {
		return a.json(r)
	}
	a.measured(r)
	return nil
}

// options returns what does not depend on devices.
func (c *benchCmd) options() (bench.Options, error) {
	o := bench.Options{
		Table: c.Device.table(), Codecs: codecs, Memory: c.Memory * 1e6, Layers: 32,
		Rounds: c.Rounds, Time: c.Time, Known: 2, Seed: 1,
	}
	if c.Quick {
		o.Rounds, o.Time, o.Known = min(2, c.Rounds), c.Time/2, 1
	}
	if o.Rounds < 1 || c.Memory < 1 {
		return o, fmt.Errorf("--rounds %d, --memory %d: want at least 1", c.Rounds, c.Memory)
	}
	if c.Quick && c.Plot != "" {
		return o, errors.New("--quick measures nothing that --plot shows")
	}
	return o, nil
}

// plan adds what to measure.
func (c *benchCmd) plan(o *bench.Options, variants []*bench.Variant) error {
	shape, mixes, batches, err := c.layers()
	if err != nil {
		return err
	}
	o.Sweeps = bench.Standard(shape, mixes, batches, variants)
	if c.Quick {
		o.Sweeps = o.Sweeps[:1]
	}
	return nil
}

// layers returns the shape, the mixes and the batches that the flags ask for.
func (c *benchCmd) layers() (shape bench.Shape, mixes []bench.Mix, batches []int, err error) {
	if shape, err = c.shape(); err != nil {
		return shape, nil, nil, err
	}
	if mixes, err = c.mixes(); err != nil {
		return shape, nil, nil, err
	}
	for _, n := range c.Batches {
		if n < 1 {
			return shape, nil, nil, fmt.Errorf("--batches %d: want at least 1", n)
		}
	}
	batches = c.Batches
	if len(batches) == 0 {
		batches = []int{1, 4, 16, 64, 256}
		if c.Quick {
			batches = []int{1, 16}
		}
	}
	if c.Quick {
		mixes = mixes[:1]
	}
	return shape, mixes, batches, nil
}

func (c *benchCmd) shape() (bench.Shape, error) {
	if len(c.Shape) == 0 {
		p := profileOf("glm47")
		return bench.Shape{Hidden: p.Hidden, Intermediate: p.Intermediate, Experts: p.Experts, TopK: p.TopK}, nil
	}
	s := c.Shape
	if len(s) != 4 || s[0] < 16 || s[0]%16 != 0 || s[1] < 16 || s[1]%16 != 0 || s[3] < 1 || s[2] < s[3] {
		return bench.Shape{}, fmt.Errorf("--shape %v: want hidden, intermediate, experts and top-k, the first two multiples of 16", s)
	}
	return bench.Shape{Hidden: s[0], Intermediate: s[1], Experts: s[2], TopK: s[3]}, nil
}

func (c *benchCmd) mixes() (mixes []bench.Mix, err error) {
	for _, name := range c.Tuples {
		if p := profileOf(name); p != nil {
			mixes = append(mixes, bench.Of(p))
			continue
		}
		t, err := runtime.ParseBitTuple(name)
		if err == nil && !generated.Table.Codec("trellis").Stores(t) {
			err = fmt.Errorf("codec trellis stores widths %v", generated.Table.Codec("trellis").Widths)
		}
		if err != nil {
			return nil, fmt.Errorf("--tuples %s: %w", name, err)
		}
		mixes = append(mixes, bench.Uniform(t))
	}
	return mixes, nil
}

// What outputs may differ by from the oracle's, as ‖a − b‖ / ‖b‖: that of sums
// of floats, and that of inputs rounded to 8 bits.
const (
	exactTolerance = 1e-5
	fastTolerance  = 5e-2
)

// variants opens the device in every way that the flags ask for. end closes it.
func (c *benchCmd) variants(ctx context.Context) (variants []*bench.Variant, end func(), err error) {
	var sessions []*session
	end = func() {
		for _, s := range sessions {
			s.close()
		}
	}
	add := func(precision string, threads int, tolerance float64, device runtime.Device, err error) error {
		if err != nil {
			return fmt.Errorf("device %s: %w", c.Device, err)
		}
		s, err := newSession(ctx, device, c.Device.table(), generated.Sources)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
		variants = append(variants, &bench.Variant{
			Precision: precision, Threads: threads, Device: s.device, Library: s.library, Tolerance: tolerance,
		})
		return nil
	}
	most := goruntime.GOMAXPROCS(0)
	if c.Device != "cpu" {
		device, err := c.device(ctx, cpu.Options{})
		return variants, end, add("exact", most, exactTolerance, device, err)
	}
	threads := c.Threads
	for n := 1; len(c.Threads) == 0 && n <= most; n *= 2 {
		threads = append(threads, n)
	}
	for _, n := range threads {
		if n < 1 || n > most {
			return nil, end, fmt.Errorf("--threads %d: want 1 to %d", n, most)
		}
		for _, p := range c.Precision {
			o, tolerance := cpu.Options{Workers: n, Precision: cpu.Exact}, exactTolerance
			if p == "fast" {
				o.Precision, tolerance = cpu.Fast, fastTolerance
			}
			if err := add(p, n, tolerance, cpu.New(o), nil); err != nil {
				return nil, end, err
			}
		}
	}
	return variants, end, nil
}

// record writes the result of a run that began at started. It returns err, the
// error of the run, and its own.
func (c *benchCmd) record(ctx context.Context, a *app, r *bench.Report, started time.Time, on runtime.Info, err error) error {
	if c.Result == "" {
		return err
	}
	d := newResult(a.args, started, on)
	d.Benchmark, d.Level = "layers", result.Layers
	if err == nil {
		err = r.Fill(d.Document)
	}
	d.end(ctx, err)
	return errors.Join(err, d.write(c.Result))
}

// command returns the command line that does the same again.
func (c *benchCmd) command() string {
	words := []string{"marlingen bench"}
	flag := func(name, value string, differs bool) {
		if differs {
			words = append(words, "--"+name+" "+value)
		}
	}
	ints := func(ns []int) string {
		var words []string
		for _, n := range ns {
			words = append(words, strconv.Itoa(n))
		}
		return strings.Join(words, ",")
	}
	if c.Quick {
		words = append(words, "--quick")
	}
	flag("device", string(c.Device), c.Device != "cpu")
	flag("tuples", strings.Join(c.Tuples, ","), strings.Join(c.Tuples, ",") != "6_2_3,6_3_4,4_4_4,glm47")
	flag("batches", ints(c.Batches), len(c.Batches) > 0)
	flag("threads", ints(c.Threads), len(c.Threads) > 0)
	flag("precision", strings.Join(c.Precision, ","), strings.Join(c.Precision, ",") != "exact,fast")
	flag("shape", ints(c.Shape), len(c.Shape) > 0)
	flag("rounds", strconv.Itoa(c.Rounds), c.Rounds != 5)
	flag("time", c.Time.String(), c.Time != 200*time.Millisecond)
	flag("memory", strconv.Itoa(c.Memory), c.Memory != 1100)
	flag("markdown", relative(c.Markdown), c.Markdown != "")
	flag("plot", relative(c.Plot), c.Plot != "")
	flag("result", relative(c.Result), c.Result != "")
	return strings.Join(words, " ")
}

// relative returns a path from the working directory, if there is one.
func relative(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	if p, err := filepath.Rel(dir, path); err == nil {
		path = p
	}
	return filepath.ToSlash(path)
}

// write makes the file called name, if there is a name.
func (c *benchCmd) write(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	return writeFile(name, write)
}

// picture returns the address of the plot in the document.
func (c *benchCmd) picture() string {
	if c.Plot == "" {
		return ""
	}
	address, err := filepath.Rel(filepath.Dir(c.Markdown), c.Plot)
	if err != nil {
		return c.Plot
	}
	return filepath.ToSlash(address)
}

// measured writes a report for people.
func (a *app) measured(r *bench.Report) {
	m := r.Machine
	fmt.Fprintf(a.out, "%s · %d processors · %s/%s · %s\n\n", m.Processor, m.Processors, m.OS, m.Arch, m.Go)
	a.columns(report.LimitsHeader, report.LimitsRows(r))
	for _, s := range report.Sweeps {
		var rows [][]string
		for _, result := range report.Of(r, s.Name) {
			rows = append(rows, report.Row(result))
		}
		if len(rows) > 0 {
			fmt.Fprintf(a.out, "\n%s\n", s.Title)
			a.columns(report.Header, rows)
		}
	}
	fmt.Fprintf(a.out, "\n%s%s", report.Legend, report.Load(r))
}

// columns writes a table of words and numbers.
func (a *app) columns(header []string, rows [][]string) {
	words := func(row []string) (r table.Row) {
		for _, word := range row {
			r = append(r, word)
		}
		return r
	}
	var right []int
	for i, name := range header {
		if !report.Text(name) {
			right = append(right, i+1)
		}
	}
	var all []table.Row
	for _, row := range rows {
		all = append(all, words(row))
	}
	a.table(words(header), all, right...)
}
