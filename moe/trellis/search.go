package trellis

import (
	"math"

	"github.com/x448/float16"
)

// An effort bounds a search.
type effort struct {
	sweep  int // steps that are tried at first
	refine int // of which so many are refined
	rounds int // of refinement, at most
}

var (
	thorough = effort{sweep: 48, refine: 4, rounds: 8}
	quick    = effort{sweep: 16, refine: 2, rounds: 4}
)

// A search looks for the step of one group: the s that minimises
//
//	E(s) = Σ m·(w − c·s)²
//
// over the fp16 numbers, c being the grid point nearest to w/s. For fixed c,
// E is a parabola whose minimum is at Σ m·w·c / Σ m·c²; going back and forth
// between c and s never makes E worse, but ends in a local minimum, so that
// the search starts from the best of a sweep.
//
// Products are converted before they are summed: a compiler may not fuse what
// is converted, and every machine finds the same steps.
type search struct {
	effort
	starts []trial
	top    float32 // largest index
	w      []float32
	m, mw  []float64 // m and m·w
	norm   float64   // Σ m·w², which is E(0)
	most   float64   // max |w|
	center float64   // Σ m·|w| / Σ m
}

func newSearch(bits uint8, e effort) *search {
	return &search{effort: e, starts: make([]trial, e.refine), top: float32(int(1)<<bits - 1)}
}

// load sets the group: weights w, times unit, and their moments. Without
// moments, or if all are zero, the weights count alike.
func (s *search) load(w []float32, unit float64, moments []float64) {
	s.w, s.m, s.mw = s.w[:0], s.m[:0], s.mw[:0]
	s.norm, s.most, s.center = 0, 0, 0
	var most float64
	for _, m := range moments {
		most = max(most, m)
	}
	var total float64
	for i, x := range w {
		m := 1.0
		if most > 0 {
			m = moments[i] / most
		}
		x := float64(x) * unit
		s.w = append(s.w, float32(x))
		s.m = append(s.m, m)
		s.mw = append(s.mw, m*x)
		s.norm += float64(m * x * x)
		s.most = max(s.most, math.Abs(x))
		s.center += float64(m * math.Abs(x))
		total += m
	}
	s.center /= total
}

// best returns the step that was found: zero if that is best.
func (s *search) best() float16.Float16 {
	// At hi the outermost grid point is the largest weight; at lo the grid
	// ends at half of the mean.
	hi := 2 * s.most / float64(s.top) * 1.02
	lo := min(s.center/float64(s.top+1), hi/4)

	starts := s.starts
	for i := range starts {
		starts[i] = trial{error: math.Inf(1)}
	}
	var last float16.Float16
	for i := range s.sweep {
		u := float64(i+1) / float64(s.sweep)
		step := round(lo + float64((hi-lo)*u*math.Sqrt(u)))
		if step == last || step == 0 {
			continue
		}
		last = step
		next := s.improve(step)
		for k := range starts {
			if next.error < starts[k].error {
				next, starts[k] = starts[k], next
			}
		}
	}

	found := trial{error: s.norm}
	for _, t := range starts {
		for range s.rounds {
			if t.step == 0 {
				break
			}
			next := s.improve(t.step)
			if next.at < found.error {
				found = trial{step: t.step, error: next.at}
			}
			if next.step == t.step {
				break
			}
			t = next
		}
	}
	return found.step
}

// A trial is a step and an upper bound of its error.
type trial struct {
	step  float16.Float16
	error float64
	at    float64 // error of the step that it was derived from
}

// improve returns the best step for the grid points that are nearest with
// the given one.
func (s *search) improve(step float16.Float16) trial {
	f := step.Float32()
	inverse, mid := 1/f, (s.top+1)/2
	half := float64(s.top) / 2
	var num, den float64
	for i, w := range s.w {
		c := float64(index(w, inverse, mid, s.top)) - half
		num += float64(s.mw[i] * c)
		den += float64(s.m[i] * float64(c*c))
	}
	next := round(num / den)
	return trial{step: next, error: s.error(next, num, den), at: s.error(step, num, den)}
}

func (s *search) error(step float16.Float16, num, den float64) float64 {
	f := float64(step.Float32())
	return s.norm - float64(2*f*num) + float64(f*float64(f*den))
}

// nearest sets dst to the indices of the grid points nearest to the weights.
// With a step of zero, all are the same.
func (s *search) nearest(dst []uint8, step float16.Float16) {
	var inverse float32
	if step != 0 {
		inverse = 1 / step.Float32()
	}
	for i, w := range s.w {
		dst[i] = uint8(index(w, inverse, (s.top+1)/2, s.top))
	}
}

// index returns the index of the grid point nearest to w, where inverse is
// one over the step, mid the number of points below zero and top the last.
func index(w, inverse, mid, top float32) int32 {
	x := float32(w*inverse) + mid
	if x < 0 {
		return 0
	}
	if x > top {
		x = top
	}
	return int32(x)
}

// round returns the fp16 number nearest to f, or zero if f is out of range.
func round(f float64) float16.Float16 {
	h := float16.Fromfloat32(float32(f))
	if !h.IsFinite() {
		return 0
	}
	return h
}
