package gen

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/marlingen/marlingen/runtime"
)

// A SpecKind is a kind of file below specs/.
type SpecKind struct {
	Name string // of what such a file declares
	Glob string // the files
	spec any    // what they are decoded into
}

// SpecKinds are all kinds of spec.
var SpecKinds = []SpecKind{
	{"passes", "specs/passes.yaml", PassesSpec{}},
	{"family", "specs/families/*.yaml", FamilySpec{}},
	{"codec", "specs/codecs/*.yaml", CodecSpec{}},
	{"target", "specs/targets/*.yaml", TargetSpec{}},
	{"profile", "specs/profiles/*.yaml", ProfileSpec{}},
	{"tuned", tunedGlob, TunedSpec{}},
}

// File returns the name of k's schema.
func (k SpecKind) File() string { return k.Name + ".json" }

// FirstLine returns the line that names k's schema in a spec, for editors; the
// schemas are in specs/schemas.
func (k SpecKind) FirstLine() string {
	return "# yaml-language-server: $schema=" +
		strings.Repeat("../", strings.Count(k.Glob, "/")-1) + path.Join("schemas", k.File())
}

// Schemas returns a JSON schema for each kind of spec, by the name of its file.
// It follows from the types that specs are decoded into, and from the words that
// Expand accepts. What takes more than one place to see is left to Expand.
func Schemas() (Files, error) {
	docs, err := specDocs()
	if err != nil {
		return nil, err
	}
	files := Files{}
	for _, k := range SpecKinds {
		r := &jsonschema.Reflector{
			Anonymous: true, DoNotReference: true, ExpandedStruct: true,
			FieldNameTag: "yaml", KeyNamer: strings.ToLower, Mapper: scalar,
			LookupComment: func(t reflect.Type, field string) string { return docs[t.Name()+"."+field] },
		}
		s := r.Reflect(k.spec)
		s.Comments = marker + "; DO NOT EDIT."
		s.Title = k.Name
		s.Description = docs[reflect.TypeOf(k.spec).Name()+"."]
		narrow(k.Name, s)
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return nil, err
		}
		files[k.File()] = append(text, '\n')
	}
	return files, nil
}

// scalar returns the schema of an At, or nil for another type.
func scalar(t reflect.Type) *jsonschema.Schema {
	if !strings.HasPrefix(t.Name(), "At[") {
		return nil
	}
	v, _ := t.FieldByName("V")
	switch reflect.Zero(v.Type).Interface().(type) {
	case runtime.BitTuple:
		return &jsonschema.Schema{Type: "string", Pattern: `^[1-9]_[1-9]_[1-9]$`}
	case runtime.Range:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "1"},
			{Type: "string", Pattern: `^[1-9][0-9]*\.\.([1-9][0-9]*)?$`},
		}}
	case runtime.Kind:
		return oneOf(kinds)
	case runtime.Access:
		return oneOf(accesses)
	case uint8:
		return &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "9"}
	case int:
		return &jsonschema.Schema{Type: "integer", Minimum: "1"}
	case float64:
		return &jsonschema.Schema{Type: "number"}
	case Formula:
		return formula("1")
	}
	one := uint64(1)
	return &jsonschema.Schema{Type: "string", MinLength: &one}
}

// formula returns the schema of a number from least on, or of a formula.
func formula(least json.Number) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
		{Type: "integer", Minimum: least},
		{Type: "string", Pattern: `^[a-z0-9_(][a-z0-9_+*/%(), -]*$`},
	}}
}

// oneOf returns the schema of a closed set.
func oneOf[T ~string](set []T) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, word := range set {
		s.Enum = append(s.Enum, string(word))
	}
	return s
}

// narrow has fields of s accept no more than Expand does.
func narrow(kind string, s *jsonschema.Schema) {
	axis := &jsonschema.Schema{Type: "string", Pattern: "^(" + strings.ReplaceAll(list(dims), ", ", "|") + ")(/[a-z0-9_]+)?$"}
	for field, narrower := range map[string]*jsonschema.Schema{
		"passes.passes.pass":                     oneOf(slices.Concat(helpers, expertPasses)),
		"passes.passes.weights":                  oneOf(projections),
		"passes.passes.bindings.type":            oneOf(bindingTypes),
		"passes.passes.kernel.grid":              axis,
		"passes.passes.kernel.threadgroup_bytes": formula("0"),
		"family.word":                            {Type: "string"},
		"family.accumulator":                     oneOf(accumulators),
		"family.passes.pass":                     oneOf(expertPasses),
		"family.passes.grid":                     axis,
		"family.passes.threadgroup_bytes":        formula("0"),
		"codec.components.type":                  oneOf(partTypes),
		"tuned.families.source":                  {Type: "string", Pattern: "^[0-9a-f]{64}$"},
		"tuned.families.passes.pass":             oneOf(expertPasses),
		"tuned.families.passes.gains.of":         oneOf(gains),
	} {
		of, rest, _ := strings.Cut(field, ".")
		if of != kind {
			continue
		}
		at := s
		for name := range strings.SplitSeq(rest, ".") {
			if at.Items != nil {
				at = at.Items
			}
			at, _ = at.Properties.Get(name)
		}
		if at.Items != nil {
			if narrower == axis {
				three := uint64(len(runtime.Body{}.Grid))
				at.MinItems, at.MaxItems = &three, &three
			}
			at = at.Items
		}
		narrower.Description = at.Description
		*at = *narrower
	}
}

//go:embed spec.go
var specSource string

// specDocs returns the comments of the types that specs are decoded into, as
// Type. and Type.Field.
func specDocs() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "spec.go", specSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("spec.go: %w", err)
	}
	docs := map[string]string{}
	text := func(groups ...*ast.CommentGroup) string {
		var parts []string
		for _, g := range groups {
			if t := strings.Join(strings.Fields(g.Text()), " "); t != "" {
				parts = append(parts, t)
			}
		}
		return strings.Join(parts, " ")
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		t := g.Specs[0].(*ast.TypeSpec)
		docs[t.Name.Name+"."] = text(g.Doc)
		if s, ok := t.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					docs[t.Name.Name+"."+name.Name] = text(f.Doc, f.Comment)
				}
			}
		}
	}
	return docs, nil
}
