package cpu

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/marlingen/marlingen/runtime"
)

// A codec is how this device multiplies with the matrices of one codec. It
// does so in strips of 16 outputs, which all rows of a work item share.
type codec struct {
	name     string
	parts    []part // in the order of the Metal struct Projection
	widths   []uint8
	multiple uint32 // that numbers of inputs and outputs are of

	// input makes of an input row what strip takes.
	input func(dst, src []float32, m *matrix)

	// strip computes outputs 16·n to 16·n+15 of m for some rows: x is
	// [rows, in], y is [rows, 16].
	strip func(y []float32, m *matrix, n int, x []float32, rows int, s *scratch)
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
	parts   [][]byte
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
			token, x, h := c.uints("token"), c.floats("x"), c.floats("h")
			in, out := int(c.shape.Hidden), int(c.shape.Intermediate)
			items, err := c.items(out, in, gateProjection, upProjection)
			if err != nil {
				return err
			}
			for _, it := range items {
				if err := c.below("token", token[it.first:it.first+it.rows], c.shape.Tokens, "tokens"); err != nil {
					return err
				}
			}
			return c.multiply(items, out,
				func(row int) []float32 { return x[int(token[row])*in:][:in] },
				func(row, first int, y [][]float32) {
					gate, up := y[0], y[1]
					for j, out := 0, h[row*out+first:][:strip]; j < strip; j++ {
						out[j] = silu(gate[j]) * up[j]
					}
				})
		},
	}
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
			prob, h, y := c.floats("prob"), c.floats("h"), c.floats("y")
			in, out := int(c.shape.Intermediate), int(c.shape.Hidden)
			items, err := c.items(out, in, downProjection)
			if err != nil {
				return err
			}
			return c.multiply(items, out,
				func(row int) []float32 { return h[row*in:][:in] },
				func(row, first int, product [][]float32) {
					for j, out := 0, y[row*out+first:][:strip]; j < strip; j++ {
						out[j] = prob[row] * product[0][j]
					}
				})
		},
	}
}

func silu(x float32) float32 { return float32(float64(x) / (1 + math.Exp(-float64(x)))) }

// An item is an entry of the work list with the matrices that it takes.
type item struct {
	matrices    []*matrix
	first, rows int
}

// items reads and checks the work list and the experts in it; which are the
// projections that the pass reads, all [out, in]. An entry without rows is
// padding.
func (c *call) items(out, in int, which ...projection) ([]item, error) {
	work := view[runtime.Work](c.args["work"])
	matrices := make([][]*matrix, c.shape.Experts)
	items := make([]item, 0, len(work))
	for i, w := range work {
		switch {
		case w.Rows == 0:
			continue
		case w.Expert >= c.shape.Experts:
			return nil, fmt.Errorf("argument work: item %d is of expert %d, and there are %d", i, w.Expert, c.shape.Experts)
		case int64(w.Rows) > int64(c.kernel.Tile):
			return nil, fmt.Errorf("argument work: item %d has %d rows, and the kernel takes %d", i, w.Rows, c.kernel.Tile)
		case uint64(w.First)+uint64(w.Rows) > uint64(c.shape.Rows):
			return nil, fmt.Errorf("argument work: item %d has rows %d to %d, and there are %d", i, w.First, uint64(w.First)+uint64(w.Rows)-1, c.shape.Rows)
		}
		if matrices[w.Expert] == nil {
			var err error
			if matrices[w.Expert], err = c.expert(int(w.Expert), out, in, which); err != nil {
				return nil, fmt.Errorf("argument experts: expert %d: %w", w.Expert, err)
			}
		}
		items = append(items, item{matrices[w.Expert], int(w.First), int(w.Rows)})
	}
	sorted := slices.SortedFunc(slices.Values(items), func(a, b item) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; b.first < a.first+a.rows {
			return nil, fmt.Errorf("argument work: row %d is in two items", b.first)
		}
	}
	return items, nil
}

// expert finds some of the projections of expert e in the weights.
func (c *call) expert(e, out, in int, which []projection) ([]*matrix, error) {
	weights, descriptor := c.args["weights"], c.args["experts"][e*c.codec.expertSize():]
	var ms []*matrix
	for _, p := range which {
		d := descriptor[int(p)*c.codec.projectionSize():]
		m := &matrix{out: out, in: in}
		bits := binary.LittleEndian.Uint32(d[8*len(c.codec.parts):])
		if bits > 255 || !slices.Contains(c.codec.widths, uint8(bits)) {
			return nil, fmt.Errorf("%v: codec %s has no %d-bit weights", p, c.codec.name, bits)
		}
		m.bits = uint8(bits)
		for i, part := range c.codec.parts {
			offset := binary.LittleEndian.Uint64(d[8*i:])
			size := part.size(uint64(bits), uint64(out), uint64(in))
			if offset > uint64(len(weights)) || size > uint64(len(weights))-offset {
				return nil, fmt.Errorf("%v: %s of %d bytes at %d of weights of %d", p, part.Name, size, offset, len(weights))
			}
			if align := part.align(uint64(bits)); offset%align != 0 {
				return nil, fmt.Errorf("%v: %s at %d of weights, want a multiple of %d", p, part.Name, offset, align)
			}
			m.parts = append(m.parts, weights[offset:offset+size:offset+size])
		}
		ms = append(ms, m)
	}
	if !c.compiledFor(ms) {
		return nil, fmt.Errorf("its widths are not among %v, which %s was compiled for", c.kernel.Tuples, c.kernel.Symbol)
	}
	return ms, nil
}

// compiledFor reports whether the kernel has a tuple with the widths of ms, the
// matrices that its pass reads.
func (c *call) compiledFor(ms []*matrix) bool {
	var widths []uint8
	for _, m := range ms {
		widths = append(widths, m.bits)
	}
	return c.kernel.Tuples == nil || slices.ContainsFunc(c.kernel.Tuples, func(t runtime.BitTuple) bool {
		return slices.Equal(c.widthsRead(c.kernel.Pass, t), widths)
	})
}

// strip is the number of outputs that are computed together.
const strip = 16

// A scratch is what a worker needs to multiply.
type scratch struct {
	item    *item       // that x was made for
	x       [][]float32 // by projection: [rows, in]
	y       [][]float32 // by projection: [rows, 16]
	row     [][]float32 // by projection: the 16 of one row
	weights [strip * group]float32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// multiply computes every strip of every item. input returns the input of a
// row; output takes what became of it: by projection, the outputs from first
// on.
func (c *call) multiply(items []item, out int, input func(row int) []float32, output func(row, first int, y [][]float32)) error {
	strips := out / strip
	return c.each(len(items)*strips, func() (func(int), func()) {
		s := scratches.Get().(*scratch)
		s.item = nil
		return func(i int) {
			it, n := &items[i/strips], i%strips
			if s.item != it {
				s.load(c.codec, it, input)
			}
			for p, m := range it.matrices {
				c.codec.strip(s.y[p], m, n, s.x[p], it.rows, s)
			}
			for r := range it.rows {
				for p := range it.matrices {
					s.row[p] = s.y[p][r*strip : (r+1)*strip]
				}
				output(it.first+r, n*strip, s.row[:len(it.matrices)])
			}
		}, func() { s.item = nil; scratches.Put(s) }
	})
}

// load makes the inputs of it.
func (s *scratch) load(c *codec, it *item, input func(row int) []float32) {
	s.item = it
	for len(s.x) < len(it.matrices) {
		s.x, s.y, s.row = append(s.x, nil), append(s.y, nil), append(s.row, nil)
	}
	for p, m := range it.matrices {
		s.x[p] = slices.Grow(s.x[p][:0], it.rows*m.in)[:it.rows*m.in]
		s.y[p] = slices.Grow(s.y[p][:0], it.rows*strip)[:it.rows*strip]
		for r := range it.rows {
			c.input(s.x[p][r*m.in:(r+1)*m.in], input(it.first+r), m)
		}
	}
}
