package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A Journal is what a search has measured, a line of JSON each. What it holds is
// not measured again.
type Journal struct {
	path    string
	file    *os.File // nil for one in memory
	entries map[string]json.RawMessage
	Resumed int    // entries that were there
	Dropped string // why those of an earlier search were not taken; empty if there were none
}

// A Head says what a journal's measurements hold for.
type Head struct {
	Version int    `json:"tune"` // of the format
	Device  string `json:"device"`
	Driver  string `json:"driver"`
	Profile string `json:"profile"`
	Shape   string `json:"shape"`
	Options string `json:"options"` // that decide what is measured, and how
}

// headVersion is that of the format.
const headVersion = 1

// line is an entry.
type line struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// OpenJournal opens the journal at path, or begins one where there is none, or
// one of other measurements. A last line that was not completed is dropped; any
// other that makes no sense is an error, with its place.
func OpenJournal(path string, head Head) (*Journal, error) {
	head.Version = headVersion
	j := &Journal{path: path, entries: map[string]json.RawMessage{}}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole, err := j.read(text, head)
	if err != nil {
		return nil, err
	}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, err
	}
	if err := errors.Join(j.file.Truncate(int64(whole)), seek(j.file, int64(whole))); err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	j.Resumed = len(j.entries)
	if whole > 0 {
		return j, nil
	}
	if err := j.write(head); err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	return j, nil
}

func seek(f *os.File, to int64) error {
	_, err := f.Seek(to, io.SeekStart)
	return err
}

// read takes the entries of text, if it is a journal of head, and returns how
// many of its bytes are whole lines.
func (j *Journal) read(text []byte, head Head) (whole int, err error) {
	whole = bytes.LastIndexByte(text, '\n') + 1
	for i, l := range bytes.Split(text[:whole], []byte("\n")) {
		if len(l) == 0 {
			continue
		}
		if i == 0 {
			var have Head
			if err := json.Unmarshal(l, &have); err != nil {
				return 0, fmt.Errorf("%s:1: it is no journal of tune: %w", j.path, err)
			}
			if have != head {
				if whole > len(l)+1 { // it has entries
					j.Dropped = difference(have, head)
				}
				return 0, nil
			}
			continue
		}
		var e line
		if err := json.Unmarshal(l, &e); err != nil || e.Key == "" {
			return 0, fmt.Errorf("%s:%d: it is no entry: remove the file to begin anew", j.path, i+1)
		}
		j.entries[e.Key] = e.Value
	}
	return whole, nil
}

// difference says in what two heads differ.
func difference(have, want Head) string {
	for _, f := range []struct{ what, have, want string }{
		{"format", fmt.Sprint(have.Version), fmt.Sprint(want.Version)},
		{"device", have.Device, want.Device},
		{"driver", have.Driver, want.Driver},
		{"profile", have.Profile, want.Profile},
		{"shape", have.Shape, want.Shape},
		{"options", have.Options, want.Options},
	} {
		if f.have != f.want {
			return fmt.Sprintf("its %s is %q, not %q", f.what, f.have, f.want)
		}
	}
	return ""
}

// get reads the entry of a key into v, and reports whether there is one.
func (j *Journal) get(key string, v any) (bool, error) {
	e, ok := j.entries[key]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(e, v); err != nil {
		return false, fmt.Errorf("%s: entry %q: %w", j.path, key, err)
	}
	return true, nil
}

// put adds an entry. It is on the disk, or not there at all, whenever the process
// ends.
func (j *Journal) put(key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	j.entries[key] = value
	return j.write(line{key, value})
}

// write adds a line, in one piece.
func (j *Journal) write(v any) error {
	if j.file == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(text, '\n'))
	return err
}

// Path returns the file of j.
func (j *Journal) Path() string { return j.path }

// Close closes the file.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// Remove removes the file of a closed journal, which nobody needs any more.
func (j *Journal) Remove() error { return os.Remove(j.path) }
