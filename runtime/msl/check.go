package msl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/marlingen/marlingen/runtime"
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
	return c.check(ctx, metalThreadgroupBytes, name, text, include...)
}

// CheckSource is Check for a generated source of t. Where rows are for a target
// with more threadgroup memory than Apple's GPUs have, they may use what they say.
func CheckSource(ctx context.Context, t *runtime.Table, source, text string) ([]Diagnostic, error) {
	c, err := newCompiler(ctx, "")
	if err != nil {
		return nil, err
	}
	threadgroupBytes := metalThreadgroupBytes
	for _, k := range t.Kernels {
		if k.Source == source {
			threadgroupBytes = max(threadgroupBytes, k.ThreadgroupBytes)
		}
	}
	return c.check(ctx, threadgroupBytes, "generated/"+source, text)
}

func (c *compiler) check(ctx context.Context, threadgroupBytes int, name, text string, include ...string) ([]Diagnostic, error) {
	expanded, words, err := c.preprocess(ctx, name, text, include...)
	if err != nil || words != "" {
		return parseDiagnostics(words), err
	}
	r := rewrite(name, expanded, func(string) bool { return true })
	ds := r.diagnostics
	source := unit(name, r, false)
	_, output, err := c.clang(ctx, source, append(c.language(), within(threadgroupBytes), "-fsyntax-only", "-Wall", "-Wno-unused", "-Wno-sign-compare")...)
	refused := errors.As(err, new(*exec.ExitError))
	if err != nil && !refused {
		return nil, err
	}
	found := parseDiagnostics(output)
	if refused && !Failed(found) && !Failed(ds) {
		return nil, fmt.Errorf("msl: clang: %w: %s", err, output)
	}
	ds = append(ds, found...)
	linted, err := c.lint(ctx, source, within(threadgroupBytes))
	if err != nil {
		return nil, err
	}
	return sortDiagnostics(unique(append(ds, linted...))), nil
}
