package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// A safetensors file is the size of its header, eight bytes little-endian;
// the header, a JSON object padded with spaces; and the tensors' bytes, whose
// offsets count from the header's end. The header holds, by name,
//
//	{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
//
// and, as __metadata__, an object of strings.

// maxHeader bounds the header.
const maxHeader = 100 << 20

const metadataName = "__metadata__"

// parseTensors reads a safetensors file strictly: the tensors cover all bytes
// after the header, once.
func parseTensors(file string, data []byte) ([]Tensor, map[string]string, error) {
	var f faults
	if len(data) < 8 {
		f.add(file, "", "truncated: %d bytes, too short for a header", len(data))
		return nil, nil, f.err()
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		f.add(file, "", "the header has %d bytes, more than %d", n, maxHeader)
		return nil, nil, f.err()
	}
	if n > uint64(len(data)-8) {
		f.add(file, "", "truncated: the header has %d bytes, the file %d", n, len(data))
		return nil, nil, f.err()
	}
	header, body := data[8:8+n], data[8+n:]
	if !bytes.HasPrefix(header, []byte("{")) {
		f.add(file, "", "header: not a JSON object")
		return nil, nil, f.err()
	}
	members, err := object(bytes.TrimRight(header, " "))
	if err != nil {
		f.add(file, "", "header: %w", err)
		return nil, nil, f.err()
	}

	var tensors []Tensor
	var metadata map[string]string
	var placed []place
	for _, m := range members {
		switch {
		case m.again:
			f.add(file, m.name, "appears twice in the header")
		case m.name == metadataName:
			metadata = parseMetadata(&f, file, m.value)
		default:
			t, from, to, ok := parseTensor(&f, file, m)
			if !ok {
				continue
			}
			if to > len(body) {
				f.add(file, t.Name, "bytes %d to %d of %d: outside the file", from, to, len(body))
				continue
			}
			t.Data = body[from:to:to]
			t.offset = 8 + int(n) + from
			tensors = append(tensors, t)
			placed = append(placed, place{t.Name, from, to})
		}
	}
	// What is missing leaves holes that would only repeat its own mistake.
	if f == nil {
		cover(&f, file, placed, len(body))
	}
	if err := f.err(); err != nil {
		return nil, nil, err
	}
	return tensors, metadata, nil
}

// A place is where a tensor lies among the bytes after the header.
type place struct {
	name     string
	from, to int
}

// cover checks that the tensors lie side by side, from 0 to end.
func cover(f *faults, file string, placed []place, end int) {
	slices.SortStableFunc(placed, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	at, before := 0, ""
	for _, p := range placed {
		switch {
		case p.from < at:
			f.add(file, p.name, "bytes %d to %d overlap those of %s, which ends at %d", p.from, p.to, before, at)
		case p.from > at:
			f.add(file, p.name, "a hole of %d bytes before it, at %d", p.from-at, at)
		}
		if p.to >= at {
			at, before = p.to, p.name
		}
	}
	if at < end {
		f.add(file, "", "%d bytes at the end belong to no tensor", end-at)
	}
}

func parseMetadata(f *faults, file string, value []byte) map[string]string {
	members, err := object(value)
	if err != nil {
		f.add(file, metadataName, "%w", err)
		return nil
	}
	metadata := make(map[string]string)
	for _, m := range members {
		s, ok := text(m.value)
		switch {
		case m.again:
			f.add(file, metadataName, "%q appears twice", m.name)
		case !ok:
			f.add(file, metadataName, "%q is %s, not a string", m.name, clip(m.value))
		}
		metadata[m.name] = s
	}
	return metadata
}

// parseTensor reads a tensor's entry in the header. It returns the offsets of
// its first byte and of the byte after its last.
func parseTensor(f *faults, file string, entry member) (t Tensor, from, to int, ok bool) {
	mistakes := len(*f)
	t.Name = entry.name
	members, err := object(entry.value)
	if err != nil {
		f.add(file, t.Name, "%w", err)
		return t, 0, 0, false
	}
	var offsets []int
	seen := make(map[string]bool)
	for _, m := range members {
		if m.again {
			f.add(file, t.Name, "%q appears twice", m.name)
			continue
		}
		seen[m.name] = true
		switch m.name {
		case "dtype":
			s, _ := text(m.value)
			if t.DType = DType(s); t.DType.Size() == 0 {
				f.add(file, t.Name, "dtype %s is not known", clip(m.value))
			}
		case "shape":
			if t.Shape, ok = sizes(m.value); !ok {
				f.add(file, t.Name, "shape %s is not a list of sizes", clip(m.value))
			}
		case "data_offsets":
			if offsets, ok = sizes(m.value); !ok || len(offsets) != 2 || offsets[0] > offsets[1] {
				f.add(file, t.Name, "data_offsets %s are not a range", clip(m.value))
			}
		default:
			f.add(file, t.Name, "%q is not known", m.name)
		}
	}
	for _, name := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[name] {
			f.add(file, t.Name, "%q is missing", name)
		}
	}
	if len(*f) > mistakes {
		return t, 0, 0, false
	}
	from, to = offsets[0], offsets[1]
	switch want, fits := size(t.DType, t.Shape); {
	case !fits:
		f.add(file, t.Name, "%s %v does not fit in memory", t.DType, t.Shape)
	case to-from != want:
		f.add(file, t.Name, "%s %v takes %d bytes, not %d", t.DType, t.Shape, want, to-from)
	}
	return t, from, to, len(*f) == mistakes
}
