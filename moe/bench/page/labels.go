package page

import (
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

// common returns the value of a label, and whether all cells have the same.
func common(cells []placed, name string) (value string, same bool) {
	value = cells[0].cell.Labels[name]
	return value, !slices.ContainsFunc(cells, func(c placed) bool { return c.cell.Labels[name] != value })
}
