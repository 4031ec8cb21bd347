package page

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// A Figure is a number of a run, or one derived from numbers of runs. There is
// no other way for a number onto a page.
type Figure struct {
	value float64
	unit  unit
	cell  string // that it is of, or empty
	runs  []*Run // at least one, the last being the newest
}

// figure returns a number of r, or derived from nothing but r.
func (r *Run) figure(cell string, u unit, v float64) Figure { return Figure{v, u, cell, []*Run{r}} }

// derived returns a number that follows from figures.
func derived(u unit, v float64, from ...Figure) Figure {
	f := Figure{value: v, unit: u, cell: from[0].cell}
	for _, of := range from {
		for _, r := range of.runs {
			if !slices.Contains(f.runs, r) {
				f.runs = append(f.runs, r)
			}
		}
	}
	return f
}

// Run returns the newest run that f is of.
func (f Figure) Run() *Run { return f.runs[len(f.runs)-1] }

// Stale reports whether a run that f is of is stale.
func (f Figure) Stale() bool {
	return slices.ContainsFunc(f.runs, func(r *Run) bool { return r.Stale })
}

// Source says which runs and cell f is of.
func (f Figure) Source() string {
	var ids []string
	for _, r := range f.runs {
		ids = append(ids, r.Short())
	}
	return join(", ", "run "+strings.Join(ids, ", "), f.cell)
}

// StaleMark follows every figure of a stale run.
const StaleMark = "†"

// String writes f without its unit, but for that of a percentage.
func (f Figure) String() string {
	text := f.unit.write(f.value)
	if positive, negative := strings.CutPrefix(text, "-"); negative {
		text = "−" + positive
	}
	if f.Stale() {
		text += StaleMark
	}
	return text
}

// MarshalJSON writes the number as it is, and where it is from.
func (f Figure) MarshalJSON() ([]byte, error) {
	ids := make([]string, len(f.runs))
	for i, r := range f.runs {
		ids[i] = r.ID()
	}
	return json.Marshal(struct {
		Value float64  `json:"value"`
		Unit  string   `json:"unit,omitempty"`
		Cell  string   `json:"cell,omitempty"`
		Runs  []string `json:"runs"`
		Stale bool     `json:"stale"`
	}{f.value, f.unit.name, f.cell, ids, f.Stale()})
}

// A unit is what a figure is in, and how it is written.
type unit struct {
	name  string
	write func(float64) string
}

var (
	milliseconds = unit{"ms", func(v float64) string { return digits(v, 3) }}
	spread       = unit{"ms", func(v float64) string { return digits(v, 2) }}
	seconds      = unit{"s", func(v float64) string { return digits(v, 3) + nnbsp + "s" }}
	count        = unit{"", grouped}
	plain        = unit{"", func(v float64) string { return digits(v, 2) }}
	probability  = unit{"", func(v float64) string {
		if v > 0 && v < 1e-3 {
			return digits(v, 1)
		}
		return strconv.FormatFloat(v, 'f', 3, 64)
	}}
	percent = unit{"%", func(v float64) string { return percentage(v, "") }}
	change  = unit{"%", func(v float64) string { return percentage(v, "+") }}
)

// measure is the unit of a metric of that name.
func measure(name string) unit {
	return unit{name, func(v float64) string { return digits(v, 3) }}
}

// nnbsp is a narrow space at which no line breaks.
const nnbsp = "\u202f"

// digits writes v with n digits, or all of those before the point; and as a
// power of ten where that would be long.
func digits(v float64, n int) string {
	if v == 0 {
		return "0"
	}
	short := strconv.FormatFloat(v, 'e', n-1, 64)
	_, power, _ := strings.Cut(short, "e")
	e, _ := strconv.Atoi(power) // once v is rounded
	if e < -3 || e >= 6 {
		return short
	}
	return strconv.FormatFloat(v, 'f', max(0, n-1-e), 64)
}

// grouped writes a whole number in groups of three digits.
func grouped(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + nnbsp + s[i:]
	}
	return s
}

// percentage writes v, a part of one, with a sign before it if it is not
// negative.
func percentage(v float64, sign string) string {
	if v < 0 {
		sign = ""
	}
	return sign + strconv.FormatFloat(100*v, 'f', 1, 64) + nnbsp + "%"
}
