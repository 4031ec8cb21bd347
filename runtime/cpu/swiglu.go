package cpu

import (
	"fmt"

	"github.com/marlingen/marlingen/runtime"
)

// A codec is how the matrices of one codec lie in memory. An engine multiplies
// with them in strips of 16 outputs.
type codec struct {
	name     string
	parts    []part // in the order of the Metal struct Projection
	widths   []uint8
	multiple uint32 // that numbers of inputs and outputs are of
}

// A part is a component of a codec: its bytes in an [out, in] matrix, and the
// multiple of bytes at which kernels rely on finding it.
type part struct {
	runtime.Component
	align func(bits uint64) uint64
	size  func(bits, out, in uint64) uint64
}

// A matrix is one projection of an expert, in place.
type matrix struct {
	bits    uint8
	out, in int
	parts   [parts][]byte
}

// A projection is the place of a matrix in the struct Expert.
type projection int

const (
	gateProjection projection = iota
	upProjection
	downProjection
	projections
)

func (p projection) String() string { return [...]string{"gate", "up", "down"}[p] }

// expertSize returns the bytes of the struct Expert.
func (c *codec) expertSize() int { return int(projections) * c.projectionSize() }

func (c *codec) projectionSize() int { return 8*len(c.parts) + 8 }

func (c *codec) descriptors(s runtime.Shape, _ *routing) uint64 {
	return product(uint64(s.Experts), uint64(c.expertSize()))
}

func workList(s runtime.Shape, _ *routing) uint64 { return product(uint64(s.Items), 12) }

func (c *codec) checkDims(s runtime.Shape, _ *routing) error {
	if s.Hidden == 0 || s.Hidden%c.multiple != 0 || s.Intermediate == 0 || s.Intermediate%c.multiple != 0 {
		return fmt.Errorf("shape: hidden %d and intermediate %d, want multiples of %d", s.Hidden, s.Intermediate, c.multiple)
	}
	return nil
}

func gateUp(codec *codec) *pass {
	return &pass{
		codec: codec,
		params: []param{
			constant("shape", "Shape"),
			read("weights", "uchar", nil),
			read("experts", "Expert", codec.descriptors),
			read("work", "Work", workList),
			read("token", "uint", words(rows)),
			read("x", "float", words(tokens, hidden)),
			write("h", "float", words(rows, intermediate)),
		},
		check: codec.checkDims,
		run: func(c *call) error {
			e := &c.experts
			if err := e.read(c, gateUpKind); err != nil {
				return err
			}
			token := c.uints("token")
			for _, it := range e.items {
				if err := c.below("token", token[it.first:it.first+it.rows], c.shape.Tokens, "tokens"); err != nil {
					return err
				}
			}
			return e.multiply()
		},
	}
}

var gateUpKind = &kind{
	projections: []projection{gateProjection, upProjection},
	dims:        func(s runtime.Shape) (out, in int) { return int(s.Intermediate), int(s.Hidden) },
	input: func(c *call, row int) []float32 {
		in := int(c.shape.Hidden)
		return c.floats("x")[int(c.uints("token")[row])*in:][:in]
	},
	output: func(c *call, s *segment, n int, y *[2][][strip]float32) {
		out := int(c.shape.Intermediate)
		h := c.floats("h")[s.first*out+strip*n:]
		gate, up := &s.matrices[0], &s.matrices[1]
		c.engine.set.Silu(&h[0], 4*out, &y[0][0], &y[1][0], gate.sv(n), up.sv(n), int(gate.bits), int(up.bits), s.rows)
	},
}

func down(codec *codec) *pass {
	return &pass{
		codec: codec,
		params: []param{
			constant("shape", "Shape"),
			read("weights", "uchar", nil),
			read("experts", "Expert", codec.descriptors),
			read("work", "Work", workList),
			read("prob", "float", words(rows)),
			read("h", "float", words(rows, intermediate)),
			write("y", "float", words(rows, hidden)),
		},
		check: codec.checkDims,
		run: func(c *call) error {
			if err := c.experts.read(c, downKind); err != nil {
				return err
			}
			return c.experts.multiply()
		},
	}
}

var downKind = &kind{
	projections: []projection{downProjection},
	dims:        func(s runtime.Shape) (out, in int) { return int(s.Hidden), int(s.Intermediate) },
	input: func(c *call, row int) []float32 {
		in := int(c.shape.Intermediate)
		return c.floats("h")[row*in:][:in]
	},
	output: func(c *call, s *segment, n int, product *[2][][strip]float32) {
		out := int(c.shape.Hidden)
		y := c.floats("y")[s.first*out+strip*n:]
		m := &s.matrices[0]
		c.engine.set.Scale(&y[0], 4*out, &product[0][0], m.sv(n), &c.floats("prob")[s.first], int(m.bits), s.rows)
	},
}

// sv returns the factors of strip n.
func (m *matrix) sv(n int) *byte { return &m.parts[sv][2*strip*n] }

// A kind is what distinguishes the passes that multiply with experts.
type kind struct {
	projections []projection // that it reads, all of the same size
	dims        func(runtime.Shape) (out, in int)
	input       func(c *call, row int) []float32
	output      func(c *call, s *segment, n int, y *[2][][strip]float32) // strip n, by projection
}
