package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/marlingen/marlingen/runtime/msl"
)

// A Class compares msl with Apple's compiler.
type Class string

// The classes.
const (
	Agrees     Class = "agrees"
	Permissive Class = "more permissive" // Apple's refuses it
	Stricter   Class = "stricter"        // Apple's accepts it
	NotCovered Class = "not covered"     // Apple's accepts it, and here there is nothing of that name
	Undecided  Class = "unknown"         // what Apple's does is unknown
)

// Classes lists the classes.
var Classes = []Class{Agrees, Permissive, Stricter, NotCovered, Undecided}

// A Row is what became of an item.
type Row struct {
	Section string
	Name    string
	Apple   Verdict
	Source  string
	Forms   []string // if there are several
	Refused []string // among Forms
	Here    Verdict  // of all forms; empty if they differ
	Words   string   // of msl, for the first form that it refuses
	Class   Class
}

// Measure has msl check all forms of all items.
func Measure(ctx context.Context, sections []Section) ([]Row, error) {
	var rows []Row
	var forms [][]*probe
	for _, s := range sections {
		for _, f := range s.Functions {
			var ps []*probe
			for _, t := range s.Types {
				ps = append(ps, call(f, t))
			}
			rows = append(rows, Row{Section: s.Section, Name: f, Apple: s.verdict(), Source: s.source()})
			forms = append(forms, ps)
		}
		for _, i := range s.Items {
			rows = append(rows, Row{Section: s.Section, Name: i.Name, Apple: i.verdict(&s), Source: i.source(&s)})
			forms = append(forms, i.probes())
		}
	}
	if err := measure(ctx, slices.Concat(forms...)); err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].judge(forms[i])
	}
	return rows, nil
}

func (r *Row) judge(ps []*probe) {
	named := true
	for _, p := range ps {
		if len(ps) > 1 {
			r.Forms = append(r.Forms, p.form)
		}
		if p.refused() {
			r.Refused = append(r.Refused, p.form)
			w := absence(r.Name+" "+p.form, p.words)
			named = named && w != ""
			if r.Words == "" {
				r.Words = cmp.Or(w, p.words[0])
			}
		}
	}
	switch len(r.Refused) {
	case 0:
		r.Here = Accepts
	case len(ps):
		r.Here = Rejects
	}
	switch {
	case r.Apple == Unknown:
		r.Class = Undecided
	case r.Apple == r.Here:
		r.Class = Agrees
	case r.Apple == Rejects:
		r.Class = Permissive
	case named:
		r.Class = NotCovered
	default:
		r.Class = Stricter
	}
}

var absent = regexp.MustCompile(`(?:undeclared identifier|no member named|unknown type name|no template named|unknown attribute|undeclared namespace) '?(\w+)|'([\w/.]+)' file not found`)

// absence returns that of words which says that what name speaks of is not there.
func absence(name string, words []string) string {
	for _, w := range words {
		m := absent.FindStringSubmatch(w)
		if m != nil && regexp.MustCompile(`\b`+regexp.QuoteMeta(m[1]+m[2])+`\b`).MatchString(name) {
			return w
		}
	}
	return ""
}

const batchSize = 1000

// measure finds out which probes are refused. Those that can share a text do, in
// which the file of a diagnostic tells whose it is.
func measure(ctx context.Context, ps []*probe) error {
	var shared []*probe
	var batches [][]*probe
	for _, p := range ps {
		if p.alone {
			batches = append(batches, []*probe{p})
		} else {
			shared = append(shared, p)
		}
	}
	batches = slices.Concat(slices.Collect(slices.Chunk(shared, batchSize)), batches)
	errs := make([]error, len(batches))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, b := range batches {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = measureBatch(ctx, b)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// measureBatch checks probes together, then those that were not refused without
// the others, until none is. If it cannot tell whose an error is it halves them.
func measureBatch(ctx context.Context, ps []*probe) error {
	if len(ps) == 0 {
		return nil
	}
	ds, err := msl.Check(ctx, "probes.metal", join(ps))
	if err != nil {
		return err
	}
	words := make(map[string][]string)
	for _, d := range ds {
		if d.Severity == msl.Error {
			words[d.File] = append(words[d.File], entryNumber.ReplaceAllString(d.Message, ""))
		}
	}
	var passed []*probe
	known := 0
	for i, p := range ps {
		if p.words = slices.Clip(words[fileOf(i)]); p.refused() {
			known++
		} else {
			passed = append(passed, p)
		}
	}
	switch {
	case len(words) == 0:
		return nil
	case len(ps) == 1:
		ps[0].words = nil
		for _, file := range slices.Sorted(maps.Keys(words)) {
			ps[0].words = append(ps[0].words, words[file]...)
		}
		return nil
	case known < len(words):
		return errors.Join(measureBatch(ctx, ps[:len(ps)/2]), measureBatch(ctx, ps[len(ps)/2:]))
	}
	return measureBatch(ctx, passed)
}

// A kernel's name must be its own: in a text with others it has a number, which
// its diagnostics lose again.
var (
	entryPoint  = regexp.MustCompile(`\bkernel(?:\]\])? \w+ \w+`)
	entryNumber = regexp.MustCompile(`__\d+\b`)
)

func fileOf(i int) string { return fmt.Sprintf("probe%d.metal", i) }

// join returns the text of several probes, or of one that must be alone.
func join(ps []*probe) string {
	var b strings.Builder
	if !ps[0].alone {
		b.WriteString(prelude)
	}
	for i, p := range ps {
		fmt.Fprintf(&b, "#line 1 %q\n", fileOf(i))
		if p.alone {
			b.WriteString(p.text)
		} else {
			fmt.Fprintf(&b, "namespace probe%d {\n%s}\n", i, entryPoint.ReplaceAllString(p.text, fmt.Sprintf("${0}__%d", i)))
		}
	}
	return b.String()
}
