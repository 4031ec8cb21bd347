package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// A canceling writer cancels once it is written to for the nth time.
type canceling struct {
	bytes.Buffer
	n      int
	cancel func()
}

func (w *canceling) Write(p []byte) (int, error) {
	if w.n--; w.n == 0 {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

// Interrupted, generate ends with what there is by then.
func TestInterruptGenerate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, errs := &canceling{n: 5, cancel: cancel}, &bytes.Buffer{}
	status := run(ctx, []string{"generate", "--prompt", "func main() {", "--max-tokens", "1000"}, out, errs)
	require.Equal(t, 130, status)
	require.Contains(t, errs.String(), "stopped at interrupted\nmarlingen: interrupted\n")
	require.Contains(t, out.String(), "func main() {")
	require.Equal(t, byte('\n'), out.Bytes()[out.Len()-1])
}

// Interrupted, quantize leaves nothing behind.
func TestInterruptQuantize(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	status := run(ctx, []string{"quantize", "--model", "../../testdata/glm-tiny", "--out", filepath.Join(dir, "out"),
		"--target-bpw", "4", "--calibrate", "../../testdata/calibration.txt"}, &bytes.Buffer{}, &bytes.Buffer{})
	require.Equal(t, 130, status)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Interrupted, bench leaves a result that says so, and that nobody may quote.
func TestInterruptBench(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	small := []string{"--shape", "64,48,8,2", "--threads", "1", "--memory", "2"}
	for benchmark, args := range map[string][]string{
		"layers":  append([]string{"bench", "--quick"}, small...),
		"decode":  append([]string{"bench", "decode"}, small...),
		"prefill": {"bench", "prefill", "--model", "../../testdata/glm-tiny-mixed", "--batches", "3"},
		"kernels": append([]string{"bench", "kernels", "--rows", "1"}, small...),
	} {
		t.Run(benchmark, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "run.json")
			history := filepath.Join(t.TempDir(), "runs.jsonl")
			status := run(ctx, append(args, "--result", file, "--history", history), &bytes.Buffer{}, &bytes.Buffer{})
			require.Equal(t, 130, status)
			d, err := readResult(file)
			require.NoError(t, err)
			require.Equal(t, benchmark, d.Benchmark)
			require.Equal(t, result.Interrupted, d.Status)
			require.Empty(t, d.Cells)
			entries, err := result.ReadAll(history)
			require.NoError(t, err)
			require.Equal(t, []result.Entry{{File: history, Line: 1, Document: d}}, entries)
			_, stderr := command(t, 1, "verify-result", file)
			require.Contains(t, stderr, `the run is "interrupted", not complete: `)
		})
	}
}

// Interrupted, tune keeps what it has measured, and writes nothing else.
func TestInterruptTune(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"specs", "generated"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("../..", dir))))
	}
	state := filepath.Join(t.TempDir(), "state.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // until it has measured something
		for ctx.Err() == nil {
			if text, err := os.ReadFile(state); err == nil && bytes.Contains(text, []byte(`"took_ms"`)) {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var errs bytes.Buffer
	status := run(ctx, []string{"tune", "--root", root, "--profile", "glm47", "--families", "decode", "--memory", "60", "--sample", "20ms", "--state", state},
		&bytes.Buffer{}, &errs)
	require.Equal(t, 130, status, errs.String())
	require.Contains(t, errs.String(), "what was measured is in "+state+"; the same command goes on from there\n")
	require.FileExists(t, state)
	require.NoDirExists(t, filepath.Join(root, "specs/tuned"))
	command(t, 0, "regenerate", "--root", root, "--check")
}
