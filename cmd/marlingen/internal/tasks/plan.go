package tasks

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
)

// Options say what a plan is to tune.
type Options struct {
	Name     string
	Root     fs.FS            // of the project
	Bodies   fs.FS            // its templates
	Profile  *runtime.Profile // that is to be faster
	Device   string           // as marlingen bench --device takes it
	Target   string           // that its kernels are tuned for
	Families []string         // files of specs/families, without .yaml; all if none are named
}

// A candidate is one change of a family's spec.
type candidate struct {
	Name     string // of its task
	Family   string
	Spec     string // file
	Old, New string // text of the spec
	Symbol   string // a kernel that runs then
	Batch    int    // tokens that give most experts rows of the family
	Device   string
	Kind     string // of device
	Profile  string
	Dir      string
}

// New plans a baseline, each candidate, its benchmark, and what collects them.
// Candidates are the other values of the knobs that the families' specs declare,
// one at a time, and the other order of preference; those that the generator
// refuses are left out.
func New(o Options) (*Plan, error) {
	specs, err := gen.Load(o.Root)
	if err != nil {
		return nil, err
	}
	model, err := gen.Read(o.Root, o.Bodies)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Plan: o.Name,
		Doc: fmt.Sprintf("Tunes profile %s on device %s, one change of one family at a time. Commands are for bash, in the root of the project.",
			o.Profile.Name, o.Device),
	}
	add := func(t Task, err error) error {
		p.Tasks = append(p.Tasks, t)
		return err
	}
	kind, _, _ := strings.Cut(o.Device, ":")
	whole := candidate{Name: "baseline", Device: o.Device, Kind: kind, Profile: o.Profile.Name, Dir: "work/baseline"}
	if err := add(task0("P0", whole, baselinePrompt, baselineVerify)); err != nil {
		return nil, err
	}
	var done []candidate
	for _, name := range o.Families {
		if _, ok := specs.Families[familyFile(name)]; !ok {
			return nil, fmt.Errorf("there is no %s", familyFile(name))
		}
	}
	for _, file := range slices.Sorted(maps.Keys(specs.Families)) {
		base := strings.TrimSuffix(path.Base(file), ".yaml")
		if specs.Families[file].Target.V != o.Target || len(o.Families) > 0 && !slices.Contains(o.Families, base) {
			continue
		}
		cs, err := candidates(o, model, file, specs.Families[file])
		if err != nil {
			return nil, err
		}
		for _, c := range cs {
			c.Device, c.Kind, c.Profile, c.Dir = o.Device, kind, o.Profile.Name, "work/"+c.Name
			change, err := task0("P1", c, candidatePrompt, candidateVerify)
			if err != nil {
				return nil, err
			}
			measure, err := task0("P1", c, benchPrompt, benchVerify)
			if err != nil {
				return nil, err
			}
			measure.Name = "bench-" + c.Name
			measure.Exclusive = "device"
			measure.Dependencies = []string{"baseline", change.Name}
			p.Tasks = append(p.Tasks, change, measure)
			done = append(done, c)
		}
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("there is nothing to change")
	}
	collect, err := task0("P2", struct {
		candidate
		Candidates []candidate
	}{candidate{Name: "collect", Dir: "work/collect"}, done}, collectPrompt, collectVerify)
	for _, c := range done {
		collect.Dependencies = append(collect.Dependencies, "bench-"+c.Name)
	}
	return p, add(collect, err)
}

func familyFile(name string) string { return "specs/families/" + name + ".yaml" }

// candidates returns those of one family.
func candidates(o Options, model *gen.Model, file string, spec gen.FamilySpec) ([]candidate, error) {
	text, err := fs.ReadFile(o.Root, file)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(path.Base(file), ".yaml")
	c := candidate{Family: spec.Family.V, Spec: file, Batch: batch(spec.Rows.V, o.Profile)}
	var all []candidate
	try := func(name, old, new, symbol string) {
		edited := gen.Edited(o.Root, map[string][]byte{file: edit(text, old, new)})
		if _, err := gen.Read(edited, o.Bodies); err != nil || symbol == "" {
			return
		}
		c := c
		c.Name, c.Old, c.New, c.Symbol = strings.ReplaceAll(base+"-"+name, "_", "-"), old, new, symbol
		all = append(all, c)
	}
	usual := symbol(model, file, spec.Prefer.Shared[0].V, o.Profile)
	for _, t := range turns(spec) {
		try(t.name, fmt.Sprintf("%s: %d", t.knob, t.old), fmt.Sprintf("%s: %d", t.knob, t.new), usual)
	}
	if order := spec.Prefer.Shared; len(order) > 1 {
		var words []string
		for _, k := range order {
			words = append(words, string(k.V))
		}
		old := "shared: [" + strings.Join(words, ", ") + "]"
		words[0], words[1] = words[1], words[0]
		try("prefer-"+words[0], old, "shared: ["+strings.Join(words, ", ")+"]", symbol(model, file, order[1].V, o.Profile))
	}
	return all, nil
}

// A turn is another value of a knob, in each pass that has the old one.
type turn struct {
	knob     string
	old, new int
	name     string
}

// turns returns the turns of each knob that spec declares.
func turns(spec gen.FamilySpec) []turn {
	var ts []turn
	olds := map[string][]int{} // by knob
	for _, p := range spec.Passes {
		for _, knob := range slices.Sorted(maps.Keys(p.Knobs)) {
			old, ok := p.Number(knob)
			if !ok || slices.Contains(olds[knob], old) {
				continue
			}
			olds[knob] = append(olds[knob], old)
			for _, v := range p.Knobs[knob] {
				if v.V != old {
					ts = append(ts, turn{knob: knob, old: old, new: v.V})
				}
			}
		}
	}
	for i, t := range ts {
		ts[i].name = fmt.Sprintf("%s-%d", t.knob, t.new)
		if len(olds[t.knob]) > 1 {
			ts[i].name = fmt.Sprintf("%s-%d-for-%d", t.knob, t.new, t.old)
		}
	}
	return ts
}

// edit replaces old by new in text, where old is a whole word.
func edit(text []byte, old, new string) []byte {
	return regexp.MustCompile(`\b`+regexp.QuoteMeta(old)+`(\b|$)`).ReplaceAllLiteral(text, []byte(new))
}

// batch returns the tokens for which an expert of the profile has as many rows
// as are in the middle of r, on average.
func batch(r runtime.Range, p *runtime.Profile) int {
	rows := (r.Min + r.Max + 1) / 2
	if r.Max == 0 {
		rows = 2 * r.Min
	}
	if rows == 1 {
		return 1
	}
	return (rows*p.Experts + p.TopK - 1) / p.TopK
}

// symbol returns the gate_up kernel of a kind that a family's spec has for the
// profile, or nothing.
func symbol(model *gen.Model, file string, kind runtime.Kind, p *runtime.Profile) string {
	for _, k := range model.Table().Kernels {
		if k.Pass == runtime.GateUp && strings.HasPrefix(k.Spec, file+":") && k.Kind == kind && k.Codec == p.Codec && k.Runs(p.Mix[0].Tuple) {
			return k.Symbol
		}
	}
	return ""
}

// task0 returns a task of a change, without dependencies.
func task0(priority string, data any, prompt, verify string) (Task, error) {
	render := func(text string) (string, error) {
		var b bytes.Buffer
		t, err := template.New("").Parse(strings.TrimPrefix(text, "\n"))
		if err == nil {
			err = t.Execute(&b, data)
		}
		return b.String(), err
	}
	t := Task{Priority: priority, Dependencies: []string{}}
	for text, to := range map[string]*string{"{{.Name}}": &t.Name, "{{.Dir}}": &t.Workdir, prompt: &t.Prompt, verify: &t.VerifyCommand} {
		var err error
		if *to, err = render(text); err != nil {
			return t, err
		}
	}
	return t, nil
}

// Encode writes the plan.
func (p *Plan) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(p); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}
