package msl

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// A ViolationKind says which rule of Metal a kernel broke.
type ViolationKind string

// The kinds of violation.
const (
	Race          ViolationKind = "race"          // two accesses without a barrier between
	Bounds        ViolationKind = "bounds"        // access outside arguments and variables
	ReadOnly      ViolationKind = "access"        // write to what is to be read
	Uninitialised ViolationKind = "uninitialised" // read of threadgroup memory that nobody wrote
	Barrier       ViolationKind = "barrier"       // a barrier that some threads do not reach
	Divergence    ViolationKind = "divergence"    // an operation of a simdgroup, likewise
	Undefined     ViolationKind = "undefined"     // division by zero, misaligned access and the like
	Memory        ViolationKind = "memory"        // too much threadgroup memory
	Fault         ViolationKind = "fault"         // whatever else the host's processor refuses
)

// A Violation is a rule that a kernel broke during a launch.
type Violation struct {
	Kind        ViolationKind
	Kernel      string
	At          Place     // where the thread was
	Other       Place     // where the other thread was, or had been; the zero Place if there is none
	Threadgroup [3]uint32 // in the grid
	Thread      uint32    // in the threadgroup
	Buffer      string    // name of the argument or variable that it is about, if any
	Offset      int64     // in Buffer, in bytes
	Words       string
}

func (v *Violation) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s; at %v", v.Kind, v.Words, v.At)
	if v.Other != (Place{}) {
		fmt.Fprintf(&b, ", the other at %v", v.Other)
	}
	g := v.Threadgroup
	fmt.Fprintf(&b, "; thread %d of threadgroup %d,%d,%d", v.Thread, g[0], g[1], g[2])
	return b.String()
}

func (p Place) String() string {
	if p == (Place{}) {
		return "an unknown place"
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

var what = regexp.MustCompile(`\{(argument|variable) ([^}]*)\}(?: at byte (-?\d+))?`)

// parseViolation reads a message of the runner, without its first word.
func parseViolation(message string, k *runtime.Kernel, lines *lineTable) *Violation {
	v := &Violation{Kernel: k.Symbol}
	fields := strings.SplitN(message, " ", 8)
	if len(fields) < 8 {
		v.Kind, v.Words = Fault, message
		return v
	}
	number := func(i, base int) uint64 {
		n, _ := strconv.ParseUint(fields[i], base, 64)
		return n
	}
	v.Kind = ViolationKind(fields[0])
	v.At, v.Other = lines.place(number(1, 16)), lines.place(number(2, 16))
	v.Threadgroup = [3]uint32{uint32(number(3, 10)), uint32(number(4, 10)), uint32(number(5, 10))}
	v.Thread = uint32(number(6, 10))
	v.Words = what.ReplaceAllStringFunc(fields[7], func(s string) string {
		m := what.FindStringSubmatch(s)
		v.Buffer = m[2]
		if i, err := strconv.Atoi(m[2]); err == nil && m[1] == "argument" && i < len(k.Bindings) {
			v.Buffer = k.Bindings[i].Name
		}
		if m[3] == "" {
			return v.Buffer
		}
		v.Offset, _ = strconv.ParseInt(m[3], 10, 64)
		return fmt.Sprintf("%s at byte %d", v.Buffer, v.Offset)
	})
	return v
}
