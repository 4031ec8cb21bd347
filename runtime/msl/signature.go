package msl

import (
	"slices"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// An attribute is one [[name(argument)]].
type attribute struct {
	name     string
	argument string
}

// A parameter is a parameter of a kernel.
type parameter struct {
	name       string
	text       string // without attributes
	attributes []attribute
}

// A function is a kernel: a function of its own, or an instance of a template.
type function struct {
	symbol     string // by which the host knows it
	name       string
	arguments  string // of the template, with their brackets
	parameters []parameter
	entry      string // its entry point, when it is compiled
}

// buffers returns the parameters that are buffers by their index.
func (f *function) buffers() map[int]parameter {
	buffers := make(map[int]parameter)
	for _, p := range f.parameters {
		if a := p.attribute("buffer"); a != nil {
			if n, err := strconv.Atoi(a.argument); err == nil {
				buffers[n] = p
			}
		}
	}
	return buffers
}

func (p *parameter) attribute(name string) *attribute {
	for i := range p.attributes {
		if p.attributes[i].name == name {
			return &p.attributes[i]
		}
	}
	return nil
}

// position returns the attribute that makes p a position of the thread, if any.
func (p *parameter) position() string {
	for _, a := range p.attributes {
		if positions[a.name] != 0 {
			return a.name
		}
	}
	return ""
}

// access says what the kernel can do with p, a buffer.
func (p *parameter) access() runtime.Access {
	switch {
	case hasWord(p.text, "constant"):
		return runtime.Constant
	case hasWord(p.text, "const"):
		return runtime.Read
	}
	return runtime.Write
}

// indirect reports whether p is a pointer, a reference or an array.
func (p *parameter) indirect() bool { return strings.ContainsAny(p.text, "*&[") }

// positions holds the attributes of positions and how many components they have
// at most.
var positions = map[string]int{
	"thread_position_in_grid":             3,
	"thread_position_in_threadgroup":      3,
	"threadgroup_position_in_grid":        3,
	"threads_per_threadgroup":             3,
	"dispatch_threads_per_threadgroup":    3,
	"threadgroups_per_grid":               3,
	"threads_per_grid":                    3,
	"thread_index_in_threadgroup":         1,
	"thread_index_in_simdgroup":           1,
	"simdgroup_index_in_threadgroup":      1,
	"threads_per_simdgroup":               1,
	"thread_execution_width":              1,
	"simdgroups_per_threadgroup":          1,
	"dispatch_simdgroups_per_threadgroup": 1,
	"quadgroup_index_in_threadgroup":      1,
	"thread_index_in_quadgroup":           1,
	"quadgroups_per_threadgroup":          1,
}

// others holds the attributes besides positions that are read here. All others
// are left to clang, which knows none of Metal's and refuses them.
var others = []string{"buffer", "threadgroup", "host_name", "kernel", "max_total_threads_per_threadgroup"}

func known(attributes []attribute) bool {
	return len(attributes) > 0 && !slices.ContainsFunc(attributes, func(a attribute) bool {
		return positions[a.name] == 0 && !slices.Contains(others, a.name)
	})
}

const lastBuffer = 30 // the greatest index of a buffer

// checkParameter reports what is wrong with a parameter of kernel name; used
// holds who has the buffers so far.
func (p *parameter) check(name string, used map[string]string, complain func(format string, args ...any)) {
	const indexed = "%s: [[%s(%s)]] is for a pointer or reference to %s, and %s is %q"
	places := 0
	for _, a := range p.attributes {
		switch {
		case a.name == "buffer":
			places++
			if !p.indirect() || !hasWord(p.text, "device", "constant") {
				complain(indexed, name, a.name, a.argument, "device or constant memory", p.name, p.text)
			}
			if n, err := strconv.Atoi(a.argument); err == nil && n > lastBuffer {
				complain("%s: buffer index %d is above %d", name, n, lastBuffer)
			}
			if other := used[a.argument]; other != "" {
				complain("%s: buffer index %s is that of %s and of %s", name, a.argument, other, p.name)
			}
			used[a.argument] = p.name
		case a.name == "threadgroup":
			places++
			if !p.indirect() || !hasWord(p.text, "threadgroup") {
				complain(indexed, name, a.name, a.argument, "threadgroup memory", p.name, p.text)
			}
		case positions[a.name] > 0:
			places++
			if p.indirect() || !p.isIndex(positions[a.name]) {
				complain("%s: [[%s]] is for %s, and %s is %q", name, a.name, indexTypes(positions[a.name]), p.name, p.text)
			}
		}
	}
	if places == 0 {
		complain("%s: parameter %s has no attribute that says what it is", name, p.name)
	}
}

// isIndex reports whether p is of a type that a position of n components has.
func (p *parameter) isIndex(n int) bool {
	for _, t := range []string{"uint", "ushort"} {
		if hasWord(p.text, t) || n == 3 && hasWord(p.text, t+"2", t+"3") {
			return true
		}
	}
	return false
}

func indexTypes(n int) string {
	if n == 3 {
		return "uint or ushort, or vectors of 2 or 3 of them"
	}
	return "uint or ushort"
}
