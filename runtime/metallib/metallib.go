// Package metallib reads which functions a Metal library holds, the output of
// Apple's compiler, without a device.
//
// Apple does not describe the format. What is read here is what independent
// descriptions of it agree on: a header of 88 bytes, and a list of functions, each
// a size and tagged fields up to ENDT. All numbers are little endian. A file that
// is not so to the last byte of that list is refused.
package metallib

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// A Type is what a function is for. Apple may add to them.
type Type uint8

// Types of function.
const (
	Vertex       Type = 0
	Fragment     Type = 1
	Kernel       Type = 2
	Unqualified  Type = 3
	Visible      Type = 4
	Extern       Type = 5
	Intersection Type = 6
)

// A Function is one entry point.
type Function struct {
	Name string
	Type Type
}

const (
	magic      = "MTLB"
	headerSize = 88
	entryEnd   = "ENDT"
	smallest   = 4 + len(entryEnd) // bytes of an entry
)

// A header is the first bytes of a file.
type header struct {
	Magic                                            [4]byte
	Platform, Major, Minor                           uint16
	Kind, OS                                         uint8
	OSMajor, OSMinor                                 uint16
	FileSize                                         uint64
	Functions, PublicData, PrivateData, BitcodeBytes section
}

// A section is a part of a file.
type section struct{ Offset, Size uint64 }

// Functions returns the functions of a library, in its order.
func Functions(data []byte) ([]Function, error) {
	var h header
	if len(data) < headerSize || !bytes.HasPrefix(data, []byte(magic)) {
		return nil, fmt.Errorf("not a Metal library: it does not begin with a header of %s", magic)
	}
	if _, err := binary.Decode(data, binary.LittleEndian, &h); err != nil {
		return nil, fmt.Errorf("not a Metal library: %w", err)
	}
	size := uint64(len(data))
	if h.FileSize != size {
		return nil, fmt.Errorf("the header says %d bytes; there are %d", h.FileSize, size)
	}
	for _, s := range []section{h.Functions, h.PublicData, h.PrivateData, h.BitcodeBytes} {
		if s.Offset < headerSize || s.Offset > size || s.Size > size-s.Offset {
			return nil, fmt.Errorf("the header has a section of %d bytes at %d; there are %d bytes", s.Size, s.Offset, size)
		}
	}
	// The size of the list does not count the number before it.
	r := &reader{data: data, at: int(h.Functions.Offset)}
	count := r.uint32("the number of functions")
	if r.err == nil && uint64(len(data)-r.at) < h.Functions.Size {
		r.fail("the list of functions has %d bytes, and there are %d", h.Functions.Size, len(data)-r.at)
	}
	if r.err != nil {
		return nil, r.err
	}
	r.data = data[:r.at+int(h.Functions.Size)]
	if int64(count) > int64(h.Functions.Size)/int64(smallest) {
		return nil, fmt.Errorf("%d functions do not fit into %d bytes", count, h.Functions.Size)
	}
	functions := make([]Function, 0, count)
	seen := map[string]bool{}
	for range count {
		f := r.entry()
		if r.err == nil && seen[f.Name] {
			r.fail("function %s is there twice", f.Name)
		}
		if r.err != nil {
			return nil, r.err
		}
		seen[f.Name] = true
		functions = append(functions, f)
	}
	if r.at != len(r.data) {
		return nil, fmt.Errorf("after %d functions, %d bytes of the list are left", count, len(r.data)-r.at)
	}
	return functions, nil
}

// A reader reads a list of functions. Its first error sticks.
type reader struct {
	data []byte
	at   int
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: "+format, append([]any{r.at}, args...)...)
	}
}

// next returns the next n bytes; after an error, zeros.
func (r *reader) next(n int, what string) []byte {
	if r.err == nil && n > len(r.data)-r.at {
		r.fail("%s: there are %d bytes, and it has %d", what, len(r.data)-r.at, n)
	}
	if r.err != nil {
		return make([]byte, min(n, 4))
	}
	b := r.data[r.at : r.at+n]
	r.at += n
	return b
}

func (r *reader) uint32(what string) uint32 { return binary.LittleEndian.Uint32(r.next(4, what)) }

// entry reads one function.
func (r *reader) entry() (f Function) {
	from := r.at
	size := r.uint32("the size of a function")
	seen := map[string]bool{}
	for r.err == nil {
		tag := string(r.next(4, "a tag"))
		if tag == entryEnd {
			break
		}
		if seen[tag] {
			r.fail("tag %q is there twice", tag)
		}
		seen[tag] = true
		content := r.next(int(binary.LittleEndian.Uint16(r.next(2, "the size of a tag"))), "tag "+tag)
		if r.err != nil {
			break
		}
		switch tag {
		case "NAME":
			name, rest, ended := bytes.Cut(content, []byte{0})
			if !ended || len(rest) > 0 || len(name) == 0 || !utf8.Valid(name) {
				r.fail("%q is no name with a zero after it", content)
			}
			f.Name = string(name)
		case "TYPE":
			if len(content) != 1 {
				r.fail("a type of %d bytes", len(content))
				break
			}
			f.Type = Type(content[0])
		}
	}
	switch {
	case r.err != nil:
	case !seen["NAME"] || !seen["TYPE"]:
		r.fail("a function without NAME or TYPE")
	case int64(size) != int64(r.at-from):
		r.fail("function %s says it has %d bytes; it has %d", f.Name, size, r.at-from)
	}
	return f
}
