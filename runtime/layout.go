package runtime

import (
	"encoding/binary"
	"math"
)

// A Projection says where a kernel finds one projection of an expert: the
// offset of each component of its codec, in bytes from the start of the
// weights, and the width. Its size depends on the codec.
type Projection struct {
	Components []uint64
	Bits       uint32
}

// AppendProjection appends p in the layout of the Metal struct Projection:
// the components as ulong, the width as uint, and a uint of padding.
func AppendProjection(b []byte, p Projection) []byte {
	for _, offset := range p.Components {
		b = binary.LittleEndian.AppendUint64(b, offset)
	}
	b = binary.LittleEndian.AppendUint32(b, p.Bits)
	return binary.LittleEndian.AppendUint32(b, 0)
}

// ProjectionSize returns the bytes that AppendProjection appends for codec c.
// The struct Expert of a kernel is three of them: gate, up, down.
func (c *Codec) ProjectionSize() int { return 8*len(c.Components) + 8 }

// AppendShape appends s as a kernel receives it.
func AppendShape(b []byte, s Shape) []byte {
	return appendUints(b, s.Tokens, s.Slots, s.Experts, s.Hidden, s.Intermediate, s.Rows, s.Items)
}

// AppendRouting appends r as a kernel receives it.
func AppendRouting(b []byte, r Routing) []byte {
	return appendUints(b, r.TopK, r.Groups, r.TopKGroups, r.Normalize, math.Float32bits(r.Scale))
}

// AppendWork appends w as an entry of a work list.
func AppendWork(b []byte, w Work) []byte { return appendUints(b, w.Expert, w.First, w.Rows) }

func appendUints(b []byte, vs ...uint32) []byte {
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
