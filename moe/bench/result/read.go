package result

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// History is the ending of a file's name that holds one document per line.
const History = ".jsonl"

// An Entry is one document of a file, or why it cannot be read.
type Entry struct {
	File     string
	Line     int       // from 1; 0 in a file of one document
	Document *Document // nil if there is an error
	Err      error
}

// Place returns FILE or FILE:LINE.
func (e Entry) Place() string {
	if e.Line == 0 {
		return e.File
	}
	return fmt.Sprintf("%s:%d", e.File, e.Line)
}

// ReadAll reads the documents of a file: one or, in a history, one per line. It
// is an error if there are none. What is wrong with one of them is told in its
// entry; that the last one was cut off while it was written, as well.
func ReadAll(path string) ([]Entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(path, History) {
		d, err := Parse(data)
		return []Entry{{File: path, Document: d, Err: err}}, nil
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: the history is empty", path)
	}
	var entries []Entry
	for line := range bytes.Lines(data) {
		e := Entry{File: path, Line: len(entries) + 1}
		e.Document, e.Err = Parse(line)
		if e.Err != nil && !bytes.HasSuffix(line, []byte("\n")) {
			e.Err = fmt.Errorf("the line ends before the result does: %w", e.Err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
