package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A member is a name and its value in a JSON object.
type member struct {
	name  string
	value json.RawMessage
	again bool // the name appeared before
}

// object returns the members of a JSON object in their order. Unlike
// encoding/json it keeps names that appear twice and refuses text that is not
// UTF-8.
func object(text []byte) ([]member, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var members []member
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, syntax(d, err)
		}
		m := member{name: t.(string)} // no other token can follow here
		if err := d.Decode(&m.value); err != nil {
			return nil, syntax(d, err)
		}
		m.again = seen[m.name]
		seen[m.name] = true
		members = append(members, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, syntax(d, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more after the JSON object, at byte %d", d.InputOffset())
	}
	return members, nil
}

func syntax(d *json.Decoder, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not JSON, after byte %d: %w", d.InputOffset(), err)
}

// clip returns value for an error: all of it, or how it starts.
func clip(value json.RawMessage) string {
	const enough = 80
	if len(value) <= enough {
		return string(value)
	}
	return strings.ToValidUTF8(string(value[:enough]), "") + "…"
}

// text returns the string that value holds.
func text(value json.RawMessage) (s string, ok bool) {
	ok = value[0] == '"' && json.Unmarshal(value, &s) == nil
	return s, ok
}

// list returns the elements of the array that value holds.
func list(value json.RawMessage) (elements []json.RawMessage, ok bool) {
	ok = value[0] == '[' && json.Unmarshal(value, &elements) == nil
	return elements, ok
}

// sizes returns the array of integers ≥ 0 that value holds.
func sizes(value json.RawMessage) (ints []int, ok bool) {
	elements, ok := list(value)
	if !ok {
		return nil, false
	}
	ints = make([]int, len(elements))
	for i, e := range elements {
		n, err := strconv.ParseUint(string(e), 10, strconv.IntSize-1)
		if err != nil {
			return nil, false
		}
		ints[i] = int(n)
	}
	return ints, true
}
