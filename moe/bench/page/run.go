package page

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// A Run is a document whose numbers may be quoted.
type Run struct {
	Place string // file, or file:line
	Stale bool   // its kernels are not those that there are now
	doc   *result.Document
}

// ID returns the run's id.
func (r *Run) ID() string { return r.doc.ID }

// Short returns the beginning of the run's id.
func (r *Run) Short() string { return r.doc.ID[:8] }

// Anchor is the place of the run's section in a page.
func (r *Run) Anchor() string { return "run-" + r.doc.ID }

// Title says what ran where.
func (r *Run) Title() string { return r.doc.Benchmark + " on " + r.on() }

// on names the device, with its kind where the name does not say it.
func (r *Run) on() string {
	d := r.doc.Device
	if strings.Contains(strings.ToLower(d.Name), strings.ToLower(d.Kind)) {
		return d.Name
	}
	return d.Name + " (" + d.Kind + ")"
}

// Day returns the day on which the run began.
func (r *Run) Day() string { return r.doc.Time.UTC().Format(time.DateOnly) }

// A Fact is something that a document says of its run.
type Fact struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Code bool   `json:"-"` // written as it would be typed
}

// Facts returns what the document says of the run, apart from figures.
func (r *Run) Facts() []Fact {
	d, m := r.doc, r.doc.Machine
	return []Fact{
		{"file", r.Place, true},
		{"command", "marlingen " + commandLine(d.Args), true},
		{"level", string(d.Level), false},
		{"device", join(", ", d.Device.Name, d.Device.Kind), false},
		{"driver", d.Device.Driver, false},
		{"machine", join(", ", m.Processor, m.OS+"/"+m.Arch, m.Go), false},
		{"commit", d.Commit, true},
		{"manifest", d.Digest, true},
		{"time", d.Time.UTC().Format(time.DateTime) + " UTC", false},
	}
}

// Measured returns figures of the run as a whole.
func (r *Run) Measured() []Named {
	d := r.doc
	return []Named{
		{"took", r.figure("", seconds, d.Seconds)},
		{"processors", r.figure("", count, float64(d.Machine.Processors))},
		{"forwards", r.figure("", count, float64(d.Counters.Forwards))},
		{"outputs held to the oracle", r.figure("", count, float64(d.Correctness.Checked))},
		{"worst deviation", r.figure("", plain, d.Correctness.Worst)},
		{"tolerance", r.figure("", plain, d.Correctness.Tolerance)},
	}
}

// Named is a figure with what it is.
type Named struct {
	Name   string
	Figure Figure
}

// MarshalJSON writes the run's id, and what the document says of it.
func (r *Run) MarshalJSON() ([]byte, error) {
	facts := map[string]string{}
	for _, f := range r.Facts() {
		facts[f.Name] = f.Text
	}
	return json.Marshal(struct {
		ID    string            `json:"id"`
		Stale bool              `json:"stale"`
		Facts map[string]string `json:"facts"`
	}{r.ID(), r.Stale, facts})
}

// A Refusal is a document of which no number may be quoted.
type Refusal struct {
	Place   string   `json:"place"`
	ID      string   `json:"id,omitempty"` // as the document says
	Stale   bool     `json:"stale"`        // nothing is wrong but that it is of other kernels
	Reasons []string `json:"reasons"`
}

// admit tells runs from refusals. Documents that are there twice count once.
func admit(entries []result.Entry, digest string, allowStale bool) (runs []*Run, refused []Refusal) {
	runs, refused = []*Run{}, []Refusal{}
	seen := map[string]result.Entry{}
	for _, e := range entries {
		place := strings.ToValidUTF8(e.Place(), "�")
		if e.Err != nil {
			refused = append(refused, Refusal{Place: place, Reasons: reasons(e.Err)})
			continue
		}
		d := e.Document
		if first, ok := seen[d.ID]; ok {
			if !reflect.DeepEqual(first.Document, d) {
				reason := fmt.Sprintf("the run is in %s as well, with another content", first.Place())
				refused = append(refused, Refusal{Place: place, ID: d.ID, Reasons: []string{reason}})
			}
			continue
		}
		seen[d.ID] = e
		stale := d.Digest != digest
		if err := d.Check(d.Digest); err != nil || stale && !allowStale {
			refused = append(refused, Refusal{Place: place, ID: d.ID, Stale: err == nil, Reasons: reasons(d.Check(digest))})
			continue
		}
		runs = append(runs, &Run{Place: place, Stale: stale, doc: d})
	}
	slices.SortStableFunc(runs, func(a, b *Run) int { return a.doc.Time.Compare(b.doc.Time) })
	return runs, refused
}

// reasons returns what is wrong, without what was measured.
func reasons(err error) (rs []string) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			rs = append(rs, reasons(e)...)
		}
		return rs
	}
	if c := (*result.Complaint)(nil); errors.As(err, &c) {
		return []string{c.Brief()}
	}
	return strings.Split(err.Error(), "\n")
}

// commandLine writes arguments as a shell would read them.
func commandLine(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`*?[]{}()<>|&;#~!") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// join joins the words that are not empty.
func join(separator string, words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), separator)
}
