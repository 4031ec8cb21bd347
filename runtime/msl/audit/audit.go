// Package audit holds what kernels may use of the Metal Shading Language, item
// by item, with what Apple's compiler does with it as far as public documents
// say, and measures what package msl does with the same.
//
// The items are in spec/*.yaml, in the order of the specification. They say
// nothing about msl: a Report does, and docs/msl-coverage.md is one.
package audit

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A Verdict is what a compiler does with a text.
type Verdict string

// The verdicts. Nobody but Apple knows what is unknown.
const (
	Accepts Verdict = "accepts"
	Rejects Verdict = "rejects"
	Unknown Verdict = "unknown"
)

// A Section is a group of items of one section of the specification.
type Section struct {
	Section   string
	Apple     Verdict // Accepts if empty
	Source    string  // that says so; the section itself if absent
	Types     []string
	Functions []string // prototypes, in which T is each of Types
	Items     []Item
}

// An Item is something that the specification or a public source speaks of. It
// has one kind of text. Without For there is one form of it, else T is each of
// For.
type Item struct {
	Name   string
	Apple  Verdict           // the section's if empty
	Source *string           // the section's if absent
	For    []string          // what T stands for
	Body   string            // statements in a kernel
	Before string            // what stands before that kernel
	Text   string            // after metal_stdlib and using namespace metal
	Bare   string            // a whole text
	Layout map[string][2]int // size and alignment by type
	Alone  bool              // Text is at program scope, not in a namespace
}

//go:embed spec
var specs embed.FS

// Load reads the sections.
func Load() ([]Section, error) {
	names, err := fs.Glob(specs, "spec/*.yaml")
	if err != nil {
		return nil, err
	}
	var sections []Section
	var errs []error
	for _, name := range names {
		data, err := specs.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var ss []Section
		d := yaml.NewDecoder(bytes.NewReader(data))
		d.KnownFields(true)
		if err := d.Decode(&ss); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		for _, s := range ss {
			if err := s.check(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", name, s.Section, err))
			}
		}
		sections = append(sections, ss...)
	}
	return sections, errors.Join(errs...)
}

func (s *Section) check() error {
	var errs []error
	for _, f := range s.Functions {
		if !prototype.MatchString(f) {
			errs = append(errs, fmt.Errorf("%s is no prototype", f))
		}
	}
	for _, i := range s.Items {
		kinds := 0
		for _, has := range []bool{i.Body != "", i.Text != "", i.Bare != "", i.Layout != nil} {
			if has {
				kinds++
			}
		}
		if kinds != 1 || i.Before != "" && i.Body == "" {
			errs = append(errs, fmt.Errorf("%s: want one of body, text, bare and layout", i.Name))
		}
		if v := i.verdict(s); !slices.Contains([]Verdict{Accepts, Rejects, Unknown}, v) {
			errs = append(errs, fmt.Errorf("%s: %q is no verdict", i.Name, v))
		}
	}
	return errors.Join(errs...)
}

func (s *Section) verdict() Verdict { return cmp.Or(s.Apple, Accepts) }

func (s *Section) source() string {
	number, _, _ := strings.Cut(s.Section, " ")
	switch {
	case s.Source != "":
		return s.Source
	case s.verdict() == Unknown || number[0] < '0' || number[0] > '9':
		return ""
	}
	return "§" + number
}

func (i *Item) verdict(s *Section) Verdict { return cmp.Or(i.Apple, s.verdict()) }

func (i *Item) source(s *Section) string {
	if i.Source != nil {
		return *i.Source
	}
	return s.source()
}

// A probe is one form of an item.
type probe struct {
	form  string
	text  string
	alone bool     // cannot share a file with others
	words []string // of the compiler that refuses it
}

func (p *probe) refused() bool { return len(p.words) > 0 }

const prelude = "#include <metal_stdlib>\nusing namespace metal;\n"

// probes returns the forms of an item.
func (i *Item) probes() []*probe {
	var ps []*probe
	switch {
	case i.Layout != nil:
		types := make([]string, 0, len(i.Layout))
		for t := range i.Layout {
			types = append(types, t)
		}
		slices.Sort(types)
		for _, t := range types {
			l := i.Layout[t]
			ps = append(ps, &probe{form: t, text: fmt.Sprintf("static_assert(sizeof(%s) == %d && alignof(%[1]s) == %[3]d);", t, l[0], l[1])})
		}
		return ps
	case len(i.For) == 0:
		return []*probe{i.probe("", func(s string) string { return s })}
	}
	for _, t := range i.For {
		ps = append(ps, i.probe(t, func(s string) string { return specialise(s, t) }))
	}
	return ps
}

func (i *Item) probe(form string, with func(string) string) *probe {
	switch {
	case i.Bare != "":
		return &probe{form: form, text: with(i.Bare), alone: true}
	case i.Text != "":
		if i.Alone || strings.Contains(i.Text, "#") {
			return &probe{form: form, text: prelude + with(i.Text), alone: true}
		}
		return &probe{form: form, text: with(i.Text) + "\n"}
	}
	return &probe{form: form, text: with(i.Before) + "\nkernel void probe() {\n" + with(i.Body) + "\n}\n"}
}

var (
	prototype = regexp.MustCompile(`^(.+?) ([\w:]+)\((.*)\)$`)
	lastWord  = regexp.MustCompile(`\w+$`)
	word      = regexp.MustCompile(`\b(T|Ts|Ti|Tb|Tu|E)\b`)
	typeParts = regexp.MustCompile(`^(?:atomic_)?([a-z]+?)(\d?)(?:x\d)?$`)
)

// call returns a probe of a function for a T: its call with the parameters of
// the prototype, which must give the prototype's type.
func call(function, t string) *probe {
	m := prototype.FindStringSubmatch(specialise(function, t))
	result, name, parameters := m[1], m[2], m[3]
	var args []string
	for p := range strings.SplitSeq(parameters, ", ") {
		args = append(args, lastWord.FindString(p))
	}
	c := fmt.Sprintf("%s(%s)", name, strings.Join(args, ", "))
	if result == "void" {
		return &probe{form: t, text: fmt.Sprintf("void probe(%s) { %s; }\n", parameters, c)}
	}
	return &probe{form: t, text: fmt.Sprintf("void probe(%s) { %s r = %s; static_assert(is_same_v<decltype(%[3]s), %[2]s>); }\n", parameters, result, c)}
}

// specialise replaces T, and the types that depend on it: the scalar Ts or E, the
// integer Ti, the Boolean Tb and the unsigned Tu.
func specialise(s, t string) string {
	base, n := t, ""
	if m := typeParts.FindStringSubmatch(t); m != nil {
		base, n = m[1], m[2]
	}
	return word.ReplaceAllStringFunc(s, func(w string) string {
		switch w {
		case "Ts", "E":
			return base
		case "Ti":
			return "int" + n
		case "Tb":
			return "bool" + n
		case "Tu":
			return "u" + strings.TrimPrefix(base, "u") + n
		}
		return t
	})
}
