package gen

import (
	"bytes"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"

	"github.com/marlingen/marlingen/runtime"
)

// metalName returns the file of l's Metal source.
func (l *Library) metalName() string { return l.Name + ".metal" }

// metal renders the source of l. Everything that depends on the specs is
// written here; what depends on widths is left to Metal's own templates.
func metal(l *Library, templates fs.FS) ([]byte, error) {
	t := template.New(frame).Funcs(sprig.HermeticTxtFuncMap()).Option("missingkey=error")
	t.Funcs(template.FuncMap{
		"include": func(file string) (string, error) {
			src, err := fs.ReadFile(templates, file)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("#line 1 \"templates/%s\"\n%s", file, bytes.TrimSpace(src)), nil
		},
		"structs":   func() []string { return structs(l) },
		"camelcase": func(p runtime.Pass) string { return goName(string(p)) },
		"params":    params,
		"arguments": arguments,
		"scratch":   func(b *Body) string { return fmt.Sprintf("%sScratch<%s>", goName(string(b.Pass)), b.Type()) },
		"instance":  func(b *Body, k *runtime.Kernel) string { return instance(l, b, k) },
		"switch":    widthsOf,
		"arms":      func(b *Body, k *runtime.Kernel) []arm { return arms(l, b, k.Tuples) },
	})
	src, err := fs.ReadFile(templates, frame)
	if err != nil {
		return nil, err
	}
	if _, err := t.Parse(numberLines(string(src))); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, l); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// frame is the template of a library.
const frame = "library.metal.tmpl"

// numberLines fills in the lines "#line here" of the frame, after which a
// compiler speaks of the frame's own lines. Lines of the output would differ
// with every tuple that is added above them.
func numberLines(src string) string {
	lines := strings.Split(src, "\n")
	for i, line := range lines {
		if line == "#line here" {
			lines[i] = fmt.Sprintf("#line %d \"templates/%s\"", i+2, frame)
		}
	}
	return strings.Join(lines, "\n")
}

// structs returns the types that kernels share with the host, and those that
// hand a kernel's arguments to its body.
func structs(l *Library) []string {
	ss := []string{
		hostStruct(reflect.TypeFor[runtime.Shape]()),
		hostStruct(reflect.TypeFor[runtime.Routing]()),
		hostStruct(reflect.TypeFor[runtime.Work]()),
	}
	if l.Codec != nil {
		// As runtime.AppendProjection writes it.
		fields := []string{}
		for _, c := range l.Codec.Components {
			fields = append(fields, "ulong "+c.Name)
		}
		ss = append(ss,
			structure("Projection", append(fields, "uint bits", "uint padding")),
			structure("Expert", []string{"Projection gate", "Projection up", "Projection down"}))
	}
	ss = append(ss, structure("Position", []string{"uint3 group", "uint index", "uint simd", "uint lane"}))
	passes := l.Passes
	if passes == nil {
		passes = l.Bodies
	}
	for _, b := range passes {
		var fields []string
		for _, a := range b.Bindings {
			fields = append(fields, declaration(a, true)+a.Name)
		}
		ss = append(ss, structure(goName(string(b.Pass)), fields))
	}
	return ss
}

// hostStruct returns the Metal form of a Go struct of uint32 and float32.
func hostStruct(t reflect.Type) string {
	var fields []string
	for i := range t.NumField() {
		f := t.Field(i)
		word := map[reflect.Kind]string{reflect.Uint32: "uint", reflect.Float32: "float"}[f.Type.Kind()]
		fields = append(fields, word+" "+snake(f.Name))
	}
	return structure(t.Name(), fields)
}

func structure(name string, fields []string) string {
	return fmt.Sprintf("struct %s {\n  %s;\n};\n", name, strings.Join(fields, ";\n  "))
}

// snake returns top_k_groups for TopKGroups.
var snake = sprig.HermeticTxtFuncMap()["snakecase"].(func(string) string)

// declaration returns the type of an argument, ready for its name.
func declaration(b runtime.Binding, byValue bool) string {
	switch {
	case b.Access == runtime.Constant && byValue:
		return b.Type + " "
	case b.Access == runtime.Constant:
		return "constant " + b.Type + "& "
	case b.Access == runtime.Write:
		return "device " + b.Type + "* "
	}
	return "device const " + b.Type + "* "
}

// params returns the parameters of b's kernels, on one line so that #line holds.
func params(b *Body) string {
	var ps []string
	for i, a := range b.Bindings {
		ps = append(ps, fmt.Sprintf("%s%s [[buffer(%d)]]", declaration(a, false), a.Name, i))
	}
	return strings.Join(append(ps,
		"uint3 group [[threadgroup_position_in_grid]]",
		"uint index [[thread_index_in_threadgroup]]",
		"uint simd [[simdgroup_index_in_threadgroup]]",
		"uint lane [[thread_index_in_simdgroup]]"), ", ")
}

// arguments returns the struct of b's arguments.
func arguments(b *Body) string {
	var names []string
	for _, a := range b.Bindings {
		names = append(names, a.Name)
	}
	return fmt.Sprintf("%s{%s}", goName(string(b.Pass)), strings.Join(names, ", "))
}

// instance returns the instantiation of b's template for a tuple, or for
// widths that are read at run time, which are written as 0.
func instance(l *Library, b *Body, k *runtime.Kernel) string {
	var tuple runtime.BitTuple
	if k.Kind == runtime.Tuple {
		tuple = k.Tuples[0]
	}
	var args []string
	for _, w := range widths(tuple, projections) {
		args = append(args, weights(l, w))
	}
	f := fmt.Sprintf("%s_kernel<%s>", b.Type(), strings.Join(args, ", "))
	file, line, _ := strings.Cut(k.Line, ":")
	return fmt.Sprintf("#line %s %q\ntemplate [[host_name(%q)]] [[kernel]] decltype(%s) %s;", line, file, k.Symbol, f, f)
}

// weights returns the class of weights of the given width.
func weights(l *Library, width uint8) string { return fmt.Sprintf("%s<%d>", l.Codec.Type, width) }

// widthsOf returns what a fairway kernel switches over: the widths that b
// reads, four bits each.
func widthsOf(b *Body) string {
	var ws []string
	for i, projection := range b.Weights {
		shift := 4 * (len(b.Weights) - 1 - i)
		ws = append(ws, fmt.Sprintf("expert->%s.bits << %d", projection, shift))
	}
	return strings.TrimSuffix(strings.Join(ws, " | "), " << 0")
}

// An arm is a case of a fairway kernel.
type arm struct {
	Label   string
	Weights []string
}

// arms returns the cases that the tuples need, without doubles, in order.
func arms(l *Library, b *Body, tuples []runtime.BitTuple) []arm {
	var as []arm
	for _, t := range tuples {
		a := arm{Label: "0x"}
		for _, w := range widths(t, b.Weights) {
			a.Label += fmt.Sprintf("%x", w)
			a.Weights = append(a.Weights, weights(l, w))
		}
		as = append(as, a)
	}
	slices.SortFunc(as, func(a, b arm) int { return strings.Compare(a.Label, b.Label) })
	return slices.CompactFunc(as, func(a, b arm) bool { return a.Label == b.Label })
}
