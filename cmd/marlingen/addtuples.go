package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
)

type addTuplesCmd struct {
	From   string `help:"Checkpoint whose tuples are to have kernels." required:"" type:"existingdir" placeholder:"DIR"`
	Root   string `help:"Folder that holds specs/ and generated/." default:"." type:"existingdir"`
	DryRun bool   `help:"Write nothing; show what would change."`
	JSON   bool   `help:"Write JSON."`
}

// Help is shown by marlingen add-tuples --help.
func (*addTuplesCmd) Help() string {
	return `Writes the tuples of a checkpoint that the specs of its codecs do not list into them, a line each
after those that are there, and regenerates. All else in the specs stays as it is written; nothing is
written if the generator refuses a tuple.

  marlingen add-tuples --from glm-4.7-flash-mixed --dry-run`
}

// An addition is the JSON form of what add-tuples did or would do.
type addition struct {
	Specs   []specAddition `json:"specs"`
	Changes []change       `json:"changes"` // of generated/
}

type specAddition struct {
	Spec   string             `json:"spec"`
	Tuples []runtime.BitTuple `json:"tuples"`
}

func (c *addTuplesCmd) Run(a *app) error {
	layers, err := readLayers(c.From)
	if err != nil {
		return err
	}
	root := os.DirFS(c.Root)
	model, err := gen.Read(root, bodies(c.Root))
	if err != nil {
		return fmt.Errorf("specs:\n%w", err)
	}
	done := addition{Specs: []specAddition{}, Changes: []change{}}
	before, after := map[string][]byte{}, map[string][]byte{}
	for _, codec := range model.Codecs {
		missing := unlisted(layers, codec)
		if len(missing) == 0 {
			continue
		}
		text, err := fs.ReadFile(root, codec.Spec)
		if err != nil {
			return err
		}
		edited, err := gen.AddTuples(codec.Spec, text, missing)
		if err != nil {
			return err
		}
		before[codec.Spec], after[codec.Spec] = text, edited
		done.Specs = append(done.Specs, specAddition{codec.Spec, missing})
	}
	files, err := gen.Generate(gen.Edited(root, after), bodies(c.Root))
	if err != nil {
		return fmt.Errorf("specs, with what %s has:\n%w", c.From, err)
	}
	step := files.Check
	if !c.DryRun {
		step = files.Write
		for _, s := range done.Specs {
			err := writeFile(filepath.Join(c.Root, s.Spec), func(w io.Writer) error {
				_, err := w.Write(after[s.Spec])
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	changes, err := step(filepath.Join(c.Root, "generated"))
	if err != nil {
		return err
	}
	for _, ch := range changes {
		done.Changes = append(done.Changes, change(ch))
	}
	if c.JSON {
		return a.json(done)
	}
	for _, s := range done.Specs {
		fmt.Fprintf(a.out, "%s", diff.Diff(s.Spec, before[s.Spec], s.Spec, after[s.Spec]))
	}
	for _, ch := range changes {
		fmt.Fprintln(a.out, ch)
	}
	if len(done.Specs) == 0 {
		fmt.Fprintln(a.out, "the specs list every tuple that they could")
	}
	return nil
}

// unlisted returns the tuples of a codec that layers have and its spec does not
// list, in order.
func unlisted(layers []moe.Weights, codec *runtime.Codec) (missing []runtime.BitTuple) {
	look := func(e *moe.Expert) {
		if t := e.Tuple(); e.Codec == codec.Name && !slices.Contains(codec.Tuples, t) && !slices.Contains(missing, t) {
			missing = append(missing, t)
		}
	}
	for _, w := range layers {
		for i := range w.Experts {
			look(&w.Experts[i])
		}
		if w.Shared != nil {
			look(w.Shared)
		}
	}
	slices.SortFunc(missing, runtime.BitTuple.Compare)
	return missing
}
