package page_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/page"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

var other = strings.Repeat("e2", 32) // a digest

// Of a document that may not be quoted there is the reason, and no number.
func TestRefused(t *testing.T) {
	for want, spoil := range map[string]func(*result.Document){
		"the run is \"interrupted\", not complete: Ctrl-C": func(d *result.Document) { d.Status, d.Why = result.Interrupted, "Ctrl-C" },
		"the run is \"skipped\", not complete":             func(d *result.Document) { d.Status = result.Skipped },
		"the run is \"failed\", not complete: no device":   func(d *result.Document) { d.Status, d.Why = result.Failed, "no device" },
		"the tree was dirty":                               func(d *result.Document) { d.Dirty = true },
		"commit \"\" is not one":                           func(d *result.Document) { d.Commit = "" },
		"digest \"e2\" is not that of a manifest":          func(d *result.Document) { d.Digest = "e2" },
		"the outputs were not right":                       func(d *result.Document) { d.Correctness.Passed = false },
		"the worst deviation is …, and the tolerance …":    func(d *result.Document) { d.Correctness.Worst = 1e9 },
		"no launches were counted":                         func(d *result.Document) { d.Counters.Launches = nil },
		"is no distribution of times":                      func(d *result.Document) { d.Cells[0].MS.Max = d.Cells[0].MS.Min },
		"its rounds took …":                                func(d *result.Document) { d.Cells[0].RoundsMS[0] = -1 },
		"the kernels are not those that are there now":     func(d *result.Document) { d.Digest = other },
	} {
		r := newRandom(7)
		d := r.document()
		spoil(d)
		stale := d.Digest == other
		p, html, markdown := write(t, page.Options{Digest: digest, AllowStale: !stale}, d)
		require.Len(t, p.Refused, 1, want)
		require.Equal(t, "a.json", p.Refused[0].Place)
		require.Equal(t, d.ID, p.Refused[0].ID)
		require.Equal(t, stale, p.Refused[0].Stale)
		require.Len(t, p.Refused[0].Reasons, 1)
		require.Contains(t, p.Refused[0].Reasons[0], want)
		require.Empty(t, p.Runs)
		text := visible(t, html)
		require.Contains(t, text, want)
		require.Contains(t, text, d.ID)

		var strings known
		strings.of(t, d)
		strings.numbers, strings.words = nil, append(strings.words, fmt.Sprintf("%.12s", d.Digest), digest[:12])
		for _, text := range []string{text, markdown} {
			require.Empty(t, slices.DeleteFunc(strings.strangers(text), func(n string) bool { return n == "1" }), "%s:\n%s", want, text)
		}
	}

	// What cannot be read is refused as well, by its place.
	p, err := page.New([]result.Entry{{File: "runs.jsonl", Line: 3, Err: errors.New("a is missing\nb is missing")}}, page.Options{Digest: digest})
	require.NoError(t, err)
	require.Equal(t, []page.Refusal{{Place: "runs.jsonl:3", Reasons: []string{"a is missing", "b is missing"}}}, p.Refused)
}

// Figures of other kernels are marked, every one.
func TestStale(t *testing.T) {
	r := newRandom(5)
	d := r.document()
	d.Digest = other
	p, html, markdown := write(t, page.Options{Digest: digest, AllowStale: true}, d)
	require.Empty(t, p.Refused)
	require.True(t, p.Runs[0].Stale)
	marks := 0
	for _, row := range strings.Split(markdown, "\n") {
		if cells := strings.Split(row, " | "); strings.HasPrefix(row, "| ") && !strings.Contains(row, "---") {
			for _, c := range cells[1:] {
				if regexp.MustCompile(`[0-9]`).MatchString(c) && strings.ContainsAny(c, ".%") {
					require.Contains(t, c, page.StaleMark, row)
					marks++
				}
			}
		}
	}
	require.Greater(t, marks, 70)
	require.Contains(t, markdown, "**(stale: of other kernels)**")
	require.Contains(t, markdown, "exact (stale†)")
	require.Contains(t, visible(t, html), "Figures marked † are stale:")
	links := regexp.MustCompile(`<a[^>]*>([^<]*)</a>`).FindAllStringSubmatch(html, -1)
	require.Greater(t, len(links), 100)
	for _, link := range links {
		if strings.Contains(link[0], "title=") {
			require.True(t, strings.HasSuffix(link[1], page.StaleMark), link[0])
			require.Contains(t, link[0], `class="stale"`)
		}
	}

	// A live run of the same comes first, whenever it was.
	live := r.again(d)
	live.Time = d.Time.Add(-time.Hour)
	p, _, _ = write(t, page.Options{Digest: digest, AllowStale: true}, d, live)
	require.Equal(t, live.ID, p.Panels[0].Runs[0].ID())
	require.Len(t, p.Panels[0].Runs, 1)
	require.Equal(t, live.ID, p.Comparisons[0].Old.ID())
}

// rounds sets the medians of all rounds of d's first cell.
func rounds(d *result.Document, ms ...float64) { d.Cells[0].RoundsMS = ms }

func TestCompare(t *testing.T) {
	r := newRandom(11)
	old := r.document()
	old.Cells = old.Cells[:2]
	new := r.again(old)
	compared := func() (page.Change, string) {
		t.Helper()
		p, _, markdown := write(t, page.Options{Digest: digest}, old, new)
		require.Len(t, p.Comparisons, 1)
		require.Len(t, p.Comparisons[0].Cells, 2)
		row := regexp.MustCompile(`(?m)^\| exact/batch:1 \| .* \| .*%.*$|^\| exact/batch:1 \| .*~.*$`).FindString(markdown)
		return p.Comparisons[0].Cells[0], row
	}

	rounds(old, 10, 11, 10, 11, 10.5)
	rounds(new, 8, 8.4, 8.2, 8.1, 8.3)
	c, row := compared()
	require.NotNil(t, c.Change)
	require.Contains(t, row, "| 10.5 | 10.0–11.0 | 8.20 | 8.00–8.40 | 93.8\u202f% | −21.9\u202f% | 0.008 | 5+5 |")

	rounds(old, 8, 8.4, 8.2, 8.1, 8.3)
	rounds(new, 10, 11, 10, 11, 10.5)
	c, row = compared()
	require.NotNil(t, c.Change)
	require.Contains(t, row, "| +28.0\u202f% |", "slower")

	rounds(new, 8.05, 8.5, 8.25, 8.0, 8.35)
	c, row = compared()
	require.Nil(t, c.Change)
	require.False(t, c.TooFew)
	require.Contains(t, row, " | ~ | ")

	// Two rounds tell nothing, however far apart they are.
	rounds(old, 1, 1.1)
	rounds(new, 100, 101)
	c, row = compared()
	require.Nil(t, c.Change)
	require.True(t, c.TooFew)
	require.Contains(t, row, "| ?–? | 100 | ?–? | ?/? | ~ (too few rounds) |")

	// With more rounds the interval is narrower than all of them, and surer.
	rounds(old, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	rounds(new, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
	_, row = compared()
	require.Contains(t, row, "| 5.50 | 2.00–9.00 | 15.5 | 12.0–19.0 | 97.9\u202f% |")
}

func TestCompareWhich(t *testing.T) {
	r := newRandom(12)
	first := r.document()
	second, third := r.again(first), r.again(first)
	third.Time = second.Time.Add(time.Hour)
	third.Args = append([]string{"bench", "--result", "third.json"}, first.Args[1:]...)
	elsewhere := r.again(first)
	elsewhere.Device.Name = "Another"
	third.Device.Driver = "go2"
	third.Cells[0].Name = "mine"

	// The last two of the same, wherever they were written; another device is not.
	p, _, markdown := write(t, page.Options{Digest: digest}, third, first, elsewhere, second)
	require.Len(t, p.Comparisons, 1)
	c := p.Comparisons[0]
	require.Equal(t, []string{second.ID, third.ID}, []string{c.Old.ID(), c.New.ID()})
	require.Len(t, p.Runs, 3, "the first is of no figure")
	require.Equal(t, []string{"exact/batch:1"}, c.OldOnly)
	require.Equal(t, []string{"mine"}, c.NewOnly)
	require.Contains(t, markdown, "Only in the old run: `exact/batch:1`")
	require.Contains(t, markdown, "- driver: go → go2")
	require.NotRegexp(t, `- (time|file|command): .* → `, markdown)
	require.Len(t, p.Panels, 1)
	require.Len(t, p.Panels[0].Runs, 2, "the last of each device")

	// Two runs of the same code say how far the machine goes.
	require.False(t, c.Repeated())
	const repeated = "Both runs are of one commit and its kernels"
	require.NotContains(t, markdown, repeated)
	third.Commit = second.Commit
	_, html, markdown := write(t, page.Options{Digest: digest}, second, third)
	require.Contains(t, html, repeated)
	require.Contains(t, markdown, repeated)

	// Two that are asked for.
	all := entries(first, second, elsewhere)
	o := page.Options{Digest: digest, Compare: &page.Pair{
		Old: page.Choice{ID: elsewhere.ID[:6]}, New: page.Choice{Entries: entries(second, first)},
	}}
	p, err := page.New(all, o)
	require.NoError(t, err)
	require.Len(t, p.Comparisons, 1)
	require.Equal(t, []string{elsewhere.ID, first.ID}, []string{p.Comparisons[0].Old.ID(), p.Comparisons[0].New.ID()})

	for want, choice := range map[string]page.Choice{
		`no run that can be quoted has an id beginning with "zz"`: {ID: "zz"},
		`no run that can be quoted has an id beginning with ""`:   {},
		"is to be compared with itself":                           {ID: first.ID},
		"bad.json has no run that can be quoted":                  {Entries: []result.Entry{{File: "bad.json", Err: errors.New("bad")}}},
	} {
		o.Compare.Old = choice
		_, err := page.New(all, o)
		require.ErrorContains(t, err, want)
	}

	// A run that is there twice counts once, unless it is not the same run.
	p, err = page.New([]result.Entry{{File: "a.json", Document: first}, {File: "b.jsonl", Line: 1, Document: first}}, page.Options{Digest: digest})
	require.NoError(t, err)
	require.Len(t, p.Runs, 1)
	require.Empty(t, p.Refused)
	forged := r.again(first)
	forged.ID = first.ID
	p, err = page.New([]result.Entry{{File: "a.json", Document: first}, {File: "b.jsonl", Line: 1, Document: forged}}, page.Options{Digest: digest})
	require.NoError(t, err)
	require.Equal(t, []page.Refusal{{
		Place: "b.jsonl:1", ID: first.ID, Reasons: []string{"the run is in a.json as well, with another content"},
	}}, p.Refused)
}

// Cells are drawn together that differ in what grows, and in few other things.
func TestPanels(t *testing.T) {
	r := newRandom(13)
	d := r.document()
	d.Cells = nil
	add := func(labels ...string) {
		m := map[string]string{}
		for i := 0; i < len(labels); i += 2 {
			m[labels[i]] = labels[i+1]
		}
		d.Cells = append(d.Cells, r.cell(fmt.Sprintf("cell:%d", len(d.Cells)), 3, m))
	}
	for _, mix := range []string{"6_2_3", "glm47"} {
		for _, precision := range []string{"exact", "fast"} {
			for _, threads := range []string{"1", "2"} {
				for _, batch := range []string{"16", "1", "4"} { // in any order
					add("sweep", "layers", "mix", mix, "tuples", "1", "shape", "wide", "experts", "64", "batch", batch,
						"threads", threads, "precision", precision, "layers", batch, "bound", "read"+batch)
				}
			}
		}
	}
	for _, experts := range []string{"8", "16", "32"} {
		for _, batch := range []string{"1", "16"} {
			add("sweep", "experts", "mix", "glm47", "shape", "of "+experts, "experts", experts, "batch", batch, "threads", "2", "precision", "fast")
		}
	}
	for _, tuples := range []string{"1", "2", "4"} {
		add("sweep", "tuples", "mix", tuples+" tuples", "shape", "wide", "experts", "64", "tuples", tuples, "batch", "1", "threads", "2", "precision", "fast")
	}
	p, _, _ := write(t, page.Options{Digest: digest}, d)
	type panel struct {
		title, grows string
		series       []string
		points       int
	}
	seen := func(p *page.Page) (all []panel) {
		for _, pl := range p.Panels {
			one := panel{title: pl.Title, grows: pl.Grows, points: len(pl.Series[0].Points)}
			for _, s := range pl.Series {
				one.series = append(one.series, s.Name)
			}
			all = append(all, one)
			require.NotEmpty(t, pl.Charts())
		}
		return all
	}
	four := []string{"exact, threads\u202f1", "exact, threads\u202f2", "fast, threads\u202f1", "fast, threads\u202f2"}
	require.Equal(t, []panel{
		{"layers · 6_2_3", "batch", four, 3},
		{"layers · glm47", "batch", four, 3},
		{"layers · growing experts · glm47", "experts", []string{"batch\u202f1", "batch\u202f16"}, 3},
		{"layers · growing tuples", "tuples", []string{"fast"}, 3},
	}, seen(p))
	require.Equal(t, []string{"1", "4", "16"}, []string{
		p.Panels[0].Series[0].Points[0].X, p.Panels[0].Series[0].Points[1].X, p.Panels[0].Series[0].Points[2].X,
	})

	// Kernels grow with rows, and have families and symbols that follow.
	d.Benchmark, d.Level, d.Cells = "kernels", result.Kernels, nil
	for _, pass := range []string{"gate_up", "down"} {
		for _, kind := range []string{"tuple", "fairway"} {
			for _, rows := range []string{"1", "2", "48"} {
				add("pass", pass, "tuple", "6_2_3", "kind", kind, "rows", rows, "family", "f"+rows, "symbol", pass+kind+rows)
			}
		}
	}
	p, _, _ = write(t, page.Options{Digest: digest}, d)
	require.Equal(t, []panel{
		{"kernels · gate_up · 6_2_3", "rows", []string{"tuple", "fairway"}, 3},
		{"kernels · down · 6_2_3", "rows", []string{"tuple", "fairway"}, 3},
	}, seen(p))

	// Labels that nobody knows tell series apart if nothing else does.
	for i := range d.Cells {
		d.Cells[i].Labels["tile"] = d.Cells[i].Labels["kind"]
		delete(d.Cells[i].Labels, "kind")
	}
	for i := range d.Cells {
		delete(d.Cells[i].Labels, "family")
		delete(d.Cells[i].Labels, "symbol")
	}
	p, _, _ = write(t, page.Options{Digest: digest}, d)
	require.Equal(t, []string{"tuple", "fairway"}, seen(p)[0].series)

	// Cells that took turns are series of their own, and compared.
	for i := range d.Cells {
		d.Cells[i].Labels["variant"] = map[string]string{"tuple": "selected", "fairway": "overridden"}[d.Cells[i].Labels["tile"]]
		d.Cells[i].Labels["kernels"] = d.Cells[i].Labels["tile"]
		delete(d.Cells[i].Labels, "tile")
	}
	p, _, markdown := write(t, page.Options{Digest: digest}, d)
	require.Equal(t, []string{"selected tuple", "overridden fairway"}, seen(p)[0].series)
	require.Len(t, p.Comparisons, 1)
	require.True(t, p.Comparisons[0].Within)
	require.Len(t, p.Comparisons[0].Cells, 6)
	require.Equal(t, "cell:3", p.Comparisons[0].Cells[0].Cell, "the other one's")
	require.Contains(t, markdown, "### Kernels in "+d.ID[:8])
	require.Contains(t, markdown, "| cell | selected ms | interval | other ms |")

	// Two devices are two series.
	e := r.again(d)
	e.Device = result.Device{Kind: "cuda", Name: "A card", Driver: "580"}
	p, _, _ = write(t, page.Options{Digest: digest}, d, e)
	require.Equal(t, []string{
		"Abacus (cpu), selected tuple", "Abacus (cpu), overridden fairway", "A card (cuda), selected tuple", "A card (cuda), overridden fairway",
	}, seen(p)[0].series)

	// Where nothing grows there are tables alone.
	d.Cells = []result.Cell{r.cell("tokens", 3, map[string]string{})}
	p, _, markdown = write(t, page.Options{Digest: digest}, d)
	require.Empty(t, p.Panels[0].Charts())
	require.Equal(t, "kernels", p.Panels[0].Title)
	require.Contains(t, markdown, "| Abacus (cpu) | ")
}

func TestCounters(t *testing.T) {
	r := newRandom(14)
	d := r.document()
	d.Counters.Assignments = map[runtime.BitTuple]uint64{{Gate: 6, Up: 2, Down: 3}: 750, {Gate: 6, Up: 2, Down: 2}: 1250}
	d.Counters.Fallbacks = []moe.FallbackCount{
		{Fallback: moe.Fallback{Tuple: runtime.BitTuple{Gate: 7, Up: 5, Down: 2}, Pass: runtime.Down, From: "tuple", To: "generic", Reason: "unlisted"}, Count: 3},
		{Fallback: moe.Fallback{Tuple: runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, Pass: runtime.Down, From: "tuple", To: "host", Reason: "launch"}, Count: 40},
		{Fallback: moe.Fallback{Tuple: runtime.BitTuple{Gate: 7, Up: 5, Down: 2}, Pass: runtime.GateUp, From: "tuple", To: "generic", Reason: "unlisted"}, Count: 2},
	}
	d.Counters.Launches = map[string]uint64{"moe_b": 1234567, "moe_a": 9}
	p, html, markdown := write(t, page.Options{Digest: digest}, d)
	for _, want := range []string{
		"| 6_2_2 | 1\u202f250 | 62.5\u202f% |\n| 6_2_3 | 750 | 37.5\u202f% |",
		"| launch | 40 |\n| unlisted | 5 |",
		"| launch | 6_2_3 | down | tuple | host | 40 |\n| unlisted | 7_5_2 | down | tuple | generic | 3 |",
		"| moe_b | 1\u202f234\u202f567 |\n| moe_a | 9 |",
	} {
		require.Contains(t, markdown, want)
	}
	require.Contains(t, visible(t, html), "62.5\u202f%")
	bars := p.Counters[0].Bars().Bars
	require.InDelta(t, 3.0/5, float64(bars[1].Width/bars[0].Width), 1e-9, "as long as there are rows")

	d.Counters.Fallbacks = []moe.FallbackCount{}
	_, html, markdown = write(t, page.Options{Digest: digest}, d)
	require.Contains(t, html, "No tuple fell back.")
	require.Contains(t, markdown, "No tuple fell back.")
}

// Text of documents is shown as it is, whatever it looks like.
func TestHostileText(t *testing.T) {
	const hostile = "<script>alert()</script>|a`b``c*d*[e](f)&amp;\n# g"
	r := newRandom(15)
	d := r.document()
	d.Device.Name, d.Device.Driver, d.Machine.Go, d.Benchmark = hostile, hostile, hostile, hostile
	d.Args = []string{hostile}
	for i := range d.Cells {
		for _, name := range []string{"precision", "mix", "bound", "shape"} {
			d.Cells[i].Labels[name] += hostile
		}
		d.Cells[i].Metrics[hostile] = r.number()
	}
	again := r.again(d)
	again.Device.Driver = hostile + "!"
	_, html, markdown := write(t, page.Options{Digest: digest}, d, again)
	require.NotContains(t, html, "<script")
	require.Contains(t, visible(t, html), hostile)
	for d := decoder(html); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok {
			require.NotEqual(t, "script", start.Name.Local)
		}
	}

	require.NotContains(t, regexp.MustCompile("`[^\n]*`").ReplaceAllString(markdown, ""), "<script")
	require.NotContains(t, markdown, "\n# g")
	columns, tables := 0, 0
	bar := regexp.MustCompile(`(^|[^\\])\|`)
	for _, line := range strings.Split(markdown, "\n") {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := len(bar.FindAllString(line, -1))
		if columns == 0 {
			columns = n
			tables++
		}
		require.Equal(t, columns, n, line)
	}
	require.Greater(t, tables, 4)
}

// Every figure leads to the section of its run, where everything is that is
// known of it; and nothing on a page leads anywhere else.
func TestLinks(t *testing.T) {
	p := rich(t)
	html, markdown := render(t, p)
	require.NotRegexp(t, `(?i)<script|<link [^>]*href="[^d]|src=|url\(|@import|\bon[a-z]+=`, html)
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		require.False(t, ids[m[1]], m[1])
		ids[m[1]] = true
	}
	links := regexp.MustCompile(`<a [^>]*href="([^"]*)"`).FindAllStringSubmatch(html, -1)
	require.Greater(t, len(links), 300)
	for _, m := range links {
		require.True(t, ids[strings.TrimPrefix(m[1], "#")], m[1])
	}
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(markdown, -1) {
		headings[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(markdown, -1) {
		require.True(t, headings[m[1]], m[1])
	}
	require.Len(t, p.Runs, 5)
	for _, r := range p.Runs {
		section := regexp.MustCompile(`(?s)<section id="` + r.Anchor() + `".*?</section>`).FindString(html)
		for _, fact := range r.Facts() {
			require.Contains(t, section, fact.Text)
		}
		require.Contains(t, section, r.ID())
	}
}

// No two series of a panel look alike, even if there are many.
func TestLooks(t *testing.T) {
	most := 0
	for _, p := range rich(t).Panels {
		looks := map[string]string{}
		for _, k := range p.Keys() {
			look := fmt.Sprint(k.Class, k.Marker)
			require.Empty(t, looks[look], k.Name)
			looks[look] = k.Name
		}
		most = max(most, len(looks))
	}
	require.Equal(t, 9, most)
}

// The JSON has each number as the document has it, with its run.
func TestJSON(t *testing.T) {
	r := newRandom(16)
	d := r.document()
	p, _, _ := write(t, page.Options{Digest: digest}, d, r.again(d))
	data, err := json.Marshal(p)
	require.NoError(t, err)
	var v struct {
		Panels []struct {
			Series []struct {
				Points []struct {
					MS struct {
						Value      float64
						Unit, Cell string
						Runs       []string
					}
				}
			}
		}
		Comparisons []struct {
			Old   struct{ ID string }
			Cells []struct {
				P struct {
					Value float64
					Runs  []string
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &v))
	require.Equal(t, d.ID, v.Comparisons[0].Old.ID)
	require.Equal(t, []string{d.ID, p.Runs[1].ID()}, v.Comparisons[0].Cells[0].P.Runs)
	ms := v.Panels[0].Series[1].Points[2].MS
	require.Equal(t, "ms", ms.Unit)
	require.Equal(t, []string{p.Runs[1].ID()}, ms.Runs)
	require.True(t, strings.HasPrefix(ms.Cell, "fast/batch:"))
	require.Positive(t, ms.Value)
}

// Whatever numbers a document holds, there is a page, without a place that is
// none.
func FuzzPage(f *testing.F) {
	f.Add(1.0, 2.0, 3.0, 4.0, "1", "2", "glm")
	f.Add(math.SmallestNonzeroFloat64, math.MaxFloat64, -1.0, 0.0, "1e308", "-1e308", "|")
	f.Add(1e-300, 1e300, math.MaxFloat64, -math.MaxFloat64, "0", "-1", "")
	f.Add(1.0, 1.0, 0.0, 0.0, "inf", "nan", "<a>")
	f.Add(1.0, 2.0, -1e18, -1e18+1024, "2", "4", "x")
	f.Add(0.1, 0.1, 5e-324, 1e-323, "0x10", "6_2_3", "`")
	bad := regexp.MustCompile(`NaN|Inf`)
	f.Fuzz(func(t *testing.T, a, b, c, e float64, x, y, s string) {
		d := newRandom(1).document()
		d.Cells = d.Cells[:3]
		for i, ms := range []float64{a, b, a} {
			cell := &d.Cells[i]
			cell.MS = result.Distribution{Min: ms, Median: ms, P95: ms, P99: ms, Max: ms, Spread: math.Abs(c)}
			cell.RoundsMS = []float64{ms, b, a}
			cell.Metrics = map[string]float64{"gb_s": []float64{c, e, b}[i], "fraction": e}
			cell.Labels = map[string]string{"batch": []string{x, y, x}[i], "mix": "", "precision": s}
		}
		if d.Check(digest) != nil {
			return
		}
		data, err := d.Encode()
		if err != nil {
			return
		}
		d, err = result.Parse(data)
		require.NoError(t, err)
		_, html, markdown := write(t, page.Options{Digest: digest}, d, newRandom(2).again(d))
		visible(t, html)
		if !strings.Contains(strings.ToLower(x+y+s), "n") {
			require.NotRegexp(t, bad, html)
			require.NotRegexp(t, bad, markdown)
		}
	})
}
