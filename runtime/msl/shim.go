package msl

import (
	"bytes"
	"embed"
	"io/fs"
	"strings"
)

// shim holds Metal's library and the runner.
//
//go:embed shim
var shim embed.FS

// headers holds the names under which Metal's library is included. All of it is
// there from the start; these headers add macros.
var headers = []string{
	"metal_stdlib", "metal_atomic", "metal_common", "metal_compute", "metal_geometric", "metal_integer", "metal_limits", "metal_math",
	"metal_matrix", "metal_numeric", "metal_pack", "metal_packed_vector", "metal_quadgroup", "metal_relational", "metal_simdgroup",
	"metal_simdgroup_matrix", "metal_type_traits", "metal_types",
}

// shimName begins the name of the directory that the shim is written to.
const shimName = "msl-shim-"

// inShim reports whether a file that clang names is ours.
func inShim(file string) bool {
	return strings.Contains(file, shimName) || strings.HasPrefix(file, "<")
}

// shimFiles returns the files of the shim by name.
func shimFiles() map[string][]byte {
	files := make(map[string][]byte)
	err := fs.WalkDir(shim, "shim", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[strings.TrimPrefix(name, "shim/")], err = shim.ReadFile(name)
		return err
	})
	if err != nil {
		panic(err) // it is embedded
	}
	for _, name := range headers {
		files["std/"+name] = []byte("#include \"../metal/constants.h\"\n")
	}
	for name, content := range files { // the same on every platform
		files[name] = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	}
	return files
}
