package gen

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A Pos is a line of a spec.
type Pos struct {
	File string
	Line int
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// A Complaint is about a line of a spec.
type Complaint struct {
	Pos
	Msg string
}

func (e *Complaint) Error() string { return fmt.Sprintf("%v: %s", e.Pos, e.Msg) }

// Complaints is everything wrong with the specs, by file and line.
type Complaints []*Complaint

func (es Complaints) Error() string {
	var lines []string
	for _, e := range es {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

// errorf adds a complaint, unless there is one about the line already: the
// first is the cause of the others.
func (es *Complaints) errorf(at Pos, format string, args ...any) {
	if !slices.ContainsFunc(*es, func(e *Complaint) bool { return e.Pos == at }) {
		*es = append(*es, &Complaint{at, fmt.Sprintf(format, args...)})
	}
}

// err returns the complaints in order, or nil if there are none.
func (es Complaints) err() error {
	if len(es) == 0 {
		return nil
	}
	slices.SortStableFunc(es, func(a, b *Complaint) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return es
}

// At is a value and the line on which its spec has it; 0 if it has none.
type At[T any] struct {
	V    T
	Line int
}

// UnmarshalYAML notes the line and decodes the value.
func (a *At[T]) UnmarshalYAML(n *yaml.Node) error {
	a.Line = n.Line
	err := n.Decode(&a.V)
	if te := (*yaml.TypeError)(nil); err == nil || errors.As(err, &te) {
		return err
	}
	// An error of this type lets decoding go on, so that one run reports
	// every mistake in a file.
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
}

var yamlError = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*?)(?: in type .*)?$`)

// yaml adds what package yaml has to say of a file.
func (es *Complaints) yaml(file string, err error) {
	msgs := []string{err.Error()}
	if te := (*yaml.TypeError)(nil); errors.As(err, &te) {
		msgs = te.Errors
	}
	for _, msg := range msgs {
		at := Pos{file, 1}
		if m := yamlError.FindStringSubmatch(msg); m != nil {
			at.Line, _ = strconv.Atoi(m[1])
			msg = m[2]
		}
		es.errorf(at, "%s", msg)
	}
}
