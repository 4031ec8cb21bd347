package msl

import (
	"slices"
	"strconv"
	"strings"
)

// kernel parses the declaration of a kernel from token i on, which follows the
// word kernel and attributes, and returns the index to go on with.
func (r *rewriter) kernel(i int, symbol string, instance bool) int {
	if instance {
		return r.kernelInstance(i, symbol)
	}
	name := i
	for !r.at(name + 1).is("(") {
		if t := r.at(name + 1); t.kind == end || t.is(";") || t.is("{") {
			r.complain(r.at(i), "this is no declaration of a kernel")
			return i
		}
		if as, next := r.attributes(name + 1); next > name+1 && known(as) {
			r.blank(name+1, next)
			name = next - 1
		} else {
			name++
		}
	}
	f := &function{name: r.at(name).text, symbol: r.at(name).text}
	if symbol != "" {
		f.symbol = symbol
	}
	if !r.at(name - 1).is("void") {
		r.complain(r.at(name), "kernel %s returns something; kernels return void", f.name)
	}
	close := r.match(name + 1)
	f.parameters = r.parameters(f.name, name+2, close-1)
	r.templates[f.name] = f
	if r.template {
		return close
	}
	if body := close; r.at(body).is("{") {
		if !r.keep(f.symbol) {
			next := r.match(body)
			r.blank(r.start, next)
			r.start = next
			return next
		}
		r.add(f, name)
	}
	return close
}

// kernelInstance parses "decltype(k<…>) k<…>;" or "void k<…>(…);".
func (r *rewriter) kernelInstance(i int, symbol string) int {
	from := i
	for r.at(from-1).kind != end && !r.at(from).is("template") {
		from--
	}
	for ; !r.at(i).is(";"); i++ {
		if r.at(i).kind == end {
			return i
		}
		if r.at(i).is("decltype") {
			i = r.match(i+1) - 1
			continue
		}
		if r.at(i).kind != identifier || !r.at(i+1).is("<") {
			continue
		}
		name, close := i, r.matchAngle(i+1)
		if !r.at(close).is(";") && !r.at(close).is("(") {
			i = close - 1
			continue
		}
		semicolon := close
		for !r.at(semicolon).is(";") && r.at(semicolon).kind != end {
			if as, next := r.attributes(semicolon); next > semicolon && known(as) {
				r.blank(semicolon, next)
			}
			semicolon++
		}
		template := r.templates[r.at(name).text]
		if template == nil {
			r.complain(r.at(name), "%s is no kernel", r.at(name).text)
			return semicolon
		}
		f := &function{symbol: symbol, name: template.name, arguments: r.flat(name+1, close), parameters: template.parameters}
		if symbol == "" {
			f.symbol = f.name + f.arguments
		}
		if r.implicit || !r.keep(f.symbol) {
			r.blank(from, semicolon+1)
		}
		if r.keep(f.symbol) {
			r.add(f, name)
		}
		return semicolon
	}
	r.complain(r.at(from), "this is no instance of a kernel")
	return i
}

// add adds a kernel, declared at token i.
func (r *rewriter) add(f *function, i int) {
	if slices.ContainsFunc(r.functions, func(g *function) bool { return g.symbol == f.symbol }) {
		r.complain(r.at(i), "there is another kernel %s", f.symbol)
		return
	}
	r.functions = append(r.functions, f)
}

// parameters parses those between tokens i and close, and blanks their
// attributes.
func (r *rewriter) parameters(name string, i, close int) []parameter {
	var ps []parameter
	used := make(map[string]string)
	for first := i; first < close; first = i + 1 {
		p := parameter{}
		var text strings.Builder
		for i = first; i < close && !r.at(i).is(","); i++ {
			if as, next := r.attributes(i); next > i {
				if known(as) {
					r.blank(i, next)
				}
				p.attributes = append(p.attributes, as...)
				i = next - 1
				continue
			}
			next := i + 1
			switch {
			case r.at(i).is("<"):
				next = r.matchAngle(i)
			case r.at(i).is("(") || r.at(i).is("["):
				next = r.match(i)
			case r.at(i).is("constant"):
				r.replace(i, i+1, "MSL_ARGUMENT")
			case r.at(i).kind == identifier:
				p.name = r.at(i).text
			}
			next = max(min(next, close), i+1)
			if text.Len() > 0 {
				text.WriteByte(' ')
			}
			text.WriteString(r.flat(i, next))
			i = next - 1
		}
		p.text = text.String()
		if len(p.attributes) == 0 && p.indirect() {
			p.attributes = []attribute{{"buffer", free(used)}}
		}
		if p.text != "" && p.text != "void" {
			p.check(name, used, func(format string, args ...any) { r.complain(r.at(first), format, args...) })
			ps = append(ps, p)
		}
	}
	return ps
}

// free returns the lowest buffer index that nobody has, as Metal gives it to a
// buffer without an attribute.
func free(used map[string]string) string {
	for n := 0; ; n++ {
		if used[strconv.Itoa(n)] == "" {
			return strconv.Itoa(n)
		}
	}
}
