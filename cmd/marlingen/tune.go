package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/marlingen/marlingen/cmd/marlingen/internal/tune"
	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

type tuneCmd struct {
	placeFlags
	Profile    string         `help:"Profile to tune for, of those below the root." default:"mixed_bpw_fairway_glm47"`
	Families   []string       `help:"Only these families: files of specs/families, without .yaml." placeholder:"NAME"`
	Passes     []runtime.Pass `help:"Only these passes: gate_up, down." enum:"gate_up,down" placeholder:"PASS"`
	Candidates int            `help:"Candidates that a round of a search measures at most." default:"24"`
	Sample     time.Duration  `help:"What a candidate takes of a round, for each number of rows." default:"20ms"`
	Budget     time.Duration  `help:"What measuring may take in all, before only finals are held; compiling does not count. Without it, as long as it takes."`
	Memory     int            `help:"MB of weights." default:"1000"`
	State      string         `help:"File of what was measured, to go on from; without it, one in the user's cache." type:"path" placeholder:"FILE"`
	Root       string         `help:"Folder that holds specs/ and generated/." default:"." type:"existingdir"`
	DryRun     bool           `help:"Write nothing but the state; show what would change."`
	JSON       bool           `help:"Write JSON."`
}

// Help is shown by marlingen tune --help.
func (*tuneCmd) Help() string {
	return `Searches the knobs that the families' specs declare, and the kinds that they prefer, for what is
fastest on a device, with the profile's tuples. Every candidate is the row that it would be in the
table, and its outputs are the oracle's before it is timed. What is better by more than the noise is
written to specs/tuned, a file for each device, and generated/ is regenerated: there are rows for that
device with that driver then, and the others stay as they are.

Ctrl-C ends it with what was measured by then kept; the same command goes on from there.

  marlingen tune --device cuda --dry-run
  marlingen tune --device metal --families decode,prefill4 --budget 10m`
}

// A tuning is the JSON form of what tune found.
type tuning struct {
	Device  string        `json:"device"`
	Driver  string        `json:"driver"`
	Profile string        `json:"profile"`
	Run     string        `json:"run"`
	File    string        `json:"file"` // of specs/tuned
	Results []tune.Result `json:"results"`
	Changes []change      `json:"changes"` // of the file, and of generated/
}

func (c *tuneCmd) Run(ctx context.Context, a *app) (err error) {
	if c.Candidates < 2 || c.Memory < 1 || c.Sample <= 0 || c.Budget < 0 {
		return fmt.Errorf("--candidates %d, --memory %d, --sample %v, --budget %v: want at least 2, 1 and more than no time",
			c.Candidates, c.Memory, c.Sample, c.Budget)
	}
	root := os.DirFS(c.Root)
	specs, err := gen.Load(root)
	if err != nil {
		return fmt.Errorf("specs:\n%w", err)
	}
	model, err := gen.Expand(specs, bodies(c.Root))
	if err != nil {
		return fmt.Errorf("specs:\n%w", err)
	}
	profile, err := profileIn(model, c.Profile)
	if err != nil {
		return err
	}
	device, err := c.device(ctx, c.options())
	if err != nil {
		return fmt.Errorf("device %s: %w", c.Device, err)
	}
	defer func() { err = errors.Join(err, device.Close()) }()

	if gen.DeviceWord(device.Info().Name) == "" {
		return fmt.Errorf("device %s: its name %q makes no word for symbols", c.Device, device.Info().Name)
	}
	started := time.Now()
	journal, err := c.journal(a, device.Info(), profile)
	if err != nil {
		return err
	}
	show, finish := a.progress("tuning")
	results, err := tune.Run(ctx, tune.Options{
		Device: device, Target: c.Device.target(), Specs: specs, Templates: bodies(c.Root), Profile: profile,
		Families: c.Families, Passes: c.Passes, Memory: c.Memory * 1e6,
		Most: c.Candidates, Sample: c.Sample, Budget: c.Budget, Journal: journal, Progress: show,
	})
	finish()
	if err := errors.Join(err, journal.Close()); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintf(a.err, "what was measured is in %s; the same command goes on from there\n", journal.Path())
		}
		return err
	}
	t := tuning{
		Device: device.Info().Name, Driver: device.Info().Driver, Profile: profile.Name, Run: result.NewID(),
		File: gen.TunedFile(device.Info().Name), Results: results, Changes: []change{},
	}
	changes, err := c.write(specs, model, &t, tune.Provenance{
		Device: device.Info(), Target: c.Device.target(), Codec: profile.Codec, Profile: profile.Name,
		Time: started, Run: t.Run, Commit: builtFrom(),
	})
	if err != nil {
		return err
	}
	if !c.DryRun {
		if err := journal.Remove(); err != nil {
			return err
		}
	}
	if c.JSON {
		return a.json(t)
	}
	a.tuned(&t)
	fmt.Fprint(a.out, changes)
	if c.Device.kind() == "cuda" && len(t.Changes) > 0 && !c.DryRun {
		fmt.Fprintln(a.err, "marlingen: PTX is out of date; run marlingen compile cuda")
	}
	return nil
}

// profileIn returns a profile of the specs.
func profileIn(m *gen.Model, name string) (*runtime.Profile, error) {
	var names []string
	for _, p := range m.Profiles {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("--profile %s: there are %s", name, strings.Join(names, ", "))
}

// builtFrom returns the commit of the command, and says if there was more than it.
func builtFrom() string {
	commit, dirty := built()
	if dirty {
		commit += "+changes"
	}
	return commit
}

// journal opens the state.
func (c *tuneCmd) journal(a *app, on runtime.Info, p *runtime.Profile) (*tune.Journal, error) {
	file := c.State
	if file == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%w; name a file with --state", err)
		}
		file = filepath.Join(cache, "marlingen", "tune", gen.DeviceWord(on.Name)+"-"+gen.DeviceWord(p.Name)+".jsonl")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	j, err := tune.OpenJournal(file, tune.Head{
		Device: on.Name, Driver: on.Driver, Profile: p.Name,
		Shape:   fmt.Sprintf("%d,%d,%d,%d %v %v %v", p.Hidden, p.Intermediate, p.Experts, p.TopK, p.Mix, p.Shared, p.Bench.Rows),
		Options: fmt.Sprintf("%d candidates, %v, %d MB, %v", c.Candidates, c.Sample, c.Memory, c.Budget),
	})
	if err != nil {
		return nil, err
	}
	switch {
	case j.Dropped != "":
		fmt.Fprintf(a.err, "what %s holds is not used: %s\n", file, j.Dropped)
	case j.Resumed > 0:
		fmt.Fprintf(a.err, "going on from %s\n", file)
	}
	return j, nil
}

// write makes the device's file hold what was found, and regenerates; or says
// what it would do.
func (c *tuneCmd) write(specs gen.Specs, model *gen.Model, t *tuning, p tune.Provenance) (string, error) {
	folded := tune.Fold(specs.Tuned[t.File], t.Results, p, func(family, source string) bool {
		l := model.Family(p.Codec, family)
		if l == nil {
			return false
		}
		now, err := l.Source(bodies(c.Root))
		return err == nil && now == source
	})
	before, err := os.ReadFile(filepath.Join(c.Root, t.File))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var after []byte
	if len(folded.Families) > 0 {
		after = folded.Format()
	}
	files, err := gen.Generate(gen.Edited(os.DirFS(c.Root), map[string][]byte{t.File: after}), bodies(c.Root))
	if err != nil {
		return "", fmt.Errorf("specs, with what was found:\n%w", err)
	}
	text := string(diff.Diff(t.File, before, t.File, after))
	step := files.Check
	if !c.DryRun {
		step = files.Write
		if err := c.replace(t.File, before, after); err != nil {
			return "", err
		}
	}
	if what := changed(before, after); what != "" {
		t.Changes = append(t.Changes, change{filepath.Join(c.Root, t.File), what})
	}
	changes, err := step(filepath.Join(c.Root, "generated"))
	for _, ch := range changes {
		t.Changes = append(t.Changes, change(ch))
		text += ch.String() + "\n"
	}
	return text, err
}

// changed says what a file is that is other than it should be: as of gen.Change.
func changed(before, after []byte) string {
	switch {
	case string(before) == string(after):
		return ""
	case before == nil:
		return "missing"
	case after == nil:
		return "stray"
	}
	return "stale"
}

// replace writes or removes the device's file.
func (c *tuneCmd) replace(name string, before, after []byte) error {
	path := filepath.Join(c.Root, name)
	if after == nil {
		if before == nil {
			return nil
		}
		return os.Remove(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return writeFile(path, func(w io.Writer) error {
		_, err := w.Write(after)
		return err
	})
}

// tuned writes what was found.
func (a *app) tuned(t *tuning) {
	var rows []table.Row
	reasons := map[string][]string{}
	for _, r := range t.Results {
		for _, what := range tune.Contests {
			o, ok := r.Contests[what]
			if !ok {
				continue
			}
			row := table.Row{r.Family, r.Pass, what, o.Tried, len(o.Refused), "", "", "", "", o.Best}
			if o.Rounds > 0 {
				row = table.Row{r.Family, r.Pass, what, o.Tried, len(o.Refused), fmt.Sprintf("%.4f", o.Before), fmt.Sprintf("%.4f", o.After),
					fmt.Sprintf("%.1f %%", 100*o.Gain), fmt.Sprintf("%.1f %%", 100*o.Noise), o.Best}
			}
			if !o.Won {
				row[len(row)-1] = "as in the spec"
			}
			rows = append(rows, row)
			for candidate, why := range o.Refused {
				why, _, _ = strings.Cut(why, "\n")
				reasons[why] = append(reasons[why], fmt.Sprintf("%s %s %s", r.Family, r.Pass, candidate))
			}
		}
	}
	fmt.Fprintf(a.out, "%s, %s, profile %s\n\n", t.Device, t.Driver, t.Profile)
	a.table(table.Row{"family", "pass", "of", "tried", "left out", "before, ms", "after, ms", "gain", "noise", "best"}, rows, 4, 5, 6, 7, 8, 9)
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		slices.Sort(reasons[why])
		fmt.Fprintf(a.out, "\nleft out: %s: %s\n", why, strings.Join(reasons[why], "; "))
	}
	fmt.Fprintln(a.out)
	if !slices.ContainsFunc(t.Results, func(r tune.Result) bool { return r.Won() }) {
		fmt.Fprintln(a.out, "nothing is better than the specs by more than the noise")
	}
}
