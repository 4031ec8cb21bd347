// Package gen turns kernel specs into Metal libraries and Go tables.
//
// It works in three steps, each a function of the one before:
//
//	Load    specs/*.yaml -> Specs   what is written
//	Expand  Specs        -> Model   what it means
//	Render  Model        -> Files   what is generated
//
// The same specs and templates give the same bytes. Every complaint about a
// spec names its file and line, and all of them come at once. Only Files
// touches the disk.
package gen

import (
	"io/fs"
)

// Generate does all three: root holds specs/, templates the Metal templates.
// An error in the specs is of type Complaints.
func Generate(root, templates fs.FS) (Files, error) {
	model, err := Read(root, templates)
	if err != nil {
		return nil, err
	}
	return Render(model, templates)
}

// Read loads and expands the specs below root.
func Read(root, templates fs.FS) (*Model, error) {
	specs, unread := Load(root)
	model, errs := expand(specs, templates, unread != nil)
	var all Complaints
	if unread != nil {
		all = append(all, unread.(Complaints)...)
	}
	for _, e := range errs {
		all.errorf(e.Pos, "%s", e.Msg)
	}
	return model, all.err()
}
