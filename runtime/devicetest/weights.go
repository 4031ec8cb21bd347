package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A format makes random weights of a codec and says what they mean.
type format struct {
	// parts returns the components of a random matrix.
	parts func(r *rand.Rand, bits, out, in int) [][]byte

	// align is the multiple of bytes at which each component lies. It is the
	// least that a kernel may rely on.
	align []int

	matrix func(bits, out, in int, parts [][]byte) (oracle.Matrix, error)
}

// formats holds the codecs that the suite knows.
var formats = map[string]format{
	"trellis": {
		parts: func(r *rand.Rand, bits, out, in int) [][]byte {
			indices := make([]byte, out*in*bits/8)
			for i := range indices {
				indices[i] = byte(r.Uint32())
			}
			// Steps that make products of some size around 1.
			step := -bits - int(math.Log2(float64(in)))/2
			return [][]byte{
				indices,
				halves(r, (in+127)/128*out, step, step+1),
				halves(r, in, -1, 1),
				halves(r, out, -1, 1),
			}
		},
		align: []int{8, 2, 2, 2},
		matrix: func(bits, out, in int, parts [][]byte) (oracle.Matrix, error) {
			return oracle.Trellis(bits, out, in, parts[0], parts[1], parts[2], parts[3])
		},
	},
}

// halves returns n halves of either sign with exponents from low to high.
func halves(r *rand.Rand, n, low, high int) []byte {
	hs := make([]uint16, n)
	for i := range hs {
		exponent := max(1, 15+low+r.IntN(high-low+1))
		hs[i] = uint16(r.IntN(2)<<15 | exponent<<10 | r.IntN(1024))
	}
	return encode(hs)
}

// weights are the experts of a launch, in the bytes that a kernel receives.
type weights struct {
	codec       *runtime.Codec
	format      format
	data        []byte
	descriptors []byte
}

func newWeights(c *runtime.Codec) (*weights, error) {
	f, ok := formats[c.Name]
	if !ok {
		return nil, fmt.Errorf("the suite knows no codec %q", c.Name)
	}
	w := &weights{codec: c, format: f}
	w.fill(24)
	return w, nil
}

func (w *weights) fill(n int) {
	for range n {
		w.data = append(w.data, poison)
	}
}

// none adds an expert that no kernel may look at.
func (w *weights) none() {
	for range 3 * w.codec.ProjectionSize() {
		w.descriptors = append(w.descriptors, poison)
	}
}

// expert adds a random expert of tuple t and returns what the given passes
// make of it.
func (w *weights) expert(r *rand.Rand, t runtime.BitTuple, hidden, intermediate int, passes ...runtime.Pass) (oracle.Expert, error) {
	var e oracle.Expert
	for _, p := range []struct {
		matrix  *oracle.Matrix
		bits    uint8
		out, in int
		pass    runtime.Pass
	}{
		{&e.Gate, t.Gate, intermediate, hidden, runtime.GateUp},
		{&e.Up, t.Up, intermediate, hidden, runtime.GateUp},
		{&e.Down, t.Down, hidden, intermediate, runtime.Down},
	} {
		parts := w.format.parts(r, int(p.bits), p.out, p.in)
		if slices.Contains(passes, p.pass) {
			var err error
			if *p.matrix, err = w.format.matrix(int(p.bits), p.out, p.in, parts); err != nil {
				return e, err
			}
		}
		at := runtime.Projection{Bits: uint32(p.bits)}
		for i, part := range parts {
			w.fill(2 + r.IntN(40))
			for len(w.data)%w.format.align[i] != 0 {
				w.fill(1)
			}
			at.Components = append(at.Components, uint64(len(w.data)))
			w.data = append(w.data, part...)
		}
		w.descriptors = runtime.AppendProjection(w.descriptors, at)
	}
	w.fill(8)
	return e, nil
}
