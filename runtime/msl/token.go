package msl

import (
	"slices"
	"strings"
)

// A kind is what a token is.
type kind uint8

const (
	identifier kind = iota
	number
	literal   // a string or a character
	punct     // a character, or :: or ->
	directive // a whole line that begins with #
	end       // of the text
)

// A token is a piece of Metal text.
type token struct {
	kind     kind
	text     string
	from, to int // offsets
}

// is reports whether t is the given identifier or punctuation.
func (t token) is(text string) bool {
	return t.text == text && (t.kind == identifier || t.kind == punct)
}

// tokenize splits text. It never fails: what makes no sense is left to clang.
// The last token is of kind end.
func tokenize(text string) []token {
	var tokens []token
	fresh := true // nothing but space on the line so far
	for at := 0; at < len(text); {
		to, k := scan(text, at, fresh)
		switch {
		case text[at] == '\n':
			fresh = true
		case k != end:
			tokens = append(tokens, token{k, text[at:to], at, to})
			fresh = false
		}
		at = to
	}
	return append(tokens, token{end, "", len(text), len(text)})
}

// scan returns where the token, space or comment at an offset ends; the kind is
// end for what is no token.
func scan(text string, at int, fresh bool) (int, kind) {
	rest := text[at:]
	c := rest[0]
	switch {
	case strings.HasPrefix(rest, "//"):
		return at + line(rest), end
	case strings.HasPrefix(rest, "/*"):
		if i := strings.Index(rest[2:], "*/"); i >= 0 {
			return at + i + 4, end
		}
		return len(text), end
	case c == '#' && fresh:
		return at + line(rest), directive
	case c == '"' || c == '\'':
		return at + quoted(rest), literal
	case isDigit(c) || c == '.' && len(rest) > 1 && isDigit(rest[1]):
		return at + numeral(rest), number
	case isWord(c):
		n := 1
		for n < len(rest) && isWord(rest[n]) {
			n++
		}
		return at + n, identifier
	case strings.IndexByte(" \t\r\n\f\v", c) >= 0:
		return at + 1, end
	case strings.HasPrefix(rest, "::") || strings.HasPrefix(rest, "->"):
		return at + 2, punct
	}
	return at + 1, punct
}

// line returns the length of s up to the end of its line; a backslash at the end
// continues it.
func line(s string) int {
	n := 0
	for n < len(s) && s[n] != '\n' {
		if s[n] == '\\' && n+1 < len(s) {
			n++
		}
		n++
	}
	return min(n, len(s))
}

func quoted(s string) int {
	n := 1
	for n < len(s) && s[n] != s[0] && s[n] != '\n' {
		if s[n] == '\\' {
			n++
		}
		n++
	}
	if n < len(s) && s[n] == s[0] {
		n++
	}
	return min(n, len(s))
}

func numeral(s string) int {
	hex := strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X")
	n := 1
	for n < len(s) {
		sign := s[n] == '+' || s[n] == '-'
		exponent := (s[n-1] == 'e' || s[n-1] == 'E') && !hex || (s[n-1] == 'p' || s[n-1] == 'P') && hex
		if !isWord(s[n]) && s[n] != '.' && !(sign && exponent) {
			break
		}
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c)
}

// isPlainFloat reports whether a number is a floating one without a suffix.
func isPlainFloat(s string) bool {
	if len(s) > 1 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		return false
	}
	return strings.ContainsAny(s, ".eE") && strings.Trim(s, "0123456789.eE+-") == ""
}

// words returns the identifiers of text.
func words(text string) []string {
	var ws []string
	for _, t := range tokenize(text) {
		if t.kind == identifier {
			ws = append(ws, t.text)
		}
	}
	return ws
}

func hasWord(text string, want ...string) bool {
	return slices.ContainsFunc(words(text), func(w string) bool { return slices.Contains(want, w) })
}
