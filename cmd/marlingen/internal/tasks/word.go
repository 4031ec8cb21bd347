package tasks

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A word is what a program gets as one argument.
type word struct {
	value  string // what is not exact is left out of it
	exact  bool   // it has no variables, substitutions or globs
	quoted bool   // it begins with a quote
}

// text returns what a program gets for w.
func text(w *syntax.Word) word {
	out := word{exact: true}
	var b strings.Builder
	for i, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if strings.ContainsAny(p.Value, "*?[") {
				out.exact = out.exact && !globs(p.Value)
			}
			b.WriteString(unescape(p.Value, ""))
		case *syntax.SglQuoted:
			out.quoted = out.quoted || i == 0
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			out.quoted = out.quoted || i == 0
			for _, inner := range p.Parts {
				if lit, ok := inner.(*syntax.Lit); ok {
					b.WriteString(unescape(lit.Value, "\"\\$`\n"))
				} else {
					out.exact = false
				}
			}
		default:
			out.exact = false
		}
	}
	out.value = b.String()
	return out
}

// globs reports whether s has a * or ? without a backslash before it. [ is a
// command as well.
func globs(s string) bool {
	for i := range len(s) {
		if (s[i] == '*' || s[i] == '?') && (i == 0 || s[i-1] != '\\') {
			return true
		}
	}
	return false
}

// unescape takes away backslashes before the given characters; before all, if
// none are given.
func unescape(s, before string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (before == "" || strings.IndexByte(before, s[i+1]) >= 0) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
