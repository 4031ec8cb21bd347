package main

import (
	"context"
	"fmt"
	"io"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal"
)

type compileCmd struct {
	Metal compileMetalCmd `cmd:"" default:"withargs" help:"One library for Apple's GPUs, on a Mac."`
	CUDA  compileCUDACmd  `cmd:"" name:"cuda" help:"PTX for NVIDIA's GPUs."`
}

type compileMetalCmd struct {
	Out string `help:"File to write." default:"generated/marlin.metallib" type:"path"`
}

// Help is shown by marlingen compile metal --help.
func (*compileMetalCmd) Help() string {
	return `Compiles the generated Metal sources, those that the command was built with, into one library by
Apple's compiler; a warning is an error. The library carries the digest of the sources' manifest. A
metal device that finds it among its sources, as marlin.metallib, loads it in their place; it refuses
one of another digest. Needs macOS and Xcode: it runs xcrun metal and xcrun metallib.`
}

func (c *compileMetalCmd) Run(ctx context.Context, a *app) error {
	library, err := metal.Compile(ctx, generated.Manifest.Digest, generated.All.Every(runtime.Metal3), generated.Sources)
	if err != nil {
		return err
	}
	err = writeFile(c.Out, func(w io.Writer) error {
		_, err := w.Write(library)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: %d bytes, digest %s\n", c.Out, len(library), generated.Manifest.Digest)
	return nil
}
