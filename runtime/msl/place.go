package msl

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// A marker says that the text after it, up to the next one, comes from lines of
// a file.
type marker struct {
	after int // offset of the first line that it is about
	file  string
	line  int
}

// places finds the places of offsets in a text.
type places struct {
	text    string
	markers []marker
}

// newPlaces reads the #line directives of a text, which is the file named name.
func newPlaces(name, text string, tokens []token) places {
	p := places{text, []marker{{0, name, 1}}}
	for _, t := range tokens {
		if t.kind != directive {
			continue
		}
		line, file, ok := parseLine(t.text)
		if !ok {
			continue
		}
		if file == "" {
			file = p.markers[len(p.markers)-1].file
		}
		p.markers = append(p.markers, marker{min(t.to+1, len(text)), file, line})
	}
	return p
}

// parseLine parses #line N "file" and # N "file" flags.
func parseLine(text string) (line int, file string, ok bool) {
	rest := strings.TrimSpace(strings.TrimPrefix(text, "#"))
	rest = strings.TrimSpace(strings.TrimPrefix(rest, "line"))
	digits, rest, _ := strings.Cut(rest, " ")
	line, err := strconv.Atoi(digits)
	if err != nil {
		return 0, "", false
	}
	if quoted, err := strconv.QuotedPrefix(strings.TrimSpace(rest)); err == nil {
		file, _ = strconv.Unquote(quoted)
	}
	return line, file, true
}

// at returns the file, line and column of an offset.
func (p places) at(offset int) (string, int, int) {
	i := sort.Search(len(p.markers), func(i int) bool { return p.markers[i].after > offset })
	m := p.markers[max(i-1, 0)]
	before := p.text[min(m.after, offset):offset]
	column := offset - (strings.LastIndexByte(p.text[:offset], '\n') + 1) + 1
	return m.file, m.line + strings.Count(before, "\n"), column
}

// diagnostic makes a remark on what is at an offset.
func (p places) diagnostic(offset int, s Severity, format string, args ...any) Diagnostic {
	d := Diagnostic{Severity: s, Message: fmt.Sprintf(format, args...)}
	d.File, d.Line, d.Column = p.at(offset)
	return d
}
