package kernels

import (
	"errors"
	"math/rand/v2"

	"github.com/marlingen/marlingen/moe/bench/internal/weights"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// Options say with what kernels are timed. Device, Library, Table and Memory
// are needed.
type Options struct {
	Device  runtime.Device
	Library runtime.Library // that Device loaded of Table
	Table   *runtime.Table
	Memory  int    // bytes of weights
	Seed    uint64 // of inputs

	// Tolerance is the error that an output may have, relative to the sum of
	// its terms' magnitudes; 0 for what the device's own tolerance calls for.
	Tolerance float64
}

// FloatTolerance is the error of a sum of floats, relative to the sum of its
// terms' magnitudes.
const FloatTolerance = 1e-5

// A Bench is a device with weights to time kernels on. It is for one goroutine,
// as are its Runs.
type Bench struct {
	Options
	pool    *weights.Pool
	weights runtime.Buffer // the pool
	queue   runtime.Queue
	inputs  map[inputKey][][]float32 // some vectors by their size
	known   map[knownKey]known
}

// New returns a bench. Its Device and Library must outlive it.
func New(o Options) (*Bench, error) {
	return (&Bench{Options: o, pool: weights.NewPool(o.Memory), inputs: map[inputKey][][]float32{}, known: map[knownKey]known{}}).open()
}

// Beside returns a bench with b's weights, inputs and outputs of the oracle on
// another device, or in another library: o's Memory and Seed are b's. It is for
// the goroutine of b.
func (b *Bench) Beside(o Options) (*Bench, error) {
	o.Memory, o.Seed = b.Memory, b.Seed
	return (&Bench{Options: o, pool: b.pool, inputs: b.inputs, known: b.known}).open()
}

func (b *Bench) open() (*Bench, error) {
	if b.Tolerance == 0 {
		b.Tolerance = max(FloatTolerance, b.Device.Info().Tolerance)
	}
	var err error
	if b.weights, err = b.Device.Wrap(b.pool.Data); err != nil {
		return nil, err
	}
	if b.queue, err = b.Library.NewQueue(); err != nil {
		return nil, errors.Join(err, b.weights.Close())
	}
	return b, nil
}

// Weights returns the memory that all weights are in, to measure limits with.
func (b *Bench) Weights() []byte { return b.pool.Data }

// Close frees what New made. The runs have to be closed before.
func (b *Bench) Close() error { return errors.Join(b.queue.Close(), b.weights.Close()) }

// period is the number of different vectors among the inputs of a case: the
// oracle computes as many outputs of an expert, and all its rows are held to
// them. It shares no divisor with a tile.
const period = 5

type inputKey struct {
	pass runtime.Pass
	size int
}

// vectors returns the different inputs of a pass. Those of gate_up keep SiLU's
// argument near where it bends.
func (b *Bench) vectors(k inputKey) [][]float32 {
	if vs, ok := b.inputs[k]; ok {
		return vs
	}
	deviation := 1.0
	if k.pass == runtime.GateUp {
		deviation = 1. / 8
	}
	r := rand.New(rand.NewPCG(b.Seed, uint64(k.size)))
	vs := make([][]float32, period)
	for i := range vs {
		vs[i] = make([]float32, k.size)
		for j := range vs[i] {
			vs[i][j] = float32(r.NormFloat64() * deviation)
		}
	}
	b.inputs[k] = vs
	return vs
}

// A known is what the oracle makes of the vectors of a pass.
type known [period]oracle.Vector
