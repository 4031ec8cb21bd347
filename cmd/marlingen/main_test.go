package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/msl"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"marlingen": main})
}

// needClang skips a test where there is no clang that reads Metal, unless it
// must be there.
func needClang(t *testing.T) {
	t.Helper()
	_, err := msl.Check(t.Context(), "empty.metal", "")
	var absent *msl.ToolchainError
	if errors.As(err, &absent) && os.Getenv("MARLINGEN_REQUIRE_CLANG") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err)
}

// Each testdata/script/*.txtar is a session with the command. $ROOT is the
// project, $MARLINGEN the command's path; project DIR copies its specs there, appendline FILE LINE
// adds a line, replace FILE OLD NEW changes some text, truncate FILE SIZE cuts.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// The same for sessions that need clang.
func TestMetalScripts(t *testing.T) {
	needClang(t)
	runScripts(t, "testdata/metal")
}

func runScripts(t *testing.T, dir string, env ...string) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	program, err := exec.LookPath("marlingen") // as testscript.Main set it up
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", root)
			e.Setenv("MARLINGEN", program)
			e.Setenv("XDG_CACHE_HOME", cache) // of what clang compiled
			e.Vars = append(e.Vars, env...)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"appendline": func(ts *testscript.TestScript, _ bool, args []string) {
				f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
				ts.Check(err)
				_, err = f.WriteString(args[1] + "\n")
				ts.Check(errors.Join(err, f.Close()))
			},
			"replace": func(ts *testscript.TestScript, _ bool, args []string) {
				b, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Replace(b, []byte(args[1]), []byte(args[2]), 1), 0o644))
			},
			"truncate": func(ts *testscript.TestScript, _ bool, args []string) {
				size, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
			},
			"project": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, dir := range []string{"specs", "generated"} {
					ts.Check(os.CopyFS(filepath.Join(ts.MkAbs(args[0]), dir), os.DirFS(filepath.Join(root, dir))))
				}
			},
		},
	})
}
