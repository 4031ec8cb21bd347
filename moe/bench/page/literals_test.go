package page_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/bench/page"
	"github.com/marlingen/marlingen/moe/bench/result"
)

var digit = regexp.MustCompile(`[0-9]`)

// Templates have no digits, neither in text nor in actions.
func TestTemplatesWithoutDigits(t *testing.T) {
	names, err := filepath.Glob("*.tmpl")
	require.NoError(t, err)
	require.Len(t, names, 2)
	words := regexp.MustCompile(`</?h[1-3]\b|charset="utf-8"|tabindex="0"`)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for i, line := range strings.Split(string(text), "\n") {
			require.NotRegexp(t, digit, words.ReplaceAllString(line, ""), "%s:%d", name, i+1)
		}
	}
}

// Nor has any text in the code.
func TestTextWithoutDigits(t *testing.T) {
	allowed := map[string]string{
		"0":    "zero as it is written, if it was measured",
		"0 0 ": "where all drawings begin",
		nnbsp:  "a space",
	}
	distribution := reflect.TypeFor[result.Distribution]()
	for i := range distribution.NumField() {
		allowed[distribution.Field(i).Name] = "a field"
	}
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	seen := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		apart := map[ast.Node]bool{} // tags and imports
		ast.Inspect(file, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				apart[f.Tag] = true
			}
			if i, ok := n.(*ast.ImportSpec); ok {
				apart[i.Path] = true
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && !apart[lit] {
				seen++
				value, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				if allowed[value] == "" {
					require.NotRegexp(t, digit, value, "%v", set.Position(lit.Pos()))
				}
			}
			return true
		})
	}
	require.Greater(t, seen, 100)
}

const nnbsp = "\u202f"

// What a template can reach from a page is text, figures, and lengths of
// drawings: no number that is not of a run.
func TestOnlyFigures(t *testing.T) {
	seen := map[reflect.Type]bool{}
	figures := 0
	var visit func(path string, typ reflect.Type)
	visit = func(path string, typ reflect.Type) {
		if typ == reflect.TypeFor[page.Figure]() {
			figures++
			require.Zero(t, exported(typ), "a figure lets nobody at its number")
		}
		if seen[typ] {
			return
		}
		seen[typ] = true
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			visit(path, typ.Elem())
		case reflect.Map:
			visit(path, typ.Key())
			visit(path, typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				if f := typ.Field(i); f.IsExported() {
					visit(path+"."+f.Name, f.Type)
				}
			}
		case reflect.String, reflect.Bool, reflect.Interface, reflect.Func:
		case reflect.Float64:
			require.Equal(t, "px", typ.Name(), path)
		case reflect.Uint8:
			require.Contains(t, path, "Tuple", "the widths of a tuple are its name")
		default:
			require.Fail(t, "a number", "%s: %v", path, typ)
		}
		if typ.Kind() == reflect.Struct || typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct {
			for i := range typ.NumMethod() {
				m := typ.Method(i)
				ours := strings.HasPrefix(strings.TrimPrefix(typ.String(), "*"), "page.")
				if ours && m.Type.NumIn() == 1 && m.Name != "MarshalJSON" {
					visit(path+"."+m.Name+"()", m.Type.Out(0))
				}
			}
			if typ.Kind() == reflect.Struct && strings.HasPrefix(typ.String(), "page.") {
				visit(path, reflect.PointerTo(typ))
			}
		}
	}
	visit("Page", reflect.TypeFor[*page.Page]())
	require.Positive(t, figures)
	require.True(t, seen[reflect.TypeFor[page.Bar]()], "all of it was seen")
}

func exported(typ reflect.Type) (n int) {
	for i := range typ.NumField() {
		if typ.Field(i).IsExported() {
			n++
		}
	}
	return n
}
