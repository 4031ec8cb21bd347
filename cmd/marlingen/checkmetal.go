package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime/msl"
)

type checkMetalCmd struct {
	Files []string `arg:"" optional:"" help:"Metal files; without any, everything generated."`
	JSON  bool     `help:"Write JSON."`
}

// Help is shown by marlingen check-metal --help.
func (*checkMetalCmd) Help() string {
	return `Reads Metal as Apple's front end would, as far as clang and a Metal library of our own can tell:
address spaces, attributes, forbidden C++, buffer indices, threadgroup memory. Places are those that
#line names, so a mistake in a generated file is told at its template or spec. Exits with 1 if there
is an error. Needs clang 17 or newer.`
}

// A metalCheck is the JSON form of what check-metal found in a file.
type metalCheck struct {
	File        string           `json:"file"`
	Diagnostics []msl.Diagnostic `json:"diagnostics"`
}

func (c *checkMetalCmd) Run(ctx context.Context, a *app) error {
	type text struct {
		name, source string
		check        func(name, source string) ([]msl.Diagnostic, error)
	}
	given := func(name, source string) ([]msl.Diagnostic, error) { return msl.Check(ctx, name, source) }
	ours := func(name, source string) ([]msl.Diagnostic, error) {
		return msl.CheckSource(ctx, generated.All, filepath.Base(name), source)
	}
	var texts []text
	for _, file := range c.Files {
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		texts = append(texts, text{file, string(source), given})
	}
	if len(c.Files) == 0 {
		for _, s := range generated.Manifest.Sources {
			source, err := generated.Sources.ReadFile(s.Name)
			if err != nil {
				return err
			}
			texts = append(texts, text{"generated/" + s.Name, string(source), ours})
		}
	}
	checks := []metalCheck{}
	failed := false
	for _, t := range texts {
		diagnostics, err := t.check(t.name, t.source)
		if err != nil {
			return err
		}
		failed = failed || msl.Failed(diagnostics)
		checks = append(checks, metalCheck{t.name, append([]msl.Diagnostic{}, diagnostics...)})
	}
	if c.JSON {
		if err := a.json(checks); err != nil {
			return err
		}
	} else {
		for _, check := range checks {
			for _, d := range check.Diagnostics {
				fmt.Fprintln(a.out, d)
			}
			if len(check.Diagnostics) == 0 {
				fmt.Fprintf(a.out, "%s: nothing found\n", check.File)
			}
		}
	}
	if failed {
		return errFailed
	}
	return nil
}
