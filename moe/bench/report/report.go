// Package report writes what package bench measured.
package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/marlingen/marlingen/moe/bench"
)

// Header names the columns of Row.
var Header = []string{"tuples", "batch", "threads", "precision", "ms", "best", "GB/s", "GMAC/s", "floor ms", "bound", "of limit"}

// Row writes what of r is worth reading.
func Row(r *bench.Result) []string {
	limit := "-"
	if r.FloorMS > 0 {
		limit = fmt.Sprintf("%.0f %%", 100*r.Fraction)
	}
	return []string{
		mix(r), fmt.Sprint(r.Batch), fmt.Sprint(r.Threads), r.Precision, number(r.MS), number(r.BestMS),
		number(r.GBs), number(r.GMACs), number(r.FloorMS), r.Bound, limit,
	}
}

// mix names what a layer is made of, and what grows.
func mix(r *bench.Result) string {
	if r.Sweep == bench.Experts {
		return fmt.Sprintf("%s, %d experts", r.Mix, r.Shape.Experts)
	}
	return r.Mix
}

// LimitsHeader names the columns of LimitsRows.
var LimitsHeader = []string{"threads", "read GB/s", "best", "int8 GMAC/s", "best", "fp32 GMAC/s", "best", "samples"}

// LimitsRows writes the limits of the machine.
func LimitsRows(r *bench.Report) (rows [][]string) {
	for _, l := range r.Limits {
		rows = append(rows, []string{
			fmt.Sprint(l.Threads), number(l.Read.Median), number(l.Read.Best), number(l.Int8.Median), number(l.Int8.Best),
			number(l.FP32.Median), number(l.FP32.Best), fmt.Sprint(l.Samples),
		})
	}
	return rows
}

// number writes v with three digits, or all of those before the point.
func number(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Legend says what the columns mean.
const Legend = `ms        median over rounds of the median of a round's calls; best, of any call
GB/s      weights that a call reads: of the experts that it takes tokens to, each once,
          all components, and, on a host, of the router; by time
GMAC/s    multiply-accumulates of the experts, 10⁹ per second
floor ms  what the machine allows: these weights by its read bandwidth, or multiply-accumulates
          by its int8 peak, whichever takes longer; bound says which
of limit  floor ms by ms
`

// Load says what other programs took of the machine, if anything that matters.
func Load(r *bench.Report) string {
	if r.Others < 0.05 {
		return ""
	}
	return fmt.Sprintf("Other programs took %.0f %% of the processors' time: layers are slower here than alone.\n", 100*r.Others)
}

// Sweeps name the sweeps for people, in order.
var Sweeps = []struct{ Name, Title string }{
	{bench.Layers, "Layers"},
	{bench.Batch, "A growing batch"},
	{bench.Experts, "A growing number of experts"},
	{bench.Tuples, "A growing number of tuples"},
}

// Of returns the results of a sweep.
func Of(r *bench.Report, sweep string) (results []*bench.Result) {
	for i := range r.Results {
		if r.Results[i].Sweep == sweep {
			results = append(results, &r.Results[i])
		}
	}
	return results
}

// Markdown writes r as a document; picture is the address of its plot, or
// empty.
func Markdown(w io.Writer, r *bench.Report, picture string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Speed on a CPU\n\nWritten by `%s`, and made anew by it.\n\n", r.Command)
	m := r.Machine
	fmt.Fprintf(&b, "%s · %d processors · %s/%s · %s · device %s · %s · %d MB of weights · %d rounds · %.0f s\n\n",
		m.Processor, m.Processors, m.OS, m.Arch, m.Go, r.Device, r.Time.Format("2006-01-02"), r.Memory/1e6, r.Rounds, r.Took.Seconds())
	b.WriteString(`Layers have random weights and random tokens, others in each call. Calls take turns over all cells of a
section and several layers, and the limits of the machine are measured in between, in the same weights;
so what was slow for a while was so for all. The time is that of a whole Forward: routing, planning, both
passes and the sum. Every cell was held to the float64 oracle first, and ran without a step down.

`)
	if load := Load(r); load != "" {
		fmt.Fprintf(&b, "**%s**\n\n", strings.TrimSpace(load))
	}
	fmt.Fprintf(&b, "```text\n%s```\n\n## What the machine can do\n\n", Legend)
	table(&b, LimitsHeader, LimitsRows(r))
	fmt.Fprintf(&b, "\nRead with %s", r.Instructions.Read)
	if i := r.Instructions; i.Int8 != "" {
		fmt.Fprintf(&b, "; multiplied with %s and %s", i.Int8, i.FP32)
	}
	b.WriteString(". Medians count, since cells are medians too. A cache may hold a part of the weights, so that a\nlayer can read more than the memory gives.\n")
	if picture != "" {
		fmt.Fprintf(&b, "\n![Time as the batch, the experts and the tuples grow](%s)\n", picture)
	}
	for _, s := range Sweeps {
		results := Of(r, s.Name)
		if len(results) == 0 {
			continue
		}
		shape := results[0].Shape.String()
		if s.Name == bench.Experts {
			shape = fmt.Sprintf("hidden %d, intermediate %d, top-%d", results[0].Shape.Hidden, results[0].Shape.Intermediate, results[0].Shape.TopK)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n", s.Title, strings.ToUpper(shape[:1])+shape[1:])
		var rows [][]string
		for _, r := range results {
			rows = append(rows, Row(r))
		}
		table(&b, Header, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table writes a table whose columns, all but the texts, are to the right.
func table(b *strings.Builder, header []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|", strings.Join(header, " | "))
	for _, name := range header {
		if Text(name) {
			b.WriteString("---|")
		} else {
			b.WriteString("--:|")
		}
	}
	b.WriteString("\n")
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}

// Text reports whether a column holds words.
func Text(column string) bool {
	switch column {
	case "tuples", "precision", "bound", "cell", "variant":
		return true
	}
	return false
}
