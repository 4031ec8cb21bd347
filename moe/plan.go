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
	memory   *memory                  // of answers for table and have, or nil
}

// A draft is a plan and the groups that it was made of. Planning into it anew
// reuses its memory.
type draft struct {
	Plan
	groups []Group
}

// plan makes d say how the experts of a are run, or only those that are undone.
func (p *planner) plan(d *draft, a *Assignments, undone map[int]bool) error {
	p.group(d, a)
	d.GateUp, d.Down, d.Host = d.GateUp[:0], d.Down[:0], d.Host[:0]
	var errs []error
	for i := range d.groups {
		g := &d.groups[i]
		if undone != nil && !undone[g.Experts[0]] {
			continue
		}
		shared := slices.ContainsFunc(d.groups, func(o Group) bool {
			return o.Codec == g.Codec && o.Family == g.Family && o.Tuple != g.Tuple
		})
		gateUp, err := p.choose(runtime.GateUp, g, a, shared)
		if err == nil {
			var down runtime.Choice
			if down, err = p.choose(runtime.Down, g, a, shared); err == nil {
				g.Fallbacks = appendSteps(g.Fallbacks, runtime.GateUp, g.Tuple, gateUp.Passed, gateUp.Kernel.Kind)
				g.Fallbacks = appendSteps(g.Fallbacks, runtime.Down, g.Tuple, down.Passed, down.Kernel.Kind)
				d.GateUp = join(d.GateUp, gateUp.Kernel, g, a)
				d.Down = join(d.Down, down.Kernel, g, a)
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
			errs = append(errs, &unplannedError{*g, err, herr})
			continue
		}
		passed := none.Passed
		if len(passed) == 0 {
			passed = []runtime.Passed{{Kind: runtime.Generic, Reason: runtime.ReasonNoKernel}}
		}
		g.Fallbacks = appendSteps(g.Fallbacks, none.Request.Pass, g.Tuple, passed, Host)
		d.Host = append(d.Host, *g)
	}
	return errors.Join(errs...)
}

// group gathers the experts that have rows by codec, family and tuple.
func (p *planner) group(d *draft, a *Assignments) {
	d.groups = d.groups[:0]
	for e := range p.experts {
		rows := a.Rows(e)
		if rows == 0 {
			continue
		}
		codec, tuple := p.experts[e].Codec, p.experts[e].Tuple()
		family := p.family(codec, rows, len(a.Token))
		i := slices.IndexFunc(d.groups, func(o Group) bool {
			return o.Codec == codec && o.Family == family && o.Tuple == tuple
		})
		if i < 0 {
			i = len(d.groups)
			d.groups = another(d.groups)
			g := &d.groups[i]
			*g = Group{Codec: codec, Tuple: tuple, Family: family, Experts: g.Experts[:0], Fallbacks: g.Fallbacks[:0]}
		}
		d.groups[i].Experts = append(d.groups[i].Experts, e)
		d.groups[i].Rows += rows
	}
	slices.SortStableFunc(d.groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Codec, b.Codec), cmp.Compare(a.Family, b.Family), a.Tuple.Compare(b.Tuple))
	})
}

// another returns s with one more element, whatever it held before.
func another[T any](s []T) []T {
	if len(s) < cap(s) {
		return s[:len(s)+1]
	}
	var zero T
	return append(s, zero)
}

// family returns the family that serves experts of a codec with the given
// number of rows, of those of a layer, or nothing.
func (p *planner) family(codec string, rows, layer int) string {
	r := runtime.Request{Pass: runtime.GateUp, Codec: codec, Rows: rows, Layer: layer}
	return p.memory.family(r, func() string {
		if body := p.table.Body(r); body != nil {
			return body.Family
		}
		return ""
	})
}

// choose selects the kernel of pass for g.
func (p *planner) choose(pass runtime.Pass, g *Group, a *Assignments, shared bool) (runtime.Choice, error) {
	return p.selected(runtime.Request{
		Pass:     pass,
		Codec:    g.Codec,
		Tuple:    g.Tuple,
		Rows:     a.Rows(g.Experts[0]),
		Layer:    len(a.Token),
		Shared:   shared,
		Override: p.override[pass],
	})
}

// combine chooses the kernel that sums over slots.
func (p *planner) combine() (runtime.Choice, error) {
	return p.selected(runtime.Request{Pass: runtime.Combine})
}

func (p *planner) selected(r runtime.Request) (runtime.Choice, error) {
	return p.memory.choice(r, func() (runtime.Choice, error) { return runtime.Select(p.table, p.have, r) })
}

// appendSteps appends the fallbacks from each kind that was passed over to the
// next, the last of which is to. A kernel that was asked for is no fallback.
func appendSteps(fs []Fallback, pass runtime.Pass, t runtime.BitTuple, passed []runtime.Passed, to runtime.Kind) []Fallback {
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
func join(steps []Step, k *runtime.Kernel, g *Group, a *Assignments) []Step {
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Kernel == k })
	if i < 0 {
		i = len(steps)
		steps = another(steps)
		s := &steps[i]
		*s = Step{Kernel: k, Groups: s.Groups[:0], Work: s.Work[:0]}
	}
	s := &steps[i]
	s.Groups = append(s.Groups, *g)
	for _, e := range g.Experts {
		s.Work = k.AppendWork(s.Work, e, a.Offsets[e], a.Rows(e))
	}
	return steps
}
