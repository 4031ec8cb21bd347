package gen

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"

	"github.com/marlingen/marlingen/runtime"
)

// Render writes the model out in every form. Its error is Complaints if specs
// name templates that there are not.
func Render(m *Model, templates fs.FS) (Files, error) {
	if err := m.missing(templates); err != nil {
		return nil, err
	}
	files := Files{}
	for _, l := range m.Libraries {
		src, err := metal(l, templates)
		if err != nil {
			return nil, err
		}
		files[l.metalName()] = src
		if files[l.Name+".go"], err = library(l); err != nil {
			return nil, err
		}
	}
	manifest := m.Manifest(files)
	var err error
	if files["table.go"], err = table(m, manifest); err != nil {
		return nil, err
	}
	if files["profiles.go"], err = profiles(m); err != nil {
		return nil, err
	}
	files["manifest.json"], err = manifestJSON(m, manifest)
	return files, err
}

// Manifest returns the manifest of the Metal sources that m was rendered to.
func (m *Model) Manifest(files Files) runtime.Manifest {
	manifest := runtime.Manifest{Specs: m.Digest}
	for _, l := range m.Libraries {
		sum := sha256.Sum256(files[l.metalName()])
		manifest.Sources = append(manifest.Sources, runtime.Source{Name: l.metalName(), SHA256: hex.EncodeToString(sum[:])})
	}
	manifest.Digest = manifest.Sum()
	return manifest
}

// missing complains about the templates that specs ask for in vain.
func (m *Model) missing(templates fs.FS) error {
	var errs Complaints
	for _, l := range m.Libraries {
		for _, name := range l.Templates {
			if _, err := fs.Stat(templates, name); err != nil {
				errs.errorf(l.At, "there is no templates/%s", name)
			}
		}
	}
	return errs.err()
}
