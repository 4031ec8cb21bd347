package msl

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A loop that is to be unrolled so many times.
var unrollCount = regexp.MustCompile(`^#pragma unroll[ \t]*\(?[ \t]*\d+[ \t]*\)?$`)

// A rewriting is a text made palatable to clang: Metal's attributes are read and
// blanked, threadgroup variables become references, and a few expressions are
// spelled out. Lines stay where they are.
type rewriting struct {
	text        string
	functions   []*function
	diagnostics []Diagnostic
	constants   []string // that a host would set; here they are 0
}

// rewrite rewrites the text of the file named name. Of its kernels it keeps
// those that keep approves of; templates stay.
func rewrite(name, text string, keep func(symbol string) bool) *rewriting {
	return newRewriter(name, text, keep).rewrite()
}

// rewriteImplicit is rewrite without the explicit instances of templates, which
// would be functions beside the entry points that call them.
func rewriteImplicit(name, text string, keep func(symbol string) bool) *rewriting {
	r := newRewriter(name, text, keep)
	r.implicit = true
	return r.rewrite()
}

func newRewriter(name, text string, keep func(symbol string) bool) *rewriter {
	tokens := tokenize(text)
	return &rewriter{
		source: text, tokens: tokens, places: newPlaces(name, text, tokens),
		keep: keep, templates: make(map[string]*function), offset: "0u",
	}
}

func (r *rewriter) rewrite() *rewriting {
	r.run()
	return &rewriting{r.apply(), r.functions, r.diagnostics, r.constants}
}

// An edit replaces what lies between two offsets.
type edit struct {
	from, to int
	text     string
}

// A rewriter goes through the tokens of a text once.
type rewriter struct {
	source      string
	tokens      []token
	places      places
	keep        func(string) bool
	implicit    bool // instances of kernels are left to who calls them
	edits       []edit
	functions   []*function
	diagnostics []Diagnostic
	constants   []string

	templates map[string]*function // kernels by name, for their instances
	start     int                  // first token of the statement
	template  bool                 // the statement began with template <
	parens    int
	scopes    []string // offsets at the beginning of the scopes that are open
	offset    string   // of the next threadgroup variable, an expression
	variables int
}

func (r *rewriter) complain(t token, format string, args ...any) {
	r.diagnostics = append(r.diagnostics, r.places.diagnostic(t.from, Error, format, args...))
}

// replace replaces tokens i to j, the last one not included.
func (r *rewriter) replace(i, j int, text string) {
	r.edits = append(r.edits, edit{r.tokens[i].from, r.tokens[j-1].to, text})
}

// blank replaces tokens by space.
func (r *rewriter) blank(i, j int) {
	from, to := r.tokens[i].from, r.tokens[j-1].to
	spaces := strings.Map(func(c rune) rune {
		if c == '\n' {
			return c
		}
		return ' '
	}, r.source[from:to])
	r.edits = append(r.edits, edit{from, to, spaces})
}

// text returns the source of tokens i to j, the last one not included.
func (r *rewriter) text(i, j int) string {
	if i >= j {
		return ""
	}
	return r.source[r.tokens[i].from:r.tokens[j-1].to]
}

// flat returns the source of tokens i to j, the last one not included, on one
// line and without comments.
func (r *rewriter) flat(i, j int) string {
	var b strings.Builder
	for k := i; k < j; k++ {
		if k > i && r.tokens[k-1].to < r.tokens[k].from {
			b.WriteByte(' ')
		}
		if r.tokens[k].kind != directive {
			b.WriteString(r.tokens[k].text)
		}
	}
	return b.String()
}

// at returns token i; there is an end token wherever there is none.
func (r *rewriter) at(i int) token {
	if i < 0 || i >= len(r.tokens) {
		return r.tokens[len(r.tokens)-1]
	}
	return r.tokens[i]
}

// apply returns the source with the edits. An edit inside another one is void.
func (r *rewriter) apply() string {
	slices.SortStableFunc(r.edits, func(a, b edit) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	var b strings.Builder
	at := 0
	for _, e := range r.edits {
		if e.from < at {
			continue
		}
		b.WriteString(r.source[at:e.from])
		b.WriteString(e.text)
		at = e.to
	}
	b.WriteString(r.source[at:])
	return b.String()
}

// match returns the index after the bracket that closes the one at i.
func (r *rewriter) match(i int) int {
	depth := 0
	for ; r.at(i).kind != end; i++ {
		if r.tokens[i].kind != punct {
			continue
		}
		switch r.tokens[i].text {
		case "(", "{", "[":
			depth++
		case ")", "}", "]":
			if depth--; depth <= 0 {
				return i + 1
			}
		}
	}
	return i
}

// matchAngle returns the index after the > that closes the < at i.
func (r *rewriter) matchAngle(i int) int {
	depth := 0
	for r.at(i).kind != end {
		switch t := r.tokens[i]; {
		case t.is("<"):
			depth++
		case t.is(">"):
			if depth--; depth == 0 {
				return i + 1
			}
		case t.is("(") || t.is("["):
			i = r.match(i)
			continue
		case t.is(";") || t.is("{"):
			return i
		}
		i++
	}
	return i
}

func (r *rewriter) run() {
	for i := 0; r.at(i).kind != end; {
		i = max(r.step(i), i+1)
	}
}

// step looks at token i and returns the index to go on with.
func (r *rewriter) step(i int) int {
	t := r.tokens[i]
	switch t.kind {
	case directive:
		if r.start == i {
			r.start++
		}
		if strings.HasPrefix(t.text, "#pragma unroll") && !unrollCount.MatchString(t.text) { // macros in it are not expanded
			r.replace(i, i+1, "#pragma unroll")
		}
	case number:
		if isPlainFloat(t.text) { // a float in Metal, a double in C++
			r.edits = append(r.edits, edit{t.to, t.to, "f"})
		}
	case punct:
		if attributes, next := r.attributes(i); next > i {
			return r.attributed(i, next, attributes)
		}
		if t.is("?") {
			r.conditional(i)
		}
		r.structure(i)
	case identifier:
		return r.word(i)
	}
	return i + 1
}

// structure follows scopes and statements.
func (r *rewriter) structure(i int) {
	switch r.tokens[i].text {
	case "(":
		r.parens++
	case ")":
		r.parens = max(r.parens-1, 0)
	case "{":
		if len(r.scopes) == 0 && r.parens == 0 {
			r.globalVariable(r.start, i) // with an initialiser
		}
		r.scopes = append(r.scopes, r.offset)
	case "}":
		if n := len(r.scopes); n > 0 {
			r.offset, r.scopes = r.scopes[n-1], r.scopes[:n-1]
		}
	case ";":
		if len(r.scopes) == 0 && r.parens == 0 {
			r.globalVariable(r.start, i)
		}
	default:
		return
	}
	if r.parens == 0 && r.tokens[i].text != ")" {
		r.start, r.template = i+1, false
	}
}

// attributes parses [[…]] at token i and returns the index after it, or i.
func (r *rewriter) attributes(i int) ([]attribute, int) {
	if !r.at(i).is("[") || !r.at(i+1).is("[") || r.tokens[i].to != r.tokens[i+1].from {
		return nil, i
	}
	var as []attribute
	j := i + 2
	for !r.at(j).is("]") {
		switch t := r.at(j); {
		case t.kind == end:
			return nil, i
		case t.kind != identifier:
			j++
		default:
			a := attribute{name: t.text}
			j++
			for r.at(j).is("::") {
				a.name += "::" + r.at(j+1).text
				j += 2
			}
			if r.at(j).is("(") {
				close := r.match(j)
				a.argument = r.flat(j+1, close-1)
				j = close
			}
			as = append(as, a)
		}
	}
	if !r.at(j + 1).is("]") {
		return nil, i
	}
	return as, j + 2
}

// attributed handles the attributes between tokens i and next outside of
// parameters. Those that nobody knows are left for clang to refuse.
func (r *rewriter) attributed(i, next int, as []attribute) int {
	if len(as) == 1 && as[0].name == "function_constant" && r.at(next).is(";") {
		r.constants = append(r.constants, r.at(i-1).text)
		r.edits = append(r.edits, edit{r.tokens[i].from, r.tokens[next-1].to, " = {}"})
		return next
	}
	if !known(as) {
		return next
	}
	r.blank(i, next)
	for {
		more, after := r.attributes(next)
		if after == next || !known(more) {
			break
		}
		r.blank(next, after)
		as, next = append(as, more...), after
	}
	symbol, isKernel := "", false
	for _, a := range as {
		isKernel = isKernel || a.name == "kernel"
		if a.name == "host_name" {
			symbol = unquote(a.argument)
		}
	}
	if r.at(next).is("kernel") {
		isKernel = true
		if r.instance(i) {
			r.blank(next, next+1)
		}
		next++
	}
	if isKernel {
		return r.kernel(next, symbol, r.instance(i))
	}
	return next
}

// instance reports whether token i follows the template of an explicit
// instantiation.
func (r *rewriter) instance(i int) bool { return i > 0 && r.tokens[i-1].is("template") }

// unquote returns what string literals in a row say.
func unquote(s string) string {
	var b strings.Builder
	for _, t := range tokenize(s) {
		if t.kind == literal {
			b.WriteString(strings.Trim(t.text, `"`))
		}
	}
	return b.String()
}

// forbidden holds the words of C++ that Metal does not have.
var forbidden = []string{
	"asm", "__asm__", "catch", "co_await", "co_return", "co_yield", "delete", "double", "dynamic_cast", "goto",
	"long_double", "new", "register", "thread_local", "throw", "try", "typeid", "virtual", "wchar_t",
}

// word handles the identifier at i.
func (r *rewriter) word(i int) int {
	t := r.tokens[i]
	if slices.Contains(forbidden, t.text) {
		r.complain(t, "%s is not allowed in Metal", t.text)
	}
	switch t.text {
	case "template":
		if r.at(i + 1).is("<") {
			r.template = true
			r.functionParameters(i + 1)
		}
	case "kernel":
		if r.instance(i) {
			r.blank(i, i+1)
		}
		return r.kernel(i+1, "", r.instance(i))
	case "thread":
		r.constructor(i)
	case "threadgroup":
		if i == r.start || r.at(r.start).is("alignas") && r.at(i-1).is(")") {
			return r.threadgroupVariables(i)
		}
	}
	return i + 1
}

// functionParameters turns template parameters void (*f)(…) into void f(…),
// which is the same type, but for an address space that clang makes up.
func (r *rewriter) functionParameters(i int) {
	close := r.matchAngle(i)
	for ; i < close; i++ {
		if r.at(i).is("(") && r.at(i+1).is("*") && r.at(i+2).kind == identifier && r.at(i+3).is(")") && r.at(i+4).is("(") {
			r.blank(i, i+2)
			r.blank(i+3, i+4)
		}
	}
}

// constructor drops thread behind a constructor without parameters: clang does
// not find those that have an address space.
func (r *rewriter) constructor(i int) {
	before := i - 1
	if r.at(before).is("const") {
		before--
	}
	if !r.at(before).is(")") || !r.at(before-1).is("(") || r.at(before-2).kind != identifier {
		return
	}
	if next := r.at(i + 1); !next.is("{") && !next.is(":") && !next.is(";") && !next.is("=") {
		return
	}
	if p := r.at(before - 3); p.kind == punct || p.is("constexpr") || p.is("inline") || p.is("explicit") {
		r.blank(i, i+1)
	}
}

// globalVariable reports the variable between tokens i and j, if it is one, that
// is not constant.
func (r *rewriter) globalVariable(i, j int) {
	isConstant, first := false, r.at(i)
	for ; i < j; i++ {
		if _, next := r.attributes(i); next > i {
			i = next - 1
			continue
		}
		switch t := r.tokens[i]; {
		case t.kind == directive:
			continue
		case t.is("constant"):
			isConstant = true
		case t.is("=") || t.is("["):
			if !isConstant {
				r.complain(first, "a variable at program scope is constant in Metal")
			}
			return
		case t.is("("), t.kind == identifier && slices.Contains(declarations, t.text):
			return
		}
	}
	// A type and a name: the smallest variable.
	if n := len(r.named(first, j)); !isConstant && n >= 2 {
		r.complain(first, "a variable at program scope is constant in Metal")
	}
}

// named returns the identifiers from token first up to token j.
func (r *rewriter) named(first token, j int) []token {
	return slices.DeleteFunc(slices.Clone(r.tokens[r.index(first):j]), func(t token) bool { return t.kind != identifier })
}

func (r *rewriter) index(t token) int {
	i, _ := slices.BinarySearchFunc(r.tokens, t.from, func(t token, from int) int { return cmp.Compare(t.from, from) })
	return i
}

// declarations holds the words that begin what is no variable, or hold no code.
var declarations = []string{
	"typedef", "using", "struct", "class", "enum", "union", "template", "extern", "operator", "static_assert", "friend", "namespace",
}

// conditional makes values of the operands of ?: that are elements. Vectors are
// classes here, and clang does not unify those of two address spaces.
func (r *rewriter) conditional(i int) {
	type operand struct {
		from, to int
		element  bool
	}
	parse := func(from int, after string) (operand, bool) {
		to, element := r.postfix(from)
		return operand{from, to, element}, to > from && r.at(to).kind == punct && strings.Contains(after, r.at(to).text)
	}
	var operands []operand
	if o, ok := parse(i+1, ":"); ok {
		operands = append(operands, o)
	}
	depth := 0
	for j := i + 1; r.at(j).kind != end; j++ {
		switch t := r.tokens[j]; {
		case t.is("(") || t.is("[") || t.is("{"):
			j = r.match(j) - 1
			continue
		case t.is("?"):
			depth++
			continue
		case t.is(":") && depth > 0:
			depth--
			continue
		case t.is(":"):
			if o, ok := parse(j+1, ";),]}"); ok {
				operands = append(operands, o)
			}
		case !t.is(";") && !t.is(")") && !t.is("]") && !t.is("}"):
			continue
		}
		break
	}
	if !slices.ContainsFunc(operands, func(o operand) bool { return o.element }) {
		return
	}
	for _, o := range operands {
		from, to := r.tokens[o.from].from, r.tokens[o.to-1].to
		r.edits = append(r.edits, edit{from, from, "::msl::rvalue("}, edit{to, to, ")"})
	}
}

// postfix returns the index after the expression a.b[c](d) at i, and whether it
// ends with an index.
func (r *rewriter) postfix(i int) (next int, element bool) {
	if r.at(i).kind != identifier {
		return i, false
	}
	for i++; ; {
		switch t := r.at(i); {
		case t.is("::") || t.is(".") || t.is("->"):
			if r.at(i+1).kind != identifier {
				return i, element
			}
			i, element = i+2, false
		case t.is("["):
			i, element = r.match(i), true
		case t.is("("):
			i, element = r.match(i), false
		default:
			return i, element
		}
	}
}

// threadgroupVariables rewrites "threadgroup T a[N], b;" at token i and returns
// the index to go on with.
func (r *rewriter) threadgroupVariables(i int) int {
	names, close := r.declarators(i)
	if len(names) == 0 {
		return i + 1
	}
	kept := r.flat(i+1, names[0])
	var b strings.Builder
	for n, at := range names {
		last := close
		if n+1 < len(names) {
			last = names[n+1] - 1 // the comma
		}
		for j := at; j < last; j++ {
			if r.at(j).is("=") {
				r.complain(r.tokens[j], "a threadgroup variable has no initial value in Metal")
				last = j
			}
		}
		name := r.tokens[at].text
		r.variables++
		fmt.Fprintf(&b, "typedef %s %s_msl_type %s; ", kept, name, r.flat(at+1, last))
		fmt.Fprintf(&b, "constexpr uint %s_msl_offset = MSL_OFFSET(%s, %[1]s_msl_type); ", name, r.offset)
		fmt.Fprintf(&b, "__local %s_msl_type &%[1]s = MSL_VARIABLE(%[1]s_msl_type, %d, %[1]s_msl_offset, \"%[1]s\"); ", name, r.variables)
		r.offset = fmt.Sprintf("%s_msl_offset + sizeof(%[1]s_msl_type)", name)
		fmt.Fprintf(&b, "static_assert(%s <= MSL_THREADGROUP_BYTES, \"the threadgroup variables up to here take more than 32768 bytes\");", r.offset)
	}
	b.WriteString(strings.Repeat("\n", strings.Count(r.text(r.start, close+1), "\n")))
	r.replace(r.start, close+1, b.String())
	r.start, r.template = close+1, false
	return close + 1
}

// declarators returns the names that the statement with threadgroup at i
// declares as variables, none if it does not, and the index of its semicolon.
func (r *rewriter) declarators(i int) (names []int, close int) {
	add := func(j int) {
		if r.at(j).kind == identifier && j > i+1 && !slices.Contains(names, j) {
			names = append(names, j)
		}
	}
	for j := i + 1; ; {
		switch t := r.at(j); {
		case t.kind == end || t.is("*") || t.is("&") || t.is("{") && len(names) == 0:
			return nil, 0 // a pointer, a reference or a function
		case t.is("<"):
			j = r.matchAngle(j)
			continue
		case t.is("(") && len(names) == 0 && !r.at(j-1).is("decltype") && !r.at(j-1).is("alignas"):
			return nil, 0
		case t.is("["):
			add(j - 1)
			j = r.match(j)
			continue
		case t.is("(") || t.is("{"):
			j = r.match(j)
			continue
		case t.is(",") || t.is("="):
			add(j - 1)
		case t.is(";"):
			if r.at(j-1).kind == identifier && !slices.ContainsFunc(names, func(n int) bool { return r.initialised(n, j) }) {
				add(j - 1)
			}
			return names, j
		}
		j++
	}
}

// initialised reports whether there is an initialiser after the name at n.
func (r *rewriter) initialised(n, close int) bool {
	for j := n; j < close; j++ {
		if r.at(j).is("=") {
			return true
		}
		if r.at(j).is(",") {
			return false
		}
	}
	return false
}
