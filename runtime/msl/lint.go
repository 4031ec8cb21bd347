package msl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lint reports what C++ for OpenCL allows and Metal does not, from clang's
// syntax tree.
func (c *compiler) lint(ctx context.Context, source string, flags ...string) ([]Diagnostic, error) {
	tree, _, err := c.clang(ctx, source, append(append(c.language(), flags...), "-w", "-fsyntax-only", "-Xclang", "-ast-dump")...)
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		return nil, err
	}
	l := &linter{declared: make(map[string]*declared), first: make(map[string]string)}
	for text := range strings.SplitSeq(string(tree), "\n") {
		l.line(text)
	}
	l.recursion()
	return l.diagnostics, nil
}

// A linter reads the lines of a syntax tree: a node each, indented by its depth.
type linter struct {
	file         string
	lineNumber   int
	columnNumber int
	open         []node               // functions that the node is in
	declared     map[string]*declared // functions by address
	first        map[string]string    // declaration of a function by that of another one
	order        []*declared
	diagnostics  []Diagnostic
}

// A node is a function whose body is being read.
type node struct {
	depth    int
	function *declared
	written  bool // by somebody, not by the compiler
}

// A declared is a function of the text, and the functions that it uses.
type declared struct {
	name  string
	place Diagnostic
	uses  []string
	state int // of the search for circles
}

var (
	treeFunction = regexp.MustCompile(`(?:Function|CXXMethod) (0x[0-9a-f]+) '`)
	treeMember   = regexp.MustCompile(`^'.* (0x[0-9a-f]+)$`)
	treeName     = regexp.MustCompile(`(?:^|\s)(\S+) '`)
	treeType     = regexp.MustCompile(`'([^']*)'`)
)

// refused holds the nodes that Metal has not, besides what the rewriter finds.
var refused = map[string]string{
	"LambdaExpr": "a lambda expression", "CXXDynamicCastExpr": "dynamic_cast", "CXXTypeidExpr": "typeid", "AsmStmt": "asm", "GCCAsmStmt": "asm",
}

// line reads a node: its depth, kind, address, sometimes parent and previous
// declaration, <extent>, place, and what depends on the kind.
func (l *linter) line(text string) {
	depth := strings.IndexFunc(text, func(c rune) bool { return 'A' <= c && c <= 'Z' })
	if depth < 0 {
		return
	}
	kind, rest, _ := strings.Cut(text[depth:], " ")
	address, rest, _ := strings.Cut(rest, " ")
	if !strings.HasPrefix(address, "0x") {
		return
	}
	previous := ""
	for !strings.HasPrefix(rest, "<") {
		var word string
		var more bool
		if word, rest, more = strings.Cut(rest, " "); !more {
			return
		}
		if word == "prev" {
			previous, rest, _ = strings.Cut(rest, " ")
		}
	}
	extent := rest[:bracket(rest)]
	rest = strings.TrimPrefix(rest[len(extent):], " ")
	l.place(strings.TrimSuffix(strings.TrimPrefix(extent, "<"), ">"), rest)
	for len(l.open) > 0 && l.open[len(l.open)-1].depth >= depth {
		l.open = l.open[:len(l.open)-1]
	}
	if inShim(l.file) {
		return
	}
	switch kind {
	case "FunctionDecl", "CXXMethodDecl", "CXXConstructorDecl", "CXXConversionDecl":
		l.function(depth, address, previous, rest)
	case "ParmVarDecl", "VarDecl":
		l.variable(rest)
	case "DeclRefExpr":
		if to := treeFunction.FindStringSubmatch(rest); to != nil {
			l.use(to[1])
		}
	case "MemberExpr":
		if to := treeMember.FindStringSubmatch(rest); to != nil {
			l.use(to[1])
		}
	default:
		if what := refused[kind]; what != "" {
			l.complain("%s is not allowed in Metal", what)
		}
	}
}

// bracket returns the length of the <…> that s begins with.
func bracket(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '<':
			depth++
		case '>':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// place follows the places of a node, the two of its extent and its own: clang
// writes only what has changed.
func (l *linter) place(extent, rest string) {
	begin, finish, _ := strings.Cut(extent, ", ")
	l.columnNumber = l.follow(begin)
	l.follow(finish)
	if own, _, _ := strings.Cut(rest, " "); strings.Contains(own, ":") && !strings.HasPrefix(own, "'") {
		l.follow(own)
	}
}

// follow reads file:line:column, line:line:column or col:column and returns the
// column.
func (l *linter) follow(place string) int {
	head, last, ok := cutLast(place)
	column, err := strconv.Atoi(last)
	if !ok || err != nil || head == "col" {
		return column
	}
	head, last, _ = cutLast(head)
	if n, err := strconv.Atoi(last); err == nil {
		l.lineNumber = n
		if head != "line" {
			l.file = head
		}
	}
	return column
}

func cutLast(s string) (head, last string, ok bool) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func (l *linter) here() Diagnostic {
	return Diagnostic{File: l.file, Line: l.lineNumber, Column: l.columnNumber, Severity: Error}
}

func (l *linter) complain(format string, args ...any) {
	d := l.here()
	d.Message = fmt.Sprintf(format, args...)
	l.diagnostics = append(l.diagnostics, d)
}

func (l *linter) function(depth int, address, previous, rest string) {
	if previous != "" {
		l.first[address] = l.canonical(previous)
	}
	address = l.canonical(address)
	f := l.declared[address]
	if f == nil {
		f = &declared{place: l.here()}
		l.declared[address] = f
		l.order = append(l.order, f)
	}
	if m := treeName.FindStringSubmatch(rest); m != nil {
		f.name = m[1]
	}
	written := !strings.Contains(" "+rest+" ", " implicit ") && !strings.Contains(" "+rest+" ", " default ")
	l.open = append(l.open, node{depth, f, written})
}

func (l *linter) canonical(address string) string {
	if first := l.first[address]; first != "" {
		return first
	}
	return address
}

func (l *linter) use(address string) {
	if n := len(l.open); n > 0 {
		f := l.open[n-1].function
		f.uses = append(f.uses, address)
	}
}

func (l *linter) variable(rest string) {
	if n := len(l.open); n > 0 && !l.open[n-1].written {
		return
	}
	m := treeType.FindStringSubmatch(rest)
	if m == nil {
		return
	}
	name := ""
	if n := treeName.FindStringSubmatch(rest); n != nil {
		name = n[1]
	}
	switch typ := m[1]; {
	case strings.Contains(typ, "*)(") && !strings.Contains(typ, "["):
		l.complain("%s is a pointer to a function, which Metal has not", name)
	case strings.Contains(typ, "__generic") && !strings.Contains(typ, "lambda"):
		l.complain("%s is a pointer or reference without an address space", name)
	}
}

// recursion reports the functions that call themselves, directly or through
// others.
func (l *linter) recursion() {
	var path []*declared
	var visit func(f *declared)
	visit = func(f *declared) {
		switch f.state {
		case 1:
			var names []string
			for _, g := range path[slices.Index(path, f):] {
				names = append(names, g.name)
			}
			d := f.place
			d.Message = "recursion is not allowed in Metal: " + strings.Join(append(names, f.name), " calls ")
			l.diagnostics = append(l.diagnostics, d)
			return
		case 2:
			return
		}
		f.state = 1
		path = append(path, f)
		for _, address := range f.uses {
			if g := l.declared[l.canonical(address)]; g != nil {
				visit(g)
			}
		}
		path = path[:len(path)-1]
		f.state = 2
	}
	for _, f := range l.order {
		visit(f)
	}
}
