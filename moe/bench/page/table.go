package page

// A Table is what the templates write as one.
type Table struct {
	Caption string
	Columns []Column
	Rows    []Row
	Runs    []*Run // that its figures are of
	Grouped bool   // rows of the same name belong together
}

// Groups returns the rows that belong together.
func (t Table) Groups() (groups [][]Row) {
	if !t.Grouped {
		return [][]Row{t.Rows}
	}
	for i, row := range t.Rows {
		if i == 0 || row[0][0] != t.Rows[i-1][0][0] {
			groups = append(groups, nil)
		}
		last := &groups[len(groups)-1]
		*last = append(*last, row)
	}
	return groups
}

// A Column is of words, at the left, or of numbers.
type Column struct {
	Title   string
	Numbers bool
}

// A Row has as many entries as there are columns. The first names it.
type Row []Entry

// An Entry is text and figures, one after the other.
type Entry []Part

// A Part is text of a document, or a figure.
type Part struct {
	Text   string
	Figure *Figure
	Run    *Run  // that the text leads to
	Better *bool // whether a change is for the better
}

// IsBetter reports whether a change is for the better.
func (p Part) IsBetter() bool { return p.Better != nil && *p.Better }

func text(s string) Entry    { return Entry{{Text: s}} }
func figures(f Figure) Entry { return Entry{{Figure: &f}} }
func runs(r *Run) Entry      { return Entry{{Text: r.Short(), Run: r}} }

// words and numbers make columns.
func words(titles ...string) (cs []Column)   { return columns(false, titles) }
func numbers(titles ...string) (cs []Column) { return columns(true, titles) }

func columns(numbers bool, titles []string) (cs []Column) {
	for _, t := range titles {
		cs = append(cs, Column{t, numbers})
	}
	return cs
}
