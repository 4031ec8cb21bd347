package page

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// A Page is what results say.
type Page struct {
	Comparisons []Comparison `json:"comparisons"`
	Panels      []Panel      `json:"panels"`
	Counters    []Counters   `json:"counters"` // of each run that panels show
	Runs        []*Run       `json:"runs"`     // that figures are of, by time
	Refused     []Refusal    `json:"refused"`
}

// Options say what may be quoted, and what is compared.
type Options struct {
	Digest     string // of the manifest of the kernels that there are now
	AllowStale bool   // show figures of other kernels, marked
	Compare    *Pair  // of two runs, instead of the last two that measure the same
}

// A Pair is two runs, by the documents that hold them.
type Pair struct{ Old, New Choice }

// A Choice is a run: the last that can be quoted of some entries, or the one
// whose id begins so.
type Choice struct {
	Entries []result.Entry
	ID      string
}

// New returns the page of documents. Panels show, of runs that measure the
// same, the last. An error is that there is nothing to compare.
func New(entries []result.Entry, o Options) (*Page, error) {
	all := slices.Clone(entries)
	if o.Compare != nil {
		all = slices.Concat(all, o.Compare.Old.Entries, o.Compare.New.Entries)
	}
	runs, refused := admit(unique(all), o.Digest, o.AllowStale)
	current, pairs := latest(runs)
	p := &Page{Comparisons: []Comparison{}, Panels: panels(current), Counters: []Counters{}, Runs: []*Run{}, Refused: refused}
	if o.Compare != nil {
		old, err := o.Compare.Old.find(runs)
		if err != nil {
			return p, fmt.Errorf("nothing to compare with: %w", err)
		}
		new, err := o.Compare.New.find(runs)
		if err != nil {
			return p, fmt.Errorf("nothing to compare: %w", err)
		}
		if old == new {
			return p, fmt.Errorf("run %s is to be compared with itself", old.ID())
		}
		pairs = [][2]*Run{{old, new}}
	}
	for _, pair := range pairs {
		p.Comparisons = append(p.Comparisons, compare(pair[0], pair[1]))
	}
	for _, r := range current {
		p.Counters = append(p.Counters, counters(r))
		if c := compareTurns(r); len(c.Cells) > 0 {
			p.Comparisons = append(p.Comparisons, c)
		}
	}
	for _, r := range runs {
		compared := slices.ContainsFunc(pairs, func(pair [2]*Run) bool { return pair[0] == r || pair[1] == r })
		if compared || slices.Contains(current, r) {
			p.Runs = append(p.Runs, r)
		}
	}
	return p, nil
}

// unique returns entries without those of files that were named twice.
func unique(entries []result.Entry) (once []result.Entry) {
	seen := map[string]bool{}
	for _, e := range entries {
		if !seen[e.Place()] {
			seen[e.Place()] = true
			once = append(once, e)
		}
	}
	return once
}

// find returns the run that c is.
func (c Choice) find(runs []*Run) (*Run, error) {
	if c.Entries == nil {
		return find(runs, c.ID)
	}
	for _, e := range slices.Backward(c.Entries) {
		if e.Document == nil {
			continue
		}
		for _, r := range runs {
			if r.ID() == e.Document.ID && reflect.DeepEqual(r.doc, e.Document) {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no run that can be quoted", c.Entries[0].File)
}

// Stale reports whether figures of other kernels are shown.
func (p *Page) Stale() bool { return slices.ContainsFunc(p.Runs, func(r *Run) bool { return r.Stale }) }

// Mark is what follows figures of other kernels.
func (p *Page) Mark() string { return StaleMark }

// fieldName returns how documents call a field of a distribution.
func fieldName(field string) string {
	f, _ := reflect.TypeFor[result.Distribution]().FieldByName(field)
	return strings.Split(f.Tag.Get("json"), ",")[0]
}
