package cpu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	"github.com/marlingen/marlingen/runtime"
)

// Run runs one launch of k on args, the bytes of each argument in the order of
// the kernel's bindings, constants included. Arguments of 4-byte elements lie
// at addresses that are multiples of 4. Run is what a Queue of this device runs
// if its Options are zero; it is here for devices that hold their memory
// differently. An error other than ctx's means that nothing was written.
func Run(ctx context.Context, k *runtime.Kernel, s runtime.Shape, args [][]byte) error {
	c := calls.get()
	defer c.put()
	if err := c.prepare(k, s, args); err != nil {
		return err
	}
	return c.do(ctx, newEngine(Options{}))
}

// A pass is how this device implements the kernels of one pass and codec.
type pass struct {
	params []param
	codec  *codec                              // nil for a helper
	check  func(runtime.Shape, *routing) error // nil if every shape will do
	run    func(*call) error                   // checks contents, then computes
	grid   runtime.Axis                        // that the layout of arguments follows, if any
}

// A param is a binding that a pass expects.
type param struct {
	runtime.Binding

	// size returns the bytes that a launch touches. It is nil if they follow
	// from the contents of other arguments.
	size func(runtime.Shape, *routing) uint64
}

// A call is one launch whose arguments fit.
type call struct {
	*pass
	kernel    *runtime.Kernel
	shape     runtime.Shape
	routing   *routing // for pass route
	args      [maxArgs][]byte
	arguments [maxArgs][]byte // of a launch, before it is known what they are
	joined    []*call         // launches that run as one with this

	// While it runs.
	ctx    context.Context
	engine engine
	*workspace
}

// A workspace is what a call runs with, and the memory that calls before it
// needed.
type workspace struct {
	loop      loop
	experts   expertJob
	scratches []*scratch
}

// maxArgs is the most arguments that a pass has.
const maxArgs = 8

// What is not in use.
var (
	calls      freeList[call]
	workspaces freeList[workspace]
)

// A freeList keeps values to use again. It is not a sync.Pool because these
// forget, and what a call has allocated is worth keeping.
type freeList[T any] struct {
	mu   sync.Mutex
	free []*T
}

func (l *freeList[T]) get() *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free)
	if n == 0 {
		return new(T)
	}
	v := l.free[n-1]
	l.free = l.free[:n-1]
	return v
}

func (l *freeList[T]) put(v *T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, v)
}

// put ends the use of c, which lets go of its arguments.
func (c *call) put() {
	clear(c.args[:])
	clear(c.arguments[:])
	c.pass, c.kernel, c.routing = nil, nil, nil
	c.leave()
	calls.put(c)
}

// joins reports whether o differs from c in its kernel and its work list alone:
// if no row is in both, they can run as one.
func (c *call) joins(o *call) bool {
	a, b := c.shape, o.shape
	a.Items, b.Items = 0, 0
	if c.pass != o.pass || c.codec == nil || a != b {
		return false
	}
	for i := range c.params {
		p := &c.params[i]
		if p.Access != runtime.Constant && p.Name != "work" && !same(c.args[i], o.args[i]) {
			return false
		}
	}
	return true
}

// same reports whether a and b are the same memory.
func same(a, b []byte) bool { return address(a) == address(b) && len(a) == len(b) }

// leave ends the joining of launches to c.
func (c *call) leave() {
	clear(c.joined)
	c.joined = c.joined[:0]
}

// do runs a call that was prepared.
func (c *call) do(ctx context.Context, e engine) error {
	c.ctx, c.engine, c.workspace = ctx, e, workspaces.get()
	err := c.pass.run(c)
	c.loop.call = nil
	c.experts.forget()
	workspaces.put(c.workspace)
	c.ctx, c.workspace = nil, nil
	return err
}

// prepare finds the pass of k and checks all that can be checked without
// reading buffers.
func (c *call) prepare(k *runtime.Kernel, s runtime.Shape, args [][]byte) error {
	p := passOf(k)
	if p == nil {
		return fmt.Errorf("no implementation of pass %s with codec %q", k.Pass, k.Codec)
	}
	if err := p.fits(k); err != nil {
		return err
	}
	if len(args) != len(p.params) {
		return fmt.Errorf("%d arguments for %d bindings", len(args), len(p.params))
	}
	c.pass, c.kernel, c.shape, c.routing = p, k, s, nil
	if err := c.constants(args); err != nil {
		return err
	}
	if p.check != nil {
		if err := p.check(s, c.routing); err != nil {
			return err
		}
	}
	var errs []error
	for i, param := range p.params {
		if param.Access != runtime.Constant {
			errs = appendError(errs, c.fit(i, args[i]))
		}
	}
	return errors.Join(appendError(errs, c.overlaps())...)
}

func appendError(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return append(errs, err)
}

// constants reads the arguments that are passed by value.
func (c *call) constants(args [][]byte) error {
	for i, param := range c.params {
		switch {
		case param.Access != runtime.Constant:
		case param.Type == "Shape":
			var b [64]byte
			if !bytes.Equal(args[i], runtime.AppendShape(b[:0], c.shape)) {
				return fmt.Errorf("argument %s is not the shape of the launch, %+v", param.Name, c.shape)
			}
		case param.Type == "Routing":
			c.routing = new(routing)
			if n, err := binary.Decode(args[i], binary.LittleEndian, &c.routing.Routing); err != nil || n != len(args[i]) {
				return fmt.Errorf("argument %s: %d bytes are no Routing", param.Name, len(args[i]))
			}
			c.routing.experts = routed(c.shape, c.routing.Routing)
		}
	}
	return nil
}

// fit checks the size and the address of argument i and keeps the part of it
// that the launch touches.
func (c *call) fit(i int, arg []byte) error {
	p, size := &c.params[i], uint64(len(arg))
	c.args[i] = nil
	if p.size != nil {
		size = p.size(c.shape, c.routing)
	}
	if uint64(len(arg)) < size {
		return fmt.Errorf("argument %s: %d bytes, want %d", p.Name, len(arg), size)
	}
	arg = arg[:size:size]
	if p.Type != "uchar" && size > 0 && address(arg)%4 != 0 {
		return fmt.Errorf("argument %s: its address is no multiple of 4", p.Name)
	}
	c.args[i] = arg
	return nil
}

// overlaps reports the arguments that are written and lie in another one.
func (c *call) overlaps() error {
	for i, p := range c.params {
		for j, q := range c.params {
			a, b := c.args[i], c.args[j]
			if p.Access != runtime.Write || q.Access == runtime.Constant || i == j || len(a) == 0 || len(b) == 0 {
				continue
			}
			if address(a) < address(b)+uintptr(len(b)) && address(b) < address(a)+uintptr(len(a)) {
				return fmt.Errorf("argument %s is written and overlaps argument %s", p.Name, q.Name)
			}
		}
	}
	return nil
}

// bytes returns the argument called name.
func (c *call) bytes(name string) []byte {
	for i := range c.params {
		if c.params[i].Name == name {
			return c.args[i]
		}
	}
	return nil
}

func (c *call) floats(name string) []float32 { return view[float32](c.bytes(name)) }
func (c *call) uints(name string) []uint32   { return view[uint32](c.bytes(name)) }

// below reports the first of the indices in argument name that is not below
// limit.
func (c *call) below(name string, indices []uint32, limit uint32, of string) error {
	for i, index := range indices {
		if index >= limit {
			return fmt.Errorf("argument %s: element %d is %d, and there are %d %s", name, i, index, limit, of)
		}
	}
	return nil
}

// product returns a·b·…, or the largest uint64 if that is more.
func product(factors ...uint64) uint64 {
	p := uint64(1)
	for _, f := range factors {
		over, low := bits.Mul64(p, f)
		if over != 0 {
			return math.MaxUint64
		}
		p = low
	}
	return p
}

// status says whether this device can run k, a kernel of t.
func status(t *runtime.Table, k *runtime.Kernel) runtime.Status {
	if k.Body == nil {
		return runtime.Status{State: runtime.Failed, Words: "the kernel has no body"}
	}
	p := passOf(k)
	if p == nil {
		return runtime.Status{State: runtime.Missing, Words: fmt.Sprintf("no implementation of pass %s with codec %q", k.Pass, k.Codec)}
	}
	if err := errors.Join(p.fits(k), p.fitsCodec(t.Codec(k.Codec))); err != nil {
		return runtime.Status{State: runtime.Failed, Words: err.Error()}
	}
	for _, tuple := range k.Tuples {
		widths, n := p.widthsRead(k.Pass, tuple)
		for _, width := range widths[:n] {
			if !slices.Contains(p.codec.widths, width) {
				return runtime.Status{State: runtime.Missing, Words: fmt.Sprintf("no implementation of codec %s decodes %d-bit weights", k.Codec, width)}
			}
		}
	}
	return runtime.Status{State: runtime.Present}
}

// fits reports the first binding in which k departs from the calling
// convention of p.
func (p *pass) fits(k *runtime.Kernel) error {
	for i, want := range p.params {
		if i >= len(k.Bindings) {
			return fmt.Errorf("binding %d: none, want %v", i, want.Binding)
		}
		if have := k.Bindings[i]; have != want.Binding {
			return fmt.Errorf("binding %d: %v, want %v", i, have, want.Binding)
		}
	}
	if extra := k.Bindings[len(p.params):]; len(extra) > 0 {
		return fmt.Errorf("binding %d: %v, want none", len(p.params), extra[0])
	}
	if p.grid != (runtime.Axis{}) && k.Grid[0] != p.grid {
		return fmt.Errorf("grid: %v, want %v: the layout of counts and base follows it", k.Grid[0], p.grid)
	}
	if p.codec != nil && k.Tile < 1 {
		return fmt.Errorf("tile: %d rows of a work item", k.Tile)
	}
	return nil
}

// fitsCodec reports where c departs from the codec of p: the layout of an
// Expert depends on its components.
func (p *pass) fitsCodec(c *runtime.Codec) error {
	if p.codec == nil {
		return nil
	}
	if c == nil {
		return fmt.Errorf("codec %s is not in the table", p.codec.name)
	}
	var want []runtime.Component
	for _, part := range p.codec.parts {
		want = append(want, part.Component)
	}
	if !slices.Equal(c.Components, want) {
		return fmt.Errorf("codec %s: components %v, want %v", c.Name, c.Components, want)
	}
	return nil
}

// widthsRead returns the widths of t that a kernel of the pass decodes, and how
// many they are.
func (p *pass) widthsRead(name runtime.Pass, t runtime.BitTuple) (widths [2]uint8, n int) {
	switch {
	case p.codec == nil:
		return widths, 0
	case name == runtime.GateUp:
		return [2]uint8{t.Gate, t.Up}, 2
	}
	return [2]uint8{t.Down}, 1
}
