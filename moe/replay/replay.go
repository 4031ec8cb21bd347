// Package replay runs the MoE layers of a checkpoint on recorded activations
// and says how far the result is from the record, and how much of that the
// weights explain.
package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// What a faithful run stays within.
const (
	WeightTolerance = 1e-5 // of routing weights, absolute
	OutputTolerance = 1e-4 // of outputs, relative to what the weights explain

	// coarse is the same for devices that round inputs, in units of their
	// Tolerance: an output is of two sums in a row, and smaller than their terms.
	coarse = 3
)

// A Record holds the activations of one layer, as another implementation
// computed them from unquantised weights. In is needed; what else is missing
// is nil, and not judged.
type Record struct {
	Tokens  int
	In      []float32 // [tokens, hidden]
	Out     []float32 // [tokens, hidden]
	Experts []int32   // [tokens, top-k], in any order
	Weights []float32 // [tokens, top-k], of Experts
}

// Read returns the record of layer n in t, the tensors layers.N.moe.in,
// layers.N.moe.out, layers.N.router.indices and layers.N.router.weights, for a
// model of the given configuration.
func Read(t *checkpoint.Tensors, n int, c checkpoint.Config) (*Record, error) {
	name := func(what string) string { return fmt.Sprintf("layers.%d.%s", n, what) }
	var r Record
	var errs []error
	floats := func(what string, columns int) []float32 {
		if _, ok := t.Lookup(name(what)); !ok {
			return nil
		}
		v, shape, err := t.Float32(name(what))
		if err == nil && (len(shape) != 2 || shape[1] != columns || r.In != nil && shape[0] != r.Tokens) {
			err = fmt.Errorf("%s: shape is %v, want [tokens, %d]", name(what), shape, columns)
		}
		errs = append(errs, err)
		if err == nil {
			r.Tokens = shape[0]
		}
		return v
	}
	r.In = floats("moe.in", c.Hidden)
	r.Out = floats("moe.out", c.Hidden)
	r.Weights = floats("router.weights", c.TopK)
	if _, ok := t.Lookup(name("router.indices")); ok {
		v, shape, err := t.Int32(name("router.indices"))
		if err == nil && !slices.Equal(shape, []int{r.Tokens, c.TopK}) {
			err = fmt.Errorf("%s: shape is %v, want [%d, %d]", name("router.indices"), shape, r.Tokens, c.TopK)
		}
		r.Experts = v
		errs = append(errs, err)
	}
	if r.In == nil {
		errs = append(errs, fmt.Errorf("%s: no such tensor", name("moe.in")))
	}
	return &r, errors.Join(errs...)
}

// A Report is what came of one layer.
type Report struct {
	Layer     int
	Tokens    int
	Experts   map[runtime.BitTuple]int // routed ones, by tuple
	Shared    *runtime.BitTuple
	Plan      moe.Plan
	Snapshot  moe.Snapshot // of one Forward
	Times     []time.Duration
	Recorded  bool // the outputs and the routing are in the record
	Misrouted int  // tokens whose experts are not those of the record

	WeightError float64 // largest difference from the record's routing weights

	Tolerance float64 // of the next three: OutputTolerance, or what the device calls for

	// Errors relative to the size of what they are errors of, as
	// ‖a − b‖ / ‖b‖ over all tokens.
	Error     float64 // of the layer, from the record
	Explained float64 // of the oracle with the same weights, from the record
	Deviation float64 // of the layer, from that oracle
}

// Faults returns what is beyond tolerance.
func (r *Report) Faults() error {
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("layer %d: "+format, append([]any{r.Layer}, args...)...))
		}
	}
	beyond := func(v, tolerance float64) bool { return math.IsNaN(v) || v > tolerance }
	check(beyond(r.Deviation, r.Tolerance), "the output is %.2g from the oracle's; the tolerance is %.0e", r.Deviation, r.Tolerance)
	if r.Recorded {
		check(r.Misrouted > 0, "%d tokens go to other experts than in the record", r.Misrouted)
		check(beyond(r.WeightError, WeightTolerance), "routing weights are %.2g from the record's; the tolerance is %.0e", r.WeightError, WeightTolerance)
		check(beyond(math.Abs(r.Error-r.Explained), r.Tolerance), "the error is %.6f; its weights explain %.6f", r.Error, r.Explained)
	}
	return errors.Join(errs...)
}

// Time returns the median of the times.
func (r *Report) Time() time.Duration {
	ts := slices.Sorted(slices.Values(r.Times))
	return ts[len(ts)/2]
}

// Run runs layer n with weights w on a record: once to warm up and be judged,
// then as often as repeat says to be timed.
func Run(ctx context.Context, n int, w moe.Weights, o moe.Options, record *Record, repeat int) (r *Report, err error) {
	layer, err := moe.NewLayer(w, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()

	r = &Report{Layer: n, Tokens: record.Tokens, Experts: map[runtime.BitTuple]int{}, Recorded: record.Out != nil,
		Tolerance: max(OutputTolerance, coarse*o.Device.Info().Tolerance)}
	for i := range w.Experts {
		r.Experts[w.Experts[i].Tuple()]++
	}
	if w.Shared != nil {
		t := w.Shared.Tuple()
		r.Shared = &t
	}
	routing, err := layer.Route(record.In)
	if err != nil {
		return nil, err
	}
	a, err := layer.Assign(routing)
	if err != nil {
		return nil, err
	}
	if r.Plan, err = layer.Plan(a); err != nil {
		return nil, err
	}
	layer.Counters().Reset()
	out, err := layer.Forward(ctx, record.In)
	if err != nil {
		return nil, err
	}
	r.Snapshot = layer.Counters().Reset()
	for range max(repeat, 1) {
		start := time.Now()
		if _, err := layer.Forward(ctx, record.In); err != nil {
			return nil, err
		}
		r.Times = append(r.Times, time.Since(start))
	}
	return r, r.judge(w, record, routing, out)
}

// judge fills in the errors.
func (r *Report) judge(w moe.Weights, record *Record, routing *moe.Routing, out []float32) error {
	ideal, err := newOracle(w)
	if err != nil {
		return err
	}
	var x [][]float64
	for t := range record.Tokens {
		x = append(x, oracle.Floats(record.In[t*w.Hidden:][:w.Hidden]))
	}
	vectors, _, err := ideal.Forward(x)
	if err != nil {
		return err
	}
	var want []float64
	for _, v := range vectors {
		want = append(want, v.Value...)
	}
	got := oracle.Floats(out)
	r.Deviation = oracle.Distance(got, want)
	if !r.Recorded {
		return nil
	}
	recorded := oracle.Floats(record.Out)
	r.Error = oracle.Distance(got, recorded)
	r.Explained = oracle.Distance(want, recorded)
	r.compareRouting(record, routing)
	return nil
}

// compareRouting compares experts and weights token by token; the record's
// are in no particular order.
func (r *Report) compareRouting(record *Record, routing *moe.Routing) {
	k := routing.TopK
	if len(record.Experts) != len(routing.Experts) || len(record.Weights) != len(routing.Weights) {
		return
	}
	for t := range record.Tokens {
		theirs := map[int]float32{}
		for i, e := range record.Experts[t*k:][:k] {
			theirs[int(e)] = record.Weights[t*k+i]
		}
		agree := true
		for i, e := range routing.Experts[t*k:][:k] {
			weight, ok := theirs[e]
			if agree = agree && ok; ok {
				r.WeightError = max(r.WeightError, math.Abs(float64(routing.Weights[t*k+i]-weight)))
			}
		}
		if !agree {
			r.Misrouted++
		}
	}
}
