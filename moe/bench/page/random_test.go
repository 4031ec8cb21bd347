package page_test

import (
	"fmt"
	"math"
	"math/rand/v2"
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

var digest = strings.Repeat("d1", 32)

// random makes documents whose numbers are all random, and may be quoted.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 1))} }

// number returns one of 1e-3 to 1e5, each magnitude being as likely.
func (r random) number() float64 { return math.Pow(10, 8*r.Float64()-3) }

func (r random) count() uint64 { return 1 + uint64(r.number()) }

func (r random) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return string(b)
}

func (r random) rounds(n int, around float64) (ms []float64) {
	for range n {
		ms = append(ms, around*(0.9+0.2*r.Float64()))
	}
	return ms
}

func (r random) cell(name string, rounds int, labels map[string]string) result.Cell {
	v := []float64{r.number(), r.number(), r.number(), r.number(), r.number()}
	slices.Sort(v)
	return result.Cell{
		Name: name, Labels: labels, Samples: int(r.count()), RoundsMS: r.rounds(rounds, v[1]),
		MS: result.Distribution{Min: v[0], Median: v[1], P95: v[2], P99: v[3], Max: v[4], Spread: v[1] * r.Float64()},
		Metrics: map[string]float64{
			"gb_s": r.number(), "gmac_s": r.number(), "floor_ms": r.number(), "fraction": r.Float64(), "bytes": r.number(),
		},
	}
}

// document returns a run of layers on two kinds of precision. Its strings have
// no digits but those that make it one of many.
func (r random) document() *result.Document {
	tuple := func() runtime.BitTuple {
		return runtime.BitTuple{Gate: uint8(2 + r.IntN(7)), Up: uint8(2 + r.IntN(7)), Down: uint8(2 + r.IntN(7))}
	}
	d := &result.Document{
		Schema: result.Schema, ID: r.hex(32), Status: result.Complete,
		Time: time.Date(2020+r.IntN(70), 1, 1+r.IntN(300), r.IntN(24), r.IntN(60), r.IntN(60), 0, time.UTC), Seconds: r.number(),
		Benchmark: "layers", Level: result.Layers, Args: []string{"bench", "--rounds", fmt.Sprint(r.count())},
		Device:  result.Device{Kind: "cpu", Name: "Abacus", Driver: "go"},
		Machine: result.Machine{Processor: "Abacus", Processors: int(r.count()), OS: "linux", Arch: "arm", Go: "go"},
		Digest:  digest, Commit: r.hex(40),
		Correctness: result.Correctness{Passed: true, Checked: int(r.count()), Worst: r.Float64() / 1e4, Tolerance: 1e-4 + r.Float64()},
		Counters: result.Counters{
			Forwards: r.count(), Launches: map[string]uint64{"moe_route": r.count(), "moe_combine": r.count()},
			Assignments: map[runtime.BitTuple]uint64{tuple(): r.count(), tuple(): r.count(), tuple(): r.count()},
			Fallbacks:   []moe.FallbackCount{},
		},
	}
	for _, reason := range []runtime.Reason{runtime.ReasonUnlisted, runtime.ReasonUnlisted, runtime.ReasonMissing} {
		d.Counters.Fallbacks = append(d.Counters.Fallbacks, moe.FallbackCount{
			Fallback: moe.Fallback{Tuple: tuple(), Pass: runtime.Down, From: runtime.Tuple, To: runtime.Generic, Reason: reason}, Count: r.count(),
		})
	}
	for _, precision := range []string{"exact", "fast"} {
		batch := 1
		for range 6 {
			d.Cells = append(d.Cells, r.cell(fmt.Sprintf("%s/batch:%d", precision, batch), 7, map[string]string{
				"sweep": "layers", "mix": "glm", "batch": fmt.Sprint(batch), "precision": precision, "bound": "read",
			}))
			batch *= 2 + r.IntN(2)
		}
	}
	return d
}

// again returns a run of the same some time after d, with other numbers.
func (r random) again(d *result.Document) *result.Document {
	e := r.document()
	e.Benchmark, e.Level, e.Device, e.Machine.Processor = d.Benchmark, d.Level, d.Device, d.Machine.Processor
	e.Args, e.Time, e.Cells = slices.Clone(d.Args), d.Time.Add(time.Hour), nil
	for _, c := range d.Cells {
		e.Cells = append(e.Cells, r.cell(c.Name, len(c.RoundsMS), c.Labels))
	}
	return e
}

// entries are documents as files hold them.
func entries(docs ...*result.Document) (es []result.Entry) {
	for i, d := range docs {
		es = append(es, result.Entry{File: string(rune('a'+i)) + ".json", Document: d})
	}
	return es
}

// write returns the page of documents in both forms.
func write(t testing.TB, o page.Options, docs ...*result.Document) (p *page.Page, html, markdown string) {
	t.Helper()
	p, err := page.New(entries(docs...), o)
	require.NoError(t, err)
	html, markdown = render(t, p)
	return p, html, markdown
}

func render(t testing.TB, p *page.Page) (html, markdown string) {
	t.Helper()
	var h, m strings.Builder
	require.NoError(t, p.HTML(&h))
	require.NoError(t, p.Markdown(&m))
	return h.String(), m.String()
}
