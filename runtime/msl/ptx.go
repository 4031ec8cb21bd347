package msl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// What PTX is made for: the oldest GPU that has the instructions in use, and the
// oldest driver that takes that version of PTX.
const (
	ptxGPU     = "sm_90"
	ptxVersion = "ptx78"
)

// A PTXError holds the compiler's words about a text that it refuses.
type PTXError struct {
	Name  string // of the text
	Words string
}

func (e *PTXError) Error() string { return fmt.Sprintf("%s: %s", e.Name, e.Words) }

// Compiler returns the version of the clang that PTX would use. Its error is a
// *ToolchainError if there is none that will do.
func Compiler(ctx context.Context) (string, error) {
	t, err := findToolchain(ctx)
	if err != nil {
		return "", err
	}
	return t.version, nil
}

// PTX compiles a text for NVIDIA's GPUs. Each of kernels, which are rows of the
// table, becomes an entry under its symbol. Parameter i of an entry is binding i of
// its row: the address of a buffer in 8 bytes, or the bytes of a constant. A
// threadgroup is a block of Threads×1×1, a simdgroup a warp; threadgroup memory is
// dynamic shared memory.
//
// The same text gives the same bytes with the same version of clang. The error is
// a *PTXError if clang refuses the text, or what the text lacks.
func PTX(ctx context.Context, name, text string, kernels []*runtime.Kernel) ([]byte, error) {
	c, err := newCompiler(ctx, "")
	if err != nil {
		return nil, err
	}
	text, words, err := c.preprocess(ctx, name, text)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]*runtime.Kernel)
	for _, k := range kernels {
		wanted[k.Symbol] = k
	}
	r := rewriteImplicit(name, text, func(s string) bool { return wanted[s] != nil })
	if words == "" && Failed(r.diagnostics) {
		words = describe(r.diagnostics)
	}
	if words != "" {
		return nil, &PTXError{name, words}
	}
	var b strings.Builder
	b.WriteString(unit(name, r, false))
	fmt.Fprintf(&b, "\n#line 1 %q\n", "<entries>")
	for i, f := range r.functions {
		if err := f.binds(wanted[f.symbol]); err != nil {
			return nil, &PTXError{name, err.Error()}
		}
		f.ptxEntry(&b, entryName(i))
		delete(wanted, f.symbol)
	}
	for symbol := range wanted {
		return nil, &PTXError{name, "there is no kernel " + symbol}
	}
	args := append(c.metal(), "-w", "--target=nvptx64-nvidia-cuda", within(mostThreadgroupBytes), "-march="+ptxGPU, "-Xclang", "-target-feature", "-Xclang", "+"+ptxVersion,
		"-ffp-contract=fast", "-O3", "-mllvm", "-inline-threshold=1000000", "-mllvm", "-nvptx-prec-divf32=1", "-S", "-o", "-")
	out, diagnostics, err := c.clang(ctx, b.String(), args...)
	if errors.As(err, new(*exec.ExitError)) {
		if words := describe(parseDiagnostics(diagnostics)); words != "" {
			diagnostics = words
		}
		return nil, &PTXError{name, diagnostics}
	}
	if err != nil {
		return nil, err
	}
	return finish(out, kernels), nil
}

// binds reports how f's buffers are not those of a row.
func (f *function) binds(k *runtime.Kernel) error {
	buffers := f.buffers()
	if len(buffers) != len(k.Bindings) {
		return fmt.Errorf("kernel %s has %d buffers, and its row %d bindings", k.Symbol, len(buffers), len(k.Bindings))
	}
	for i, b := range k.Bindings {
		if p := buffers[i]; p.name != b.Name {
			return fmt.Errorf("kernel %s has buffer(%d) %s, and its row %s", k.Symbol, i, p.name, b.Name)
		}
	}
	return nil
}

// ptxEntry writes the entry point of f.
func (f *function) ptxEntry(b *strings.Builder, name string) {
	f.entry = name
	types := make([]string, len(f.buffers())) // by index
	var pass []string
	for j, p := range f.parameters {
		if a := p.attribute("buffer"); a != nil {
			t := fmt.Sprintf("msl::argument<msl::parameter_t<%d, decltype(%s%s)>>", j, f.name, f.arguments)
			types[index(a)] = fmt.Sprintf("%s::type b%d", t, index(a))
			pass = append(pass, fmt.Sprintf("%s::pass(b%d)", t, index(a)))
		} else {
			t := fmt.Sprintf("metal::_bare<msl::parameter_t<%d, decltype(%s%s)>>", j, f.name, f.arguments)
			pass = append(pass, fmt.Sprintf("msl::index<%s>::of(c.%s)", t, p.position()))
		}
	}
	head := fmt.Sprintf("extern \"C\" __attribute__((flatten)) __kernel void %s(%s)", name, strings.Join(types, ", "))
	fmt.Fprintf(b, "%s __asm__(%q);\n%s { const msl::Context c = msl::context(); %s%s(%s); }\n",
		head, f.symbol, head, f.name, f.arguments, strings.Join(pass, ", "))
}

// index returns the index of a buffer, whose attribute a is.
func index(a *attribute) int {
	var i int
	if _, err := fmt.Sscan(a.argument, &i); err != nil {
		panic(err) // checked by buffers
	}
	return i
}

var (
	commentPattern = regexp.MustCompile(`(?m)[ \t]*//.*$|^[ \t]*\n`)
	entryPattern   = regexp.MustCompile(`(?s)(\.entry (\w+)\(.*?\n\))`)
)

// finish says in PTX how large blocks are and how many are to be on a
// multiprocessor at once, so that registers suffice for them, and drops comments
// and empty lines.
func finish(ptx []byte, kernels []*runtime.Kernel) []byte {
	rows := make(map[string]*runtime.Kernel)
	for _, k := range kernels {
		rows[k.Symbol] = k
	}
	ptx = commentPattern.ReplaceAll(commentPattern.ReplaceAll(ptx, nil), nil)
	return entryPattern.ReplaceAllFunc(ptx, func(head []byte) []byte {
		k := rows[string(entryPattern.FindSubmatch(head)[2])]
		text := fmt.Sprintf("%s\n.reqntid %d, 1, 1", head, k.Threads)
		if n := k.Residents; n > 0 {
			text += fmt.Sprintf("\n.minnctapersm %d", n)
		}
		return []byte(text)
	})
}
