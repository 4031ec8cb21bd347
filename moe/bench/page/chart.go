package page

import (
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A px is a length in a chart. Lengths are no figures: they are in attributes,
// never in text.
type px float64

func (p px) String() string { return strconv.FormatFloat(math.Round(float64(p)*10)/10, 'f', -1, 64) }

// The measures of charts.
const (
	chartWidth, chartHeight             px = 440, 290
	marginLeft, marginRight             px = 54, 14
	marginTop, marginBottom             px = 34, 46
	lineHeight, labelGap, markLength    px = 15, 8, 4
	charWidth                           px = 7.8 // of labels, at most, on average
	barHeight, barGap, barLabel, barEnd px = 16, 8, 74, 70
	markerSize                          px = 3.6
	padding                                = 0.04  // of the range of an axis
	logX, logY                             = 4, 10 // ratios from which on an axis is logarithmic
	yTicks                                 = 6     // at most
)

// A Chart is lines over one label that grows.
type Chart struct {
	ID            string
	Title, About  string
	X, Y          string // titles of the axes
	Width, Height px
	Left, Right   px // of the plot's area
	Top, Bottom   px
	XTicks        []Tick
	YTicks        []Tick
	Lines         []Line
}

// A Tick is a mark at an axis. Ticks of x are at what the documents say, those
// of y at one, two and five times powers of ten.
type Tick struct {
	At    px
	Label string // empty where there is no room
}

// A Line is the points of a series.
type Line struct {
	Class   string
	Name    string
	Dots    []Dot
	Visible bool // it has more than one point
}

// A Dot is a figure in a chart, with its spread if it has one.
type Dot struct {
	X, Y      px
	Low, High px // of the spread; both Y if there is none
	Marker    []Corner
	Label     string // of what grows
	Figure    Figure
	Spread    *Figure
}

// A Corner is one of a marker's.
type Corner struct{ X, Y px }

// ViewBox is the area of the chart.
func (c *Chart) ViewBox() string { return viewBox(c.Width, c.Height) }

// Where the titles and labels of the axes are.
func (c *Chart) Edge() px    { return 0 }
func (c *Chart) YTitle() px  { return lineHeight }
func (c *Chart) YLabels() px { return c.Left - labelGap }
func (c *Chart) XLabels() px { return c.Bottom + lineHeight + 1 }
func (c *Chart) XTitle() px  { return c.Bottom + 2*lineHeight + 2 }

// Mark is the length of a mark at the axis.
func (c *Chart) Mark() px { return markLength }

func viewBox(width, height px) string { return "0 0 " + width.String() + " " + height.String() }

// A Key is what a line looks like.
type Key struct {
	Class, Name   string
	Width, Height px
	Edge, Middle  px
	Marker        []Corner
}

// class names the look of the i-th series.
func class(i int) string { return string(rune('a' + i%looks)) }

// looks is how many there are in the style sheet.
const looks = 8

// Keys returns what the lines of p's charts look like.
func (p *Panel) Keys() (ks []Key) {
	const width, height px = 34, 14
	for i, s := range p.Series {
		ks = append(ks, Key{class(i), s.Name, width, height, 0, height / 2, marker(i, width/2, height/2)})
	}
	return ks
}

// Charts returns the latency over what grows and, where it was measured, the
// bandwidth. There are none if nothing grows.
func (p *Panel) Charts() (cs []*Chart) {
	for _, of := range []struct {
		id, y, title string
		figure       func(*Point) (f Figure, around *Figure, ok bool)
	}{
		{"ms", "ms, median and spread", "Latency", func(pt *Point) (Figure, *Figure, bool) { return pt.MS, &pt.Spread, true }},
		{"rate", "GB/s", "Bandwidth", func(pt *Point) (Figure, *Figure, bool) {
			f, ok := pt.Metrics["gb_s"]
			return f, nil, ok
		}},
	} {
		c := &Chart{ID: of.id + "-" + strconv.Itoa(p.index), Title: of.title + ": " + p.Title, X: p.Grows, Y: of.y}
		var data []series
		for i := range p.Series {
			s := series{look: i, name: p.Series[i].Name}
			for j := range p.Series[i].Points {
				pt := &p.Series[i].Points[j]
				if f, around, ok := of.figure(pt); ok {
					s.points = append(s.points, sampled{pt.x, pt.X, f, around})
				}
			}
			data = append(data, s)
		}
		if p.Grows != "" && c.draw(data) {
			cs = append(cs, c)
		}
	}
	return cs
}

type series struct {
	look   int
	name   string
	points []sampled
}

type sampled struct {
	x      float64
	label  string
	figure Figure
	around *Figure // spread
}

// low and high are the ends of a point's spread; the low one stays above zero.
func (s sampled) low() float64 {
	if s.around == nil || s.figure.value <= s.around.value {
		return s.figure.value
	}
	return s.figure.value - s.around.value
}

func (s sampled) high() float64 {
	if s.around == nil || math.IsInf(s.figure.value+s.around.value, 0) {
		return s.figure.value
	}
	return s.figure.value + s.around.value
}

// draw places series in c. It reports whether something grows.
func (c *Chart) draw(data []series) bool {
	var xs, ys []float64
	labels := map[float64]string{}
	for _, s := range data {
		for _, p := range s.points {
			xs, ys = append(xs, p.x), append(ys, p.low(), p.high())
			labels[p.x] = p.label
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	if len(xs) < 2 {
		return false
	}
	c.Width, c.Height = chartWidth, chartHeight
	c.Left, c.Right, c.Top, c.Bottom = marginLeft, chartWidth-marginRight, marginTop, chartHeight-marginBottom
	x := newScale(xs[0], xs[len(xs)-1], logX, c.Left, c.Right)
	y := fromZero(slices.Min(ys), slices.Max(ys), logY, c.Bottom, c.Top)
	if !x.finite() || !y.finite() {
		return false
	}
	end := px(math.Inf(-1))
	last := x.at(xs[len(xs)-1]) - px(utf8.RuneCountInString(labels[xs[len(xs)-1]]))*charWidth/2
	for i, v := range xs {
		t := Tick{At: x.at(v)}
		half := px(utf8.RuneCountInString(labels[v])) * charWidth / 2
		if t.At-half > end+charWidth && (i == len(xs)-1 || t.At+half+charWidth < last) {
			t.Label, end = labels[v], t.At+half
		}
		c.XTicks = append(c.XTicks, t)
	}
	for _, v := range y.ticks() {
		c.YTicks = append(c.YTicks, Tick{y.at(v), strconv.FormatFloat(v, 'g', -1, 64)})
	}
	for _, s := range data {
		l := Line{Class: class(s.look), Name: s.name, Visible: len(s.points) > 1}
		for _, p := range s.points {
			d := Dot{
				X: x.at(p.x), Y: y.at(p.figure.value), Low: y.at(p.low()), High: y.at(p.high()),
				Label: p.label, Figure: p.figure, Spread: p.around,
			}
			d.Marker = marker(s.look, d.X, d.Y)
			l.Dots = append(l.Dots, d)
		}
		c.Lines = append(c.Lines, l)
	}
	c.About = "over " + c.X + ", one line for each series; " + axisAbout("x", x.log) + ", " + axisAbout("y", y.log) +
		". The table that follows has the figures."
	return true
}

func axisAbout(name string, log bool) string {
	if log {
		return name + " is logarithmic"
	}
	return name + " is linear"
}

// marker returns the outline of the i-th series' marker: round, square, and so
// on. Series differ in it as well as in colour or, where these run out, alone.
func marker(i int, x, y px) (cs []Corner) {
	kinds := []struct {
		corners     int
		turn, wider float64
	}{{16, 0, 1}, {4, math.Pi / 4, 1.25}, {3, -math.Pi / 2, 1.3}, {4, 0, 1.3}, {3, math.Pi / 2, 1.3}, {6, 0, 1.15}, {5, -math.Pi / 2, 1.2}, {3, 0, 1.3}}
	k := kinds[(i+i/looks)%len(kinds)]
	for n := range k.corners {
		angle := k.turn + 2*math.Pi*float64(n)/float64(k.corners)
		cs = append(cs, Corner{x + markerSize*px(k.wider*math.Cos(angle)), y + markerSize*px(k.wider*math.Sin(angle))})
	}
	return cs
}
