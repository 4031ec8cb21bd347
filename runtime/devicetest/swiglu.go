package devicetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// tolerance is the error that a float sum may have, relative to its magnitude.
const tolerance = 1e-5

// checkKernel runs one kernel against the oracle.
func checkKernel(s *session, k *runtime.Kernel, short bool) error {
	switch k.Pass {
	case runtime.Route:
		return checkRoute(s, k)
	case runtime.Count, runtime.Prefix, runtime.Scatter:
		return checkGrouping(s, k)
	case runtime.Combine:
		return checkCombine(s, k)
	case runtime.GateUp, runtime.Down:
		return checkExperts(s, k, short)
	}
	return fmt.Errorf("the suite knows no pass %s", k.Pass)
}

// The rows of an expert at which families begin, end and divide their tiles.
var rowLadder = []int{1, 2, 3, 4, 5, 16, 17, 32, 33, 64, 100}

// The shapes of expert kernels: odd multiples of 16, with fewer inputs than a
// group of scales, a few more, and more than kernels stage at once. The larger
// ones stand between smaller ones, whose arguments must not be mistaken for
// what is left of theirs.
func dimensions(p runtime.Pass, short bool) []dims {
	ds := []dims{{hidden: 80, intermediate: 48}, {hidden: 144, intermediate: 112, idle: 150}}
	if short {
		return ds
	}
	deep := dims{hidden: 2064, intermediate: 48, deep: true}
	if p == runtime.Down {
		deep = dims{hidden: 80, intermediate: 2064, deep: true}
	}
	return append(ds, dims{hidden: 272, intermediate: 208}, deep, dims{hidden: 112, intermediate: 144})
}

type dims struct {
	hidden, intermediate int
	deep                 bool // so many inputs that few experts will do
	idle                 int  // more experts that nobody chose, in each place for them: there may be hundreds in a layer
}

func checkExperts(s *session, k *runtime.Kernel, short bool) error {
	codec := s.table.Codec(k.Codec)
	if codec == nil {
		return fmt.Errorf("codec %s is not in the table", k.Codec)
	}
	for i, d := range dimensions(k.Pass, short) {
		c, err := newExpertCase(codec, k, d, uint64(i))
		if err != nil {
			return err
		}
		if err := c.check(s); err != nil {
			return fmt.Errorf("hidden %d, intermediate %d: %w", d.hidden, d.intermediate, err)
		}
	}
	if k.Kind == runtime.Fairway {
		return checkStranger(s, codec, k)
	}
	return nil
}

// checkStranger hands a fairway kernel experts of widths that it has no arm for.
// The device may refuse; otherwise the result must show the mistake.
func checkStranger(s *session, codec *runtime.Codec, k *runtime.Kernel) error {
	t, ok := stranger(codec, k)
	if !ok {
		return nil // it has an arm for everything
	}
	of := *k
	of.Tuples = []runtime.BitTuple{t}
	c, err := newExpertCase(codec, &of, dims{hidden: 80, intermediate: 48}, 0)
	if err != nil {
		return err
	}
	name := c.output()
	result, err := s.run(k, c.shape, c.inputs, outputs{name: 4 * len(c.rows) * c.columns})
	if errors.As(err, new(*runtime.LaunchError)) {
		return nil
	}
	if err != nil {
		return err
	}
	have := decodeFloats(result[name])
	for i, row := range c.rows {
		for j, v := range have[i*c.columns : (i+1)*c.columns] {
			fault := ""
			switch untouched := math.Float32bits(v) == math.MaxUint32; {
			case untouched && row.listed:
				fault = "left as it was"
			case !untouched && !row.listed:
				fault = "written to, and not in the work list"
			case !math.IsNaN(float64(v)):
				fault = fmt.Sprintf("%v", v)
			}
			if fault != "" {
				return fmt.Errorf("experts of %v, which it has no arm for: row %d, column %d is %s; want NaN", t, i, j, fault)
			}
		}
	}
	return nil
}

// stranger returns a tuple that no arm of k's would do for, in either pass.
func stranger(c *runtime.Codec, k *runtime.Kernel) (runtime.BitTuple, bool) {
	for _, gate := range c.Widths {
		for _, up := range c.Widths {
			for _, down := range c.Widths {
				t := runtime.BitTuple{Gate: gate, Up: up, Down: down}
				if !slices.ContainsFunc(k.Tuples, func(o runtime.BitTuple) bool {
					return o.Gate == gate && o.Up == up || o.Down == down
				}) {
					return t, true
				}
			}
		}
	}
	return runtime.BitTuple{}, false
}

// An expertCase is a launch of a gate_up or down kernel and its result.
type expertCase struct {
	kernel  *runtime.Kernel
	shape   runtime.Shape
	inputs  inputs
	columns int             // of the result
	rows    []row           // of the result
	want    []oracle.Vector // by row; empty where the row is not in the work list
}

// A row is one row of a launch.
type row struct {
	expert, index, of int // row index of the expert's rows
	tuple             runtime.BitTuple
	token             uint32
	listed            bool // in the work list
}

// tuplesOf returns the tuples to run k with: all that it was compiled for, or
// enough to have every width in every projection, in mixtures.
func tuplesOf(c *runtime.Codec, k *runtime.Kernel) []runtime.BitTuple {
	if k.Tuples != nil {
		return k.Tuples
	}
	var ts []runtime.BitTuple
	n := len(c.Widths)
	for i := range n {
		ts = append(ts, runtime.BitTuple{Gate: c.Widths[i], Up: c.Widths[(i+2)%n], Down: c.Widths[(i+5)%n]})
	}
	return append(ts, runtime.BitTuple{Gate: c.Widths[n-1], Up: c.Widths[n-1], Down: c.Widths[n-1]})
}

func newExpertCase(codec *runtime.Codec, k *runtime.Kernel, d dims, seed uint64) (*expertCase, error) {
	r := rand.New(rand.NewPCG(seed, uint64(k.Tile)))
	w, err := newWeights(codec)
	if err != nil {
		return nil, err
	}
	c := &expertCase{kernel: k, columns: d.intermediate}
	if k.Pass == runtime.Down {
		c.columns = d.hidden
	}
	var experts []oracle.Expert
	var work []runtime.Work

	// add adds an expert with some rows.
	add := func(t runtime.BitTuple, rows int, listed bool) error {
		var passes []runtime.Pass
		if listed {
			passes = append(passes, k.Pass)
		}
		e, err := w.expert(r, t, d.hidden, d.intermediate, passes...)
		if err != nil {
			return err
		}
		first := len(c.rows)
		for i := range rows {
			c.rows = append(c.rows, row{expert: len(experts), index: i, of: rows, tuple: t, listed: listed})
		}
		if listed {
			work = append(work, split(uint32(len(experts)), first, rows, k.Tile)...)
		}
		experts = append(experts, e)
		return nil
	}
	// skip adds experts that nobody chose.
	skip := func() {
		for range 1 + d.idle {
			w.none()
			experts = append(experts, oracle.Expert{})
		}
	}

	var ladder []int
	for _, rows := range rowLadder {
		if k.Rows.Contains(rows) {
			ladder = append(ladder, rows)
		}
	}
	if len(ladder) == 0 {
		return nil, fmt.Errorf("the suite tries no rows in %v", k.Rows)
	}
	tuples := tuplesOf(codec, k)
	n := max(3, len(ladder), len(tuples))
	if d.deep {
		ladder, n = ladder[:min(2, len(ladder))], min(n, 3)
	}
	// Of another launch: rows before, between and after this one's.
	other := runtime.BitTuple{Gate: codec.Widths[0], Up: codec.Widths[1], Down: codec.Widths[2]}
	if err := add(other, 2, false); err != nil {
		return nil, err
	}
	for i := range n {
		if err := add(tuples[(i+int(seed))%len(tuples)], ladder[i%len(ladder)], true); err != nil {
			return nil, err
		}
		if i%2 == 0 {
			skip()
		}
		if i == n/2 {
			if err := add(other, 3, false); err != nil {
				return nil, err
			}
		}
	}
	if err := add(other, 1, false); err != nil {
		return nil, err
	}
	r.Shuffle(len(work), func(i, j int) { work[i], work[j] = work[j], work[i] })
	// An entry without rows is padding, whatever else it says.
	work = append(work, runtime.Work{Expert: math.MaxUint32, First: math.MaxUint32})

	const tokens = 23
	c.shape = runtime.Shape{
		Tokens: tokens, Slots: 1, Experts: uint32(len(experts)),
		Hidden: uint32(d.hidden), Intermediate: uint32(d.intermediate),
		Rows: uint32(len(c.rows)), Items: uint32(len(work)),
	}
	c.inputs = inputs{"weights": w.data, "experts": w.descriptors, "work": encode(work)}
	if k.Pass == runtime.GateUp {
		c.gateUp(r, experts, tokens, d.hidden)
	} else {
		c.down(r, experts, d.intermediate)
	}
	return c, nil
}

// split returns the work items of an expert's rows; of an odd expert they do
// not begin with a full tile.
func split(expert uint32, first, rows, tile int) (items []runtime.Work) {
	n := tile
	if expert%2 == 1 && tile > 1 {
		n = tile - 1
	}
	for rows > 0 {
		n = min(n, rows)
		items = append(items, runtime.Work{Expert: expert, First: uint32(first), Rows: uint32(n)})
		first, rows, n = first+n, rows-n, tile
	}
	return items
}

// gateUp makes the inputs of a gate_up launch and the h that they give.
func (c *expertCase) gateUp(r *rand.Rand, experts []oracle.Expert, tokens, hidden int) {
	x := normal(r, tokens*hidden, 1)
	token := make([]uint32, len(c.rows))
	type pair struct {
		expert int
		token  uint32
	}
	var pairs []pair
	place := make(map[pair]int)
	for i := range c.rows {
		row := &c.rows[i]
		row.token = r.Uint32N(uint32(tokens))
		token[i] = row.token
		if !row.listed {
			token[i] = math.MaxUint32 // nobody's business
			continue
		}
		p := pair{row.expert, row.token}
		if _, ok := place[p]; !ok {
			place[p] = len(pairs)
			pairs = append(pairs, p)
		}
	}
	h := make([]oracle.Vector, len(pairs))
	parallel(len(pairs), func(i int) {
		p := pairs[i]
		h[i] = experts[p.expert].GateUp(oracle.Floats(x[int(p.token)*hidden:][:hidden]))
	})
	c.want = make([]oracle.Vector, len(c.rows))
	for i, row := range c.rows {
		if row.listed {
			c.want[i] = h[place[pair{row.expert, row.token}]]
		}
	}
	c.inputs["x"], c.inputs["token"] = encode(x), encode(token)
}

// down makes the inputs of a down launch and the y that they give.
func (c *expertCase) down(r *rand.Rand, experts []oracle.Expert, intermediate int) {
	h := normal(r, len(c.rows)*intermediate, 1)
	prob := make([]float32, len(c.rows))
	for i := range prob {
		prob[i] = 0.25 + r.Float32()
	}
	c.want = make([]oracle.Vector, len(c.rows))
	parallel(len(c.rows), func(i int) {
		if !c.rows[i].listed {
			return
		}
		y := experts[c.rows[i].expert].Down.Times(oracle.Floats(h[i*intermediate:][:intermediate]))
		for o := range y.Value {
			y.Value[o] *= float64(prob[i])
			y.Magnitude[o] *= float64(prob[i])
		}
		c.want[i] = y
	})
	for i, row := range c.rows {
		if !row.listed { // nobody's business
			prob[i] = float32(math.NaN())
			for j := range intermediate {
				h[i*intermediate+j] = float32(math.NaN())
			}
		}
	}
	c.inputs["h"], c.inputs["prob"] = encode(h), encode(prob)
}

// output returns the name of what c's kernel writes.
func (c *expertCase) output() string {
	if c.kernel.Pass == runtime.Down {
		return "y"
	}
	return "h"
}

// check runs c twice.
func (c *expertCase) check(s *session) error {
	name := c.output()
	out := outputs{name: 4 * len(c.rows) * c.columns}
	first, err := s.run(c.kernel, c.shape, c.inputs, out)
	if err != nil {
		return err
	}
	if err := c.judge(s, decodeFloats(first[name])); err != nil {
		return fmt.Errorf("argument %s: %w", name, err)
	}
	again, err := s.run(c.kernel, c.shape, c.inputs, out)
	if err != nil {
		return err
	}
	return first.equal(again)
}

// judge compares the rows of a result.
func (c *expertCase) judge(s *session, have []float32) error {
	for i, row := range c.rows {
		have := have[i*c.columns : (i+1)*c.columns]
		if row.listed {
			if err := s.judge(have, c.want[i]); err != nil {
				return fmt.Errorf("row %d (expert %d of %v, its row %d of %d, token %d): %w", i, row.expert, row.tuple, row.index, row.of, row.token, err)
			}
			continue
		}
		for j, v := range have {
			if math.Float32bits(v) != math.MaxUint32 {
				return fmt.Errorf("row %d, which is not in the work list: column %d is %v and should be untouched", i, j, v)
			}
		}
	}
	return nil
}

// judge reports the first value that is off by more than its magnitude allows.
func (s *session) judge(have []float32, want oracle.Vector) error {
	for i, v := range have {
		off := math.Abs(float64(v) - want.Value[i])
		if allowed := s.allowed * want.Magnitude[i]; !(off <= allowed) {
			return fmt.Errorf("column %d is %v, want %v within %.2g", i, v, want.Value[i], allowed)
		}
	}
	return nil
}

// normal returns n random numbers.
func normal(r *rand.Rand, n int, deviation float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * deviation)
	}
	return x
}

// parallel calls f(0), …, f(n-1) on all processors.
func parallel(n int, f func(int)) {
	var wg sync.WaitGroup
	workers := min(n, goruntime.GOMAXPROCS(0))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}
