package page_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchmath"

	"github.com/marlingen/marlingen/moe/bench/page"
	"github.com/marlingen/marlingen/moe/bench/result"
)

// known are the numbers and words that a page may have.
type known struct {
	numbers []float64
	words   []string // the longest first
}

// of adds what documents hold.
func (k *known) of(t testing.TB, docs ...*result.Document) {
	t.Helper()
	for _, d := range docs {
		data, err := json.Marshal(d)
		require.NoError(t, err)
		var all any
		require.NoError(t, json.Unmarshal(data, &all))
		k.add(all)
		k.words = append(k.words, d.ID[:8], d.Time.Format(time.DateTime), d.Time.Format(time.DateOnly), strings.Join(d.Args, " "))
	}
	slices.SortFunc(k.words, func(a, b string) int { return len(b) - len(a) })
}

func (k *known) add(v any) {
	switch v := v.(type) {
	case float64:
		k.numbers = append(k.numbers, v)
	case string:
		if n, err := strconv.ParseFloat(v, 64); err == nil && !strings.Contains(v, "_") {
			k.numbers = append(k.numbers, n)
		} else if digit.MatchString(v) {
			k.words = append(k.words, v)
		}
	case []any:
		for _, e := range v {
			k.add(e)
		}
	case map[string]any:
		for name, e := range v {
			k.add(name)
			k.add(e)
		}
	}
}

// derive adds what follows from documents, by the only ways there are.
func (k *known) derive(docs ...*result.Document) {
	for _, d := range docs {
		rows := 0.0
		for _, n := range d.Counters.Assignments {
			rows += float64(n)
		}
		for _, n := range d.Counters.Assignments { // a tuple's part of all rows
			k.numbers = append(k.numbers, float64(n)/rows)
		}
		reasons := map[string]float64{} // fallbacks of a reason
		for _, f := range d.Counters.Fallbacks {
			reasons[string(f.Reason)] += float64(f.Count)
		}
		for _, n := range reasons {
			k.numbers = append(k.numbers, n)
		}
	}
}

// compare adds what follows from two runs of the same.
func (k *known) compare(old, new *result.Document) {
	for i := range old.Cells {
		a, b := slices.Sorted(slices.Values(old.Cells[i].RoundsMS)), slices.Sorted(slices.Values(new.Cells[i].RoundsMS))
		middle := func(v []float64) float64 { return (v[(len(v)-1)/2] + v[len(v)/2]) / 2 }
		c := benchmath.AssumeNothing.Compare(
			benchmath.NewSample(a, &benchmath.DefaultThresholds), benchmath.NewSample(b, &benchmath.DefaultThresholds))
		k.numbers = append(k.numbers, middle(a), middle(b), middle(b)/middle(a)-1, c.P, c.Alpha, float64(len(a)), float64(len(b)))
		for _, v := range [][]float64{a, b} { // the chance that a median is between the smallest and the largest of them
			k.numbers = append(k.numbers, 1-math.Pow(2, 1-float64(len(v))))
		}
	}
}

var numeral = regexp.MustCompile(`[0-9][0-9\x{202f}]*(\.[0-9]+)?(e[+−-]?[0-9]+)?(\x{202f}%)?`)

// strangers returns the numbers of a text that are not known.
func (k *known) strangers(text string) (found []string) {
	for _, w := range k.words {
		text = strings.ReplaceAll(text, w, " ")
	}
	distribution := reflect.TypeFor[result.Distribution]()
	for i := range distribution.NumField() {
		text = strings.ReplaceAll(text, " "+distribution.Field(i).Tag.Get("json")+" ", " ")
	}
	for _, n := range numeral.FindAllString(text, -1) {
		if !k.has(n) {
			found = append(found, n)
		}
	}
	return found
}

// has reports whether n is a known number, as it was rounded.
func (k *known) has(n string) bool {
	scale := 1.0
	digits, part := strings.CutSuffix(strings.NewReplacer("−", "-").Replace(n), nnbsp+"%")
	if part {
		scale = 100
	}
	digits = strings.ReplaceAll(digits, nnbsp, "")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return false
	}
	mantissa, power, _ := strings.Cut(digits, "e")
	e, _ := strconv.Atoi(power)
	_, decimals, _ := strings.Cut(mantissa, ".")
	half := 0.5 * math.Pow10(e-len(decimals))
	return slices.ContainsFunc(k.numbers, func(known float64) bool {
		return math.Abs(math.Abs(scale*known)-v) <= half*(1+1e-9)+1e-12*math.Abs(v)
	})
}

// visible returns all that a reader of a page sees or hears: text, apart from the
// numbers at axes, and the attributes that are read aloud.
func visible(t testing.TB, page string) string {
	t.Helper()
	var b strings.Builder
	var open []string
	for d := decoder(page); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			require.Empty(t, open)
			return b.String()
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			for _, a := range token.Attr {
				switch a.Name.Local {
				case "title", "aria-label", "alt":
					b.WriteString(" " + a.Value + " ")
				case "class":
					if name == "text" && slices.Contains(strings.Fields(a.Value), "tick") {
						name = "tick"
					}
				}
			}
			open = append(open, name)
		case xml.EndElement:
			if last := len(open) - 1; open[last] != "wbr" {
				b.WriteString(" ")
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if last := len(open) - 1; last >= 0 && open[last] != "style" && open[last] != "tick" {
				b.Write(token)
			}
		}
	}
}

// decoder reads a page, which is nearly XML.
func decoder(page string) *xml.Decoder {
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	return d
}

// Every number on a page is one of a result, or follows from some.
func TestNumbers(t *testing.T) {
	for seed := range uint64(8) {
		r := newRandom(seed)
		old := r.document()
		new := r.again(old)
		var k known
		k.of(t, old, new)
		k.derive(old, new)
		k.compare(old, new)
		_, html, markdown := write(t, page.Options{Digest: digest}, old, new)
		links := regexp.MustCompile(`\(#[\w-]+\)`)
		for form, text := range map[string]string{"HTML": visible(t, html), "Markdown": links.ReplaceAllString(markdown, " ")} {
			require.Empty(t, k.strangers(text), "%s of seed %d", form, seed)
			for _, c := range new.Cells {
				require.Contains(t, text, c.Name)
			}
			require.Contains(t, text, new.ID)

			// A number too many would be found.
			made := fmt.Sprintf("%.7f", 1e6+r.number())
			require.Contains(t, k.strangers(text+" "+made+" "), made)
			require.NotEmpty(t, (&known{words: k.words}).strangers(text))
		}
	}
}

// Dots are where their figures are on the axes, and numbers at axes are few,
// apart from each other, and inside.
func TestAxes(t *testing.T) {
	logs, linear := 0, 0
	for seed := range uint64(20) {
		r := newRandom(seed)
		d := r.document()
		if seed%2 == 1 {
			for i := range d.Cells { // close to each other
				d.Cells[i].Metrics["gb_s"] = 500 * (1 + r.Float64())
			}
		}
		p, _, _ := write(t, page.Options{Digest: digest}, d)
		require.Len(t, p.Panels, 1)
		charts := p.Panels[0].Charts()
		require.Len(t, charts, 2)
		for _, c := range charts {
			require.GreaterOrEqual(t, len(c.YTicks), 2)
			require.LessOrEqual(t, len(c.YTicks), 8)
			var values, places []float64
			for i, tick := range c.YTicks {
				v, err := strconv.ParseFloat(tick.Label, 64)
				require.NoError(t, err)
				values, places = append(values, v), append(places, float64(tick.At))
				require.LessOrEqual(t, tick.At, c.Bottom)
				require.GreaterOrEqual(t, tick.At, c.Top)
				if i > 0 {
					require.Greater(t, places[i-1]-places[i], 12.0, "room for text")
				}
			}
			// The scale that the numbers at the axis tell.
			as := func(v float64) float64 { return v }
			if values[0] > 0 {
				logs++
				as = math.Log10
			} else {
				linear++
			}
			last := len(values) - 1
			slope := (places[last] - places[0]) / (as(values[last]) - as(values[0]))
			at := func(v float64) float64 { return places[0] + slope*(as(v)-as(values[0])) }
			for i, v := range values {
				require.InDelta(t, places[i], at(v), 1e-6)
			}
			require.Len(t, c.Lines, 2)
			for i, l := range c.Lines {
				require.Len(t, l.Dots, 6)
				for j, dot := range l.Dots {
					cell := d.Cells[6*i+j]
					want := cell.Metrics["gb_s"]
					if c.Y != "GB/s" {
						want = cell.MS.Median
						require.InDelta(t, at(cell.MS.Median+cell.MS.Spread), float64(dot.High), 1e-6)
						require.InDelta(t, at(cell.MS.Median-cell.MS.Spread), float64(dot.Low), 1e-6)
					}
					require.InDelta(t, at(want), float64(dot.Y), 1e-6)
					require.Equal(t, cell.Labels["batch"], dot.Label)
					require.True(t, c.Left <= dot.X && dot.X <= c.Right && c.Top <= dot.High && dot.Low <= c.Bottom)
					if j > 0 {
						require.Greater(t, dot.X, l.Dots[j-1].X)
					}
				}
			}
			require.Len(t, c.XTicks, len(distinct(d)))
			end := math.Inf(-1)
			for _, tick := range c.XTicks {
				if tick.Label == "" {
					continue
				}
				half := 3.3 * float64(len(tick.Label))
				require.Greater(t, float64(tick.At)-half, end, "labels do not touch")
				end = float64(tick.At) + half
			}
			require.NotEmpty(t, c.XTicks[0].Label)
			require.NotEmpty(t, c.XTicks[len(c.XTicks)-1].Label)
		}
	}
	require.Positive(t, logs)
	require.Positive(t, linear)
}

// distinct returns the batches of d.
func distinct(d *result.Document) map[string]bool {
	batches := map[string]bool{}
	for _, c := range d.Cells {
		batches[c.Labels["batch"]] = true
	}
	return batches
}
