package page

import (
	"cmp"
	"maps"
	"slices"

	"github.com/marlingen/marlingen/moe"
)

// Counters are what the fairway counted in a run.
type Counters struct {
	Run       *Run       `json:"run"`
	Tuples    []Share    `json:"tuples"`    // rows, the most first
	Launches  []Count    `json:"launches"`  // by symbol, the most first
	Reasons   []Count    `json:"reasons"`   // of fallbacks, the most first
	Fallbacks []StepDown `json:"fallbacks"` // by reason
}

// A Share is the rows of a tuple, and their part of all rows.
type Share struct {
	Tuple string `json:"tuple"`
	Rows  Figure `json:"rows"`
	Part  Figure `json:"part"`
}

// A Count is how often something was.
type Count struct {
	Name  string `json:"name"`
	Count Figure `json:"count"`
}

// A StepDown is a fallback and how often it was taken.
type StepDown struct {
	moe.Fallback
	Count Figure `json:"count"`
}

// counters returns what was counted in r.
func counters(r *Run) Counters {
	c := Counters{Run: r, Reasons: []Count{}, Fallbacks: []StepDown{}}
	counted := func(n uint64) Figure { return r.figure("", count, float64(n)) }
	all := 0.0
	for _, n := range r.doc.Counters.Assignments {
		all += float64(n)
	}
	for t, n := range r.doc.Counters.Assignments {
		rows := counted(n)
		c.Tuples = append(c.Tuples, Share{t.String(), rows, derived(percent, float64(n)/all, rows)})
	}
	slices.SortFunc(c.Tuples, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Rows.value, a.Rows.value), cmp.Compare(a.Tuple, b.Tuple))
	})
	c.Launches = counts(r, r.doc.Counters.Launches)
	reasons := map[string]uint64{}
	for _, f := range r.doc.Counters.Fallbacks {
		reasons[string(f.Reason)] += f.Count
		c.Fallbacks = append(c.Fallbacks, StepDown{f.Fallback, counted(f.Count)})
	}
	c.Reasons = counts(r, reasons)
	slices.SortStableFunc(c.Fallbacks, func(a, b StepDown) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), a.Compare(b.Fallback))
	})
	return c
}

// counts returns counts by name, the most first.
func counts(r *Run, by map[string]uint64) []Count {
	cs := []Count{}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		cs = append(cs, Count{name, r.figure("", count, float64(by[name]))})
	}
	slices.SortStableFunc(cs, func(a, b Count) int { return cmp.Compare(b.Count.value, a.Count.value) })
	return cs
}

// TupleTable returns the rows of each tuple.
func (c Counters) TupleTable() Table {
	t := Table{Caption: "Rows by tuple", Columns: append(words("tuple"), numbers("rows", "share")...), Runs: []*Run{c.Run}}
	for _, s := range c.Tuples {
		t.Rows = append(t.Rows, Row{text(s.Tuple), figures(s.Rows), figures(s.Part)})
	}
	return t
}

// LaunchTable returns the launches of each kernel.
func (c Counters) LaunchTable() Table {
	return c.table("Launches by kernel", "kernel", "launches", c.Launches)
}

// ReasonTable returns the steps down for each reason.
func (c Counters) ReasonTable() Table {
	return c.table("Fallbacks by reason", "reason", "steps down", c.Reasons)
}

func (c Counters) table(caption, name, number string, counts []Count) Table {
	t := Table{Caption: caption, Columns: append(words(name), numbers(number)...), Runs: []*Run{c.Run}}
	for _, n := range counts {
		t.Rows = append(t.Rows, Row{text(n.Name), figures(n.Count)})
	}
	return t
}

// FallbackTable returns every kind of step down.
func (c Counters) FallbackTable() Table {
	t := Table{
		Caption: "Fallbacks", Columns: append(words("reason", "tuple", "pass", "from", "to"), numbers("steps down")...), Runs: []*Run{c.Run},
	}
	for _, f := range c.Fallbacks {
		t.Rows = append(t.Rows, Row{
			text(string(f.Reason)), text(f.Tuple.String()), text(string(f.Pass)), text(string(f.From)), text(string(f.To)), figures(f.Count),
		})
	}
	return t
}
