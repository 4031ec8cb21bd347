// Package marlingen turns kernel specs into Metal compute shaders and the Go
// tables that dispatch them, and runs mixed-bit mixture-of-experts layers with
// what it made.
//
// There are three ways to use it. In this module or a copy of its layout, edit
// specs/ and run
//
//	go generate ./...
//
// which does what the command does:
//
//	marlingen regenerate          # write generated/
//	marlingen regenerate --check  # name what is stale, missing or stray
//
// And in a program, import what was generated, package runtime to choose and
// launch kernels, a device such as runtime/cpu, and package moe to run layers.
package marlingen

import (
	"embed"
	"io/fs"
)

//go:generate go run ./cmd/marlingen regenerate
//go:generate go run ./cmd/marlingen schema --out specs/schemas
//go:generate go run ./cmd/marlingen compile cuda

//go:embed testdata/glm-tiny-mixed
var testdata embed.FS

// GlmTinyMixed returns the checkpoint that marlingen brings along: a small
// glm4_moe_lite model, quantised to the mixture of profile glm47, with
// reference activations of the original.
func GlmTinyMixed() fs.FS {
	dir, err := fs.Sub(testdata, "testdata/glm-tiny-mixed")
	if err != nil {
		panic(err) // the path is valid
	}
	return dir
}
