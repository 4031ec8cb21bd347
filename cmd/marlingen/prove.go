package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing/fstest"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl/proof"
	"github.com/marlingen/marlingen/templates"
)

type proveCmd struct {
	Tuples []runtime.BitTuple `help:"Only kernels of these tuples, and those that run any." placeholder:"TUPLE"`
	Family []string           `help:"Only kernels of these families." placeholder:"NAME"`
	Root   string             `help:"Prove what specs/ and templates/ below this folder generate, not what the command was built with." type:"existingdir" placeholder:"DIR"`
	JSON   bool               `help:"Write JSON."`
}

// Help is shown by marlingen prove --help.
func (*proveCmd) Help() string {
	return `Holds every generated kernel to all that can be proved without an Apple GPU. Check reads its source
as Apple's front end would; suite runs it, compiled by clang for this machine, against a float64
oracle at odd sizes, its threads forward, in reverse, shuffled, and once with fast math; checker
runs it again and watches each access: races, bounds, barriers, threadgroup memory that nobody
wrote. Exits with 1 if a kernel fails. Needs clang 17 or newer, on Linux.

  marlingen prove
  marlingen prove --tuples 6_2_3
  marlingen prove --root . --family decode      # after editing a spec or a template`
}

// A proofRow is the JSON form of what came of a kernel. Empty strings are
// proofs.
type proofRow struct {
	Symbol  string       `json:"symbol"`
	Pass    runtime.Pass `json:"pass"`
	Family  string       `json:"family,omitempty"`
	Kind    runtime.Kind `json:"kind"`
	Check   string       `json:"check"`
	Suite   string       `json:"suite"`
	Checker string       `json:"checker"`
	MS      float64      `json:"ms"`
	OK      bool         `json:"ok"`
}

func (c *proveCmd) Run(ctx context.Context, a *app) error {
	tbl, sources, err := c.load()
	if err != nil {
		return err
	}
	show, end := a.progress("proving")
	start := time.Now()
	results, err := proof.Run(ctx, tbl, sources, proof.Options{Kernel: c.wants, Progress: show})
	end()
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return errors.New("no kernel is of these tuples and families")
	}
	document := []proofRow{}
	var rows []table.Row
	failed := 0
	for _, r := range results {
		k := r.Kernel
		document = append(document, proofRow{
			k.Symbol, k.Pass, k.Family, k.Kind, words(r.Check), words(r.Suite), words(r.Checker), milliseconds(r.Time), r.Err() == nil,
		})
		if r.Err() != nil {
			failed++
		}
		rows = append(rows, table.Row{k.Symbol, verdict(r.Check), verdict(r.Suite), verdict(r.Checker), fmt.Sprintf("%.0f", milliseconds(r.Time))})
	}
	if c.JSON {
		if err := a.json(document); err != nil {
			return err
		}
	} else {
		a.table(table.Row{"kernel", "check", "suite", "checker", "ms"}, rows, 5)
		fmt.Fprintf(a.out, "\n%d kernels, %d failed, in %.0f s\n", len(results), failed, time.Since(start).Seconds())
		for _, r := range results {
			if err := r.Err(); err != nil {
				fmt.Fprintf(a.err, "%s:\n%v\n", r.Kernel.Symbol, err)
			}
		}
	}
	if failed > 0 {
		return errFailed
	}
	return nil
}

// load returns what is to be proved.
func (c *proveCmd) load() (*runtime.Table, fs.FS, error) {
	if c.Root == "" {
		return generated.All, generated.Sources, nil
	}
	model, err := gen.Read(os.DirFS(c.Root), bodies(c.Root))
	if err != nil {
		return nil, nil, fmt.Errorf("specs:\n%w", err)
	}
	files, err := gen.Render(model, bodies(c.Root))
	if err != nil {
		return nil, nil, err
	}
	sources := fstest.MapFS{}
	for name, content := range files {
		sources[name] = &fstest.MapFile{Data: content}
	}
	return model.Table(), sources, nil
}

// wants reports whether the flags ask for k.
func (c *proveCmd) wants(k *runtime.Kernel) bool {
	if len(c.Family) > 0 && !slices.Contains(c.Family, k.Family) {
		return false
	}
	return len(c.Tuples) == 0 || k.Kind != runtime.Helper && slices.ContainsFunc(c.Tuples, k.Runs)
}

// bodies returns the templates of the project in root: its own or, if it has
// none, those that marlingen brings along.
func bodies(root string) fs.FS {
	if own := filepath.Join(root, "templates"); exists(own) {
		return os.DirFS(own)
	}
	return templates.FS
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	return "FAILED"
}
