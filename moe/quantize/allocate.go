package quantize

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

// How much of a calibration text sensitivities are measured on.
const (
	sampleRows    = 1024 // of an expert's, for errors of its output
	sampleWindows = 8    // for divergences of the whole model
)

// trialBits is the width at which a layer's errors are compared with what they
// do to the model's predictions.
const trialBits = 3

// A Sensitivity is what narrow weights do to a model, expert by expert.
type Sensitivity struct {
	checkpoint *checkpoint.Checkpoint
	widths     []uint8
	harms      map[int][]harm // of each MoE layer's experts
}

// Measure quantises every projection of c's experts at every width of tuples,
// each for itself, and takes the squared error of the expert's output, with
// routing weights, on the calibration text. To compare layers, every layer's
// errors are divided by their sum at 3 bits, and multiplied by the
// Kullback-Leibler divergence of the model's predictions with that one layer at
// 3 bits.
func Measure(ctx context.Context, c *checkpoint.Checkpoint, cal *Calibration, tuples []runtime.BitTuple, progress func(done, total int)) (*Sensitivity, error) {
	s := &Sensitivity{checkpoint: c, widths: []uint8{trialBits}, harms: map[int][]harm{}}
	for _, t := range tuples {
		s.widths = append(s.widths, t.Gate, t.Up, t.Down)
	}
	slices.Sort(s.widths)
	s.widths = slices.Compact(s.widths)

	w, err := cal.newWalk()
	if err != nil {
		return nil, err
	}
	want, err := w.fork(sampleWindows).finish(ctx)
	if err != nil {
		return nil, err
	}
	layers := c.MoELayers()
	experts := c.Config.Experts + c.Config.SharedExperts
	for i, n := range layers {
		x, err := w.enter(ctx, n)
		if err != nil {
			return nil, err
		}
		l := &layer{checkpoint: c, n: n, x: x, widths: s.widths, trial: make([]float32, len(x))}
		if l.rows, err = w.rows(x, c.Config.Experts, c.Config.SharedExperts > 0); err != nil {
			return nil, err
		}
		var total float64
		for e := range experts {
			h, err := l.measure(ctx, e)
			if err != nil {
				return nil, err
			}
			s.harms[n] = append(s.harms[n], h)
			total += h[0][trialBits] + h[1][trialBits] + h[2][trialBits]
			if progress != nil {
				progress(i*experts+e+1, len(layers)*experts)
			}
		}
		trial := w.fork(sampleWindows)
		trial.leave(l.trial[:trial.len()])
		got, err := trial.finish(ctx)
		if err != nil {
			return nil, err
		}
		unit := divergence(cal.Model.Logits, want, got, cal.Model.Hidden()) / total
		for e := range s.harms[n] {
			s.harms[n][e].scale(unit)
		}
		if i == len(layers)-1 {
			break
		}
		y, err := w.forward(ctx, x)
		if err != nil {
			return nil, err
		}
		w.leave(y)
	}
	return s, nil
}

// Allocate returns the plan that takes at most the given number of bits per
// weight, all components counted, and does the least harm: it gives every
// expert one of tuples, whose widths have been measured.
func (s *Sensitivity) Allocate(tuples []runtime.BitTuple, bitsPerWeight float64) (Plan, error) {
	for _, t := range tuples {
		for _, p := range projections(s.checkpoint.Config, t) {
			if !slices.Contains(s.widths, p.bits) {
				return nil, fmt.Errorf("tuple %v: width %d has not been measured", t, p.bits)
			}
		}
	}
	var choices [][]choice // of each expert of each layer
	layers := s.checkpoint.MoELayers()
	for _, n := range layers {
		for _, h := range s.harms[n] {
			var of []choice
			for _, t := range tuples {
				of = append(of, choice{size(s.checkpoint.Config, t), h[0][t.Gate] + h[1][t.Up] + h[2][t.Down]})
			}
			choices = append(choices, of)
		}
	}
	weights := len(choices) * 3 * s.checkpoint.Config.Hidden * s.checkpoint.Config.Intermediate
	chosen, least := choose(choices, int(bitsPerWeight*float64(weights)/8))
	if chosen == nil {
		return nil, fmt.Errorf("%.3f bits per weight are too few: the smallest of the tuples takes %.3f", bitsPerWeight, 8*float64(least)/float64(weights))
	}
	plan := Plan{}
	for _, n := range layers {
		for range s.harms[n] {
			plan[n] = append(plan[n], tuples[chosen[0]])
			chosen = chosen[1:]
		}
	}
	return plan, nil
}

// A harm is the squared error of an expert's output when one projection has a
// given width.
type harm [3][trellis.MaxBits + 1]float64

func (h *harm) scale(by float64) {
	for i := range h {
		for bits := range h[i] {
			h[i][bits] *= by
		}
	}
}

// A layer is one whose experts are measured.
type layer struct {
	checkpoint *checkpoint.Checkpoint
	n          int
	x          []float32 // [tokens, hidden]
	rows       []rows    // of each expert
	widths     []uint8
	trial      []float32 // output of the layer at trialBits, [tokens, hidden]
}

// measure quantises the projections of expert e, each for itself, at all
// widths, and adds its output at trialBits to the trial.
func (l *layer) measure(ctx context.Context, e int) (h harm, err error) {
	ex, err := read(l.checkpoint, l.n, e)
	if err != nil {
		return h, err
	}
	all := &l.rows[e]
	if len(all.token) == 0 {
		return h, nil // any width will do for who is never asked
	}
	hiddenSize := l.checkpoint.Config.Hidden
	x := all.of(l.x, hiddenSize)
	act := hidden(times(x, ex.weights[0]), times(x, ex.weights[1]))
	inner, err := all.moment(act)
	if err != nil {
		return h, err
	}
	outer, err := all.moment(x)
	if err != nil {
		return h, err
	}
	sample := all.some(sampleRows)
	share := float64(len(all.token)) / float64(len(sample.token))
	few := sample.of(l.x, hiddenSize)
	gate, up := times(few, ex.weights[0]), times(few, ex.weights[1])
	exact := times(hidden(gate, up), ex.weights[2])

	quantised := ex.weights
	for _, bits := range l.widths {
		for i := range h {
			moment := outer
			if i == 2 {
				moment = inner
			}
			t, err := ex.quantise(ctx, i, bits, trellis.Options{Hessian: moment})
			if err != nil {
				return h, err
			}
			w, err := decode(t)
			if err != nil {
				return h, err
			}
			if bits == trialBits {
				quantised[i] = w
			}
			var y = exact
			switch i {
			case 0:
				y = times(hidden(times(few, w), up), ex.weights[2])
			case 1:
				y = times(hidden(gate, times(few, w)), ex.weights[2])
			case 2:
				y = times(hidden(gate, up), w)
			}
			for r, weight := range sample.weight {
				for j := range y.Cols {
					d := float64(weight) * float64(y.Data[r*y.Cols+j]-exact.Data[r*y.Cols+j])
					h[i][bits] += share * d * d
				}
			}
		}
	}
	all.addTo(l.trial, times(hidden(times(x, quantised[0]), times(x, quantised[1])), quantised[2]))
	return h, nil
}

// len returns the number of values in w's states.
func (w *walk) len() int {
	n := 0
	for _, x := range w.states {
		n += len(x)
	}
	return n
}

// divergence returns the mean Kullback-Leibler divergence, in nats, of the
// predictions that follow from the last states got from those of want.
func divergence(logits func([]float32) []float32, want, got [][]float32, hidden int) float64 {
	const rows = 128 // at once
	var sum float64
	n := 0
	for i := range want {
		for from := 0; from < len(want[i]); from += rows * hidden {
			to := min(from+rows*hidden, len(want[i]))
			p, q := logits(want[i][from:to]), logits(got[i][from:to])
			tokens := (to - from) / hidden
			for vocabulary := len(p) / tokens; len(p) > 0; p, q = p[vocabulary:], q[vocabulary:] {
				sum += kl(p[:vocabulary], q[:vocabulary])
				n++
			}
		}
	}
	return sum / float64(n)
}

// kl returns the divergence of the softmax of q from that of p.
func kl(p, q []float32) float64 {
	top := func(x []float32) float64 { return float64(slices.Max(x)) }
	pt, qt := top(p), top(q)
	var ps, qs, cross float64
	for i := range p {
		e := math.Exp(float64(p[i]) - pt)
		ps += e
		qs += math.Exp(float64(q[i]) - qt)
		cross += e * ((float64(p[i]) - pt) - (float64(q[i]) - qt))
	}
	return cross/ps - math.Log(ps) + math.Log(qs)
}

// A choice is one way to store an expert.
type choice struct {
	bytes int
	harm  float64
}

// choose takes one choice for each expert so that all together have at most
// the given bytes and little harm. least is the fewest bytes that there can
// be; if they are too many, it takes none.
//
// A price per byte decides for every expert alone; the price is searched that
// just meets the bytes, which is the best there is for them (Everett 1963),
// and what is left over is spent where it helps most.
func choose(choices [][]choice, bytes int) (chosen []int, least int) {
	at := func(price float64) (chosen []int, total int) {
		for _, of := range choices {
			best := 0
			for k, c := range of {
				a, b := c.harm+price*float64(c.bytes), of[best].harm+price*float64(of[best].bytes)
				if a < b || a == b && c.bytes < of[best].bytes {
					best = k
				}
			}
			chosen = append(chosen, best)
			total += of[best].bytes
		}
		return chosen, total
	}
	for _, of := range choices {
		least += slices.MinFunc(of, func(a, b choice) int { return cmp.Compare(a.bytes, b.bytes) }).bytes
	}
	if least > bytes {
		return nil, least
	}
	chosen, total := at(0)
	if total > bytes {
		low, high := 0.0, 1.0
		for chosen, total = at(high); total > bytes; chosen, total = at(high) {
			low, high = high, 2*high
		}
		for range 200 {
			mid := (low + high) / 2
			if c, t := at(mid); t > bytes {
				low = mid
			} else {
				high, chosen, total = mid, c, t
			}
		}
	}
	for {
		expert, better, gain := -1, 0, 0.0
		for i, of := range choices {
			now := of[chosen[i]]
			for k, c := range of {
				more := c.bytes - now.bytes
				if more > bytes-total || c.harm >= now.harm {
					continue
				}
				if g := (now.harm - c.harm) / float64(max(more, 1)); g > gain {
					expert, better, gain = i, k, g
				}
			}
		}
		if expert < 0 {
			return chosen, least
		}
		total += choices[expert][better].bytes - choices[expert][chosen[expert]].bytes
		chosen[expert] = better
	}
}
