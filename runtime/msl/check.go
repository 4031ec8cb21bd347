package msl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// Check reports what Metal's compiler would find wrong with a text, as far as we
// can tell; name is its file, up to the first #line. It reports all there is at
// once, in the order of files and lines. The error is for a text that could not
// be checked, such as a *ToolchainError.
//
// Files that the text includes are looked for beside it and in the directories of
// include.
func Check(ctx context.Context, name, text string, include ...string) ([]Diagnostic, error) {
	c, err := newCompiler(ctx, "")
	if err != nil {
		return nil, err
	}
	return c.check(ctx, name, text, include...)
}

func (c *compiler) check(ctx context.Context, name, text string, include ...string) ([]Diagnostic, error) {
	expanded, words, err := c.preprocess(ctx, name, text, include...)
	if err != nil || words != "" {
		return parseDiagnostics(words), err
	}
	r := rewrite(name, expanded, func(string) bool { return true })
	ds := r.diagnostics
	source := unit(name, r, false)
	_, output, err := c.clang(ctx, source, append(c.language(), "-fsyntax-only", "-Wall", "-Wno-unused", "-Wno-sign-compare")...)
	refused := errors.As(err, new(*exec.ExitError))
	if err != nil && !refused {
		return nil, err
	}
	found := parseDiagnostics(output)
	if refused && !Failed(found) && !Failed(ds) {
		return nil, fmt.Errorf("msl: clang: %w: %s", err, output)
	}
	ds = append(ds, found...)
	linted, err := c.lint(ctx, source)
	if err != nil {
		return nil, err
	}
	return sortDiagnostics(unique(append(ds, linted...))), nil
}
