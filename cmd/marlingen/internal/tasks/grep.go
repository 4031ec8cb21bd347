package tasks

import (
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Programs that look for a pattern.
var greps = []string{"grep", "egrep", "fgrep", "rg"}

// Their options, as far as a verify command needs any.
const (
	shortFlags = "EFGPciqslnwxorRvzHhUSu"
	shortArgs  = "efABCmgt" // followed by an argument
)

var (
	longFlags = []string{
		"quiet", "silent", "extended-regexp", "fixed-strings", "basic-regexp", "perl-regexp", "pcre2", "ignore-case", "smart-case",
		"case-sensitive", "word-regexp", "line-regexp", "count", "files-with-matches", "no-messages", "recursive", "hidden", "no-ignore",
		"only-matching", "line-number", "with-filename", "no-filename", "text", "multiline", "multiline-dotall", "invert-match",
	}
	longArgs = []string{"regexp", "file", "max-count", "glob", "type", "include", "exclude", "context", "after-context", "before-context", "color"}
)

// A search is what a call of grep looks for.
type search struct {
	patterns []word
	files    int
	fromFile bool // patterns are in a file
	options  string
}

// skipped is what a run may leave that was skipped: any pattern that a line of it
// matches says nothing about a run.
const skipped = `
{"schema": 1, "id": "", "status": "skipped", "why": "no device", "reason": "skipped", "benchmark": "", "level": "", "args": [], "variant": "",
"error": null, "success": false, "ok": false, "skipped": true, "commit": "", "dirty": true, "digest": "",
"decode_tok_per_s": null, "decode": null, "tok_per_s": null, "ms_per_token": null, "results": [],
"correctness": {"passed": false, "checked": 0, "worst": 0, "tolerance": 0},
"counters": {"forwards": 0, "launches": {}, "assignments": {}, "fallbacks": []}, "cells": [], "samples": 0, "ms": {}, "median": null, "p95": null, "p99": null}
skipped
status: skipped`

// grep checks a call of grep or rg.
func (v *verifier) grep(c *syntax.CallExpr, words []word, piped bool) {
	s, ok := v.search(c, words)
	if !ok {
		return
	}
	if strings.Contains(s.options, "v") {
		v.complain(c, "-v succeeds on any other line, whatever else the result holds")
		return
	}
	if len(s.patterns) == 0 && !s.fromFile {
		v.complain(c, "%s has no pattern", words[0].value)
		return
	}
	if s.files == 0 && !piped {
		v.complain(c, "%s names no file to look into", words[0].value)
	}
	for _, p := range s.patterns {
		if p.exact {
			v.pattern(c, words[0].value, s.options, p.value)
		}
	}
}

// search takes the arguments of grep apart.
func (v *verifier) search(c *syntax.CallExpr, words []word) (s search, ok bool) {
	var rest []word
	for i := 1; i < len(words); i++ {
		w := words[i]
		if !strings.HasPrefix(w.value, "-") || w.value == "-" && w.exact {
			rest = append(rest, w)
			continue
		}
		if w.value == "--" && !w.quoted {
			rest = append(rest, words[i+1:]...)
			break
		}
		name, letters, argument, known := option(w.value)
		if w.quoted || !known {
			v.complain(c.Args[i], "%q begins with - and is not after --: %s takes it for an option; write %s … -- %q",
				w.value, words[0].value, words[0].value, w.value)
			return s, false
		}
		s.options += letters
		if argument != nil && *argument == "" {
			if i++; i == len(words) {
				v.complain(c, "%s needs an argument", w.value)
				return s, false
			}
			argument, w = &words[i].value, words[i]
		}
		switch name {
		case "e", "regexp":
			s.patterns = append(s.patterns, word{value: *argument, exact: w.exact})
		case "f", "file":
			s.fromFile = true
		}
	}
	if len(s.patterns) == 0 && !s.fromFile && len(rest) > 0 {
		s.patterns, rest = rest[:1], rest[1:]
	}
	s.files = len(rest)
	if strings.ContainsAny(s.options, "rR") {
		s.files++ // the working directory
	}
	return s, true
}

// option takes an option apart: the name of the one that has an argument, which
// is empty if it is the next word, and the letters that stand for the others.
func option(arg string) (name, letters string, argument *string, known bool) {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		name, value, with := strings.Cut(long, "=")
		if slices.Contains(longArgs, name) && (!with || value != "") {
			return name, "", &value, true
		}
		letter := map[string]string{
			"extended-regexp": "E", "fixed-strings": "F", "perl-regexp": "P", "pcre2": "P", "ignore-case": "i", "recursive": "r", "invert-match": "v",
		}[name]
		return name, letter, nil, slices.Contains(longFlags, name) && !with
	}
	for i := 1; i < len(arg); i++ {
		if strings.IndexByte(shortArgs, arg[i]) >= 0 {
			value := arg[i+1:]
			return arg[i : i+1], letters, &value, true
		}
		if strings.IndexByte(shortFlags, arg[i]) < 0 {
			return "", "", nil, false
		}
		letters += arg[i : i+1]
	}
	return "", letters, nil, true
}

// pattern complains about a pattern of which an alternative says nothing.
func (v *verifier) pattern(c *syntax.CallExpr, program, options, pattern string) {
	parts := []string{pattern}
	fixed := program == "fgrep" || strings.Contains(options, "F")
	if !fixed {
		if program == "grep" && !strings.ContainsAny(options, "EP") {
			pattern = basic(pattern)
		}
		parts = alternatives(pattern)
	}
	for _, part := range parts {
		expression := part
		if fixed {
			expression = regexp.QuoteMeta(part)
		}
		if strings.Contains(options, "i") {
			expression = "(?i)" + expression
		}
		re, err := regexp.Compile(expression)
		what := "pattern " + quote(pattern)
		if len(parts) > 1 {
			what = "alternative " + quote(part) + " of " + quote(pattern)
		}
		switch {
		case err != nil:
			v.complain(c, "%s is no regular expression that can be checked: %v", what, err)
		case re.MatchString(""):
			v.complain(c, "%s matches any output", what)
		case slices.ContainsFunc(strings.Split(skipped, "\n"), re.MatchString):
			v.complain(c, "%s also matches a result that was skipped; use marlingen verify-result", what)
		}
	}
}

func quote(s string) string { return "\"" + s + "\"" }

// alternatives splits an extended regular expression at its outermost |.
func alternatives(pattern string) (parts []string) {
	depth, from := 0, 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '[':
			if end := strings.IndexByte(pattern[min(i+2, len(pattern)):], ']'); end >= 0 {
				i += 2 + end
			}
		case '(':
			depth++
		case ')':
			depth--
		case '|':
			if depth == 0 {
				parts = append(parts, pattern[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, pattern[from:])
}

// basic writes a basic regular expression, in which only \| \( \) \{ \} \+ and \?
// are special, as an extended one.
func basic(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		special := strings.IndexByte("|(){}+?", pattern[i]) >= 0
		switch {
		case special:
			b.WriteByte('\\')
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			if strings.IndexByte("|(){}+?", pattern[i]) < 0 {
				b.WriteByte('\\')
			}
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}
