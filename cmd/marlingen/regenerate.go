package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/marlingen/marlingen/gen"
)

type regenerateCmd struct {
	Check bool   `help:"Write nothing; name every stale, missing or stray file, and exit with 1 if there is one."`
	Root  string `help:"Folder that holds specs/ and generated/." default:"." type:"existingdir"`
	JSON  bool   `help:"Write JSON."`
}

// Help is shown by marlingen regenerate --help.
func (*regenerateCmd) Help() string {
	return `Reads specs/ and templates/ below the root and writes generated/. A root without
templates/ uses those that marlingen brings along. Mistakes in specs are reported all at once,
each with its file and line; nothing is written then.

  marlingen regenerate            # after editing specs/ or templates/
  marlingen regenerate --check    # in CI`
}

// A regeneration is the JSON form of what regenerate did or would do.
type regeneration struct {
	Changes []change `json:"changes"`
	Files   int      `json:"files"`
	Stale   []string `json:"stale"` // what of specs/tuned is left out
}

type change struct {
	Path string `json:"path"`
	What string `json:"what"`
}

func (c *regenerateCmd) Run(a *app) error {
	model, err := gen.Read(os.DirFS(c.Root), bodies(c.Root))
	if err != nil {
		return fmt.Errorf("specs:\n%w", err)
	}
	for _, s := range model.Stale {
		fmt.Fprintf(a.err, "marlingen: %v\n", s)
	}
	files, err := gen.Render(model, bodies(c.Root))
	if err != nil {
		return fmt.Errorf("specs:\n%w", err)
	}
	step := files.Write
	if c.Check {
		step = files.Check
	}
	changes, err := step(filepath.Join(c.Root, "generated"))
	if err != nil {
		return err
	}
	if c.JSON {
		r := regeneration{Changes: []change{}, Files: len(files), Stale: []string{}}
		for _, s := range model.Stale {
			r.Stale = append(r.Stale, s.Error())
		}
		for _, ch := range changes {
			r.Changes = append(r.Changes, change(ch))
		}
		if err := a.json(r); err != nil {
			return err
		}
	} else {
		for _, ch := range changes {
			fmt.Fprintln(a.out, ch)
		}
	}
	if c.Check && len(changes) > 0 {
		fmt.Fprintln(a.err, "marlingen: generated/ is out of date; run marlingen regenerate")
		return errFailed
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
