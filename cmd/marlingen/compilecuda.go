package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

type compileCUDACmd struct {
	Check bool   `help:"Write nothing; name every stale, missing or stray file, and exit with 1 if there is one."`
	Root  string `help:"Folder that holds specs/ and generated/." default:"." type:"existingdir"`
}

// Help is shown by marlingen compile cuda --help.
func (*compileCUDACmd) Help() string {
	return `Compiles what specs/ and templates/ below the root generate to PTX, which the drivers of NVIDIA's
GPUs take, and writes it beside the text: a file for each source. Needs clang
17 or newer; --check compares only with the version that wrote a file, and does without any other.

  marlingen regenerate && marlingen compile cuda
  marlingen compile cuda --check`
}

// A compilation is what a root's sources are compiled to, by file.
type compilation struct {
	manifest runtime.Manifest
	table    *runtime.Table
	sources  gen.Files
}

func (c *compileCUDACmd) Run(ctx context.Context, a *app) error {
	in, err := c.load()
	if err != nil {
		return err
	}
	dir := filepath.Join(c.Root, "generated")
	have, err := filepath.Glob(filepath.Join(dir, "*.ptx"))
	if err != nil {
		return err
	}
	names := in.ptxNames()
	var changes []gen.Change
	for _, path := range have {
		if !slices.Contains(slices.Collect(maps.Values(names)), filepath.Base(path)) {
			changes = append(changes, gen.Change{Path: path, What: "stray"})
		}
	}
	for _, source := range slices.Sorted(maps.Keys(names)) {
		path := filepath.Join(dir, names[source])
		change, err := c.one(ctx, in, source, path)
		if err != nil {
			return err
		}
		if change != "" {
			changes = append(changes, gen.Change{Path: path, What: change})
		}
	}
	for _, ch := range changes {
		if ch.What == "stray" && !c.Check {
			if err := os.Remove(ch.Path); err != nil {
				return err
			}
		}
		fmt.Fprintln(a.out, ch)
	}
	if c.Check && len(changes) > 0 {
		fmt.Fprintln(a.err, "marlingen: generated/ is out of date; run marlingen compile cuda")
		return errFailed
	}
	return nil
}

// load returns what there is to compile.
func (c *compileCUDACmd) load() (*compilation, error) {
	model, err := gen.Read(os.DirFS(c.Root), bodies(c.Root))
	if err != nil {
		return nil, fmt.Errorf("specs:\n%w", err)
	}
	files, err := gen.Render(model, bodies(c.Root))
	if err != nil {
		return nil, err
	}
	return &compilation{model.Manifest(files), model.Table().Every(runtime.CUDA), files}, nil
}

// kernels returns the rows of a source.
func (in *compilation) kernels(source string) (ks []*runtime.Kernel) {
	for _, k := range in.table.Kernels {
		if k.Source == source {
			ks = append(ks, k)
		}
	}
	return ks
}

// ptxNames returns the file that each source is compiled to.
func (in *compilation) ptxNames() map[string]string {
	names := make(map[string]string)
	for _, s := range in.manifest.Sources {
		if len(in.kernels(s.Name)) > 0 {
			names[s.Name] = strings.TrimSuffix(s.Name, ".metal") + ".ptx"
		}
	}
	return names
}

// one writes or checks the file at path, and returns what was wrong with it.
func (c *compileCUDACmd) one(ctx context.Context, in *compilation, source, path string) (string, error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	change := "stale"
	if err != nil {
		change = "missing"
	}
	version, err := msl.Compiler(ctx)
	if missing := new(msl.ToolchainError); c.Check && (errors.As(err, &missing) || !bytes.HasPrefix(old, in.head(version))) {
		// Another compiler's text can only be held to its first line.
		if change == "missing" || !bytes.HasPrefix(old, in.digestLine()) {
			return change, nil
		}
		return "", nil
	}
	if err != nil {
		return "", err
	}
	ptx, err := msl.PTX(ctx, source, string(in.sources[source]), in.kernels(source))
	if err != nil {
		return "", err
	}
	text := slices.Concat(in.head(version), ptx)
	if bytes.Equal(text, old) {
		return "", nil
	}
	if c.Check {
		return change, nil
	}
	return change, writeFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// digestLine is the first line of a file: what it was compiled from.
func (in *compilation) digestLine() []byte {
	return fmt.Appendf(nil, "// marlingen %s\n", in.manifest.Digest)
}

// head is the first lines of a file.
func (in *compilation) head(version string) []byte {
	return fmt.Appendf(in.digestLine(), "// by marlingen compile with clang %s; DO NOT EDIT.\n", version)
}
