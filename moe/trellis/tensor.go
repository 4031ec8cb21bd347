package trellis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/moe"
	"github.com/x448/float16"
)

// A Tensor is a matrix with its components apart.
type Tensor struct {
	Bits    uint8
	Out, In int
	Indices []byte            // [Out/16, In/16, 32·Bits], packed
	Scales  []float16.Float16 // [ceil(In/128), Out]
	SU      []float16.Float16 // [In]
	SV      []float16.Float16 // [Out]
}

// New makes a tensor of packed indices and float32 factors, which it rounds to
// fp16. So that small or large steps survive the rounding, it moves powers of
// two, per output, from scales to sv. It is an error if a factor is not finite
// or too large for fp16 even so; one that is too small becomes zero.
func New(bits uint8, out, in int, indices []byte, scales, su, sv []float32) (*Tensor, error) {
	if err := CheckShape(bits, out, in); err != nil {
		return nil, err
	}
	t := newTensor(bits, out, in)
	errs := []error{
		sized(Indices, len(indices), len(t.Indices)), sized(Scales, len(scales), len(t.Scales)),
		sized(SU, len(su), len(t.SU)), sized(SV, len(sv), len(t.SV)),
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	copy(t.Indices, indices)
	for i, f := range su {
		if t.SU[i] = float16.Fromfloat32(f); !finite(t.SU[i]) {
			errs = append(errs, fmt.Errorf("su[%d] is %v, beyond fp16", i, f))
		}
	}
	for o, f := range sv {
		var top float64
		for g := range groups(in) {
			top = max(top, math.Abs(float64(scales[g*out+o])))
		}
		// Neither moving nor its undoing may push sv itself out of range.
		_, e := math.Frexp(float64(f))
		move := min(max(exponent(top), minExponent+1-e), maxExponent+1-e)
		if t.SV[o] = float16.Fromfloat32(float32(math.Ldexp(float64(f), move))); !finite(t.SV[o]) {
			errs = append(errs, fmt.Errorf("sv[%d] is %v, beyond fp16", o, f))
		}
		for g := range groups(in) {
			at := g*out + o
			if t.Scales[at] = float16.Fromfloat32(float32(math.Ldexp(float64(scales[at]), -move))); !finite(t.Scales[at]) {
				errs = append(errs, fmt.Errorf("scales[%d,%d] is %v, beyond fp16", g, o, scales[at]))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

func newTensor(bits uint8, out, in int) *Tensor {
	return &Tensor{
		Bits: bits, Out: out, In: in,
		Indices: make([]byte, Indices.Size(bits, out, in)),
		Scales:  make([]float16.Float16, groups(in)*out),
		SU:      make([]float16.Float16, in),
		SV:      make([]float16.Float16, out),
	}
}

// Check reports what is wrong with t's width, its dimensions or the sizes of
// its components.
func (t *Tensor) Check() error {
	if err := CheckShape(t.Bits, t.Out, t.In); err != nil {
		return err
	}
	return errors.Join(
		sized(Indices, len(t.Indices), Indices.Size(t.Bits, t.Out, t.In)),
		sized(Scales, len(t.Scales), groups(t.In)*t.Out),
		sized(SU, len(t.SU), t.In),
		sized(SV, len(t.SV), t.Out))
}

// Part returns the bytes of component c, as they are stored.
func (t *Tensor) Part(c Component) []byte {
	var halves []float16.Float16
	switch c {
	case Indices:
		return t.Indices
	case Scales:
		halves = t.Scales
	case SU:
		halves = t.SU
	case SV:
		halves = t.SV
	}
	b := make([]byte, 0, 2*len(halves))
	for _, h := range halves {
		b = binary.LittleEndian.AppendUint16(b, h.Bits())
	}
	return b
}

// AppendTo appends the components of t to data, each at a multiple of 64
// bytes, and returns the data and the matrix that lies in it.
func (t *Tensor) AppendTo(data []byte) ([]byte, moe.Matrix) {
	m := moe.Matrix{Bits: t.Bits, Out: t.Out, In: t.In}
	for _, c := range Components {
		part := t.Part(c)
		data = append(data, make([]byte, -len(data)&63)...)
		m.Parts = append(m.Parts, moe.Span{Offset: len(data), Size: len(part)})
		data = append(data, part...)
	}
	return data, m
}

// Dequantize returns the weights of t, row-major [Out, In].
func (t *Tensor) Dequantize() ([]float32, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	data, m := t.AppendTo(nil)
	w := make([]float32, t.Out*t.In)
	for o := range t.Out {
		Codec{}.Row(w[o*t.In:(o+1)*t.In], data, m, o)
	}
	return w, nil
}

func sized(c Component, got, want int) error {
	if got != want {
		return fmt.Errorf("%v has %d elements, want %d", c, got, want)
	}
	return nil
}

// The exponents of the powers of two that fp16 holds with full precision.
const (
	minExponent = -14
	maxExponent = 15
)

// exponent returns the power of two that is taken out of a row whose largest
// magnitude is top. It leaves top in [8, 16): far from the end of fp16, and
// with steps a few thousand times smaller still exact to 11 bits.
func exponent(top float64) int {
	if top == 0 {
		return 0
	}
	_, e := math.Frexp(top)
	return min(max(e-4, minExponent), maxExponent)
}

func finite(h float16.Float16) bool { return h.IsFinite() }
