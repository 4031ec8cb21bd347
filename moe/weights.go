package moe

import "github.com/marlingen/marlingen/runtime"

// A Span is a range of bytes of a layer's weights.
type Span struct{ Offset, Size int }

// Of returns the bytes of data that s covers.
func (s Span) Of(data []byte) []byte { return data[s.Offset : s.Offset+s.Size : s.Offset+s.Size] }

// A Matrix is one projection of an expert, [Out, In], where it lies in the
// layer's weights.
type Matrix struct {
	Bits    uint8 // per weight
	Out, In int
	Parts   []Span // the components of its codec, in the codec's order
}

// An Expert is a gated feed-forward network: down(silu(gate x) ⊙ (up x)).
// Its three projections share one codec; each has its own width.
type Expert struct {
	Codec          string
	Gate, Up, Down Matrix
}

// Tuple returns the widths of e's projections.
func (e *Expert) Tuple() runtime.BitTuple {
	return runtime.BitTuple{Gate: e.Gate.Bits, Up: e.Up.Bits, Down: e.Down.Bits}
}

// AppendDescriptor appends what kernels read about e, in the layout of the Metal
// struct Expert: where the parts of its projections lie, and their widths.
func (e *Expert) AppendDescriptor(b []byte) []byte {
	for _, m := range []Matrix{e.Gate, e.Up, e.Down} {
		p := runtime.Projection{Bits: uint32(m.Bits)}
		for _, s := range m.Parts {
			p.Components = append(p.Components, uint64(s.Offset))
		}
		b = runtime.AppendProjection(b, p)
	}
	return b
}

// Weights is what a Layer needs to know of a checkpoint.
type Weights struct {
	Data         []byte // that every Matrix points into; never written
	Router       Router
	Experts      []Expert // routed, by index
	Shared       *Expert  // added to every token with weight 1, or nil
	Hidden       int
	Intermediate int
}

// A Codec decodes weights on the host.
type Codec interface {
	// Name returns the name by which an Expert refers to the codec.
	Name() string

	// Check reports what is wrong with m as a matrix of this codec whose
	// parts lie in size bytes: its width, its dimensions or its spans.
	Check(m Matrix, size int) error

	// Row writes row o of m, dequantised, to dst, which has m.In elements.
	// It may rely on Check having passed.
	Row(dst []float32, data []byte, m Matrix, o int)
}
