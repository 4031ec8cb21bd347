package tune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/moe/bench/kernels"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
)

// Options say what to tune, and how.
type Options struct {
	Device    runtime.Device
	Target    string // that the device's kernels are tuned for
	Specs     gen.Specs
	Templates fs.FS
	Profile   *runtime.Profile
	Families  []string       // files of specs/families, without .yaml; all of the target's if none are named
	Passes    []runtime.Pass // both if none are named
	Memory    int            // bytes of weights
	Most      int            // contenders of a round of the search, the usual among them
	Sample    time.Duration  // of launches of a contender in a round
	Budget    time.Duration  // for measuring, in all; 0 for none
	Journal   *Journal
	Progress  func(done, total int) // may be nil
}

// A Result is what came of a pass of a family.
type Result struct {
	Family  string         `json:"family"` // a file of specs/families, without .yaml
	Pass    runtime.Pass   `json:"pass"`
	Source  string         `json:"source"` // what was tuned: gen.Library.Source
	Rows    []int          `json:"rows"`   // of an expert, that were measured
	Numbers map[string]int `json:"numbers"`
	Kinds   struct {
		Alone  runtime.Kind `json:"alone,omitempty"`
		Shared runtime.Kind `json:"shared,omitempty"`
	} `json:"kinds"` // that are preferred, where they are others than the spec's
	Contests map[string]Outcome `json:"contests"` // by what they were about: numbers, alone, shared
}

// Won reports whether anything is better than the spec.
func (r *Result) Won() bool {
	return len(r.Numbers) > 0 || r.Kinds.Alone != "" || r.Kinds.Shared != ""
}

// Run tunes the passes of families, one after the other.
func Run(ctx context.Context, o Options) ([]Result, error) {
	model, err := gen.Expand(o.Specs, o.Templates)
	if err != nil {
		return nil, err
	}
	t := &tuner{Options: o, model: model, sources: map[string]fs.FS{}}
	jobs, err := t.jobs()
	if err != nil {
		return nil, err
	}
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	results, err := t.run(ctx, jobs)
	return results, errors.Join(err, t.close())
}

type tuner struct {
	Options
	model   *gen.Model
	library runtime.Library // of nothing: what base needs
	base    *kernels.Bench  // whose weights all contenders share
	sources map[string]fs.FS
	share   time.Duration // of the budget, for a contest

	done, total int
}

// A job is a pass of a family.
type job struct {
	family string
	source string
	body   *gen.Body
	launch gen.FamilyPassSpec
	rows   []int
}

// jobs returns what there is to tune.
func (t *tuner) jobs() (jobs []*job, err error) {
	var errs []error
	for _, name := range t.Families {
		if t.model.Family(t.Profile.Codec, name) == nil {
			errs = append(errs, fmt.Errorf("no family specs/families/%s.yaml for codec %s", name, t.Profile.Codec))
		}
	}
	for _, file := range slices.Sorted(maps.Keys(t.Specs.Families)) {
		spec := t.Specs.Families[file]
		name := strings.TrimSuffix(path.Base(file), ".yaml")
		l := t.model.Family(t.Profile.Codec, name)
		if l == nil || len(t.Families) > 0 && !slices.Contains(t.Families, name) {
			continue
		}
		if spec.Target.V != t.Target {
			if len(t.Families) > 0 {
				errs = append(errs, fmt.Errorf("family %s is for target %s; the device runs %s", name, spec.Target.V, t.Target))
			}
			continue
		}
		source, err := l.Source(t.Templates)
		if err != nil {
			return nil, err
		}
		for _, launch := range spec.Passes {
			if len(t.Passes) > 0 && !slices.Contains(t.Passes, launch.Pass.V) {
				continue
			}
			i := slices.IndexFunc(l.Bodies, func(b *gen.Body) bool { return b.Pass == launch.Pass.V })
			jobs = append(jobs, &job{name, source, l.Bodies[i], launch, rows(t.Profile, spec.Rows.V)})
		}
	}
	if len(jobs) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("there is no family to tune for target %s and codec %s", t.Target, t.Profile.Codec))
	}
	t.total = len(jobs) * contests * (firstRounds + finalRounds + confirmRounds)
	if t.Budget > 0 && len(jobs) > 0 {
		t.share = t.Budget / time.Duration(len(jobs)*contests)
	}
	return jobs, errors.Join(errs...)
}

// contests is how many a job has at most.
const contests = 3

// rows returns those of an expert that a family is measured with: the first and
// the middle one of the profile's that it serves, and the last if it has one; or
// the ends of what it serves.
func rows(p *runtime.Profile, r runtime.Range) (some []int) {
	for _, n := range p.Bench.Rows {
		if r.Contains(n) {
			some = append(some, n)
		}
	}
	if len(some) == 0 {
		some = []int{r.Min, max(r.Max, r.Min)}
	}
	picked := []int{some[0], some[(len(some)-1)/2]}
	if r.Max != 0 {
		picked = append(picked, some[len(some)-1])
	}
	return slices.Compact(picked)
}

// open makes the weights.
func (t *tuner) open(ctx context.Context) (err error) {
	nothing := &runtime.Table{Codecs: t.model.Codecs}
	if t.library, err = t.Device.Load(ctx, nothing, empty{}); err != nil {
		return err
	}
	t.base, err = kernels.New(kernels.Options{Device: t.Device, Library: t.library, Table: nothing, Memory: t.Memory, Seed: 1})
	if err != nil {
		return errors.Join(err, t.library.Close())
	}
	return nil
}

func (t *tuner) close() error { return errors.Join(t.base.Close(), t.library.Close()) }

// empty is a file system without files.
type empty struct{}

func (empty) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (t *tuner) run(ctx context.Context, jobs []*job) ([]Result, error) {
	results := []Result{}
	for i, j := range jobs {
		r, err := t.tune(ctx, j)
		if err != nil {
			return nil, fmt.Errorf("%s of family %s: %w", j.launch.Pass.V, j.family, err)
		}
		results = append(results, r)
		t.done = max(t.done, (i+1)*t.total/len(jobs))
	}
	return results, nil
}

// step tells that something was measured.
func (t *tuner) step() {
	t.done++
	if t.Progress != nil {
		t.Progress(t.done, max(t.total, t.done+1))
	}
}

// tune holds the contests of a job: the numbers first, then, with the best of
// them, which kind a launch of several tuples prefers, and one of a single tuple.
func (t *tuner) tune(ctx context.Context, j *job) (Result, error) {
	r := Result{Family: j.family, Pass: j.launch.Pass.V, Source: j.source, Rows: j.rows, Numbers: map[string]int{}, Contests: map[string]Outcome{}}
	s := newSpace(j.launch, t.means)
	best := s.usual
	if len(s.values) > 0 {
		c := t.contest(j, gen.GainNumbers)
		c.Usual, c.Neighbours = s.usual.String(), s.neighbours
		c.Open = func(ctx context.Context, candidate string) (Contender, error) {
			return t.contender(ctx, j, s.known[candidate], j.body.Shared[0], t.mixed(j))
		}
		c.Prove = func(ctx context.Context, candidate string) error { return t.prove(ctx, j, s.known[candidate]) }
		o, err := c.Run(ctx)
		if err != nil {
			return r, err
		}
		r.Contests[gen.GainNumbers] = o
		best = s.known[o.Best]
		r.Numbers = best.but(s.usual)
	}
	for _, of := range []struct {
		what    string
		order   []runtime.Kind
		experts []runtime.BitTuple
		kind    *runtime.Kind
	}{
		{gen.GainShared, j.body.Shared, t.mixed(j), &r.Kinds.Shared},
		{gen.GainAlone, j.body.Alone, t.same(j), &r.Kinds.Alone},
	} {
		others := kindsBeside(of.order)
		if len(others) == 0 {
			continue
		}
		c := t.contest(j, of.what)
		c.Key += "/" + best.String() // a kind is judged with these numbers
		c.Usual, c.Neighbours = string(of.order[0]), func(string) []string { return others }
		c.Open = func(ctx context.Context, kind string) (Contender, error) {
			return t.contender(ctx, j, best, runtime.Kind(kind), of.experts)
		}
		o, err := c.Run(ctx)
		if err != nil {
			return r, err
		}
		if r.Contests[of.what] = o; o.Won {
			*of.kind = runtime.Kind(o.Best)
		}
	}
	return r, nil
}

// kindsBeside returns what could be first in an order instead of what is: a kernel
// that reads widths at run time never is.
func kindsBeside(order []runtime.Kind) (others []string) {
	for _, k := range order[1:] {
		if k != runtime.Generic {
			others = append(others, string(k))
		}
	}
	return others
}

func (t *tuner) contest(j *job, what string) *Contest {
	return &Contest{
		Key:  fmt.Sprintf("%s@%.12s/%s/%s", j.family, j.source, j.launch.Pass.V, what),
		Most: t.Most, Journal: t.Journal, Budget: t.share, Step: t.step,
	}
}

// means reports whether a knob means anything to the device: on the cpu device,
// which runs rows and not their Metal, only the rows of an item do.
func (t *tuner) means(knob string) bool { return t.Device.Info().Kind != "cpu" || knob == "tile" }

// mixed returns the tuples of the experts of a launch that tuples share: those of
// one token, where that is what a family serves, or all of a layer.
func (t *tuner) mixed(j *job) []runtime.BitTuple {
	n := t.Profile.Experts
	if j.body.Rows.Max == 1 {
		n = t.Profile.TopK
	}
	return append(t.Profile.Spread(n), t.Profile.Shared)
}

// same returns as many experts of the tuple that most experts have.
func (t *tuner) same(j *job) []runtime.BitTuple {
	most := slices.MaxFunc(t.Profile.Mix, func(a, b runtime.Share) int { return a.Experts - b.Experts })
	return slices.Repeat([]runtime.BitTuple{most.Tuple}, len(t.mixed(j)))
}

// A loaded is a candidate's rows on the device.
type loaded struct {
	library runtime.Library
	table   *runtime.Table
}

// load compiles a candidate.
func (t *tuner) load(ctx context.Context, j *job, p point) (*loaded, error) {
	l := t.model.Family(t.Profile.Codec, j.family) // as it is, where no knob means anything
	if len(p) > 0 {
		var err error
		if l, err = t.Specs.Try(t.Templates, t.Profile.Codec, j.family, j.launch.Pass.V, p); err != nil {
			return nil, &Refused{fmt.Errorf("the generator: %w", err)}
		}
	}
	table := &runtime.Table{Codecs: t.model.Codecs}
	for _, k := range l.Kernels() {
		if k.Pass == j.launch.Pass.V {
			table.Kernels = append(table.Kernels, k)
		}
	}
	sources, err := t.compile(ctx, l, table)
	if err != nil {
		return nil, err
	}
	library, err := t.Device.Load(ctx, table, sources)
	if err != nil {
		return nil, err
	}
	have := library.Availability()
	for _, k := range table.Kernels {
		if s := have.Of(k); s.State != runtime.Present {
			return nil, errors.Join(&Refused{fmt.Errorf("%s is %v: %s", k.Symbol, s.State, s.Words)}, library.Close())
		}
	}
	return &loaded{library, table}, nil
}

// prove holds every row of a candidate to the suite of devices.
func (t *tuner) prove(ctx context.Context, j *job, p point) (err error) {
	l, err := t.load(ctx, j, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.library.Close()) }()
	for _, k := range l.table.Kernels {
		err := devicetest.CheckKernel(ctx, t.Device, l.library, l.table, k, devicetest.Options{Short: t.Device.Info().Kind == "msl"})
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return &Refused{fmt.Errorf("%s: %w", k.Symbol, err)}
		}
	}
	return nil
}

// A contender is a candidate's runs: one for each number of rows.
type contender struct {
	loaded *loaded
	bench  *kernels.Bench
	runs   []*kernels.Run
	sample time.Duration
}

// contender makes the runs of a candidate, of kernels of a kind, for experts of
// some tuples. Those that no kernel of the kind runs have the generic one.
func (t *tuner) contender(ctx context.Context, j *job, p point, kind runtime.Kind, tuples []runtime.BitTuple) (_ Contender, err error) {
	l, err := t.load(ctx, j, p)
	if err != nil {
		return nil, err
	}
	c := &contender{loaded: l, sample: t.Sample}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.bench, err = t.base.Beside(kernels.Options{Device: t.Device, Library: l.library, Table: l.table}); err != nil {
		return nil, err
	}
	var ks []*runtime.Kernel
	for _, want := range []runtime.Kind{kind, runtime.Generic} {
		for _, k := range l.table.Kernels {
			if k.Kind == want {
				ks = append(ks, k)
			}
		}
	}
	for _, n := range j.rows {
		run, err := c.bench.Prepare(ctx, kernels.Case{
			Kernels: ks, Hidden: t.Profile.Hidden, Intermediate: t.Profile.Intermediate, TopK: len(tuples), Experts: kernels.Even(tuples, n),
		})
		if err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, &Refused{fmt.Errorf("%d rows: %w", n, err)}
		}
		c.runs = append(c.runs, run)
	}
	return c, nil
}

// Sample returns the geometric mean over the numbers of rows.
func (c *contender) Sample(ctx context.Context) (float64, error) {
	sum := 0.
	for _, r := range c.runs {
		ms, err := r.Sample(ctx, c.sample)
		if err != nil {
			return 0, err
		}
		sum += math.Log(median(ms))
	}
	return math.Exp(sum / float64(len(c.runs))), nil
}

func (c *contender) Close() error {
	var errs []error
	for _, r := range c.runs {
		errs = append(errs, r.Close())
	}
	if c.bench != nil {
		errs = append(errs, c.bench.Close())
	}
	return errors.Join(append(errs, c.loaded.library.Close())...)
}
