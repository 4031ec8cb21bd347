package page

import (
	"maps"
	"slices"
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
