package result_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/bench/result"
)

func TestReadAll(t *testing.T) {
	file := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, data, 0o644))
		return path
	}
	first, second := good(), good()
	data, err := first.Encode()
	require.NoError(t, err)
	line := func(d *result.Document) []byte {
		data, err := json.Marshal(d)
		require.NoError(t, err)
		return append(data, '\n')
	}

	path := file("run.json", data)
	entries, err := result.ReadAll(path)
	require.NoError(t, err)
	require.Equal(t, []result.Entry{{File: path, Document: first}}, entries)
	require.Equal(t, path, entries[0].Place())

	path = file("runs.jsonl", bytes.Join([][]byte{line(first), []byte("\n"), line(second), line(first)[:99]}, nil))
	entries, err = result.ReadAll(path)
	require.NoError(t, err)
	require.Len(t, entries, 4)
	require.Equal(t, first, entries[0].Document)
	require.ErrorContains(t, entries[1].Err, "not a result: EOF")
	require.Equal(t, second, entries[2].Document)
	require.Equal(t, path+":3", entries[2].Place())
	require.Nil(t, entries[3].Document)
	require.ErrorContains(t, entries[3].Err, "the line ends before the result does: not a result: unexpected EOF")

	// The last line needs no end if the document has one.
	entries, err = result.ReadAll(file("runs.jsonl", bytes.TrimSpace(line(first))))
	require.NoError(t, err)
	require.Equal(t, first, entries[0].Document)

	_, err = result.ReadAll(file("empty.jsonl", nil))
	require.ErrorContains(t, err, "the history is empty")
	entries, err = result.ReadAll(file("empty.json", nil))
	require.NoError(t, err)
	require.ErrorContains(t, entries[0].Err, "not a result")
	_, err = result.ReadAll(filepath.Join(t.TempDir(), "nothing.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Whatever parses is written back as what parses to the same.
func FuzzParse(f *testing.F) {
	data, err := good().Encode()
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`{"schema": 2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := result.Parse(data)
		if err != nil {
			return
		}
		again, err := d.Encode()
		require.NoError(t, err)
		back, err := result.Parse(again)
		require.NoError(t, err)
		require.Equal(t, d, back)
		_ = d.Check(d.Digest)
	})
}

// What is appended is read; what was cut off stays by itself.
func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs.jsonl")
	first, second := good(), good()
	second.ID = result.NewID()
	require.NoError(t, first.Append(path))
	require.NoError(t, second.Append(path))
	entries, err := result.ReadAll(path)
	require.NoError(t, err)
	require.Equal(t, []result.Entry{{File: path, Line: 1, Document: first}, {File: path, Line: 2, Document: second}}, entries)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data[:len(data)-100], 0o644))
	require.NoError(t, second.Append(path))
	entries, err = result.ReadAll(path)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, first, entries[0].Document)
	require.Error(t, entries[1].Err)
	require.Equal(t, path+":2", entries[1].Place())
	require.Equal(t, second, entries[2].Document)

	require.ErrorContains(t, first.Append(filepath.Join(t.TempDir(), "runs.json")), "the name of a history ends in .jsonl")
	require.Error(t, first.Append(filepath.Join(t.TempDir(), "no", "runs.jsonl")))
}
