package report

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/marlingen/marlingen/moe/bench"
)

// panels are the sweeps of a plot, with what grows in them.
var panels = []struct {
	sweep, label string
	x            func(*bench.Result) int
}{
	{bench.Batch, "tokens in a call", func(r *bench.Result) int { return r.Batch }},
	{bench.Experts, "experts", func(r *bench.Result) int { return r.Shape.Experts }},
	{bench.Tuples, "distinct tuples", func(r *bench.Result) int { return r.Tuples }},
}

var colors = []color.Color{
	color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xd6, 0x27, 0x28, 0xff},
	color.RGBA{0x2c, 0xa0, 0x2c, 0xff}, color.RGBA{0x94, 0x67, 0xbd, 0xff},
}

// Plot writes how the time grows with the work, one panel for each sweep, as
// SVG. Dashed lines are what the machine allows. It is an error if r has none
// of the sweeps.
func Plot(w io.Writer, r *bench.Report) error {
	var plots []*plot.Plot
	for _, panel := range panels {
		if results := Of(r, panel.sweep); len(results) > 0 {
			p, err := draws(results, panel.label, panel.x)
			if err != nil {
				return err
			}
			plots = append(plots, p)
		}
	}
	if len(plots) == 0 {
		return errors.New("nothing grows in these results: there is nothing to plot")
	}
	canvas := vgsvg.New(vg.Length(len(plots))*4*vg.Inch, 3.5*vg.Inch)
	tiles := draw.Tiles{Rows: 1, Cols: len(plots), PadX: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadRight: 2 * vg.Millimeter}
	for i, c := range plot.Align([][]*plot.Plot{plots}, tiles, draw.New(canvas))[0] {
		plots[i].Draw(c)
	}
	_, err := canvas.WriteTo(w)
	return err
}

// draws returns one panel.
func draws(results []*bench.Result, label string, x func(*bench.Result) int) (*plot.Plot, error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = label, "ms per layer"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = 9
	p.Title.Text = fmt.Sprintf("%d threads", results[0].Threads)
	p.Add(plotter.NewGrid())
	var ticks plot.ConstantTicks
	for i, s := range series(results) {
		var ms, floor plotter.XYs
		for _, r := range s.results {
			at := float64(x(r))
			ms, floor = append(ms, plotter.XY{X: at, Y: r.MS}), append(floor, plotter.XY{X: at, Y: r.FloorMS})
			if !slices.ContainsFunc(ticks, func(t plot.Tick) bool { return t.Value == at }) {
				ticks = append(ticks, plot.Tick{Value: at, Label: fmt.Sprint(x(r))})
			}
		}
		line, points, err := plotter.NewLinePoints(ms)
		if err != nil {
			return nil, err
		}
		least, err := plotter.NewLine(floor)
		if err != nil {
			return nil, err
		}
		line.Color, points.Color, least.Color = colors[i%len(colors)], colors[i%len(colors)], colors[i%len(colors)]
		points.Shape = draw.CircleGlyph{}
		least.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(line, points, least)
		p.Legend.Add(s.name, line, points)
		p.Y.Max *= 1.8 // for the legend
		if i == 0 {
			p.Legend.Add("dashed: what the machine allows", least)
		}
	}
	p.X.Tick.Marker = ticks
	return p, nil
}

// A line is results that differ in one thing.
type line struct {
	name    string
	results []*bench.Result
}

// series tells results apart by precision and, unless it grows, batch.
func series(results []*bench.Result) (lines []line) {
	for _, r := range results {
		name := r.Precision
		if r.Sweep != bench.Batch {
			name += fmt.Sprintf(", batch %d", r.Batch)
		}
		i := slices.IndexFunc(lines, func(l line) bool { return l.name == name })
		if i < 0 {
			i = len(lines)
			lines = append(lines, line{name: name})
		}
		lines[i].results = append(lines[i].results, r)
	}
	return lines
}
