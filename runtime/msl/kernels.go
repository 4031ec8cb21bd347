package msl

import (
	"context"
	"errors"
	"fmt"
)

// Kernels returns the symbols of the kernels that a text declares or
// instantiates, in its order; name is its file. It compiles nothing, and needs
// clang only for a text with macros. The error is for a text that Check would
// complain of, as far as reading it shows.
func Kernels(ctx context.Context, name, text string, include ...string) ([]string, error) {
	expanded := text
	if hasMacros(text) {
		c, err := newCompiler(ctx, "")
		if err != nil {
			return nil, err
		}
		var words string
		expanded, words, err = c.preprocess(ctx, name, text, include...)
		if err != nil {
			return nil, err
		}
		if words != "" {
			return nil, errors.New(words)
		}
	}
	r := rewrite(name, expanded, func(string) bool { return true })
	if Failed(r.diagnostics) {
		return nil, fmt.Errorf("msl: %s", describe(r.diagnostics))
	}
	var symbols []string
	for _, f := range r.functions {
		symbols = append(symbols, f.symbol)
	}
	return symbols, nil
}
