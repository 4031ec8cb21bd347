package moe

import (
	"cmp"
	"errors"
	"slices"

	"github.com/marlingen/marlingen/runtime"
)

// A Plan says how the experts of a layer are run: which kernels take which of
// them, or that the host does. It is a value: printing it shows what Forward
// will do.
type Plan struct {
	GateUp []Step
	Down   []Step
	Host   []Group // whose two passes the host runs
}

// Steps returns the launches of p, gate_up first.
func (p Plan) Steps() []Step { return slices.Concat(p.GateUp, p.Down) }

// A Step is one launch.
type Step struct {
	Kernel *runtime.Kernel
	Groups []Group
	Work   []runtime.Work // the rows of the groups, cut to the kernel's Tile
}

// Rows returns the number of rows of s.
func (s Step) Rows() int {
	n := 0
	for _, w := range s.Work {
		n += int(w.Rows)
	}
	return n
}

// A Group is the experts of one tuple whose row counts one family serves.
type Group struct {
	Codec     string
	Tuple     runtime.BitTuple
	Family    string // empty if no family serves it
	Experts   []int
	Rows      int
	Fallbacks []Fallback // the steps down that brought the group here
}

// An unplanned error is a group that neither a kernel nor the host can run.
type unplannedError struct {
	group  Group
	kernel error // why no kernel
	host   error // why not the host
}

func (e *unplannedError) Error() string {
	return errors.Join(e.kernel, e.host).Error()
}

func (e *unplannedError) Unwrap() []error { return []error{e.kernel, e.host} }

// planner holds what a plan is made from. It is a function of its fields.
type planner struct {
	table    *runtime.Table
	have     runtime.Availability
	override map[runtime.Pass]string
	experts  []Expert
	hosts    func(codec string) error // why the host cannot run a codec
}

// plan returns how the experts of a are run, or only those that are undone.
func (p *planner) plan(a *Assignments, undone map[int]bool) (Plan, error) {
	groups := p.groups(a)
	var plan Plan
	var errs []error
	for _, g := range groups {
		if undone != nil && !undone[g.Experts[0]] {
			continue
		}
		shared := slices.ContainsFunc(groups, func(o Group) bool {
			return o.Codec == g.Codec && o.Family == g.Family && o.Tuple != g.Tuple
		})
		gateUp, err := p.choose(runtime.GateUp, &g, a, shared)
		if err == nil {
			var down runtime.Choice
			if down, err = p.choose(runtime.Down, &g, a, shared); err == nil {
				g.Fallbacks = append(steps(runtime.GateUp, g.Tuple, gateUp.Passed, gateUp.Kernel.Kind),
					steps(runtime.Down, g.Tuple, down.Passed, down.Kernel.Kind)...)
				plan.GateUp = join(plan.GateUp, gateUp.Kernel, g, a)
				plan.Down = join(plan.Down, down.Kernel, g, a)
				continue
			}
		}
		// The host runs both passes of a group or neither.
		var none *runtime.NoKernelError
		if !errors.As(err, &none) {
			errs = append(errs, err)
			continue
		}
		if herr := p.hosts(g.Codec); herr != nil {
			errs = append(errs, &unplannedError{g, err, herr})
			continue
		}
		passed := none.Passed
		if len(passed) == 0 {
			passed = []runtime.Passed{{Kind: runtime.Generic, Reason: runtime.ReasonNoKernel}}
		}
		g.Fallbacks = steps(none.Request.Pass, g.Tuple, passed, Host)
		plan.Host = append(plan.Host, g)
	}
	return plan, errors.Join(errs...)
}

// groups gathers the experts that have rows by codec, family and tuple.
func (p *planner) groups(a *Assignments) []Group {
	var groups []Group
	for e := range p.experts {
		rows := a.Rows(e)
		if rows == 0 {
			continue
		}
		g := Group{Codec: p.experts[e].Codec, Tuple: p.experts[e].Tuple()}
		if body := p.table.Body(runtime.GateUp, g.Codec, rows); body != nil {
			g.Family = body.Family
		}
		i := slices.IndexFunc(groups, func(o Group) bool {
			return o.Codec == g.Codec && o.Family == g.Family && o.Tuple == g.Tuple
		})
		if i < 0 {
			i = len(groups)
			groups = append(groups, g)
		}
		groups[i].Experts = append(groups[i].Experts, e)
		groups[i].Rows += rows
	}
	slices.SortStableFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Codec, b.Codec), cmp.Compare(a.Family, b.Family), a.Tuple.Compare(b.Tuple))
	})
	return groups
}

// choose selects the kernel of pass for g.
func (p *planner) choose(pass runtime.Pass, g *Group, a *Assignments, shared bool) (runtime.Choice, error) {
	return runtime.Select(p.table, p.have, runtime.Request{
		Pass:     pass,
		Codec:    g.Codec,
		Tuple:    g.Tuple,
		Rows:     a.Rows(g.Experts[0]),
		Shared:   shared,
		Override: p.override[pass],
	})
}

// steps returns the fallbacks from each kind that was passed over to the next,
// the last of which is to. A kernel that was asked for is no fallback.
func steps(pass runtime.Pass, t runtime.BitTuple, passed []runtime.Passed, to runtime.Kind) []Fallback {
	var fs []Fallback
	for i, p := range passed {
		if p.Reason == runtime.ReasonOverride {
			continue
		}
		next := to
		if i+1 < len(passed) {
			next = passed[i+1].Kind
		}
		fs = append(fs, Fallback{Tuple: t, Pass: pass, From: p.Kind, To: next, Reason: p.Reason})
	}
	return fs
}

// join adds g to the step of kernel k.
func join(steps []Step, k *runtime.Kernel, g Group, a *Assignments) []Step {
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Kernel == k })
	if i < 0 {
		i = len(steps)
		steps = append(steps, Step{Kernel: k})
	}
	s := &steps[i]
	s.Groups = append(s.Groups, g)
	for _, e := range g.Experts {
		for first, end := a.Offsets[e], a.Offsets[e+1]; first < end; first += k.Tile {
			s.Work = append(s.Work, runtime.Work{
				Expert: uint32(e),
				First:  uint32(first),
				Rows:   uint32(min(k.Tile, end-first)),
			})
		}
	}
	return steps
}
