package page

// Bars is a chart of parts of a whole.
type Bars struct {
	ID, Title, About string
	Width, Height    px
	Bars             []Bar
}

// ViewBox is the area of the chart.
func (b *Bars) ViewBox() string { return viewBox(b.Width, b.Height) }

// A Bar is one of the parts.
type Bar struct {
	X, Y, Width, Height px
	Baseline            px // of its texts
	LabelEnd            px
	ValueStart          px
	Label               string
	Figure              Figure
}

// Bars returns the share of each tuple.
func (c Counters) Bars() *Bars {
	b := &Bars{
		ID: "tuples-" + c.Run.ID(), Title: "Rows by tuple: " + c.Run.Title(), Width: chartWidth,
		About: "Part of all rows, one bar for each tuple. The table that follows has the figures.",
	}
	for i, s := range c.Tuples {
		y := px(i) * (barHeight + barGap)
		width := (chartWidth - barLabel - barEnd) * px(s.Part.value)
		b.Bars = append(b.Bars, Bar{
			X: barLabel, Y: y, Width: width, Height: barHeight, Baseline: y + barHeight - 4,
			LabelEnd: barLabel - 8, ValueStart: barLabel + width + 6, Label: s.Tuple, Figure: s.Part,
		})
		b.Height = y + barHeight
	}
	return b
}
