package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An Expectation is a condition on what a document holds:
//
//	PATH=VALUE   PATH<=NUMBER   PATH<NUMBER   PATH>=NUMBER   PATH>NUMBER
//
// A path is of names with dots between: device.kind, cells.NAME.ms.median,
// counters.launches.SYMBOL. A * stands for every name there is, of which there
// has to be one. A list or a table of names stands for how many it has:
// counters.fallbacks=0.
type Expectation struct {
	text, path, op, value string
	number                float64
}

func (e Expectation) String() string { return e.text }

var expectation = regexp.MustCompile(`^([\w/:*-]+(?:\.[\w/:*-]+)*)(<=|>=|<|>|=)(.+)$`)

// UnmarshalText reads an expectation.
func (e *Expectation) UnmarshalText(text []byte) error {
	m := expectation.FindSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is not an expectation; write PATH=VALUE, or PATH<=NUMBER with <=, <, >= or >", text)
	}
	*e = Expectation{text: string(text), path: string(m[1]), op: string(m[2]), value: string(m[3])}
	var err error
	e.number, err = strconv.ParseFloat(e.value, 64)
	if e.op != "=" && (err != nil || math.IsNaN(e.number) || math.IsInf(e.number, 0)) {
		return fmt.Errorf("%q: %q is not a number", text, e.value)
	}
	return nil
}

// Check says what of d is not as expected.
func (e Expectation) Check(d *Document) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	var all any
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	var errs []error
	n := 0
	err = visit(all, "", strings.Split(e.path, "."), func(path string, v any) {
		n++
		if !e.holds(v) {
			errs = append(errs, fmt.Errorf("%s is %s; expected %s", path, show(v), e.text))
		}
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("nothing is %s; expected %s", e.path, e.text)
	}
	return errors.Join(append(errs, err)...)
}

// visit calls yield with everything that the path leads to from v.
func visit(v any, at string, path []string, yield func(string, any)) error {
	if len(path) == 0 {
		yield(at, v)
		return nil
	}
	children := map[string]any{}
	switch v := v.(type) {
	case map[string]any:
		children = v
	case []any:
		for i, e := range v {
			name := strconv.Itoa(i)
			if object, ok := e.(map[string]any); ok && object["name"] != nil {
				name = fmt.Sprint(object["name"])
			}
			children[name] = e
		}
	}
	if path[0] != "*" {
		child, ok := children[path[0]]
		if !ok {
			return fmt.Errorf("there is no %s", join(at, path[0]))
		}
		return visit(child, join(at, path[0]), path[1:], yield)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(children)) {
		errs = append(errs, visit(children[name], join(at, name), path[1:], yield))
	}
	return errors.Join(errs...)
}

func (e Expectation) holds(v any) bool {
	number, ok := v.(float64)
	switch v := v.(type) {
	case []any:
		number, ok = float64(len(v)), true
	case map[string]any:
		number, ok = float64(len(v)), true
	}
	switch e.op {
	case "<=":
		return ok && number <= e.number
	case ">=":
		return ok && number >= e.number
	case "<":
		return ok && number < e.number
	case ">":
		return ok && number > e.number
	}
	if ok {
		want, err := strconv.ParseFloat(e.value, 64)
		return err == nil && number == want
	}
	return fmt.Sprint(v) == e.value
}

// show writes a value for people.
func show(v any) string {
	switch v := v.(type) {
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("a table of %d", len(v))
	case string:
		return strconv.Quote(v)
	}
	return fmt.Sprint(v)
}
