package page

import (
	"fmt"
	"maps"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// Of cells in turns, the label that tells them apart, its value for the kernels
// that are selected, and the labels that follow from it.
const (
	turn     = "variant"
	selected = "selected"
)

var following = []string{turn, "kernels", "symbol", "kind", "family", "bound", "sets", "launches"}

// compareTurns compares what is selected in r with what took turns with it. It
// has no cells if nothing did.
func compareTurns(r *Run) Comparison {
	c := Comparison{Old: r, New: r, Within: true, Differs: []Difference{}, Cells: []Change{}, OldOnly: []string{}, NewOnly: []string{}}
	baseline := map[string]*result.Cell{}
	key := func(cell *result.Cell) string {
		labels := maps.Clone(cell.Labels)
		for _, name := range following {
			delete(labels, name)
		}
		return fmt.Sprintf("%q", labels) // in the order of names
	}
	for i := range r.doc.Cells {
		if cell := &r.doc.Cells[i]; cell.Labels[turn] == selected {
			baseline[key(cell)] = cell
		}
	}
	for i := range r.doc.Cells {
		cell := &r.doc.Cells[i]
		if of := baseline[key(cell)]; of != nil && cell.Labels[turn] != selected && cell.Labels[turn] != "" {
			c.add(cell.Name, of, cell)
		}
	}
	return c
}
