package page

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// A Comparison is of two runs, cell by cell, from the medians of their rounds;
// or, of one run, of the kernels that are selected with others in their place.
type Comparison struct {
	Old     *Run         `json:"old"`
	New     *Run         `json:"new"`
	Within  bool         `json:"within"`  // one run, whose cells took turns
	Differs []Difference `json:"differs"` // in what the runs are, rather than in times
	Cells   []Change     `json:"cells"`   // that both runs have
	OldOnly []string     `json:"old_only"`
	NewOnly []string     `json:"new_only"`
	Alpha   *Figure      `json:"alpha"` // a difference with a smaller p is one; nil without cells
}

// A Difference is something that two documents say differently.
type Difference struct {
	What string `json:"what"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// A Change is a cell in two runs.
type Change struct {
	Cell   string  `json:"cell"`
	Old    Center  `json:"old"`
	New    Center  `json:"new"`
	P      Figure  `json:"p"`
	Change *Figure `json:"change"`  // nil if the rounds do not tell the runs apart
	TooFew bool    `json:"too_few"` // rounds to tell any runs apart
}

// A Center is a median with its confidence interval.
type Center struct {
	Median     Figure  `json:"median"`
	Low        *Figure `json:"low"` // nil if there are too few rounds for any
	High       *Figure `json:"high"`
	Confidence *Figure `json:"confidence"` // that the interval has
	Rounds     Figure  `json:"rounds"`
}

// confidences are the levels of intervals, the first that the rounds allow.
var confidences = []float64{0.95, 0.9}

// compare compares two runs.
func compare(old, new *Run) Comparison {
	c := Comparison{Old: old, New: new, Differs: differences(old, new), Cells: []Change{}, OldOnly: []string{}, NewOnly: []string{}}
	cells := map[string]*result.Cell{}
	for i := range new.doc.Cells {
		cells[new.doc.Cells[i].Name] = &new.doc.Cells[i]
	}
	for i := range old.doc.Cells {
		before := &old.doc.Cells[i]
		after := cells[before.Name]
		if after == nil {
			c.OldOnly = append(c.OldOnly, before.Name)
			continue
		}
		delete(cells, before.Name)
		c.add(before.Name, before, after)
	}
	for _, cell := range new.doc.Cells {
		if cells[cell.Name] != nil {
			c.NewOnly = append(c.NewOnly, cell.Name)
		}
	}
	return c
}

// add compares two cells, under the given name.
func (c *Comparison) add(name string, before, after *result.Cell) {
	oldSample, newSample := sample(before), sample(after)
	ch := Change{Cell: name, Old: center(c.Old, before, oldSample), New: center(c.New, after, newSample)}
	found := benchmath.AssumeNothing.Compare(oldSample, newSample)
	ch.P = derived(probability, found.P, ch.Old.Median, ch.New.Median)
	ch.TooFew = len(found.Warnings) > 0
	if found.P <= found.Alpha {
		f := derived(change, ch.New.Median.value/ch.Old.Median.value-1, ch.Old.Median, ch.New.Median)
		ch.Change = &f
	}
	if c.Alpha == nil {
		f := derived(plain, found.Alpha, ch.Old.Median, ch.New.Median)
		f.cell = ""
		c.Alpha = &f
	}
	c.Cells = append(c.Cells, ch)
}

func sample(c *result.Cell) *benchmath.Sample {
	return benchmath.NewSample(slices.Clone(c.RoundsMS), &benchmath.DefaultThresholds)
}

// center returns the median of a cell's rounds.
func center(r *Run, cell *result.Cell, s *benchmath.Sample) (c Center) {
	for _, confidence := range confidences {
		summary := benchmath.AssumeNothing.Summary(s, confidence)
		c.Median = r.figure(cell.Name, milliseconds, summary.Center)
		if !math.IsInf(summary.Lo, 0) && !math.IsInf(summary.Hi, 0) {
			low, high, level := derived(milliseconds, summary.Lo, c.Median), derived(milliseconds, summary.Hi, c.Median),
				derived(percent, summary.Confidence, c.Median)
			c.Low, c.High, c.Confidence = &low, &high, &level
			break
		}
	}
	c.Rounds = derived(count, float64(len(cell.RoundsMS)), c.Median)
	return c
}

// differences returns what the documents say differently of runs, but for when
// they were, and where they are.
func differences(old, new *Run) []Difference {
	ds := []Difference{}
	after := new.Facts()
	same := map[string]bool{"time": true, "file": true, "command": slices.Equal(measuring(old.doc.Args), measuring(new.doc.Args))}
	for i, f := range old.Facts() {
		if !same[f.Name] && f.Text != after[i].Text {
			ds = append(ds, Difference{f.Name, f.Text, after[i].Text})
		}
	}
	return ds
}

// Anchor is the place of the comparison in a page.
func (c Comparison) Anchor() string { return join("-", "compare", c.Old.ID(), c.other()) }

// other returns the id of the second run, if there are two.
func (c Comparison) other() string {
	if c.Within {
		return ""
	}
	return c.New.ID()
}

// names are what is compared with what, and the runs.
func (c Comparison) names() (old, new string, runs []*Run) {
	if c.Within {
		return selected, "other", []*Run{c.New}
	}
	return "old", "new", []*Run{c.Old, c.New}
}

// Table returns the cells that both runs have.
func (c Comparison) Table() Table { return c.table(c.Cells) }

// Changed returns the cells in which the runs differ.
func (c Comparison) Changed() Table {
	return c.table(slices.DeleteFunc(slices.Clone(c.Cells), func(ch Change) bool { return ch.Change == nil }))
}

func (c Comparison) table(cells []Change) Table {
	old, new, of := c.names()
	t := Table{
		Caption: "Comparison of " + old + " and " + new,
		Columns: append(words("cell"), numbers(old+" ms", "interval", new+" ms", "interval", "confidence", "change", "p", "rounds")...),
		Runs:    of,
	}
	for _, ch := range cells {
		difference := text("~")
		if ch.Change != nil {
			better := ch.Change.value < 0
			difference = Entry{{Figure: ch.Change, Better: &better}}
		} else if ch.TooFew {
			difference = text("~ (too few rounds)")
		}
		t.Rows = append(t.Rows, Row{
			text(ch.Cell), figures(ch.Old.Median), ch.Old.interval(), figures(ch.New.Median), ch.New.interval(),
			ch.confidence(), difference, figures(ch.P), pair("+", &ch.Old.Rounds, &ch.New.Rounds),
		})
	}
	return t
}

// confidence is that of both intervals, written once if it is the same.
func (ch Change) confidence() Entry {
	if a, b := ch.Old.Confidence, ch.New.Confidence; a != nil && b != nil && a.value == b.value {
		return figures(derived(percent, a.value, *a, *b))
	}
	return pair("/", ch.Old.Confidence, ch.New.Confidence)
}

func (c Center) interval() Entry { return pair("–", c.Low, c.High) }

// pair returns two figures, or those of them that there are.
func pair(separator string, a, b *Figure) (e Entry) {
	for _, f := range []*Figure{a, b} {
		if f == nil {
			e = append(e, Part{Text: "?"})
		} else {
			e = append(e, Part{Figure: f})
		}
		if len(e) == 1 {
			e = append(e, Part{Text: separator})
		}
	}
	return e
}

// Unclear reports whether there are cells whose rounds do not tell the runs
// apart.
func (c Comparison) Unclear() bool {
	return slices.ContainsFunc(c.Cells, func(ch Change) bool { return ch.Change == nil })
}

// Repeated reports whether the runs are two of the same kernels, built from the
// same commit: then what differs is the machine.
func (c Comparison) Repeated() bool {
	return !c.Within && c.Old.doc.Digest == c.New.doc.Digest && c.Old.doc.Commit == c.New.doc.Commit
}
