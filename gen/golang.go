package gen

import (
	"bytes"
	"strings"

	. "github.com/dave/jennifer/jen" // reads as the Go that it makes

	"github.com/marlingen/marlingen/runtime"
)

const (
	generatedPath = "github.com/marlingen/marlingen/generated"
	runtimePath   = "github.com/marlingen/marlingen/runtime"
)

// goName returns the Go form of a name: MoeTrellisSwigluDecode623 for
// moe_trellis_swiglu_decode_6_2_3. Widths have one digit, so no two names meet.
func goName(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// rt returns an identifier of package runtime. A constant has the Go form of
// the word that specs use, so the Go compiler checks their vocabulary.
func rt[S ~string](name S) *Statement { return Qual(runtimePath, goName(string(name))) }

// library renders the Go side of l: a constant per kernel, and its rows.
func library(l *Library) ([]byte, error) {
	var constants []Code
	for _, k := range l.Kernels() {
		constants = append(constants, Id(goName(k.Symbol)).Op("=").Lit(k.Symbol))
	}
	decls := []Code{
		Comment("The kernels of " + l.metalName() + "."),
		Const().Defs(constants...),
	}
	var rows []Code
	for _, b := range l.Bodies {
		name := lower(l.Name) + goName(string(b.Pass))
		decls = append(decls, Var().Id(name).Op("=").Op("&").Add(body(b)))
		for _, k := range b.Kernels {
			rows = append(rows, Line().Add(kernel(l, name, k)))
		}
	}
	return render(l.Spec, append(decls,
		Var().Id(kernelsOf(l)).Op("=").Index().Op("*").Add(rt("Kernel")).Values(append(rows, Line())...))...)
}

// body renders the columns that kernels share.
func body(b *Body) Code {
	fields := []Code{
		field("Pass", rt(b.Pass)),
		field("Codec", Lit(b.Codec)),
		field("Family", Lit(b.Family)),
		field("Target", Lit(b.Target)),
		field("Doc", Lit(b.Doc)),
		field("Rows", rt("Range").Values(is("Min", Lit(b.Rows.Min)), is("Max", Lit(b.Rows.Max)))),
		field("LayerRows", Lit(b.LayerRows)),
		field("Tile", Lit(b.Tile)),
		field("Grid", Index(Lit(3)).Add(rt("Axis")).Values(lines(b.Grid[:], func(a runtime.Axis) Code {
			return Values(is("Dim", rt(a.Dim)), is("Per", Lit(int(a.Per))))
		})...)),
		field("Threads", Lit(b.Threads)),
		field("ThreadgroupBytes", Lit(b.ThreadgroupBytes)),
		field("Residents", Lit(b.Residents)),
		field("Accumulator", Lit(b.Accumulator)),
		field("Bindings", Index().Add(rt("Binding")).Values(lines(b.Bindings, func(a runtime.Binding) Code {
			return Values(is("Name", Lit(a.Name)), is("Type", Lit(a.Type)), is("Access", rt(a.Access)))
		})...)),
	}
	if b.Device != "" {
		fields = append(fields, field("Device", Lit(b.Device)), field("Driver", Lit(b.Driver)))
	}
	if b.Codec != "" {
		fields = append(fields, field("Alone", kindsOf(b.Alone)), field("Shared", kindsOf(b.Shared)))
	}
	if len(b.Orders) > 0 {
		fields = append(fields, field("Orders", Index().Add(rt("Order")).Values(lines(b.Orders, func(o runtime.Order) Code {
			return Values(is("Device", Lit(o.Device)), is("Driver", Lit(o.Driver)), is("Alone", kindsOf(o.Alone)), is("Shared", kindsOf(o.Shared)))
		})...)))
	}
	return rt("Body").Values(append(fields,
		field("Source", Lit(b.Source)),
		field("Spec", Lit(b.Spec)),
		Line())...)
}

func kindsOf(order []runtime.Kind) *Statement {
	return Index().Add(rt("Kind")).Values(words(order)...)
}

// kernel renders a row.
func kernel(l *Library, body string, k *runtime.Kernel) Code {
	fields := []Code{is("Body", Id(body)), is("Kind", rt(k.Kind))}
	switch k.Kind {
	case runtime.Tuple:
		fields = append(fields, is("Tuples", Index().Add(rt("BitTuple")).Values(tuple(k.Tuples[0]))))
	case runtime.Fairway:
		fields = append(fields, is("Tuples", Id(tuplesOf(l.Codec.Codec))))
	}
	return Values(append(fields, is("Symbol", Id(goName(k.Symbol))), is("Line", Lit(k.Line)))...)
}

// tuple renders a tuple without its type.
func tuple(t runtime.BitTuple) *Statement {
	return Values(is("Gate", Lit(int(t.Gate))), is("Up", Lit(int(t.Up))), is("Down", Lit(int(t.Down))))
}

// kernelsOf returns the name of the list of l's kernels.
func kernelsOf(l *Library) string { return lower(l.Name) + "Kernels" }

// tuplesOf returns the name of the list of c's tuples.
func tuplesOf(c *runtime.Codec) string { return lower(c.Name) + "Tuples" }

// table renders what all libraries together make.
func table(m *Model, manifest runtime.Manifest) ([]byte, error) {
	file := newFile("specs")
	file.PackageComment("Package generated holds the kernels that marlingen makes of its specs: a table")
	file.PackageComment("of rows to select and launch them by, and their Metal sources. It is written by")
	file.PackageComment("go generate; package runtime explains its types.")
	file.Comment("Table holds the kernels for Apple's GPUs. Devices without kernels of their own run")
	file.Comment("them, too.")
	file.Var().Id("Table").Op("=").Id("All").Dot("For").Call(rt("Metal3"))
	file.Comment("CUDA holds the kernels for NVIDIA's GPUs.")
	file.Var().Id("CUDA").Op("=").Id("All").Dot("For").Call(rt("CUDA"))
	file.Comment("All holds every generated kernel. To select from it would be to mix devices: All.On")
	file.Comment("is what one of them runs.")
	file.Var().Id("All").Op("=").Op("&").Add(rt("Table")).Values(
		field("Kernels", Qual("slices", "Concat").Call(lines(m.Libraries, func(l *Library) Code {
			return Id(kernelsOf(l))
		})...)),
		field("Codecs", Index().Op("*").Add(rt("Codec")).Values(lines(m.Codecs, codec)...)),
		Line(),
	)
	for _, c := range m.Codecs {
		file.Comment("The tuples that kernels of codec " + c.Name + " are specialised for.")
		file.Var().Id(tuplesOf(c)).Op("=").Index().Add(rt("BitTuple")).Values(
			lines(c.Tuples, func(t runtime.BitTuple) Code { return tuple(t) })...)
	}
	file.Comment("Sources holds the Metal source of each kernel, by its Source, the PTX that was compiled from it, and the manifest.")
	file.Comment("//go:embed *.metal* *.ptx manifest.json")
	file.Var().Id("Sources").Qual("embed", "FS")
	file.Comment("Manifest identifies the generated files.")
	file.Var().Id("Manifest").Op("=").Add(rt("Manifest")).Values(
		field("Digest", Lit(manifest.Digest)),
		field("Specs", Lit(manifest.Specs)),
		field("Sources", Index().Add(rt("Source")).Values(lines(manifest.Sources, func(s runtime.Source) Code {
			return Values(is("Name", Lit(s.Name)), is("SHA256", Lit(s.SHA256)))
		})...)),
		Line(),
	)
	return source(file)
}

func codec(c *runtime.Codec) Code {
	var ws []Code
	for _, w := range c.Widths {
		ws = append(ws, Lit(int(w)))
	}
	return Values(
		field("Name", Lit(c.Name)),
		field("Doc", Lit(c.Doc)),
		field("Widths", Index().Uint8().Values(ws...)),
		field("Components", Index().Add(rt("Component")).Values(lines(c.Components, func(p runtime.Component) Code {
			return Values(is("Name", Lit(p.Name)), is("Type", Lit(p.Type)))
		})...)),
		field("Tuples", Id(tuplesOf(c))),
		field("Spec", Lit(c.Spec)),
		Line(),
	)
}

// profiles renders the profiles.
func profiles(m *Model) ([]byte, error) {
	return render("specs/profiles",
		Comment("Profiles holds the shapes and mixtures to quantise, tune and measure with."),
		Var().Id("Profiles").Op("=").Index().Op("*").Add(rt("Profile")).Values(lines(m.Profiles, func(p *runtime.Profile) Code {
			fields := []Code{
				field("Name", Lit(p.Name)),
				field("Doc", Lit(p.Doc)),
				field("Hidden", Lit(p.Hidden)),
				field("Intermediate", Lit(p.Intermediate)),
				field("Experts", Lit(p.Experts)),
				field("TopK", Lit(p.TopK)),
				field("Codec", Lit(p.Codec)),
				field("Shared", rt("BitTuple").Add(tuple(p.Shared))),
				field("Mix", Index().Add(rt("Share")).Values(lines(p.Mix, func(s runtime.Share) Code {
					return Values(is("Tuple", rt("BitTuple").Add(tuple(s.Tuple))), is("Experts", Lit(s.Experts)))
				})...)),
			}
			if b := p.Bench; len(b.Rows) > 0 {
				fields = append(fields, field("Bench", rt("Bench").Values(is("Rows", ints(b.Rows)), is("Batches", ints(b.Batches)))))
			}
			return Values(append(fields, field("Spec", Lit(p.Spec)), Line())...)
		})...),
	)
}

// ints renders numbers on one line.
func ints(ns []int) Code {
	var cs []Code
	for _, n := range ns {
		cs = append(cs, Lit(n))
	}
	return Index().Int().Values(cs...)
}

func render(from string, decls ...Code) ([]byte, error) {
	file := newFile(from)
	for _, d := range decls {
		file.Add(d)
	}
	return source(file)
}

func newFile(from string) *File {
	file := NewFilePath(generatedPath)
	file.ImportName(runtimePath, "runtime")
	file.HeaderComment(marker + " from " + from + "; DO NOT EDIT.")
	return file
}

func source(file *File) ([]byte, error) {
	var b bytes.Buffer
	err := file.Render(&b)
	return b.Bytes(), err
}

// is gives a field its value. A Dict would sort the fields by name.
func is(name string, value Code) Code { return Id(name).Op(":").Add(value) }

// field is a field on a line of its own.
func field(name string, value Code) Code { return Line().Add(is(name, value)) }

// lines renders each of xs on a line of its own.
func lines[T any](xs []T, render func(T) Code) (cs []Code) {
	for _, x := range xs {
		cs = append(cs, Line().Add(render(x)))
	}
	return append(cs, Line())
}

// words renders words of the specs on one line.
func words[S ~string](ws []S) (cs []Code) {
	for _, w := range ws {
		cs = append(cs, rt(w))
	}
	return cs
}

// lower returns the unexported Go form of a name.
func lower(name string) string {
	n := goName(name)
	return strings.ToLower(n[:1]) + n[1:]
}
