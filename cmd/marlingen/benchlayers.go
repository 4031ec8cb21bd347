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

	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

type benchLayersCmd struct {
	deviceFlag
	resultFlags
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
}

// Help is shown by marlingen bench layers --help.
func (*benchLayersCmd) Help() string {
	return `Times layers of random weights, each call with other tokens, and shows how much of what the machine
can do they reach: of its read bandwidth or of its int8 peak, measured in the same rounds. Exits
with 1 if a layer is off the oracle, or if a tuple falls back from a kernel that a spec asks for.

On an NVIDIA GPU it times replayed graphs of 8 layers instead, without routing, against what the GPU copies.

  marlingen bench --quick
  marlingen bench --tuples 7_7_7,6_2_3 --batches 1,64 --threads 2
  marlingen bench --markdown docs/cpu-speed.md --plot docs/cpu-scaling.svg
  marlingen bench --device cuda --tuples 6_2_3,glm47 --batches 1,8,64,512`
}

func (c *benchLayersCmd) Run(ctx context.Context, a *app) error {
	if c.Device.kind() == "cuda" {
		return c.graphs(ctx, a)
	}
	o, err := c.options()
	if err != nil {
		return err
	}
	started := time.Now()
	variants, end, err := c.variants(ctx, c.threads(), c.Precision, "")
	defer end()
	if err != nil {
		d := newResult(a.args, started, runtime.Info{Kind: string(c.Device)})
		return c.record(ctx, c.result(d), err)
	}
	if err := c.plan(&o, variants); err != nil {
		return err
	}
	show, finish := a.progress("measuring")
	o.Progress = show
	started = time.Now()
	r, err := bench.Run(ctx, o)
	finish()
	d := c.result(newResult(a.args, started, variants[0].Device.Info()))
	if err == nil {
		err = r.Fill(d.Document)
	}
	if err := c.record(ctx, d, err); err != nil {
		return err
	}
	r.Command, r.Device = c.command(), variants[0].Device.Info().Kind
	if err := c.write(c.Markdown, func(w io.Writer) error { return report.Markdown(w, r, c.picture()) }); err != nil {
		return err
	}
	if err := c.write(c.Plot, func(w io.Writer) error { return report.Plot(w, r) }); err != nil {
		return err
	}
	return c.show(a, d, func() { a.measured(r) })
}

// result says in d what is measured.
func (c *benchLayersCmd) result(d resultDocument) resultDocument {
	d.Benchmark, d.Level = "layers", result.Layers
	return d
}

// options returns what does not depend on devices.
func (c *benchLayersCmd) options() (bench.Options, error) {
	o := bench.Options{
		Codecs: codecs, Memory: c.Memory * 1e6, Layers: 32,
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

// threads returns the numbers of threads that the flags ask for.
func (c *benchLayersCmd) threads() []int {
	threads := c.Threads
	for n := 1; len(c.Threads) == 0 && n <= goruntime.GOMAXPROCS(0); n *= 2 {
		threads = append(threads, n)
	}
	return threads
}

// plan adds what to measure.
func (c *benchLayersCmd) plan(o *bench.Options, variants []*bench.Variant) error {
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
func (c *benchLayersCmd) layers() (shape bench.Shape, mixes []bench.Mix, batches []int, err error) {
	if shape, err = shapeOf(c.Shape, profileOf("glm47")); err != nil {
		return shape, nil, nil, err
	}
	if mixes, err = mixesOf(c.Tuples); err != nil {
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

// command returns the command line that does the same again.
func (c *benchLayersCmd) command() string {
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
	flag("history", relative(c.History), c.History != "")
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
func (c *benchLayersCmd) write(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	return writeFile(name, write)
}

// picture returns the address of the plot in the document.
func (c *benchLayersCmd) picture() string {
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
	if limits := report.LimitsRows(r); len(limits) > 0 {
		a.columns(report.LimitsHeader, limits)
	}
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
