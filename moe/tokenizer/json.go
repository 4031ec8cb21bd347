package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// most is the number of mistakes that are reported together.
const most = 100

// mistakes collects what is wrong with a file.
type mistakes struct {
	file string
	errs []error
}

func (m *mistakes) err() error {
	if n := len(m.errs) - most; n > 0 {
		return errors.Join(append(m.errs[:most:most], fmt.Errorf("and %d more", n))...)
	}
	return errors.Join(m.errs...)
}

// A value is a JSON value of the file, or the lack of one.
type value struct {
	mistakes *mistakes
	path     string
	json     json.RawMessage // nil if there is none
}

// document returns the value that data holds.
func document(m *mistakes, data []byte) value {
	v := value{mistakes: m}
	if at := invalid(string(data)); at < len(data) {
		v.fault("not UTF-8 at byte %d", at)
		return v
	}
	if err := json.Unmarshal(data, &v.json); err != nil {
		if at := (*json.SyntaxError)(nil); errors.As(err, &at) {
			err = fmt.Errorf("after byte %d: %w", at.Offset, err)
		}
		v.fault("not JSON: %w", err)
	}
	return v
}

func (v value) fault(format string, args ...any) {
	at := v.mistakes.file + ":"
	if v.path != "" {
		at += " " + v.path
	}
	v.mistakes.errs = append(v.mistakes.errs, fmt.Errorf("%s %w", at, fmt.Errorf(format, args...)))
}

// is says for a mistake what the value is: all of it, or how it starts.
func (v value) is() string {
	const enough = 80
	switch {
	case v.json == nil:
		return "is missing"
	case len(v.json) <= enough:
		return "is " + string(v.json)
	}
	return "is " + strings.ToValidUTF8(string(v.json[:enough]), "") + "…"
}

func (v value) null() bool { return v.json == nil || string(v.json) == "null" }

// only refuses all values but some.
func (v value) only(want ...string) {
	for _, w := range want {
		if string(v.json) == w {
			return
		}
	}
	verb := "is"
	if len(want) > 1 {
		verb = "are"
	}
	v.fault("%s; only %s %s supported", v.is(), strings.Join(want, " and "), verb)
}

// onlyIfPresent refuses a value that is there unless it is one of some.
func (v value) onlyIfPresent(want ...string) {
	if v.json != nil {
		v.only(want...)
	}
}

// each calls do for the members of an object in their order. again is true if
// the name appeared before.
func (v value) each(do func(name string, json json.RawMessage, again bool)) bool {
	if v.json == nil || v.json[0] != '{' {
		v.fault("%s, not an object", v.is())
		return false
	}
	// All of it is known to be JSON.
	d := json.NewDecoder(bytes.NewReader(v.json))
	d.Token()
	seen := make(map[string]bool)
	for d.More() {
		t, _ := d.Token()
		name := t.(string)
		var member json.RawMessage
		d.Decode(&member)
		do(name, member, seen[name])
		seen[name] = true
	}
	return true
}

// in returns the value at a path below v.
func (v value) in(step string, json json.RawMessage) value {
	return value{v.mistakes, v.path + step, json}
}

// fields returns the members of an object, which must be among names. Others
// may be null. A name without a member has a value that is missing.
func (v value) fields(names ...string) map[string]value {
	dot := "."
	if v.path == "" {
		dot = ""
	}
	fields := make(map[string]value)
	for _, name := range names {
		fields[name] = v.in(dot+name, nil)
	}
	isObject := v.each(func(name string, json json.RawMessage, again bool) {
		field := v.in(dot+name, json)
		_, known := fields[name]
		switch {
		case again:
			field.fault("appears twice")
		case known:
			fields[name] = field
		case !field.null():
			field.fault("is not known")
		}
	})
	if !isObject { // one mistake is enough
		for name, field := range fields {
			field.mistakes = new(mistakes)
			fields[name] = field
		}
	}
	return fields
}

// kind returns the member type of an object if it is one of some, or "".
func (v value) kind(want ...string) string {
	kind := v.in(".type", nil)
	if !v.each(func(name string, json json.RawMessage, _ bool) {
		if name == "type" {
			kind.json = json
		}
	}) {
		return ""
	}
	quoted := make([]string, len(want))
	for i, w := range want {
		if quoted[i] = strconv.Quote(w); quoted[i] == string(kind.json) {
			return w
		}
	}
	kind.only(quoted...)
	return ""
}

// list returns the elements of an array.
func (v value) list() []value {
	var elements []json.RawMessage
	if v.json == nil || v.json[0] != '[' || json.Unmarshal(v.json, &elements) != nil {
		v.fault("%s, not a list", v.is())
		return nil
	}
	values := make([]value, len(elements))
	for i, e := range elements {
		values[i] = v.in("["+strconv.Itoa(i)+"]", e)
	}
	return values
}

// text returns the string that v is. The replacement character is refused: a
// half of a surrogate pair is read as that.
func (v value) text() (s string, ok bool) {
	switch {
	case v.json == nil || v.json[0] != '"' || json.Unmarshal(v.json, &s) != nil:
		v.fault("%s, not a string", v.is())
	case s == "":
		v.fault("is empty")
	case strings.ContainsRune(s, utf8.RuneError):
		v.fault("%s, which holds U+FFFD or half of a surrogate pair", v.is())
	default:
		return s, true
	}
	return "", false
}

func (v value) boolean() bool {
	if s := string(v.json); s != "true" && s != "false" {
		v.fault("%s, not true or false", v.is())
	}
	return string(v.json) == "true"
}

func (v value) id() (id int32, ok bool) {
	n, err := strconv.ParseUint(string(v.json), 10, 31)
	if err != nil || n > maxID {
		v.fault("%s, not an id in 0..%d", v.is(), maxID)
		return 0, false
	}
	return int32(n), true
}
