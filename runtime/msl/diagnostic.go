package msl

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Severity says what a Diagnostic means for the text.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note" // belongs to the diagnostic before it
)

// A Diagnostic is a remark on a text. Its place is where #line says it is.
type Diagnostic struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

func (d Diagnostic) String() string {
	place := d.File
	if d.Line > 0 {
		place += fmt.Sprintf(":%d", d.Line)
	}
	if d.Column > 0 {
		place += fmt.Sprintf(":%d", d.Column)
	}
	return fmt.Sprintf("%s: %s: %s", place, d.Severity, d.Message)
}

// Failed reports whether there is an error among diagnostics.
func Failed(diagnostics []Diagnostic) bool {
	return slices.ContainsFunc(diagnostics, func(d Diagnostic) bool { return d.Severity == Error })
}

// describe returns the diagnostics as a compiler prints them.
func describe(diagnostics []Diagnostic) string {
	var b strings.Builder
	for i, d := range diagnostics {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.String())
	}
	return b.String()
}

var clangLine = regexp.MustCompile(`^(.*?):(\d+):(?:(\d+):)? (fatal error|error|warning|note): (.*)$`)

// ownAssertion matches those of the rewriter, which lie in no column of the text.
var ownAssertion = regexp.MustCompile(`^static assertion failed.*_msl_offset .*: (.*)$`)

// metalWords says in Metal's words what clang says in OpenCL's.
var metalWords = strings.NewReplacer(
	"const __global ", "constant ", "__global ", "device ", "__local ", "threadgroup ",
	"address space '0'", "address space 'device'", "'__local'", "'threadgroup'", "'__private'", "'thread'", "'__global'", "'constant'",
	"*__private", "*", "__private ", "", "&__private", "&", "__generic ", "",
)

// parseDiagnostics reads what clang printed. What lies in the shim is told at
// the place of the text that the notes lead to, if they do.
func parseDiagnostics(output string) []Diagnostic {
	var ds []Diagnostic
	for text := range strings.SplitSeq(output, "\n") {
		m := clangLine.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		d := Diagnostic{File: m[1], Severity: Severity(strings.TrimPrefix(m[4], "fatal ")), Message: metalWords.Replace(m[5])}
		d.Line, _ = strconv.Atoi(m[2])
		d.Column, _ = strconv.Atoi(m[3])
		if m := ownAssertion.FindStringSubmatch(d.Message); m != nil {
			d.Column, d.Message = 0, m[1]
		}
		ds = append(ds, d)
	}
	return unique(slices.DeleteFunc(outOfShim(ds), func(d Diagnostic) bool { return inShim(d.File) }))
}

// outOfShim moves each diagnostic in the shim to the first of its notes that is
// outside.
func outOfShim(ds []Diagnostic) []Diagnostic {
	for i := range ds {
		if ds[i].Severity == Note || !inShim(ds[i].File) {
			continue
		}
		for j := i + 1; j < len(ds) && ds[j].Severity == Note; j++ {
			if !inShim(ds[j].File) {
				ds[i].File, ds[i].Line, ds[i].Column = ds[j].File, ds[j].Line, ds[j].Column
				break
			}
		}
	}
	return ds
}

// unique returns ds without repetitions, in their order. Notes stay.
func unique(ds []Diagnostic) []Diagnostic {
	seen := make(map[Diagnostic]bool)
	var kept []Diagnostic
	drop := false
	for _, d := range ds {
		if d.Severity != Note {
			drop = seen[d]
			seen[d] = true
		}
		if !drop {
			kept = append(kept, d)
		}
	}
	return kept
}

// sortDiagnostics orders ds by place; notes follow what they belong to.
func sortDiagnostics(ds []Diagnostic) []Diagnostic {
	var groups [][]Diagnostic
	for _, d := range ds {
		if d.Severity == Note && len(groups) > 0 {
			groups[len(groups)-1] = append(groups[len(groups)-1], d)
		} else {
			groups = append(groups, []Diagnostic{d})
		}
	}
	slices.SortStableFunc(groups, func(a, b []Diagnostic) int {
		return cmp.Or(cmp.Compare(a[0].File, b[0].File), cmp.Compare(a[0].Line, b[0].Line), cmp.Compare(a[0].Column, b[0].Column))
	})
	return slices.Concat(groups...)
}
