package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"marlingen": main})
}

// Each testdata/script/*.txtar is a session with the command. $ROOT is the
// project; project DIR copies its specs there, appendline FILE LINE adds a line.
func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", root)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"appendline": func(ts *testscript.TestScript, _ bool, args []string) {
				f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
				ts.Check(err)
				_, err = f.WriteString(args[1] + "\n")
				ts.Check(errors.Join(err, f.Close()))
			},
			"project": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, dir := range []string{"specs", "generated"} {
					ts.Check(os.CopyFS(filepath.Join(ts.MkAbs(args[0]), dir), os.DirFS(filepath.Join(root, dir))))
				}
			},
		},
	})
}
