package msl

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/marlingen/marlingen/generated"
)

func TestTokenize(t *testing.T) {
	var have []string
	for _, token := range tokenize("#line 1 \"a b\"\nfloat x = a::b->c[1.5e-3f]; // no\n/* no */ 'q' \"s\\\"\" 0x1p-3 .5 1..2") {
		have = append(have, token.text)
	}
	assert.Equal(t, []string{
		`#line 1 "a b"`, "float", "x", "=", "a", "::", "b", "->", "c", "[", "1.5e-3f", "]", ";", "'q'", `"s\""`, "0x1p-3", ".5", "1..2", "",
	}, have)
	for text, plain := range map[string]bool{"1.0": true, ".5": true, "1e3": true, "1.": true, "1.0f": false, "1": false, "0x1e3": false, "1.5h": false} {
		assert.Equal(t, plain, isPlainFloat(text), text)
	}
}

// FuzzRewrite gives the rewriter any text. It must come to an end, keep the
// lines, and blank no more than it has read.
func FuzzRewrite(f *testing.F) {
	const longest = 2000
	for _, name := range []string{"helpers.metal", "trellis_decode.metal"} {
		text, err := fs.ReadFile(generated.Sources, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text[len(text)-longest:]))
	}
	for _, text := range []string{
		"kernel", "kernel void", "template [[kernel]]", "template [[host_name(\"a\")]] [[kernel]] decltype(", "threadgroup float a[", "[[", "[[a(",
		"kernel void f(device float* x [[buffer(0)]]", "a ? b[c : d", "threadgroup T<a, b, c;", "\"", "/*", "# 1 \"", "thread", "alignas(8) threadgroup float a, b[2], c = 1;",
		"template <void (*f)(int)> struct x;", "}}}}", "((((", "kernel void k(float a[[buffer(0)]],,) {}", "template kernel k<",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > longest {
			t.Skip("brackets that are never closed take time quadratic in their number")
		}
		tokens := tokenize(text)
		at := 0
		for _, token := range tokens {
			if token.from < at || token.to < token.from || token.to > len(text) || text[token.from:token.to] != token.text {
				t.Fatalf("token %+v after offset %d of %d", token, at, len(text))
			}
			at = token.to
		}
		for _, keep := range []bool{true, false} {
			r := rewrite("x.metal", text, func(string) bool { return keep })
			if have, want := strings.Count(r.text, "\n"), strings.Count(text, "\n"); have != want {
				t.Errorf("%d lines became %d", want, have)
			}
			for _, d := range r.diagnostics {
				_ = d.String()
			}
			unit("x.metal", r, true)
		}
	})
}

func TestUnroll(t *testing.T) {
	for text, want := range map[string]string{
		"#pragma unroll":       "#pragma unroll",
		"#pragma unroll 1":     "#pragma unroll 1",
		"#pragma unroll(4)":    "#pragma unroll(4)",
		"#pragma unroll N":     "#pragma unroll",
		"#pragma unroll (N+1)": "#pragma unroll",
	} {
		r := rewrite("x.metal", text+"\n", func(string) bool { return true })
		assert.Equal(t, want+"\n", r.text)
	}
}
