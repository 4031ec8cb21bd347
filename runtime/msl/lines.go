package msl

import (
	"debug/dwarf"
	"debug/elf"
	"path"
	"strings"
	"sync"
)

// A Place is a line of a source. The zero Place is unknown.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// A lineTable finds the places of addresses in a shared object.
type lineTable struct {
	path string
	once sync.Once
	data *dwarf.Data
}

// place returns the place of an address: the innermost that is not in the shim.
func (t *lineTable) place(address uint64) Place {
	t.once.Do(func() {
		if f, err := elf.Open(t.path); err == nil {
			defer f.Close()
			t.data, _ = f.DWARF()
		}
	})
	if t.data == nil || address == 0 {
		return Place{}
	}
	unit, err := t.data.Reader().SeekPC(address)
	if err != nil {
		return Place{}
	}
	lines, err := t.data.LineReader(unit)
	if err != nil || lines == nil {
		return Place{}
	}
	var entry dwarf.LineEntry
	if err := lines.SeekPC(address, &entry); err != nil {
		return Place{}
	}
	p := Place{clean(entry.File.Name), entry.Line}
	calls := t.calls(unit, address, lines.Files())
	for i := len(calls) - 1; i >= 0 && !p.known(); i-- {
		p = calls[i]
	}
	if !p.known() {
		p = before(lines, address)
	}
	return p
}

func (p Place) known() bool { return p.Line > 0 && !inShim(p.File) }

// before returns the last place before an address, for code that clang gives
// none.
func before(lines *dwarf.LineReader, address uint64) (last Place) {
	lines.Reset()
	var entry dwarf.LineEntry
	for lines.Next(&entry) == nil && entry.Address <= address {
		if p := (Place{clean(entry.File.Name), entry.Line}); p.known() {
			last = p
		}
	}
	return last
}

// calls returns the places where the functions that are inlined at an address
// are called, from the outside in.
func (t *lineTable) calls(unit *dwarf.Entry, address uint64, files []*dwarf.LineFile) []Place {
	var places []Place
	r := t.data.Reader()
	r.Seek(unit.Offset)
	if _, err := r.Next(); err != nil {
		return nil
	}
	for {
		e, err := r.Next()
		if err != nil || e == nil || e.Tag == dwarf.TagCompileUnit {
			return places
		}
		if e.Tag == 0 {
			continue
		}
		if !t.covers(e, address) {
			r.SkipChildren()
			continue
		}
		if e.Tag == dwarf.TagInlinedSubroutine {
			file, _ := e.Val(dwarf.AttrCallFile).(int64)
			line, _ := e.Val(dwarf.AttrCallLine).(int64)
			if 0 <= file && int(file) < len(files) && files[file] != nil {
				places = append(places, Place{clean(files[file].Name), int(line)})
			}
		}
	}
}

func (t *lineTable) covers(e *dwarf.Entry, address uint64) bool {
	ranges, err := t.data.Ranges(e)
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if r[0] <= address && address < r[1] {
			return true
		}
	}
	return false
}

// clean returns the name that #line gave a file.
func clean(name string) string { return strings.TrimPrefix(path.Clean(name), "./") }
