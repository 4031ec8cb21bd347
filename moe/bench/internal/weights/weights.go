// Package weights makes random experts to time: bytes that are as good as any
// trained ones to what reads them.
package weights

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

// A Pool is random bytes that experts are cut from, in the trellis codec.
type Pool struct {
	Data    []byte
	factors int // where fp16 factors begin; indices lie before
}

// A Layer is experts of some tuples.
type Layer struct {
	Hidden, Intermediate int
	Tuples               []runtime.BitTuple
}

// NewPool returns a pool of size bytes.
func NewPool(size int) *Pool {
	p := &Pool{Data: make([]byte, size), factors: size / 100 * 92 &^ 63}
	source := rand.NewChaCha8([32]byte{'m', 'a', 'r', 'l', 'i', 'n'})
	_, _ = source.Read(p.Data[:p.factors]) // never fails
	r := rand.New(source)
	block := make([]byte, 0, 1<<16)
	for range 1 << 15 {
		// A factor of a size between 1/8 and 1/2, so that products of three and
		// an index keep activations far from the ends of float32, at any width.
		block = binary.LittleEndian.AppendUint16(block, uint16(12+r.IntN(2))<<10|uint16(r.IntN(1024)))
	}
	for rest := p.Data[p.factors:]; len(rest) > 0; {
		rest = rest[copy(rest, block):]
	}
	return p
}

// Layers returns the experts of as many layers as p has room for, at most most
// and at least one. They share no byte of p; those of two calls do.
func (p *Pool) Layers(l Layer, most int) ([][]moe.Expert, error) {
	var all [][]moe.Expert
	at := position{factors: p.factors}
	for len(all) < most {
		experts := at.layer(l)
		if at.indices > p.factors || at.factors > len(p.Data) {
			break
		}
		all = append(all, experts)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("a layer of %d experts, hidden %d, intermediate %d, does not fit into %d MB", len(l.Tuples), l.Hidden, l.Intermediate, len(p.Data)/1e6)
	}
	return all, nil
}

// PoolFor returns a pool with room for a number of each of the given layers.
func PoolFor(layers []Layer, each int) *Pool {
	size := 0
	for _, l := range layers {
		var at position
		for range each {
			at.layer(l)
		}
		size = max(size, at.indices/92*100, at.factors/8*100)
	}
	return NewPool(size + 1<<14)
}

// A position is where the next components lie in a pool.
type position struct{ indices, factors int }

// layer takes room for the experts of a layer.
func (p *position) layer(l Layer) (experts []moe.Expert) {
	for _, t := range l.Tuples {
		experts = append(experts, moe.Expert{
			Codec: trellis.Codec{}.Name(),
			Gate:  p.matrix(t.Gate, l.Intermediate, l.Hidden),
			Up:    p.matrix(t.Up, l.Intermediate, l.Hidden),
			Down:  p.matrix(t.Down, l.Hidden, l.Intermediate),
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

// Bytes returns the bytes of all components of some matrices.
func Bytes(ms ...moe.Matrix) int {
	n := 0
	for _, m := range ms {
		for _, s := range m.Parts {
			n += s.Size
		}
	}
	return n
}
