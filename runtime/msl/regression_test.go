package msl_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/msl"
)

// TestOthers checks shaders that people run, from a checkout that an environment
// variable points at.
func TestOthers(t *testing.T) {
	for _, c := range []struct{ variable, file string }{
		{"MARLINGEN_GGML", "ggml-metal.metal"},
		{"MARLINGEN_METAL_MARLIN", "gemm_trellis_moe.metal"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			root := os.Getenv(c.variable)
			if root == "" {
				t.Skip("not set")
			}
			found := ""
			require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if filepath.Base(path) == c.file {
					found = path
				}
				return err
			}))
			text, err := os.ReadFile(found)
			require.NoError(t, err)
			dir := filepath.Dir(found)
			ds, err := msl.Check(t.Context(), found, string(text), dir, filepath.Dir(dir), filepath.Join(filepath.Dir(dir), "include"))
			skip(t, err)
			for _, d := range ds {
				if d.Severity == msl.Error {
					t.Error(d)
				}
			}
		})
	}
}
