package gen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// A ManifestFile is what manifest.json holds.
type ManifestFile struct {
	Generator string `json:"generator"`
	runtime.Manifest
	Kernels []ManifestKernel `json:"kernels"`
}

// ParseManifest reads a manifest.json. It refuses fields that it does not know,
// and what names a source or a kernel twice or not at all.
func ParseManifest(data []byte) (*ManifestFile, error) {
	m := new(ManifestFile)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("not a manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a manifest: there is more after it")
	}
	if m.Digest == "" || m.Specs == "" || len(m.Sources) == 0 || len(m.Kernels) == 0 {
		return nil, errors.New("not a manifest: it needs digest, specs, sources and kernels")
	}
	seen := map[string]bool{"": true}
	for _, s := range m.Sources {
		if seen[s.Name] {
			return nil, fmt.Errorf("source %q is there twice, or has no name", s.Name)
		}
		seen[s.Name] = true
	}
	for _, k := range m.Kernels {
		if seen[k.Symbol] {
			return nil, fmt.Errorf("kernel %q is there twice, or has no name", k.Symbol)
		}
		seen[k.Symbol] = true
	}
	return m, nil
}

// A ManifestDiff is what changed from one manifest to another.
type ManifestDiff struct {
	Old     string           `json:"old"`   // digest
	New     string           `json:"new"`   // digest
	Specs   bool             `json:"specs"` // the specs changed
	Added   []ManifestKernel `json:"added"`
	Removed []ManifestKernel `json:"removed"`
	Changed []KernelChange   `json:"changed"`
	Moved   int              `json:"moved"` // kernels that differ in nothing but the line of their spec
	Sources []SourceChange   `json:"sources"`
}

// A KernelChange is a kernel that two manifests say different things of.
type KernelChange struct {
	Symbol string        `json:"symbol"`
	Fields []FieldChange `json:"fields"`
}

// A FieldChange is a field of a kernel before and after.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// A SourceChange is a generated source that two manifests do not share.
type SourceChange struct {
	Name string `json:"name"`
	What string `json:"what"` // added, removed or changed
}

// Same reports whether nothing changed.
func (d *ManifestDiff) Same() bool {
	return d.Old == d.New && !d.Specs && len(d.Added)+len(d.Removed)+len(d.Changed)+d.Moved+len(d.Sources) == 0
}

// DiffManifests returns what changed, in the order of the newer manifest;
// what was removed is in that of the older one.
func DiffManifests(older, newer *ManifestFile) *ManifestDiff {
	d := &ManifestDiff{
		Old: older.Digest, New: newer.Digest, Specs: older.Specs != newer.Specs,
		Added: []ManifestKernel{}, Removed: []ManifestKernel{}, Changed: []KernelChange{}, Sources: []SourceChange{},
	}
	before := map[string]ManifestKernel{}
	for _, k := range older.Kernels {
		before[k.Symbol] = k
	}
	for _, k := range newer.Kernels {
		o, ok := before[k.Symbol]
		delete(before, k.Symbol)
		if !ok {
			d.Added = append(d.Added, k)
		} else if fields := o.changes(k); len(fields) > 0 {
			d.Changed = append(d.Changed, KernelChange{k.Symbol, fields})
		} else if o.Spec != k.Spec {
			d.Moved++
		}
	}
	for _, k := range older.Kernels {
		if _, gone := before[k.Symbol]; gone {
			d.Removed = append(d.Removed, k)
		}
	}
	for _, s := range newer.Sources {
		i := slices.IndexFunc(older.Sources, func(o runtime.Source) bool { return o.Name == s.Name })
		if i < 0 {
			d.Sources = append(d.Sources, SourceChange{s.Name, "added"})
		} else if older.Sources[i] != s {
			d.Sources = append(d.Sources, SourceChange{s.Name, "changed"})
		}
	}
	for _, o := range older.Sources {
		if !slices.ContainsFunc(newer.Sources, func(s runtime.Source) bool { return o.Name == s.Name }) {
			d.Sources = append(d.Sources, SourceChange{o.Name, "removed"})
		}
	}
	return d
}

// changes returns the fields in which l differs from k, but for the spec's line.
func (k ManifestKernel) changes(l ManifestKernel) (fields []FieldChange) {
	before, after := reflect.ValueOf(k), reflect.ValueOf(l)
	for i := range before.NumField() {
		name, _, _ := strings.Cut(before.Type().Field(i).Tag.Get("json"), ",")
		old, new := fmt.Sprint(before.Field(i)), fmt.Sprint(after.Field(i))
		if old != new && name != "spec" {
			fields = append(fields, FieldChange{name, old, new})
		}
	}
	return fields
}
