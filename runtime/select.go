package runtime

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Request asks for a kernel.
type Request struct {
	Pass     Pass
	Codec    string   // empty for a helper
	Tuple    BitTuple // of the expert; unused for a helper
	Rows     int      // of the expert; unused for a helper
	Layer    int      // rows of all experts of the layer, or less than Rows if there are no others
	Shared   bool     // experts of other tuples share the launch
	Override string   // a symbol to take instead of the best kernel
}

func (r Request) String() string {
	if r.Codec == "" {
		return string(r.Pass)
	}
	return fmt.Sprintf("%s of %s %v with %d rows", r.Pass, r.Codec, r.Tuple, r.Rows)
}

// A Reason says why a kernel was passed over. The set is closed.
type Reason string

// The reasons.
const (
	ReasonUnlisted Reason = "unlisted"  // no spec lists the tuple
	ReasonMissing  Reason = "missing"   // the device's library lacks the kernel
	ReasonFailed   Reason = "failed"    // the device could not compile the kernel
	ReasonLaunch   Reason = "launch"    // a launch of the kernel failed
	ReasonNoKernel Reason = "no_kernel" // no kernel serves the codec or the rows
	ReasonOverride Reason = "override"  // another kernel was asked for
)

// A Passed is a step of the preference that was passed over.
type Passed struct {
	Kind   Kind
	Symbol string // empty if there is no such kernel in the table
	Reason Reason
	Words  string // the device's, if it has any
}

func (p Passed) String() string {
	what := p.Symbol
	if what == "" {
		what = fmt.Sprintf("a %s kernel", p.Kind)
	}
	if p.Words == "" {
		return fmt.Sprintf("%s: %s", what, p.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", what, p.Reason, p.Words)
}

// A Choice is a kernel and why it was chosen.
type Choice struct {
	Kernel *Kernel
	Passed []Passed // what would have been better, best first
}

// Why returns the reason for the choice, in words.
func (c Choice) Why() string {
	if len(c.Passed) == 0 {
		return "first choice"
	}
	var b strings.Builder
	for i, p := range c.Passed {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// A NoKernelError says that no kernel that is present can run a request, and
// what would have to change.
type NoKernelError struct {
	Request Request
	Passed  []Passed
	Advice  string // what to add to which spec, or whom to ask
}

func (e *NoKernelError) Error() string {
	s := fmt.Sprintf("no kernel for %v", e.Request)
	if len(e.Passed) > 0 {
		s += ": " + Choice{Passed: e.Passed}.Why()
	}
	return s + ": " + e.Advice
}

// An OverrideError says why a kernel that was asked for by name cannot run a
// request.
type OverrideError struct {
	Request Request
	Why     string
}

func (e *OverrideError) Error() string {
	return fmt.Sprintf("%s cannot run %v: %s", e.Request.Override, e.Request, e.Why)
}

// Select returns the best kernel of t for r among those that are present in
// have: of the kernels that serve r, the first in the preference of its body.
// It depends on its arguments alone. The error is a *NoKernelError or, if r
// names a kernel that cannot run it, an *OverrideError.
func Select(t *Table, have Availability, r Request) (Choice, error) {
	if r.Override != "" {
		return override(t, have, r)
	}
	var passed []Passed
	for _, c := range candidates(t, r) {
		if c.kernel == nil {
			passed = append(passed, Passed{Kind: c.kind, Reason: ReasonUnlisted})
			continue
		}
		status := have.Of(c.kernel)
		if status.State == Present {
			return Choice{Kernel: c.kernel, Passed: passed}, nil
		}
		passed = append(passed, Passed{c.kind, c.kernel.Symbol, status.State.reason(), status.Words})
	}
	return Choice{}, &NoKernelError{Request: r, Passed: passed, Advice: advice(t, r)}
}

// reason returns why a kernel in state s is passed over.
func (s State) reason() Reason {
	switch s {
	case Failed:
		return ReasonFailed
	case Broken:
		return ReasonLaunch
	}
	return ReasonMissing
}

// A candidate is a step of a preference and the kernel that takes it, if any.
type candidate struct {
	kind   Kind
	kernel *Kernel
}

// candidates returns what could run r, best first.
func candidates(t *Table, r Request) []candidate {
	if c := t.Codec(r.Codec); c != nil && !c.Stores(r.Tuple) {
		return nil
	}
	var cs []candidate
	for _, body := range bodies(t, r) {
		for _, kind := range body.preference(r.Shared) {
			found := false
			for _, k := range t.Kernels {
				if k.Body == body && k.Kind == kind && k.Runs(r.Tuple) {
					cs = append(cs, candidate{kind, k})
					found = true
				}
			}
			if !found {
				cs = append(cs, candidate{kind: kind})
			}
		}
	}
	return cs
}

// bodies returns the bodies that serve r, best first: those for few rows of a layer
// before those for more, and that for any number last. The generator proves that no
// two are for as many.
func bodies(t *Table, r Request) []*Body {
	var bs []*Body
	for _, k := range t.Kernels {
		if k.refuses(r) == "" && !slices.Contains(bs, k.Body) {
			bs = append(bs, k.Body)
		}
	}
	slices.SortStableFunc(bs, func(a, b *Body) int { return cmp.Compare(uint(a.LayerRows-1), uint(b.LayerRows-1)) })
	return bs
}

// refuses returns why b is not for r, tuples aside, or nothing if it is.
func (b *Body) refuses(r Request) string {
	switch {
	case b.Pass != r.Pass:
		return fmt.Sprintf("it is for pass %s", b.Pass)
	case b.Codec != r.Codec:
		return fmt.Sprintf("it is for codec %q", b.Codec)
	case b.Codec != "" && !b.Rows.Contains(r.Rows):
		return fmt.Sprintf("it is for %v rows of an expert", b.Rows)
	case b.LayerRows > 0 && max(r.Rows, r.Layer) > b.LayerRows:
		return fmt.Sprintf("it is for layers of at most %d rows, and this has %d", b.LayerRows, max(r.Rows, r.Layer))
	}
	return ""
}

// preference returns the kinds of kernel that b has, best first.
func (b *Body) preference(shared bool) []Kind {
	switch {
	case b.Codec == "":
		return []Kind{Helper}
	case shared:
		return b.Shared
	}
	return b.Alone
}

func override(t *Table, have Availability, r Request) (Choice, error) {
	refuse := func(format string, args ...any) (Choice, error) {
		return Choice{}, &OverrideError{Request: r, Why: fmt.Sprintf(format, args...)}
	}
	k := t.Kernel(r.Override)
	if k == nil {
		return refuse("the table has no kernel of this name")
	}
	if why := k.refuses(r); why != "" {
		return refuse("%s", why)
	}
	if c := t.Codec(r.Codec); c != nil && !c.Stores(r.Tuple) {
		return refuse("codec %s stores only widths %v", c.Name, c.Widths)
	}
	if !k.Runs(r.Tuple) {
		return refuse("it was compiled for %v", k.Tuples)
	}
	if status := have.Of(k); status.State != Present {
		return refuse("it is %v on this device%s", status.State, prefixed(": ", status.Words))
	}
	return Choice{Kernel: k, Passed: []Passed{{Kind: k.Kind, Reason: ReasonOverride}}}, nil
}

// advice says what would make a kernel for r.
func advice(t *Table, r Request) string {
	if r.Codec == "" {
		return "build the device's library from the generated sources"
	}
	codec := t.Codec(r.Codec)
	if codec == nil {
		return fmt.Sprintf("add specs/codecs/%s.yaml, its template and its families", r.Codec)
	}
	switch {
	case !codec.Stores(r.Tuple):
		return fmt.Sprintf("codec %s stores widths %v; see %s", codec.Name, codec.Widths, codec.Spec)
	case len(bodies(t, r)) == 0:
		return fmt.Sprintf("no family in specs/families serves %d rows with codec %s", r.Rows, r.Codec)
	case !slices.Contains(codec.Tuples, r.Tuple):
		return fmt.Sprintf("add the line \"- %v\" to tuples in %s and run go generate ./...", r.Tuple, codec.Spec)
	}
	return "build the device's library from the generated sources"
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
