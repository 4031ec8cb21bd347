package page

import (
	"cmp"
	"slices"

	"github.com/marlingen/marlingen/moe/bench/result"
)

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
	for _, c := range cells {
		key := panelKey(cells, c)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], c)
	}
	all := []Panel{}
	for _, key := range order {
		p := newPanel(groups[key])
		p.index = len(all)
		all = append(all, p)
	}
	return all
}

// newPanel makes a panel of cells.
func newPanel(cells []placed) Panel {
	p := Panel{Grows: cells[0].grows, Common: []Fact{{Name: "level", Text: string(cells[0].run.doc.Level)}}}
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
		if f.Name == "device" || f.Name == "precision" {
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
		case name == "sweep" && value != "" && value == c.grows:
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
