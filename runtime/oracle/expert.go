package oracle

import "math"

// An Expert is a gated feed-forward network: down(silu(gate x) ⊙ (up x)).
type Expert struct{ Gate, Up, Down Matrix }

// SiLU returns x/(1+e^-x).
func SiLU(x float64) float64 { return x / (1 + math.Exp(-x)) }

// steepest bounds the slope of SiLU.
const steepest = 1.1

// GateUp returns h = silu(gate x) ⊙ (up x). Its magnitudes are those of the two
// products, as far as they reach h.
func (e Expert) GateUp(x []float64) Vector {
	gate, up := e.Gate.Times(x), e.Up.Times(x)
	h := newVector(e.Gate.Out)
	for j := range h.Value {
		s := SiLU(gate.Value[j])
		h.Value[j] = s * up.Value[j]
		h.Magnitude[j] = steepest*gate.Magnitude[j]*math.Abs(up.Value[j]) + math.Abs(s)*up.Magnitude[j]
	}
	return h
}

// Forward returns the output of e for x. Its magnitudes are those of h, as far
// as they reach the output.
func (e Expert) Forward(x []float64) Vector {
	h := e.GateUp(x)
	y := newVector(e.Down.Out)
	for o := range y.Value {
		for j, w := range e.Down.Row(o) {
			y.Value[o] += w * h.Value[j]
			y.Magnitude[o] += math.Abs(w) * h.Magnitude[j]
		}
	}
	return y
}
