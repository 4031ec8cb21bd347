package bench

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

// A pool is random bytes that layers are cut from. The layers of one case share
// none of them; those of several cases do.
type pool struct {
	data    []byte
	factors int // where fp16 factors begin; indices lie before
}

// newPool returns a pool of size bytes.
func newPool(size int) *pool {
	p := &pool{data: make([]byte, size), factors: size / 100 * 92 &^ 63}
	source := rand.NewChaCha8([32]byte{'m', 'a', 'r', 'l', 'i', 'n'})
	_, _ = source.Read(p.data[:p.factors]) // never fails
	r := rand.New(source)
	block := make([]byte, 0, 1<<16)
	for range 1 << 15 {
		// A factor of a size between 1/8 and 1/2, so that products of three and
		// an index keep activations far from the ends of float32, at any width.
		block = binary.LittleEndian.AppendUint16(block, uint16(12+r.IntN(2))<<10|uint16(r.IntN(1024)))
	}
	for rest := p.data[p.factors:]; len(rest) > 0; {
		rest = rest[copy(rest, block):]
	}
	return p
}

// layers returns as many layers of a case as the pool has room for, at most
// most.
func (p *pool) layers(c Case, most int, r *rand.Rand) ([]moe.Weights, error) {
	var all []moe.Weights
	at := position{factors: p.factors}
	for len(all) < most {
		w := moe.Weights{Data: p.data, Hidden: c.Shape.Hidden, Intermediate: c.Shape.Intermediate, Experts: at.layer(c)}
		if at.indices > p.factors || at.factors > len(p.data) {
			break
		}
		w.Router = router(c.Shape, r)
		all = append(all, w)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("a layer of %s, %v, does not fit into %d MB", c.Mix.Name, c.Shape, len(p.data)/1e6)
	}
	return all, nil
}

// poolFor returns a pool with room for a number of layers of each case.
func poolFor(cases []Case, layers int) *pool {
	size := 0
	for _, c := range cases {
		var at position
		for range layers {
			at.layer(c)
		}
		size = max(size, at.indices/92*100, at.factors/8*100)
	}
	return newPool(size + 1<<14)
}

// A position is where the next components lie in a pool.
type position struct{ indices, factors int }

// layer takes room for the experts of a layer.
func (p *position) layer(c Case) (experts []moe.Expert) {
	s := c.Shape
	for _, t := range c.Mix.Tuples(s.Experts) {
		experts = append(experts, moe.Expert{
			Codec: trellis.Codec{}.Name(),
			Gate:  p.matrix(t.Gate, s.Intermediate, s.Hidden),
			Up:    p.matrix(t.Up, s.Intermediate, s.Hidden),
			Down:  p.matrix(t.Down, s.Hidden, s.Intermediate),
		})
	}
	return experts
}

func (p *position) matrix(bits uint8, out, in int) moe.Matrix {
	m := moe.Matrix{Bits: bits, Out: out, In: in}
	for _, component := range trellis.Components {
		at := &p.factors
		if component == trellis.Indices {
			at = &p.indices
		}
		size := component.Size(bits, out, in)
		m.Parts = append(m.Parts, moe.Span{Offset: *at, Size: size})
		*at += (size + 63) &^ 63
	}
	return m
}

// router returns a router that sends random tokens to random experts.
func router(s Shape, r *rand.Rand) moe.Router {
	w := moe.Router{
		Weight: make([]float32, s.Experts*s.Hidden), Bias: make([]float32, s.Experts),
		TopK: s.TopK, Groups: 1, TopKGroups: 1, Normalize: true, Scale: 1.8,
	}
	for i := range w.Weight {
		w.Weight[i] = float32(r.NormFloat64() / math.Sqrt(float64(s.Hidden)))
	}
	return w
}

// bytesOf returns the bytes of all components of e.
func bytesOf(e *moe.Expert) int {
	n := 0
	for _, m := range []moe.Matrix{e.Gate, e.Up, e.Down} {
		for _, s := range m.Parts {
			n += s.Size
		}
	}
	return n
}

// tuples returns the number of tuples that the experts of w have.
func tuples(w moe.Weights) int {
	seen := map[runtime.BitTuple]bool{}
	for i := range w.Experts {
		seen[w.Experts[i].Tuple()] = true
	}
	return len(seen)
}
