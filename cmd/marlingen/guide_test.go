package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// command runs the command and returns what it wrote.
func command(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	got := run(context.Background(), args, &out, &err)
	require.Equal(t, status, got, "%s\n%s", out.String(), err.String())
	return out.String(), err.String()
}

// The guide to kernels is followed to the letter, and what it says happens.
func TestGuide(t *testing.T) {
	needClang(t)
	guide, err := os.ReadFile("../../docs/writing-kernels.md")
	require.NoError(t, err)
	root := t.TempDir()
	for _, dir := range []string{"specs", "templates"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("../..", dir))))
	}
	files := regexp.MustCompile("(?s)`([\\w/.]+)`:\n\n```\\w+\n(.*?)```").FindAllSubmatch(guide, -1)
	require.Len(t, files, 2, "a spec and a template")
	for _, f := range files {
		require.NoError(t, os.WriteFile(filepath.Join(root, string(f[1])), f[2], 0o644))
	}

	_, stderr := command(t, 1, "regenerate", "--root", root)
	refusal := regexp.MustCompile("(?m)^specs/families/prefill4.yaml:.*$").FindString(string(guide))
	require.NotEmpty(t, refusal)
	require.Contains(t, stderr, refusal)

	prefill4 := filepath.Join(root, "specs/families/prefill4.yaml")
	spec, err := os.ReadFile(prefill4)
	require.NoError(t, err)
	require.Contains(t, string(guide), "`rows: 2..16` becomes `rows: 3..16`")
	require.NoError(t, os.WriteFile(prefill4, []byte(strings.Replace(string(spec), "rows: 2..16", "rows: 3..16", 1)), 0o644))
	command(t, 0, "regenerate", "--root", root)
	command(t, 0, "check-metal", filepath.Join(root, "generated/trellis_pair.metal"))
	stdout, _ := command(t, 0, "prove", "--root", root, "--family", "pair")
	require.Contains(t, stdout, "20 kernels, 0 failed")

	// A mistake in the body is told with its line.
	body := filepath.Join(root, "templates/families/pair.metal")
	text, err := os.ReadFile(body)
	require.NoError(t, err)
	line := 1 + strings.Count(string(text[:bytes.Index(text, []byte("weights.decode"))]), "\n")
	require.NoError(t, os.WriteFile(body, bytes.Replace(text, []byte("weights.decode"), []byte("weights.decoed"), 1), 0o644))
	command(t, 0, "regenerate", "--root", root)
	stdout, _ = command(t, 1, "check-metal", filepath.Join(root, "generated/trellis_pair.metal"))
	require.Regexp(t, regexp.MustCompile(`templates/families/pair.metal:`+strconv.Itoa(line)+`:\d+: error: .*decoed`), stdout)
}
