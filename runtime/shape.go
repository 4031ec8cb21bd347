package runtime

import (
	"fmt"
	"strconv"
	"strings"
)

// A Shape holds the sizes of one launch. Kernels receive it as it stands here:
// the generator writes the Metal struct of the same name from this one.
type Shape struct {
	Tokens       uint32 // rows of the layer's input
	Slots        uint32 // assignments per token: top-k, and the shared expert
	Experts      uint32 // routed experts, and the shared one
	Hidden       uint32 // columns of the layer's input and output
	Intermediate uint32 // columns of h
	Rows         uint32 // assignments: Tokens × Slots
	Items        uint32 // entries of the launch's work list
}

// Routing holds a router's constants, as its kernel receives them.
type Routing struct {
	TopK       uint32  // routed experts per token
	Groups     uint32  // into which the experts are divided; 1 for none
	TopKGroups uint32  // groups that are kept
	Normalize  uint32  // 1: weights are divided by their sum + 1e-20
	Scale      float32 // factor of the weights
}

// A Work is one entry of a work list: consecutive rows that belong to one
// expert. A kernel takes at most its Tile of them at once. An entry without
// rows is padding.
type Work struct {
	Expert uint32
	First  uint32 // first row, in the order of the assignments
	Rows   uint32
}

// A Dim names a size in a Shape.
type Dim string

// The sizes that a grid can follow.
const (
	One          Dim = "one"
	Tokens       Dim = "tokens"
	Experts      Dim = "experts"
	Hidden       Dim = "hidden"
	Intermediate Dim = "intermediate"
	Rows         Dim = "rows"
	Items        Dim = "items"
)

// Of returns the size that d names in s. It reports false if d names none.
func (d Dim) Of(s Shape) (uint32, bool) {
	switch d {
	case One:
		return 1, true
	case Tokens:
		return s.Tokens, true
	case Experts:
		return s.Experts, true
	case Hidden:
		return s.Hidden, true
	case Intermediate:
		return s.Intermediate, true
	case Rows:
		return s.Rows, true
	case Items:
		return s.Items, true
	}
	return 0, false
}

// An Axis is one dimension of a grid: ceil(Dim / Per) threadgroups.
type Axis struct {
	Dim Dim
	Per uint32
}

// Groups returns the number of threadgroups along a.
func (a Axis) Groups(s Shape) uint32 {
	n, _ := a.Dim.Of(s)
	return (n + a.Per - 1) / a.Per
}

func (a Axis) String() string {
	if a.Per == 1 {
		return string(a.Dim)
	}
	return fmt.Sprintf("%s/%d", a.Dim, a.Per)
}

// A Range is an inclusive range of row counts. A Max of 0 is no bound.
type Range struct{ Min, Max int }

// Contains reports whether n lies in r.
func (r Range) Contains(n int) bool { return r.Min <= n && (n <= r.Max || r.Max == 0) }

func (r Range) String() string {
	switch {
	case r.Max == 0:
		return fmt.Sprintf("%d..", r.Min)
	case r.Min == r.Max:
		return strconv.Itoa(r.Min)
	}
	return fmt.Sprintf("%d..%d", r.Min, r.Max)
}

// UnmarshalText parses "1", "2..16" or "33..".
func (r *Range) UnmarshalText(text []byte) error {
	lo, hi, span := strings.Cut(string(text), "..")
	if !span {
		hi = lo
	}
	var err error
	var parsed Range
	if parsed.Min, err = strconv.Atoi(lo); err == nil && hi != "" {
		parsed.Max, err = strconv.Atoi(hi)
	}
	if err != nil || parsed.Min < 1 || hi != "" && parsed.Max < parsed.Min {
		return fmt.Errorf("%q is not a range; write 1, 2..16, or 33.. for no end", text)
	}
	*r = parsed
	return nil
}
