package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/gen"
)

type schemaCmd struct {
	Kind  string `arg:"" optional:"" help:"Kind of spec: ${kinds}."`
	Out   string `help:"Write the schemas of all kinds to this folder." type:"path" placeholder:"DIR"`
	Check bool   `help:"With --out: write nothing; name every stale, missing or stray file, and exit with 1 if there is one."`
}

// Help is shown by marlingen schema --help.
func (*schemaCmd) Help() string {
	return `Writes the JSON schema of a kind of spec, for editors and other programs. Every spec names the one of
its kind in its first line, and editors with yaml-language-server complete and check it. What only all
specs together can tell is told by regenerate.

  marlingen schema family
  marlingen schema --out specs/schemas --check`
}

// specKinds lists the kinds of spec.
func specKinds() string {
	var names []string
	for _, k := range gen.SpecKinds {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

func (c *schemaCmd) Run(a *app) error {
	schemas, err := gen.Schemas()
	if err != nil {
		return err
	}
	if (c.Kind == "") == (c.Out == "") {
		return fmt.Errorf("name a kind of spec, or a folder with --out; the kinds are %s", specKinds())
	}
	if c.Out == "" {
		if c.Check {
			return fmt.Errorf("--check needs --out")
		}
		i := slices.IndexFunc(gen.SpecKinds, func(k gen.SpecKind) bool { return k.Name == c.Kind })
		if i < 0 {
			return fmt.Errorf("no kind of spec is called %q; there are %s", c.Kind, specKinds())
		}
		_, err := a.out.Write(schemas[gen.SpecKinds[i].File()])
		return err
	}
	step := schemas.Write
	if c.Check {
		step = schemas.Check
	}
	changes, err := step(c.Out)
	if err != nil {
		return err
	}
	for _, ch := range changes {
		fmt.Fprintln(a.out, ch)
	}
	if c.Check && len(changes) > 0 {
		fmt.Fprintf(a.err, "marlingen: %s is out of date; run marlingen schema --out %s\n", c.Out, c.Out)
		return errFailed
	}
	return nil
}
