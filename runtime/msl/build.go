package msl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
)

// A compiler compiles texts.
type compiler struct {
	*toolchain
	cache   *cache
	shim    string // directory
	shimSum string
}

func newCompiler(ctx context.Context, cacheDir string) (*compiler, error) {
	t, err := findToolchain(ctx)
	if err != nil {
		return nil, err
	}
	cache, err := openCache(cacheDir)
	if err != nil {
		return nil, err
	}
	dir, sum, err := cache.shim()
	if err != nil {
		return nil, err
	}
	return &compiler{t, cache, dir, sum}, nil
}

// language returns the flags that make clang read Metal.
func (c *compiler) language() []string {
	return append(c.metal(), "-ffp-contract=on", "--target=x86_64-linux-gnu", "-march=x86-64-v3")
}

// metal returns the flags of the language alone, whatever the target.
func (c *compiler) metal() []string {
	return []string{
		"-x", "clcpp", "-cl-std=CLC++2021", "-cl-no-stdinc", "-nostdinc", "-fdeclspec", "-fno-exceptions", "-fno-rtti",
		"-cl-single-precision-constant", "-Xclang", "-cl-ext=+all,-cl_khr_fp64,-__opencl_c_fp64",
		"-D__METAL__=1", "-D__METAL_VERSION__=310", "-D__METAL_MACOS__=1",
		"-I", filepath.Join(c.shim, "std"), "-include", filepath.Join(c.shim, "metal", "metal.h"),
		"-Werror=unknown-attributes", "-Werror=return-type", "-Werror=implicit-function-declaration",
		"-Wno-duplicate-decl-specifier", "-Wno-gnu-line-marker", "-Wno-unused-command-line-argument", "-Wno-pass-failed",
		"-fno-color-diagnostics", "-fno-caret-diagnostics", "-ferror-limit=0", "-ftemplate-backtrace-limit=0",
	}
}

// within returns the flag that lets kernels have so much threadgroup memory.
func within(threadgroupBytes int) string {
	return fmt.Sprintf("-DMSL_THREADGROUP_BYTES=%d", threadgroupBytes)
}

// A variant is a way to compile a text.
type variant struct {
	checker  bool
	fastMath bool
}

func (v variant) flags() []string {
	fs := []string{"-w", "-fPIC", "-shared", "-nostdlib", "-g1", "-fdebug-compilation-dir=.", "-fno-optimize-sibling-calls", "-ftrivial-auto-var-init=pattern"}
	if v.fastMath {
		fs = append(fs, "-ffast-math")
	}
	if !v.checker {
		return append(fs, "-O2")
	}
	return append(fs, "-O1", "-fno-vectorize", "-fno-slp-vectorize",
		"-fsanitize=thread", "-mllvm", "-tsan-instrument-func-entry-exit=0",
		"-fsanitize=alignment,integer-divide-by-zero,array-bounds,float-cast-overflow,unreachable",
		"-Xclang", "-fsanitize-minimal-runtime", "-fno-sanitize-recover=all", "-mllvm", "-ubsan-unique-traps")
}

// clang runs clang on a text and returns what it printed. The error is an
// *exec.ExitError if clang refused the text.
func (c *compiler) clang(ctx context.Context, text string, args ...string) (stdout []byte, diagnostics string, err error) {
	dir, err := os.MkdirTemp(c.cache.dir, "tmp-")
	if err != nil {
		return nil, "", fmt.Errorf("msl: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, shimName+"text.clcpp")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", fmt.Errorf("msl: %w", err)
	}
	cmd := exec.CommandContext(ctx, c.path, append(args, file)...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err = cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out.Bytes(), words.String(), err
}

// unit returns the translation unit of a rewritten text.
func unit(name string, r *rewriting, entries bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#line 1 %q\n", name)
	b.WriteString(r.text)
	if !entries {
		return b.String()
	}
	fmt.Fprintf(&b, "\n#line 1 %q\n", "<entries>")
	for i, f := range r.functions {
		fmt.Fprintf(&b, "extern \"C\" void %s(msl::Context *c) { using F = decltype(%s%s); %[2]s%[3]s(", entryName(i), f.name, f.arguments)
		for j, p := range f.parameters {
			if j > 0 {
				b.WriteString(", ")
			}
			if a := p.attribute("buffer"); a != nil {
				fmt.Fprintf(&b, "msl::buffer<msl::parameter_t<%d, F>>::at(c->buffer[%s])", j, a.argument)
			} else {
				fmt.Fprintf(&b, "msl::index<metal::_bare<msl::parameter_t<%d, F>>>::of(c->%s)", j, p.position())
			}
		}
		b.WriteString("); }\n")
	}
	return b.String()
}

func entryName(i int) string { return fmt.Sprintf("msl_entry_%d", i) }

// An object is a text that was compiled.
type object struct {
	path    string               // of a shared object
	entries map[string]*function // by symbol
	failed  map[string]string    // compiler's words by symbol
	absent  map[string]bool      // symbols that the text does not define
}

// build compiles those kernels of a text that symbols names. Kernels that do not
// compile are in the object's failed; the error is for what is not the text's
// fault.
func (c *compiler) build(ctx context.Context, name, text string, symbols []string, v variant) (*object, error) {
	want := make(map[string]bool)
	for _, s := range symbols {
		want[s] = true
	}
	text, words, err := c.preprocess(ctx, name, text)
	if err != nil {
		return nil, err
	}
	o := &object{entries: make(map[string]*function), failed: make(map[string]string), absent: make(map[string]bool)}
	all := func() *rewriting {
		return rewrite(name, text, func(s string) bool { return want[s] && o.failed[s] == "" })
	}
	r := all()
	o.survey(r, symbols, words)
	if len(o.failed) > 0 {
		r = all()
	}
	if len(r.functions) == 0 {
		return o, nil
	}
	o.path, words, err = c.compile(ctx, name, r, v)
	if err == nil && words != "" {
		if err := c.blame(ctx, name, text, r.functions, words, o); err != nil {
			return nil, err
		}
		if r = all(); len(r.functions) > 0 {
			o.path, words, err = c.compile(ctx, name, r, v)
			for _, f := range r.functions {
				if words != "" {
					o.failed[f.symbol] = words
				}
			}
		}
	}
	for i, f := range r.functions {
		f.entry = entryName(i)
		o.entries[f.symbol] = f
	}
	return o, err
}

// survey finds the kernels that are not in a text or not what a device can
// launch; words are what went wrong with the text so far.
func (o *object) survey(r *rewriting, symbols []string, words string) {
	switch {
	case words != "":
	case Failed(r.diagnostics):
		words = describe(r.diagnostics)
	case len(r.constants) > 0:
		words = fmt.Sprintf("%s is a function constant, and nobody sets it", r.constants[0])
	}
	defined := make(map[string]*function)
	for _, f := range r.functions {
		defined[f.symbol] = f
	}
	for _, s := range symbols {
		f := defined[s]
		switch {
		case words != "":
			o.failed[s] = words
		case f == nil:
			o.absent[s] = true
		default:
			for _, p := range f.parameters {
				if p.attribute("buffer") == nil && p.position() == "" {
					o.failed[s] = fmt.Sprintf("parameter %s is neither a buffer nor a position", p.name)
				}
			}
		}
	}
}

// compile compiles a rewritten text, or finds it compiled. Words are clang's if
// it refuses the text.
func (c *compiler) compile(ctx context.Context, name string, r *rewriting, v variant) (path, words string, err error) {
	text := unit(name, r, true)
	args := append(append(c.language(), within(mostThreadgroupBytes)), v.flags()...)
	key := digest(c.version, c.shimSum, mostThreadgroupBytes, strings.Join(v.flags(), " "), strings.Join(c.language(), " "), text)
	path, err = c.cache.file("kernels-"+key+".so", func(path string) error {
		_, diagnostics, err := c.clang(ctx, text, append(args, "-o", path)...)
		if err != nil {
			words = describe(parseDiagnostics(diagnostics))
			if words == "" {
				words = diagnostics
			}
		}
		return err
	})
	if errors.As(err, new(*exec.ExitError)) && words != "" {
		return "", words, nil
	}
	return path, "", err
}

// blame finds the kernels of a text that clang refuses, by compiling each alone.
func (c *compiler) blame(ctx context.Context, name, text string, functions []*function, words string, o *object) error {
	accept := func(keep func(string) bool) (string, error) {
		r := rewrite(name, text, keep)
		_, diagnostics, err := c.clang(ctx, unit(name, r, true), append(c.language(), within(mostThreadgroupBytes), "-w", "-fsyntax-only")...)
		if !errors.As(err, new(*exec.ExitError)) {
			return "", err
		}
		return describe(parseDiagnostics(diagnostics)), nil
	}
	common, err := accept(func(string) bool { return false })
	if err != nil {
		return err
	}
	found := make([]string, len(functions))
	errs := make([]error, len(functions))
	parallel(len(functions), func(i int) {
		if found[i] = common; common == "" {
			found[i], errs[i] = accept(func(s string) bool { return s == functions[i].symbol })
		}
	})
	guilty := false
	for i, f := range functions {
		if found[i] != "" {
			o.failed[f.symbol] = found[i]
			guilty = true
		}
	}
	for _, f := range functions {
		if !guilty { // none alone
			o.failed[f.symbol] = words
		}
	}
	return errors.Join(errs...)
}

// preprocess expands the macros of a text that has some. Words are clang's if it
// cannot.
func (c *compiler) preprocess(ctx context.Context, name, text string, include ...string) (expanded, words string, err error) {
	if !hasMacros(text) {
		return text, "", nil
	}
	args := []string{
		"-E", "-x", "c++", "-std=c++17", "-nostdinc", "-undef", "-Wno-everything", "-fno-color-diagnostics", "-fno-caret-diagnostics",
		"-D__METAL__=1", "-D__METAL_VERSION__=310", "-D__METAL_MACOS__=1",
		"-I", filepath.Join(c.shim, "std"), "-I", filepath.Dir(name),
	}
	for _, dir := range include {
		args = append(args, "-I", dir)
	}
	out, diagnostics, err := c.clang(ctx, fmt.Sprintf("#line 1 %q\n", name)+text, args...)
	if errors.As(err, new(*exec.ExitError)) {
		return text, describe(parseDiagnostics(diagnostics)), nil
	}
	return string(out), "", err
}

// hasMacros reports whether text has directives besides those that the rewriter
// and clang take as they are: #line, #pragma and the headers of the library.
func hasMacros(text string) bool {
	for _, t := range tokenize(text) {
		if t.kind != directive {
			continue
		}
		fields := strings.Fields(strings.TrimPrefix(t.text, "#"))
		switch {
		case len(fields) == 0 || fields[0] == "line" || fields[0] == "pragma":
		case fields[0] == "include" && len(fields) > 1 && strings.HasPrefix(fields[1], "<metal_"):
		default:
			if _, _, ok := parseLine(t.text); !ok {
				return true
			}
		}
	}
	return false
}

// buildRunner compiles the runner, or finds it compiled.
func (c *compiler) buildRunner(ctx context.Context) (string, error) {
	flags := []string{"-x", "c++", "-std=c++17", "-O2", "-march=x86-64-v3", "-g1", "-rdynamic", "-Wl,--no-as-needed"}
	libraries := []string{"-lstdc++", "-lm", "-ldl", "-lpthread"}
	return c.cache.file("runner-"+digest(c.version, c.shimSum, flags, libraries), func(path string) error {
		files, err := filepath.Glob(filepath.Join(c.shim, "runner", "*.cpp"))
		if err != nil {
			return err
		}
		args := append(append(append(flags, "-o", path), files...), "-x", "none")
		out, err := exec.CommandContext(ctx, c.path, append(args, libraries...)...).CombinedOutput()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("msl: clang cannot build the runner: %w\n%s", err, out)
		}
		return nil
	})
}

// parallel calls f(0), …, f(n-1) on all processors.
func parallel(n int, f func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, goruntime.GOMAXPROCS(0))
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}
