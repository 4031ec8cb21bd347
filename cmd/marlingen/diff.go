package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/marlingen/marlingen/gen"
)

type diffCmd struct {
	Old  string `arg:"" help:"manifest.json of before, or a folder that holds it or generated/." type:"path"`
	New  string `arg:"" help:"That of after." type:"path"`
	JSON bool   `help:"Write JSON."`
}

// Help is shown by marlingen diff --help.
func (*diffCmd) Help() string {
	return `Says what changed from one manifest to another: kernels and sources that came, went or changed, and
how many kernels only moved to another line of the specs. Exits with 0 if nothing changed, 1 if
something did, 2 if it cannot tell.

  git worktree add ../before main && marlingen diff ../before .`
}

func (c *diffCmd) Run(a *app) error {
	older, olderErr := readManifest(c.Old)
	newer, newerErr := readManifest(c.New)
	if err := errors.Join(olderErr, newerErr); err != nil {
		return &statusError{2, err}
	}
	d := gen.DiffManifests(older, newer)
	if c.JSON {
		if err := a.json(d); err != nil {
			return &statusError{2, err}
		}
	} else {
		a.manifestDiff(d)
	}
	if !d.Same() {
		return errFailed
	}
	return nil
}

// readManifest reads the manifest at path or, if that is a folder, in it.
func readManifest(path string) (*gen.ManifestFile, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		name := filepath.Join(path, "manifest.json")
		if !exists(name) {
			name = filepath.Join(path, "generated", "manifest.json")
		}
		path = name
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := gen.ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// manifestDiff writes what changed for people.
func (a *app) manifestDiff(d *gen.ManifestDiff) {
	for _, k := range d.Added {
		fmt.Fprintf(a.out, "+ %s  %s\n", k.Symbol, k.Spec)
	}
	for _, k := range d.Removed {
		fmt.Fprintf(a.out, "- %s  %s\n", k.Symbol, k.Spec)
	}
	for _, k := range d.Changed {
		for _, f := range k.Fields {
			fmt.Fprintf(a.out, "~ %s  %s: %s → %s\n", k.Symbol, f.Field, f.Old, f.New)
		}
	}
	for _, s := range d.Sources {
		fmt.Fprintf(a.out, "%s %s\n", map[string]string{"added": "+", "removed": "-", "changed": "~"}[s.What], s.Name)
	}
	if d.Same() {
		return
	}
	specs := "the same specs"
	if d.Specs {
		specs = "other specs"
	}
	fmt.Fprintf(a.out, "%d kernels added, %d removed, %d changed, %d moved; %d sources differ; %s\n%s → %s\n",
		len(d.Added), len(d.Removed), len(d.Changed), d.Moved, len(d.Sources), specs, d.Old, d.New)
}
