package runtime

import "slices"

// A Pass is one step of a mixture-of-experts layer. Its kernels share one
// calling convention, whatever their codec and family.
type Pass string

// The passes of a layer, in the order in which they run.
const (
	Route   Pass = "route"   // scores, top-k and weights
	Count   Pass = "count"   // assignments per expert, by block
	Prefix  Pass = "prefix"  // first row of each expert
	Scatter Pass = "scatter" // assignments, stably sorted by expert
	GateUp  Pass = "gate_up" // h = silu(x·Wg) ⊙ (x·Wu)
	Down    Pass = "down"    // y = p·(h·Wd)
	Combine Pass = "combine" // Σ over slots, in slot order
)

// Early returns the names of the arguments that kernels of p may read before
// earlier launches have ended, on devices that begin a launch before that.
func (p Pass) Early() []string {
	switch p {
	case GateUp:
		return []string{"experts"}
	case Down:
		return []string{"weights", "experts", "work", "prob"} // all older than h
	case Combine:
		return []string{"row"} // older than y
	}
	return nil
}

// A Kind says how much of a kernel was fixed when it was compiled.
type Kind string

// The kinds of kernel.
const (
	Tuple   Kind = "tuple"   // one bit tuple
	Fairway Kind = "fairway" // a switch over all tuples of the specs
	Generic Kind = "generic" // widths read at run time
	Helper  Kind = "helper"  // reads no expert's weights
)

// A Body is what the kernels of one pass, codec and family share: the text of
// their template, the rows they serve and the way they are launched.
type Body struct {
	Pass             Pass
	Codec            string // empty for a helper
	Family           string // empty for a helper
	Target           string // kind of GPU that it is tuned for; empty if it is for all
	Device           string // the one that it was tuned on, by Info.Name; empty if it is for all of its target
	Driver           string // that it was tuned with, by Info.Driver; empty if Device is
	Doc              string
	Rows             Range // rows of one expert that it serves
	LayerRows        int   // of all experts together, at most; 0 if there may be any number
	Tile             int   // most rows in one entry of the work list
	Grid             [3]Axis
	Threads          int // per threadgroup
	ThreadgroupBytes int // of threadgroup memory
	Residents        int // threadgroups that a core is to hold at once, which limits their registers; 0 if it is the compiler's choice
	Accumulator      string
	Bindings         []Binding
	Alone            []Kind // best first, where a launch has one tuple
	Shared           []Kind // best first, where tuples share a launch
	Orders           []Order
	Source           string // its file in package generated
	Spec             string // file:line that declares it
}

// An Order is another preference than a Body's, on one device.
type Order struct {
	Device string // by Info.Name
	Driver string // by Info.Driver
	Alone  []Kind // best first, where a launch has one tuple
	Shared []Kind // best first, where tuples share a launch
}

// A Kernel is one row of the table: one function of a Metal library.
type Kernel struct {
	*Body
	Kind   Kind
	Tuples []BitTuple // that it was compiled for; nil if it runs any
	Symbol string
	Line   string // file:line of the spec that asks for it
}

// Runs reports whether k was compiled for experts of tuple t, if their codec
// stores it.
func (k *Kernel) Runs(t BitTuple) bool { return k.Tuples == nil || slices.Contains(k.Tuples, t) }

// Groups returns the threadgroups that a launch of shape s takes.
func (k *Kernel) Groups(s Shape) [3]uint32 {
	return [3]uint32{k.Grid[0].Groups(s), k.Grid[1].Groups(s), k.Grid[2].Groups(s)}
}

// AppendWork appends entries of a work list: rows of an expert, from first on,
// cut to k's Tile.
func (k *Kernel) AppendWork(list []Work, expert, first, rows int) []Work {
	for end := first + rows; first < end; first += k.Tile {
		list = append(list, Work{Expert: uint32(expert), First: uint32(first), Rows: uint32(min(k.Tile, end-first))})
	}
	return list
}

// A Binding is one kernel argument. Its buffer index is its place in Bindings.
type Binding struct {
	Name   string
	Type   string // as in Metal: float, uint, Shape
	Access Access
}

// Access says what a kernel does with an argument.
type Access string

// The kinds of access.
const (
	Constant Access = "constant" // passed by value
	Read     Access = "read"
	Write    Access = "write"
)

// A Codec is a way to store the weights of a projection.
type Codec struct {
	Name       string
	Doc        string
	Widths     []uint8     // bits per weight that it can store
	Components []Component // tensors of one projection, in order
	Tuples     []BitTuple  // that kernels are specialised for
	Spec       string      // file that declares it
}

// Stores reports whether c has the widths of tuple t.
func (c *Codec) Stores(t BitTuple) bool {
	return slices.Contains(c.Widths, t.Gate) && slices.Contains(c.Widths, t.Up) && slices.Contains(c.Widths, t.Down)
}

// A Component is one tensor of a projection.
type Component struct {
	Name string
	Type string // of an element, as in Metal
}

// A Table holds generated kernels: all of them, or those for a target.
type Table struct {
	Kernels []*Kernel
	Codecs  []*Codec
}

// The targets that the generated table has kernels for.
const (
	Metal3 = "metal3" // Apple GPUs; also what devices without kernels of their own run
	CUDA   = "cuda"   // NVIDIA GPUs
)

// For returns the kernels of t for a target: those that are tuned for it, and
// those that are for all, in the order of t. What selects kernels takes such a
// table: of two targets' kernels for the same rows, none is the better one.
func (t *Table) For(target string) *Table { return t.On(target, Info{}) }

// On returns the kernels of t for a target, as For does; but where something was
// measured to be better on the very device that i describes, with the driver that
// it has, that instead.
func (t *Table) On(target string, i Info) *Table {
	type place struct {
		pass          Pass
		codec, family string
	}
	of := func(b *Body) place { return place{b.Pass, b.Codec, b.Family} }
	tuned := map[place]bool{}
	for _, k := range t.Kernels {
		if k.Target == target && k.Device != "" && k.Device == i.Name && k.Driver == i.Driver {
			tuned[of(k.Body)] = true
		}
	}
	ordered := map[*Body]*Body{}
	view := &Table{Codecs: t.Codecs}
	for _, k := range t.Kernels {
		switch {
		case k.Target != "" && k.Target != target:
		case k.Device != "" && (k.Device != i.Name || k.Driver != i.Driver):
		case k.Device == "" && tuned[of(k.Body)]:
		default:
			if _, ok := ordered[k.Body]; !ok {
				ordered[k.Body] = k.on(i)
			}
			if b := ordered[k.Body]; b != k.Body {
				own := *k
				own.Body = b
				k = &own
			}
			view.Kernels = append(view.Kernels, k)
		}
	}
	return view
}

// on returns b, or where the device that i describes has an order of its own, b
// with that.
func (b *Body) on(i Info) *Body {
	for _, o := range b.Orders {
		if o.Device == i.Name && o.Driver == i.Driver {
			own := *b
			own.Alone, own.Shared, own.Orders = o.Alone, o.Shared, nil
			return &own
		}
	}
	return b
}

// Every returns all kernels of t for a target, for whichever devices they were
// tuned: what to compile, and not to select from.
func (t *Table) Every(target string) *Table {
	view := &Table{Codecs: t.Codecs}
	for _, k := range t.Kernels {
		if k.Target == "" || k.Target == target {
			view.Kernels = append(view.Kernels, k)
		}
	}
	return view
}

// SourceNames returns the sources of the kernels of t, in the order of t.
func (t *Table) SourceNames() (names []string) {
	for _, k := range t.Kernels {
		if k.Body != nil && !slices.Contains(names, k.Source) {
			names = append(names, k.Source)
		}
	}
	return names
}

// Kernel returns the kernel named symbol, or nil.
func (t *Table) Kernel(symbol string) *Kernel {
	for _, k := range t.Kernels {
		if k.Symbol == symbol {
			return k
		}
	}
	return nil
}

// Body returns the body that serves r best, or nil.
func (t *Table) Body(r Request) *Body {
	if bs := bodies(t, r); len(bs) > 0 {
		return bs[0]
	}
	return nil
}

// Codec returns the codec of the given name, or nil.
func (t *Table) Codec(name string) *Codec {
	for _, c := range t.Codecs {
		if c.Name == name {
			return c
		}
	}
	return nil
}
