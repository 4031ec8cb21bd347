package kernels

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/runtime"
)

// A Run is a case that is right, and ready to be timed.
type Run struct {
	Deviation   float64 // from the oracle, relative to the magnitude of the terms: the largest
	Checked     int     // outputs that were held to the oracle
	Sets        int     // of experts with weights of their own
	WeightBytes float64 // of the projections that a launch reads, scales and all
	Bytes       float64 // with what it reads and writes besides: rows, lists and descriptors
	MACs        float64 // of a launch

	bench   *Bench
	c       Case
	first   []int     // row of each expert
	token   []uint32  // of each row
	prob    []float32 // of each row
	sets    []set
	output  runtime.Buffer
	size    int // of the output, bytes
	buffers []runtime.Buffer
	next    int           // set
	graph   runtime.Graph // of all sets, rounds times; nil if the queue does not record
	rounds  int           // over all sets, between two looks at the clock
	counts  Counts
}

// A set is experts, and the launches that run them.
type set struct {
	experts  []moe.Expert
	launches []runtime.Launch
}

// Counts say what Sample timed.
type Counts struct {
	Launches    map[string]uint64           // by symbol
	Assignments map[runtime.BitTuple]uint64 // rows, by tuple
}

// Prepare makes the weights and launches of c, holds their outputs to the
// oracle and warms up. The error says what kernel cannot run what, or which
// output is wrong.
func (b *Bench) Prepare(ctx context.Context, c Case) (*Run, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	plans, err := b.plan(c)
	if err != nil {
		return nil, err
	}
	r := &Run{
		bench: b, c: c, MACs: c.MACs(),
		counts: Counts{map[string]uint64{}, map[runtime.BitTuple]uint64{}},
	}
	if err := r.prepare(ctx, plans); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Run) prepare(ctx context.Context, plans []launchPlan) error {
	args, err := r.inputs()
	if err != nil {
		return err
	}
	if err := r.layOut(plans, args); err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return err
	}
	return r.warm(ctx)
}

// buffer returns a buffer with some content.
func (r *Run) buffer(content []byte) (runtime.Arg, error) {
	b, err := r.bench.Device.NewBuffer(len(content))
	if err != nil {
		return runtime.Arg{}, err
	}
	r.buffers = append(r.buffers, b)
	_, err = b.WriteAt(content, 0)
	return runtime.Arg{Buffer: b}, err
}

// inputs makes what all launches share: the arguments but for experts and work.
func (r *Run) inputs() (map[string]runtime.Arg, error) {
	random := rand.New(rand.NewPCG(r.bench.Seed, 1))
	tokens := r.c.tokens()
	for _, e := range r.c.Experts {
		r.first = append(r.first, len(r.token))
		of := random.Perm(tokens)[:e.Rows] // different ones, in order
		slices.Sort(of)
		for _, t := range of {
			r.token = append(r.token, uint32(t))
			r.prob = append(r.prob, 0.25+random.Float32())
		}
	}
	in, out := r.c.columns()
	vectors := r.bench.vectors(inputKey{r.c.Pass(), in})
	name, result, rows := "x", "h", tokens
	if r.c.Pass() == runtime.Down {
		name, result, rows = "h", "y", len(r.token)
	}
	content := make([]byte, 0, 4*rows*in)
	for i := range rows {
		content = append(content, encode(vectors[i%period])...)
	}
	r.size = 4 * len(r.token) * out
	args := map[string]runtime.Arg{"weights": {Buffer: r.bench.weights}}
	for name, content := range map[string][]byte{
		name: content, result: make([]byte, r.size), "token": encode(r.token), "prob": encode(r.prob),
	} {
		arg, err := r.buffer(content)
		if err != nil {
			return nil, err
		}
		args[name] = arg
	}
	r.output = args[result].Buffer
	used := map[uint32]bool{} // not every token has to be of some expert
	for _, t := range r.token {
		used[t] = true
	}
	if r.c.Pass() == runtime.GateUp {
		rows = len(used)
	}
	r.Bytes = float64(4*rows*in + r.size + 4*len(r.token)) // token or prob
	return args, nil
}

// layOut cuts as many sets as there is room for, and makes their launches.
func (r *Run) layOut(plans []launchPlan, args map[string]runtime.Arg) error {
	layer := weights.Layer{Hidden: r.c.Hidden, Intermediate: r.c.Intermediate}
	for _, e := range r.c.Experts {
		layer.Tuples = append(layer.Tuples, e.Tuple)
	}
	all, err := r.bench.pool.Layers(layer, mostSets)
	if err != nil {
		return err
	}
	shape := runtime.Shape{
		Tokens: uint32(r.c.tokens()), Slots: uint32(r.c.TopK), Experts: uint32(len(r.c.Experts)),
		Hidden: uint32(r.c.Hidden), Intermediate: uint32(r.c.Intermediate), Rows: uint32(len(r.token)),
	}
	work := make([][]runtime.Work, len(plans))
	lists := make([]runtime.Arg, len(plans))
	for i, p := range plans {
		for _, e := range p.experts {
			work[i] = p.kernel.AppendWork(work[i], e, r.first[e], r.c.Experts[e].Rows)
		}
		content := encode(work[i])
		if lists[i], err = r.buffer(content); err != nil {
			return err
		}
		r.Bytes += float64(len(content))
	}
	for _, experts := range all {
		s := set{experts: experts}
		var descriptors []byte
		for i := range experts {
			descriptors = experts[i].AppendDescriptor(descriptors)
		}
		if args["experts"], err = r.buffer(descriptors); err != nil {
			return err
		}
		for i, p := range plans {
			shape := shape
			shape.Items = uint32(len(work[i]))
			args["work"] = lists[i]
			launch, err := p.kernel.Launch(shape, args)
			if err != nil {
				return err
			}
			s.launches = append(s.launches, launch)
		}
		r.sets = append(r.sets, s)
		for _, e := range experts {
			if r.c.Pass() == runtime.Down {
				r.WeightBytes += float64(weights.Bytes(e.Down)) / float64(len(all))
			} else {
				r.WeightBytes += float64(weights.Bytes(e.Gate, e.Up)) / float64(len(all))
			}
		}
		r.Bytes += float64(len(descriptors)) / float64(len(all))
	}
	r.Sets = len(r.sets)
	r.Bytes += r.WeightBytes
	return nil
}

// mostSets bounds what small cases need besides weights.
const mostSets = 64

func encode(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err) // v has no fixed size
	}
	return b
}

// outputs runs set n on poisoned outputs, and returns what it makes of them.
func (r *Run) outputs(ctx context.Context, n int) ([]byte, error) {
	content := bytes.Repeat([]byte{poison}, r.size)
	if _, err := r.output.WriteAt(content, 0); err != nil {
		return nil, err
	}
	if err := errors.Join(r.enqueue(n), r.bench.queue.Wait(ctx)); err != nil {
		return nil, err
	}
	_, err := r.output.ReadAt(content, 0)
	return content, err
}

// enqueue launches set n. What comes later waits for it, as the next pass of a
// layer does.
func (r *Run) enqueue(n int) error {
	for _, l := range r.sets[n].launches {
		if err := r.bench.queue.Launch(l); err != nil {
			return err
		}
	}
	r.bench.queue.Barrier()
	return nil
}

// shortest is how long the device has to be busy between two looks at its
// clock, so that what lies between them does not count. mostRounds bounds what
// that takes of the queue's memory.
const (
	shortest   = time.Millisecond
	mostRounds = 64
)

// warm finds how often to run all sets between two looks at the device's clock,
// and records them where the queue does.
func (r *Run) warm(ctx context.Context) error {
	r.rounds = 1
	if _, ok := r.bench.queue.(runtime.Timer); !ok {
		return nil // verify has run all there is
	}
	for {
		if err := r.record(); err != nil {
			return err
		}
		if _, err := r.rotate(ctx); err != nil { // the first run of a graph uploads it
			return err
		}
		once, err := r.rotate(ctx)
		if err != nil || once >= shortest || r.rounds >= mostRounds {
			return err
		}
		r.rounds = min(mostRounds, 1+r.rounds*int(shortest/max(once, shortest/mostRounds)))
	}
}

// record makes a graph of what rotate does, where the queue records.
func (r *Run) record() (err error) {
	queue, ok := r.bench.queue.(runtime.Recorder)
	if !ok {
		return nil
	}
	if r.graph != nil {
		err = r.graph.Close()
		r.graph = nil
	}
	if err == nil {
		r.graph, err = queue.Record(r.all)
	}
	return err
}

// all launches all sets, rounds times.
func (r *Run) all() error {
	for range r.rounds {
		for n := range r.sets {
			if err := r.enqueue(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// rotate runs all sets, rounds times, and returns the device's time.
func (r *Run) rotate(ctx context.Context) (time.Duration, error) {
	launch := r.all
	if r.graph != nil {
		launch = r.graph.Launch
	}
	if err := errors.Join(launch(), r.bench.queue.Wait(ctx)); err != nil {
		return 0, err
	}
	took := r.bench.queue.(runtime.Timer).GPUTime()
	if took <= 0 {
		return 0, fmt.Errorf("the device took %v for %d launches, says its clock", took, r.rounds*len(r.sets))
	}
	return took, nil
}

// Sample times launches on all sets in turn until they took enough together,
// and at least once. It returns the milliseconds of one, of all kernels of the
// case, for each look at the clock: on a device that knows its own time, means
// over many launches; elsewhere, of each one from launch to Wait.
func (r *Run) Sample(ctx context.Context, enough time.Duration) ([]float64, error) {
	var ms []float64
	for all := time.Duration(0); len(ms) == 0 || all < enough; {
		took, calls, err := r.once(ctx)
		if err != nil {
			return nil, err
		}
		all += took
		ms = append(ms, took.Seconds()*1e3/float64(calls))
		r.count(calls)
	}
	return ms, nil
}

// once runs what lies between two looks at the clock: some calls, and their time.
func (r *Run) once(ctx context.Context) (took time.Duration, calls int, err error) {
	if _, ok := r.bench.queue.(runtime.Timer); ok {
		took, err = r.rotate(ctx)
		return took, r.rounds * len(r.sets), err
	}
	n := r.next
	r.next = (n + 1) % len(r.sets)
	before := time.Now()
	err = errors.Join(r.enqueue(n), r.bench.queue.Wait(ctx))
	return time.Since(before), 1, err
}

// count notes calls that were timed.
func (r *Run) count(calls int) {
	for _, l := range r.sets[0].launches {
		r.counts.Launches[l.Kernel.Symbol] += uint64(calls)
	}
	for _, e := range r.c.Experts {
		r.counts.Assignments[e.Tuple] += uint64(calls * e.Rows)
	}
}

// Counts returns what all samples timed.
func (r *Run) Counts() Counts { return r.counts }

// Case returns what r does.
func (r *Run) Case() Case { return r.c }

// Close frees what the run needs of the device.
func (r *Run) Close() error {
	var errs []error
	if r.graph != nil {
		errs = append(errs, r.graph.Close())
	}
	for _, b := range r.buffers {
		errs = append(errs, b.Close())
	}
	r.graph, r.buffers = nil, nil
	return errors.Join(errs...)
}
