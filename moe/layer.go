package moe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/marlingen/marlingen/runtime"
)

// MaxTokens is the most tokens that one Forward takes.
const MaxTokens = 4096

// Options say with what a layer runs. Device, Library, Table and Codecs are
// needed.
type Options struct {
	Device  runtime.Device
	Library runtime.Library // that Device loaded of Table
	Table   *runtime.Table
	Codecs  []Codec // for the host, where a device has no kernel

	// Weights is what Device made of the weights' Data, if somebody has wrapped
	// it already: layers that share their Data can share it. It must outlive
	// the layer. If nil, the layer wraps its Data.
	Weights runtime.Buffer

	// RouteOnDevice has Device choose the experts, in float32: of scores that
	// rounding can swap, it may choose others than the host, whose choices are
	// the same on every machine. Where queues record and copy, a Forward of one
	// token is one graph then, with nothing for the host to do inside it.
	RouteOnDevice bool

	// KernelOverride is the symbol of a kernel to run in its pass whatever
	// would be best, for benchmarks. A Forward that it cannot run fails.
	KernelOverride string

	Counters *Counters // nil for the layer's own
}

// A Layer is a mixture-of-experts layer on a device. Its methods may be called
// by several goroutines; Forward runs one call at a time.
type Layer struct {
	weights  Weights
	codecs   map[string]Codec
	counters *Counters
	workers  runtime.Workers
	planner  planner

	mu      sync.Mutex
	device  runtime.Device
	library runtime.Library
	queue   runtime.Queue
	data    runtime.Buffer            // the weights
	shared  bool                      // data is somebody else's
	router  *deviceRouter             // nil if the host routes
	views   *views                    // nil if the device computes elsewhere
	experts map[string]runtime.Buffer // their descriptors, by codec
	scratch map[string]runtime.Buffer // by binding
	forward forward
}

// NewLayer returns the layer with the given weights. The weights must outlive
// it. Its error names each part of the weights that is wrong.
func NewLayer(w Weights, o Options) (*Layer, error) {
	l := &Layer{
		weights:  w,
		codecs:   map[string]Codec{},
		counters: o.Counters,
		device:   o.Device,
		library:  o.Library,
		workers:  workersOf(o.Device),
		data:     o.Weights,
		shared:   o.Weights != nil,
		experts:  map[string]runtime.Buffer{},
		scratch:  map[string]runtime.Buffer{},
	}
	if l.counters == nil {
		l.counters = new(Counters)
	}
	for _, c := range o.Codecs {
		l.codecs[c.Name()] = c
	}
	all := slices.Clone(w.Experts)
	if w.Shared != nil {
		all = append(all, *w.Shared)
	}
	l.planner = planner{
		table: o.Table, have: o.Library.Availability(), experts: all, hosts: l.hosts,
		memory: newMemory(o.Table),
	}
	l.forward = forward{Layer: l, args: map[string]runtime.Arg{}, decision: decision{workers: l.workers}}
	if err := l.check(); err != nil {
		return nil, err
	}
	if o.KernelOverride != "" {
		k := o.Table.Kernel(o.KernelOverride)
		if k == nil || k.Kind == runtime.Helper {
			return nil, fmt.Errorf("kernel override %s: the table has no such kernel of experts", o.KernelOverride)
		}
		l.planner.override = map[runtime.Pass]string{k.Pass: k.Symbol}
	}
	if err := l.upload(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if o.RouteOnDevice {
		if err := l.routeOnDevice(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Counters returns what the layer counts with.
func (l *Layer) Counters() *Counters { return l.counters }

// Close frees what the layer holds on its device.
func (l *Layer) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if d := l.forward.decoder; d != nil {
		errs = append(errs, d.graph.Close())
		l.forward.decoder = nil
	}
	if l.queue != nil {
		errs = append(errs, l.queue.Close())
	}
	if l.data != nil && !l.shared {
		errs = append(errs, l.data.Close())
	}
	if l.views != nil {
		errs = append(errs, l.views.x.Close(), l.views.out.Close())
	}
	for _, buffers := range []map[string]runtime.Buffer{l.experts, l.scratch} {
		for _, b := range buffers {
			errs = append(errs, b.Close())
		}
		clear(buffers)
	}
	l.queue, l.data, l.views = nil, nil, nil
	return errors.Join(errs...)
}

// check reports what is wrong with the weights.
func (l *Layer) check() error {
	w := l.weights
	if w.Hidden < 1 || w.Intermediate < 1 {
		return fmt.Errorf("a layer of %d hidden and %d intermediate columns", w.Hidden, w.Intermediate)
	}
	errs := []error{w.Router.Check(w.Hidden)}
	if l.shared && l.data.Size() != len(w.Data) {
		errs = append(errs, fmt.Errorf("a buffer of %d bytes for weights of %d", l.data.Size(), len(w.Data)))
	}
	if len(w.Router.Bias) != len(w.Experts) {
		errs = append(errs, fmt.Errorf("a router of %d experts for %d", len(w.Router.Bias), len(w.Experts)))
	}
	for i := range l.planner.experts {
		e := &l.planner.experts[i]
		for _, p := range []struct {
			name    string
			m       Matrix
			out, in int
		}{
			{"gate", e.Gate, w.Intermediate, w.Hidden},
			{"up", e.Up, w.Intermediate, w.Hidden},
			{"down", e.Down, w.Hidden, w.Intermediate},
		} {
			if err := l.checkMatrix(e.Codec, p.m, p.out, p.in); err != nil {
				errs = append(errs, fmt.Errorf("expert %d: %s: %w", i, p.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (l *Layer) checkMatrix(codec string, m Matrix, out, in int) error {
	if m.Out != out || m.In != in {
		return fmt.Errorf("[%d, %d]; want [%d, %d]", m.Out, m.In, out, in)
	}
	for _, s := range m.Parts {
		if s.Offset < 0 || s.Size < 0 || s.Offset > len(l.weights.Data)-s.Size {
			return fmt.Errorf("bytes %d+%d of %d", s.Offset, s.Size, len(l.weights.Data))
		}
	}
	if c := l.planner.table.Codec(codec); c != nil && len(m.Parts) != len(c.Components) {
		return fmt.Errorf("%d components; codec %s has %d", len(m.Parts), codec, len(c.Components))
	}
	if c, ok := l.codecs[codec]; ok {
		return c.Check(m, len(l.weights.Data))
	}
	return nil
}

// hosts returns why the host cannot run a codec, or nil.
func (l *Layer) hosts(codec string) error {
	if _, ok := l.codecs[codec]; !ok {
		return fmt.Errorf("the host has no codec %q; it has %q", codec, slices.Sorted(maps.Keys(l.codecs)))
	}
	return nil
}

// upload makes the weights and their descriptors known to the device.
func (l *Layer) upload() (err error) {
	if l.queue, err = l.library.NewQueue(); err != nil {
		return err
	}
	if l.data == nil {
		if l.data, err = l.device.Wrap(l.weights.Data); err != nil {
			return err
		}
	}
	if l.views, err = newViews(l.device); err != nil {
		return err
	}
	for _, c := range l.planner.table.Codecs {
		var descriptors []byte
		for i := range l.planner.experts {
			e := &l.planner.experts[i]
			if e.Codec != c.Name {
				descriptors = append(descriptors, make([]byte, 3*c.ProjectionSize())...)
				continue
			}
			descriptors = e.AppendDescriptor(descriptors)
		}
		b, err := l.device.NewBuffer(len(descriptors))
		if err != nil {
			return err
		}
		l.experts[c.Name] = b
		if _, err := b.WriteAt(descriptors, 0); err != nil {
			return err
		}
	}
	return nil
}

// Route returns which experts the tokens of x, [tokens, hidden], go to.
func (l *Layer) Route(x []float32) (*Routing, error) {
	if err := l.checkInput(x); err != nil {
		return nil, err
	}
	return l.weights.Router.Route(x, l.weights.Hidden)
}

func (l *Layer) checkInput(x []float32) error {
	if n := len(x) / l.weights.Hidden; len(x) == 0 || len(x)%l.weights.Hidden != 0 || n > MaxTokens {
		return fmt.Errorf("%d inputs; want 1 to %d tokens of %d", len(x), MaxTokens, l.weights.Hidden)
	}
	return nil
}

// Assign returns the rows of a routing, those of the shared expert included.
func (l *Layer) Assign(r *Routing) (*Assignments, error) {
	a := new(Assignments)
	if err := l.assign(a, r, new([]int), new([]float32)); err != nil {
		return nil, err
	}
	return a, nil
}

// assign is Assign into the memory of a, with memory for what the shared expert
// adds to the routing.
func (l *Layer) assign(a *Assignments, r *Routing, chosen *[]int, prob *[]float32) error {
	if l.weights.Shared == nil {
		return a.assign(r.Experts, r.Weights, r.TopK, len(l.planner.experts))
	}
	*chosen, *prob = (*chosen)[:0], (*prob)[:0]
	for t := range r.Tokens {
		*chosen = append(append(*chosen, r.Experts[t*r.TopK:][:r.TopK]...), len(l.weights.Experts))
		*prob = append(append(*prob, r.Weights[t*r.TopK:][:r.TopK]...), 1)
	}
	return a.assign(*chosen, *prob, r.TopK+1, len(l.planner.experts))
}

// Plan returns how Forward will run the rows of a.
func (l *Layer) Plan(a *Assignments) (Plan, error) {
	p := l.planner
	p.memory = nil // is Forward's
	var d draft
	err := p.plan(&d, a, nil)
	return d.Plan, err
}

// Forward returns the layer's output for x, both [tokens, hidden]: the sum of
// the chosen experts' outputs by their weights, and the shared expert's.
func (l *Layer) Forward(ctx context.Context, x []float32) ([]float32, error) {
	if err := l.checkInput(x); err != nil {
		return nil, err
	}
	out := make([]float32, len(x))
	if err := l.ForwardInto(ctx, out, x); err != nil {
		return nil, err
	}
	return out, nil
}

// ForwardInto is Forward into out, which has the size of x. It allocates
// nothing of its own once it has run as many tokens some times. After an error,
// out may hold anything.
func (l *Layer) ForwardInto(ctx context.Context, out, x []float32) error {
	if err := l.checkInput(x); err != nil {
		return err
	}
	if len(out) != len(x) {
		return fmt.Errorf("%d outputs for %d inputs", len(out), len(x))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue == nil {
		return errors.New("the layer is closed")
	}
	err := l.forward.run(ctx, out, x)
	l.forward.end()
	if err == nil {
		l.counters.forward()
	}
	return err
}

// buffer returns the scratch buffer called name, with at least size bytes.
func (l *Layer) buffer(name string, size int) (runtime.Buffer, error) {
	if b := l.scratch[name]; b != nil {
		if b.Size() >= size {
			return b, nil
		}
		delete(l.scratch, name)
		if err := b.Close(); err != nil {
			return nil, err
		}
	}
	b, err := l.device.NewBuffer(size)
	if err != nil {
		return nil, err
	}
	l.scratch[name] = b
	return b, nil
}
