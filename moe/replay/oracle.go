package replay

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// newOracle returns the layer of weights w in float64, by the formulas of the
// formats and none of the code that otherwise reads them.
func newOracle(w moe.Weights) (oracle.Layer, error) {
	l := oracle.Layer{Router: Router(w)}
	for i := range w.Experts {
		e, err := Expert(w.Data, &w.Experts[i])
		if err != nil {
			return oracle.Layer{}, fmt.Errorf("expert %d: %w", i, err)
		}
		l.Experts = append(l.Experts, *e)
	}
	if w.Shared != nil {
		e, err := Expert(w.Data, w.Shared)
		if err != nil {
			return oracle.Layer{}, fmt.Errorf("shared expert: %w", err)
		}
		l.Shared = e
	}
	return l, nil
}

// Router returns the router of weights w in float64.
func Router(w moe.Weights) oracle.Router {
	return oracle.Router{
		Weight:     oracle.Matrix{Out: len(w.Experts), In: w.Hidden, W: oracle.Floats(w.Router.Weight)},
		Bias:       oracle.Floats(w.Router.Bias),
		TopK:       w.Router.TopK,
		Groups:     w.Router.Groups,
		TopKGroups: w.Router.TopKGroups,
		Normalize:  w.Router.Normalize,
		Scale:      float64(w.Router.Scale),
	}
}

// Expert returns an expert, whose matrices are in data, in float64.
func Expert(data []byte, e *moe.Expert) (*oracle.Expert, error) {
	var o oracle.Expert
	for _, p := range []struct {
		to   *oracle.Matrix
		from moe.Matrix
	}{{&o.Gate, e.Gate}, {&o.Up, e.Up}, {&o.Down, e.Down}} {
		m, err := Matrix(data, e.Codec, p.from)
		if err != nil {
			return nil, err
		}
		*p.to = m
	}
	return &o, nil
}

// Matrix returns a matrix of a codec, which is in data, in float64.
func Matrix(data []byte, codec string, m moe.Matrix) (oracle.Matrix, error) {
	part := func(i int) []byte { return m.Parts[i].Of(data) }
	var width int
	var number func(b []byte) float64
	switch codec {
	case "trellis":
		return oracle.Trellis(int(m.Bits), m.Out, m.In, part(0), part(1), part(2), part(3))
	case "f32":
		width, number = 4, func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) }
	case "f16":
		width, number = 2, func(b []byte) float64 { return oracle.Half(binary.LittleEndian.Uint16(b)) }
	case "bf16":
		width, number = 2, func(b []byte) float64 {
			return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
		}
	default:
		return oracle.Matrix{}, fmt.Errorf("the oracle has no codec %q", codec)
	}
	o := oracle.Matrix{Out: m.Out, In: m.In, W: make([]float64, m.Out*m.In)}
	for i := range o.W {
		o.W[i] = number(part(0)[i*width:])
	}
	return o, nil
}
