package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// cellColumns are what Cells shows of a cell, each with what it means.
var cellColumns = []struct {
	header, legend string
	text           func(c result.Cell) string // "-" if the cell has none
}{
	{"cell", "", func(c result.Cell) string { return c.Name }},
	{"variant", "which kernels: selected, as a layer does it; other, for the same; overridden, asked for", label("variant")},
	{"ms", "median of all samples", func(c result.Cell) string { return number(c.MS.Median) }},
	{"±", "median distance from the median", func(c result.Cell) string { return number(c.MS.Spread) }},
	{"p95", "what 95 % of the samples do not exceed", func(c result.Cell) string { return number(c.MS.P95) }},
	{"p99", "what 99 % of the samples do not exceed", func(c result.Cell) string { return number(c.MS.P99) }},
	{"tokens/s", "of the median", metric("tokens_s", 1, number)},
	{"MB", "of weights of experts and, on a host, of routers, each byte once; of kernels alone, what they read and write besides as well", metric("bytes", 1e-6, number)},
	{"GB/s", "MB by the median", metric("gb_s", 1, number)},
	{"GMAC/s", "multiply-accumulates, 10⁹ per second", metric("gmac_s", 1, number)},
	{"of limit", "what the limits that were measured allow, by the median", metric("fraction", 100, func(v float64) string { return fmt.Sprintf("%.0f %%", v) })},
	{"bound", "which limit", label("bound")},
	{"error", "from the oracle", metric("deviation", 1, func(v float64) string { return fmt.Sprintf("%.1e", v) })},
}

func label(name string) func(result.Cell) string {
	return func(c result.Cell) string {
		if c.Labels[name] == "" {
			return "-"
		}
		return c.Labels[name]
	}
}

func metric(name string, by float64, text func(float64) string) func(result.Cell) string {
	return func(c result.Cell) string {
		v, ok := c.Metrics[name]
		if !ok {
			return "-"
		}
		return text(by * v)
	}
}

// Cells writes cells as a table, without the columns that none of them has.
func Cells(cells []result.Cell) (header []string, rows [][]string) {
	rows = make([][]string, len(cells))
	for _, column := range cellColumns {
		var texts []string
		for _, c := range cells {
			texts = append(texts, column.text(c))
		}
		if !slices.ContainsFunc(texts, func(t string) bool { return t != "-" }) {
			continue
		}
		header = append(header, column.header)
		for i, t := range texts {
			rows[i] = append(rows[i], t)
		}
	}
	return header, rows
}

// CellsLegend says what columns of Cells mean.
func CellsLegend(header []string) string {
	var b strings.Builder
	for _, c := range cellColumns {
		if c.legend != "" && slices.Contains(header, c.header) {
			fmt.Fprintf(&b, "%-10s%s\n", c.header, c.legend)
		}
	}
	return b.String()
}
