package result

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Parse reads a document. Its error names every field that is missing or
// unknown.
func Parse(data []byte) (*Document, error) {
	var all any
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("not a result: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a result: there is more after it")
	}
	if fields, ok := all.(map[string]any); !ok || fields["schema"] == nil {
		return nil, errors.New("not a result: it has no schema version")
	} else if fields["schema"] != float64(Schema) {
		return nil, fmt.Errorf("schema version %v; this command reads %d", fields["schema"], Schema)
	}
	if err := errors.Join(fields("", reflect.TypeFor[Document](), all)...); err != nil {
		return nil, err
	}
	doc := new(Document)
	if err := json.Unmarshal(data, doc); err != nil {
		return nil, fmt.Errorf("not a result: %w", err)
	}
	return doc, nil
}

// Encode writes d as JSON that Parse reads.
func (d *Document) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	_, err = Parse(data)
	return append(data, '\n'), err
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// fields returns what v lacks of t, or has besides. Whether what it has is of
// the right type is for package json to say.
func fields(path string, t reflect.Type, v any) (errs []error) {
	switch {
	case reflect.PointerTo(t).Implements(textType):
	case v == nil:
		errs = append(errs, fmt.Errorf("%s is null", path))
	case t.Kind() == reflect.Slice:
		list, _ := v.([]any)
		for i, e := range list {
			errs = append(errs, fields(fmt.Sprintf("%s[%d]", path, i), t.Elem(), e)...)
		}
	case t.Kind() == reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			return []error{fmt.Errorf("%s is not an object", path)}
		}
		known := map[string]bool{}
		for _, f := range reflect.VisibleFields(t) {
			name, option, tagged := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous && name == "" {
				continue // its fields are visible
			}
			known[name] = true
			inner, ok := object[name]
			if ok {
				errs = append(errs, fields(join(path, name), f.Type, inner)...)
			} else if !tagged || option != "omitempty" {
				errs = append(errs, fmt.Errorf("%s is missing", join(path, name)))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if !known[name] {
				errs = append(errs, fmt.Errorf("%s is not known", join(path, name)))
			}
		}
	}
	return errs
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
