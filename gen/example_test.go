package gen_test

import (
	"fmt"
	"log"
	"os"
	"testing/fstest"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/templates"
)

// What go generate does: specs and templates in, files out.
func Example() {
	files, err := gen.Generate(os.DirFS(".."), templates.FS)
	if err != nil {
		log.Fatal(err)
	}
	changes, err := files.Check("../generated") // or files.Write
	fmt.Println(len(files), "files;", len(changes), "not as they should be;", err)
	// Output: 19 files; 0 not as they should be; <nil>
}

// Mistakes name their lines, all at once.
func ExampleRead() {
	_, err := gen.Read(fstest.MapFS{
		"specs/passes.yaml":         {Data: []byte("passes: []")},
		"specs/targets/t.yaml":      {Data: []byte("target: t\ndoc: d\nthreads: 1024\nthreadgroup_bytes: 32768\nbuffers: 31\n")},
		"specs/families/f.yaml":     {Data: []byte("family: f\nrows: 9..1\n")},
		"specs/profiles/p.yaml":     {Data: []byte("profile: p\nspeed: 9\n")},
		"specs/codecs/trellis.yaml": {Data: []byte("codec: trellis\ndoc: d\ntype: T\nwidths: [2]\ncomponents: [{name: i, type: uchar}]\ntuples:\n  - 2_2_2\n  - 2_2_2\n  - 2_3_2\n")},
	}, templates.FS)
	fmt.Println(err)
	// Output:
	// specs/codecs/trellis.yaml:8: tuple 2_2_2 is on line 7 already
	// specs/codecs/trellis.yaml:9: 2_3_2: codec trellis has no 3-bit weights
	// specs/families/f.yaml:1: codecs is missing
	// specs/families/f.yaml:2: "9..1" is not a range; write 1, 2..16, or 33.. for no end
	// specs/profiles/p.yaml:1: doc is missing
	// specs/profiles/p.yaml:2: field speed not found
}
