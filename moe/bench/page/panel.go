package page

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// What labels of a cell are for. Those that are in no list tell series apart
// where nothing else does.
var (
	grows  = []string{"batch", "rows"}                                   // what does, unless the sweep is named after one of
	sweeps = []string{"batch", "rows", "experts", "tuples"}              // these
	apart  = []string{"sweep", "pass", "mix", "tuple", "shape", "model"} // tell panels apart
	within = []string{"precision", "kind", "path", "threads", "batch", "rows"}
	turns  = []string{turn} // tell cells apart that were measured in turns
	texts  = []string{"family", "bound"}
)

// unplaced are metrics that have no column: sizes of what is measured.
var unplaced = map[string]bool{"bytes": true, "weight_bytes": true, "macs": true, "tokens": true, "deviation": true}

// metrics are the columns that metrics have, by name, in order; any other has
// its name.
var metrics = []struct {
	name, title string
	unit        unit
}{
	{"gb_s", "GB/s", measure("GB/s")},
	{"gmac_s", "GMAC/s", measure("GMAC/s")},
	{"tokens_s", "tokens/s", measure("tokens/s")},
	{"copy_gb_s", "copy GB/s", measure("GB/s")},
	{"floor_ms", "floor ms", measure("ms")},
	{"fraction", "of limit", percent},
}

// A Panel is cells that differ in what grows, and in a few things besides.
type Panel struct {
	Title  string   `json:"title"`
	Grows  string   `json:"grows"`  // label of what grows, or empty
	Common []Fact   `json:"common"` // labels that all cells have
	Series []Series `json:"series"`
	Runs   []*Run   `json:"runs"`
	index  int      // on the page
}

// A Series is the cells of a panel that differ in nothing but what grows.
type Series struct {
	Name   string  `json:"name"`
	Run    *Run    `json:"-"`
	Points []Point `json:"points"`
	labels map[string]string
}

// A Point is a cell.
type Point struct {
	Cell    string            `json:"cell"`
	X       string            `json:"x"` // what grows, as the document writes it
	MS      Figure            `json:"ms"`
	Spread  Figure            `json:"spread"`
	P95     Figure            `json:"p95"`
	P99     Figure            `json:"p99"`
	Samples Figure            `json:"samples"`
	Metrics map[string]Figure `json:"metrics"`
	Texts   map[string]string `json:"texts"`
	x       float64
}

// placed is a cell on its way into a panel.
type placed struct {
	run   *Run
	cell  *result.Cell
	grows string
	panel string // key
}

// panels sorts the cells of runs into panels.
func panels(runs []*Run) []Panel {
	var cells []placed
	for _, r := range runs {
		for i := range r.doc.Cells {
			c := &r.doc.Cells[i]
			cells = append(cells, placed{run: r, cell: c, grows: growing(c)})
		}
	}
	var order []string
	groups := map[string][]placed{}
	for i, c := range cells {
		key := panelKey(cells, c)
		cells[i].panel = key
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], cells[i])
	}
	all := []Panel{}
	for _, key := range order {
		p := newPanel(groups[key])
		p.index = len(all)
		all = append(all, p)
	}
	return all
}

// growing returns the name of the label that grows from cell to cell: the one
// that the sweep is named after, or the batch.
func growing(c *result.Cell) string {
	names := grows
	if sweep := c.Labels["sweep"]; slices.Contains(sweeps, sweep) {
		names = append([]string{sweep}, grows...)
	}
	for _, name := range names {
		if _, ok := number(c.Labels[name]); ok {
			return name
		}
	}
	return ""
}

// number reads a finite number. A tuple is none, though Go reads one.
func number(s string) (float64, bool) {
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) && !strings.Contains(s, "_")
}

// panelKey is the same for cells of one panel: what they measure, in which
// sweep, and the labels that tell panels apart. In a sweep of something else
// than the batch, those are not that grow with it.
func panelKey(all []placed, c placed) string {
	key := []string{c.run.doc.Benchmark, string(c.run.doc.Level), c.grows}
	for _, name := range apart {
		if !slices.Contains(grows, c.grows) && c.grows != "" && growsWith(all, c, name) {
			continue
		}
		key = append(key, c.cell.Labels[name])
	}
	return strings.Join(key, "\n")
}

// growsWith reports whether a label of c's sweep follows from what grows.
func growsWith(all []placed, c placed, name string) bool {
	values := map[string]string{}
	distinct := map[string]bool{}
	for _, o := range all {
		if o.run != c.run || o.grows != c.grows || o.cell.Labels["sweep"] != c.cell.Labels["sweep"] {
			continue
		}
		at, value := o.cell.Labels[o.grows], o.cell.Labels[name]
		if before, ok := values[at]; ok && before != value {
			return false
		}
		values[at] = value
		distinct[value] = true
	}
	return len(distinct) > 1
}

// newPanel makes a panel of cells.
func newPanel(cells []placed) Panel {
	p := Panel{Grows: cells[0].grows}
	names := seriesLabels(cells)
	series := map[string]int{}
	for _, c := range cells {
		labels := map[string]string{}
		key := c.run.ID()
		for _, name := range names {
			labels[name] = c.cell.Labels[name]
			key += "\n" + labels[name]
		}
		labels["device"] = c.run.on()
		i, ok := series[key]
		if !ok {
			i = len(p.Series)
			series[key] = i
			p.Series = append(p.Series, Series{Run: c.run, labels: labels})
		}
		p.Series[i].Points = append(p.Series[i].Points, c.point())
		if !slices.Contains(p.Runs, c.run) {
			p.Runs = append(p.Runs, c.run)
		}
	}
	for i, s := range p.Series {
		p.Series[i].labels[turn] = s.variant(cells)
		slices.SortStableFunc(s.Points, func(a, b Point) int { return cmp.Compare(a.x, b.x) })
	}
	p.name(append([]string{"device"}, names...))
	p.title(cells)
	for _, name := range others(cells) {
		if !slices.Contains(names, name) {
			p.share(cells, name)
		}
	}
	return p
}

// variant names which kernels ran in s, with their names if those are the same
// for all points.
func (s Series) variant(cells []placed) string {
	names := []string{}
	for _, c := range cells {
		if c.run == s.Run && slices.ContainsFunc(s.Points, func(p Point) bool { return p.Cell == c.cell.Name }) {
			names = append(names, c.cell.Labels["kernels"])
		}
	}
	variant := s.labels[turn]
	names = slices.Compact(names)
	if variant == "" || len(names) != 1 || names[0] == variant {
		return variant
	}
	return join(" ", variant, names[0])
}

// seriesLabels returns the labels that tell the series of a panel apart: those
// that are known to and, while two cells would be the same, those of cells in
// turns, and any others.
func seriesLabels(cells []placed) (names []string) {
	for _, more := range [][]string{within, turns, others(cells)} {
		for _, name := range more {
			if name != cells[0].grows {
				names = append(names, name)
			}
		}
		if distinct(cells, names) {
			break
		}
	}
	return names
}

// distinct reports whether no two cells are at the same place of a series.
func distinct(cells []placed, names []string) bool {
	seen := map[string]bool{}
	for _, c := range cells {
		key := c.run.ID() + "\n" + c.cell.Labels[c.grows]
		for _, name := range names {
			key += "\n" + c.cell.Labels[name]
		}
		if seen[key] {
			return false
		}
		seen[key] = true
	}
	return true
}

// others returns the labels of cells that are in no list.
func others(cells []placed) []string {
	names := map[string]bool{}
	for _, c := range cells {
		for name := range c.cell.Labels {
			if name != c.grows && !slices.Contains(slices.Concat(within, turns, apart, texts), name) {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// name names the series by what they differ in, and says what they do not.
func (p *Panel) name(labels []string) {
	for _, name := range labels {
		values := map[string]bool{}
		for _, s := range p.Series {
			values[s.labels[name]] = true
		}
		first := p.Series[0].labels[name]
		if len(values) == 1 {
			if first != "" {
				p.Common = append(p.Common, Fact{Name: name, Text: first})
			}
			continue
		}
		for i, s := range p.Series {
			p.Series[i].Name = join(", ", s.Name, labelled(name, s.labels[name]))
		}
	}
	names := map[string]int{}
	for i, s := range p.Series {
		if s.Name == "" {
			p.Series[i].Name = labelled(p.lastCommon())
		}
		names[p.Series[i].Name]++
	}
	for i, s := range p.Series {
		if names[s.Name] > 1 {
			p.Series[i].Name = join(", ", s.Name, "run "+s.Run.Short())
		}
		if s.Run.Stale {
			p.Series[i].Name += " (stale" + StaleMark + ")"
		}
	}
}

// lastCommon returns the most particular label that all cells have.
func (p *Panel) lastCommon() (name, value string) {
	for _, f := range p.Common {
		if name == "" || f.Name == "precision" {
			name, value = f.Name, f.Text
		}
	}
	return name, value
}

// labelled writes a label's value for people, with its name if it is a number.
func labelled(name, value string) string {
	if _, ok := number(value); ok {
		return name + nnbsp + value
	}
	return value
}

// title says what the cells of a panel have in common that others have not.
func (p *Panel) title(cells []placed) {
	c := cells[0]
	words := []string{c.run.doc.Benchmark}
	for _, name := range apart {
		value, same := common(cells, name)
		switch {
		case !same:
		case name == "shape" || name == "model":
			p.share(cells, name)
		case name == "sweep" && value == c.grows:
			words = append(words, "growing "+value)
		case value != c.run.doc.Benchmark:
			words = append(words, value)
		}
	}
	p.Title = join(" · ", words...)
}

// share notes a label if all cells have it.
func (p *Panel) share(cells []placed, name string) {
	if value, same := common(cells, name); same && value != "" {
		p.Common = append(p.Common, Fact{Name: name, Text: value})
	}
}

// common returns the value of a label, and whether all cells have the same.
func common(cells []placed, name string) (value string, same bool) {
	value = cells[0].cell.Labels[name]
	return value, !slices.ContainsFunc(cells, func(c placed) bool { return c.cell.Labels[name] != value })
}

// point returns the figures of a cell.
func (c placed) point() Point {
	figure := func(u unit, v float64) Figure { return c.run.figure(c.cell.Name, u, v) }
	p := Point{
		Cell: c.cell.Name, X: c.cell.Labels[c.grows], Texts: map[string]string{}, Metrics: map[string]Figure{},
		MS: figure(milliseconds, c.cell.MS.Median), Spread: figure(spread, c.cell.MS.Spread),
		P95: figure(milliseconds, c.cell.MS.P95), P99: figure(milliseconds, c.cell.MS.P99),
		Samples: figure(count, float64(c.cell.Samples)),
	}
	p.x, _ = number(p.X)
	for _, name := range texts {
		if value := c.cell.Labels[name]; value != "" {
			p.Texts[name] = value
		}
	}
	for name, v := range c.cell.Metrics {
		u := measure(name)
		for _, m := range metrics {
			if m.name == name {
				u = m.unit
			}
		}
		p.Metrics[name] = figure(u, v)
	}
	return p
}

// Table returns the cells of p.
func (p *Panel) Table() Table {
	t := Table{Caption: p.Title, Columns: words("series"), Runs: p.Runs, Grouped: true}
	several := len(p.Runs) > 1
	if p.Grows != "" {
		t.Columns = append(t.Columns, numbers(p.Grows)...)
	}
	t.Columns = append(t.Columns, numbers("ms", "± ms", fieldName("P95"), fieldName("P99"))...)
	names, texts := p.columns()
	for _, name := range names {
		t.Columns = append(t.Columns, numbers(metricTitle(name))...)
	}
	t.Columns = append(t.Columns, words(texts...)...)
	t.Columns = append(t.Columns, numbers("samples")...)
	if several {
		t.Columns = append(t.Columns, words("run")...)
	}
	for _, s := range p.Series {
		for _, point := range s.Points {
			row := Row{text(s.Name)}
			if p.Grows != "" {
				row = append(row, text(point.X))
			}
			row = append(row, figures(point.MS), figures(point.Spread), figures(point.P95), figures(point.P99))
			for _, name := range names {
				if f, ok := point.Metrics[name]; ok {
					row = append(row, figures(f))
				} else {
					row = append(row, text("–"))
				}
			}
			for _, name := range texts {
				row = append(row, text(point.Texts[name]))
			}
			row = append(row, figures(point.Samples))
			if several {
				row = append(row, runs(s.Run))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// columns returns the metrics and the texts that cells of p have.
func (p *Panel) columns() (names, shown []string) {
	has, said := map[string]bool{}, map[string]bool{}
	for _, s := range p.Series {
		for _, point := range s.Points {
			for name := range point.Texts {
				said[name] = true
			}
			for name := range point.Metrics {
				has[name] = !unplaced[name]
			}
		}
	}
	shown = slices.DeleteFunc(slices.Clone(texts), func(name string) bool { return !said[name] })
	for _, m := range metrics {
		if has[m.name] {
			names = append(names, m.name)
			delete(has, m.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if has[name] {
			names = append(names, name)
		}
	}
	return names, shown
}

func metricTitle(name string) string {
	for _, m := range metrics {
		if m.name == name {
			return m.title
		}
	}
	return name
}
