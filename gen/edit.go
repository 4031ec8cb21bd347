package gen

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"gopkg.in/yaml.v3"

	"github.com/marlingen/marlingen/runtime"
)

// Edited returns root with other contents of some of its files, more files, and
// without those whose content is nil. It is what Load reads as it would read the
// files themselves.
func Edited(root fs.FS, files map[string][]byte) fs.FS { return edited{root, files} }

type edited struct {
	fs.FS
	files map[string][]byte
}

func (e edited) ReadFile(name string) ([]byte, error) {
	if data, ok := e.files[name]; ok && data != nil {
		return data, nil
	}
	return fs.ReadFile(e.FS, name)
}

func (e edited) ReadDir(name string) ([]fs.DirEntry, error) {
	files := fstest.MapFS{}
	for file, data := range e.files {
		if data != nil {
			files[file] = &fstest.MapFile{Data: data}
		}
	}
	entries, err := fs.ReadDir(files, name)
	old, oldErr := fs.ReadDir(e.FS, name)
	if err != nil && oldErr != nil {
		return nil, oldErr
	}
	for _, o := range old {
		if _, ok := e.files[path.Join(name, o.Name())]; !ok {
			entries = append(entries, o)
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(entries, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }), nil
}

// AddTuples returns the text of a codec's spec with more tuples in its list, one
// line each after those that it has. All else stays as it is written. file is its
// name, for errors.
func AddTuples(file string, text []byte, tuples []runtime.BitTuple) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if last := len(lines) - 1; len(lines[last]) == 0 {
		lines = lines[:last]
	} else {
		lines[last] = append(slices.Clone(lines[last]), '\n')
	}
	at, before := len(lines), "  - "
	switch list, err := tupleList(file, &doc); {
	case err != nil:
		return nil, err
	case list == nil:
		lines = append(lines, []byte("tuples:\n"))
		at++
	default:
		last := list.Content[len(list.Content)-1]
		at, before = last.Line, string(lines[last.Line-1][:last.Column-1])
	}
	var added [][]byte
	for _, t := range tuples {
		added = append(added, fmt.Appendf(nil, "%s%v\n", before, t))
	}
	return bytes.Join(slices.Insert(lines, at, added...), nil), nil
}

// tupleList returns the list of tuples of a spec, or nil if it has none.
func tupleList(file string, doc *yaml.Node) (*yaml.Node, error) {
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: it is no codec's spec", file)
	}
	fields := doc.Content[0].Content
	for i := 0; i < len(fields); i += 2 {
		if fields[i].Value != "tuples" {
			continue
		}
		list := fields[i+1]
		if list.Kind != yaml.SequenceNode || list.Style&yaml.FlowStyle != 0 || len(list.Content) == 0 {
			return nil, &Complaint{Pos{file, fields[i].Line}, "tuples has to be a list with a line for each, as in \"- 6_2_3\""}
		}
		return list, nil
	}
	return nil, nil
}
