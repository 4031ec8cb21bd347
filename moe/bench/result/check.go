package result

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
)

var (
	idPattern     = regexp.MustCompile(`^[0-9a-f]{32}$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	cellPattern   = regexp.MustCompile(`^[\w/:-]+$`)
)

// A Complaint is one thing for which no number of a document may be quoted.
type Complaint struct{ text, brief string }

func (c *Complaint) Error() string { return c.text }

// Brief is the complaint without what was measured.
func (c *Complaint) Brief() string { return c.brief }

// Check says everything for which no number of d may be quoted: the run is not
// complete, of another manifest than that of the given digest, of a tree that no
// commit holds, wrong, or nothing was counted or timed. The error is of
// Complaints, joined.
func (d *Document) Check(digest string) error {
	var c complaints
	refuse := c.refuse
	why := ""
	if d.Why != "" {
		why = ": " + d.Why
	}
	refuse(d.Schema != Schema, "schema is %d; want %d", d.Schema, Schema)
	refuse(!idPattern.MatchString(d.ID), "id %q is not that of a run", d.ID)
	refuse(d.Status != Complete, "the run is %q, not complete%s", d.Status, why)
	refuse(d.Time.IsZero() || !(d.Seconds > 0), "the run has no time, or took none")
	refuse(d.Benchmark == "" || len(d.Args) == 0, "the run does not say what it was: benchmark %q, args %q", d.Benchmark, d.Args)
	refuse(d.Level != Kernels && d.Level != Layers && d.Level != Models, "level %q is not known", d.Level)
	refuse(d.Device.Kind == "" || d.Device.Name == "", "the run names no device")
	refuse(!digestPattern.MatchString(d.Digest), "digest %q is not that of a manifest", d.Digest)
	refuse(digestPattern.MatchString(d.Digest) && d.Digest != digest, "manifest %.12s…; want %.12s…: the kernels are not those that are there now", d.Digest, digest)
	refuse(!commitPattern.MatchString(d.Commit), "commit %q is not one", d.Commit)
	refuse(d.Dirty, "the tree was dirty")
	d.measured(refuse)
	return errors.Join(c...)
}

// CheckMeasured says what is wrong with what d measured, whatever else it says:
// what a run checks of itself before it calls itself complete.
func (d *Document) CheckMeasured() error {
	var c complaints
	d.measured(c.refuse)
	return errors.Join(c...)
}

type complaints []error

func (c *complaints) refuse(bad bool, format string, args ...any) {
	if bad {
		*c = append(*c, &Complaint{fmt.Sprintf(format, args...), fmt.Sprintf(format, unmeasured(args)...)})
	}
}

func (d *Document) measured(refuse func(bad bool, format string, args ...any)) {
	d.Correctness.check(refuse)
	refuse(d.Level != Kernels && d.Counters.Forwards == 0, "no forwards were counted")
	d.Counters.check(refuse)

	refuse(len(d.Cells) == 0, "nothing was timed")
	seen := map[string]bool{}
	for _, c := range d.Cells {
		refuse(!cellPattern.MatchString(c.Name), "cell %q: a name is of letters, digits, _, /, : and -", c.Name)
		refuse(seen[c.Name], "cell %s is there twice", c.Name)
		seen[c.Name] = true
		refuse(c.Samples < 1, "cell %s has no samples", c.Name)
		refuse(!times(c.RoundsMS), "cell %s: its rounds took %v", c.Name, c.RoundsMS)
		m := c.MS
		refuse(!(0 < m.Min && m.Min <= m.Median && m.Median <= m.P95 && m.P95 <= m.P99 && m.P99 <= m.Max && m.Spread >= 0),
			"cell %s: %+v is no distribution of times", c.Name, m)
	}
}

// times reports whether ms are the times of at least one round.
func times(ms []float64) bool {
	return len(ms) > 0 && !slices.ContainsFunc(ms, func(t float64) bool { return !(t > 0) || math.IsInf(t, 0) })
}

// unmeasured returns args with dots in the place of what is measured.
func unmeasured(args []any) []any {
	args = slices.Clone(args)
	for i, a := range args {
		switch a.(type) {
		case float64, []float64, Distribution:
			args[i] = dots{}
		}
	}
	return args
}

type dots struct{}

// Format writes dots, whatever the verb.
func (dots) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "…") }

func (c Correctness) check(refuse func(bool, string, ...any)) {
	refuse(!c.Passed, "the outputs were not right")
	refuse(c.Checked < 1, "no outputs were checked")
	refuse(!(c.Worst >= 0 && c.Worst <= c.Tolerance), "the worst deviation is %g, and the tolerance %g", c.Worst, c.Tolerance)
}

func (c Counters) check(refuse func(bool, string, ...any)) {
	refuse(sum(c.Launches) == 0, "no launches were counted")
	refuse(sum(c.Assignments) == 0, "no assignments were counted")
}

func sum[K comparable](counts map[K]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}
