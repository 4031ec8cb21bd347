package page

import (
	"math"
	"strconv"
)

// A scale takes values to places. It is logarithmic where values are far apart.
type scale struct {
	log      bool
	min, max float64 // as they are placed
	from, to px
}

// newScale returns the scale of values from min to max. It is logarithmic from
// the given ratio of these on.
func newScale(min, max, ratio float64, from, to px) scale {
	s := scale{log: min > 0 && max/min >= ratio, from: from, to: to}
	s.min, s.max = s.place(min), s.place(max)
	room := padding * (s.max - s.min)
	if room == 0 {
		room = 1
	}
	s.min, s.max = s.min-room, s.max+room
	return s
}

// fromZero returns the scale of values of which none is negative: it begins at
// zero, if it is linear.
func fromZero(min, max, ratio float64, from, to px) scale {
	s := newScale(min, max, ratio, from, to)
	if !s.log && min >= 0 {
		s.min, s.max = 0, max*(1+padding)
	}
	return s
}

// finite reports whether the scale has room for its values.
func (s scale) finite() bool { return s.max > s.min && !math.IsInf(s.max-s.min, 0) }

func (s scale) place(v float64) float64 {
	if s.log {
		return math.Log10(v)
	}
	return v
}

func (s scale) at(v float64) px {
	return s.from + (s.to-s.from)*px(s.place(v)/(s.max-s.min)-s.min/(s.max-s.min))
}

// ticks returns numbers to write at the scale, few of them: one, two and five
// times powers of ten, some of these if that would be many, and multiples of
// such a number where the scale is linear.
func (s scale) ticks() []float64 {
	if s.log {
		return s.powers()
	}
	e := math.Floor(math.Log10((s.max - s.min) / yTicks))
	for _, m := range []float64{1, 2, 5, 10} {
		step := decimal(m, e)
		if !(step > 0) || (s.max-s.min)/step > yTicks {
			continue
		}
		var ts []float64
		first := math.Ceil(s.min / step)
		for i := range yTicks + 1 {
			if v := decimal((first+float64(i))*m, e); v <= s.max {
				ts = append(ts, v)
			}
		}
		return ts
	}
	return nil
}

func (s scale) powers() (ts []float64) {
	for _, ms := range [][]float64{{1, 2, 5}, {1}} {
		ts = nil
		for e := math.Floor(s.min); e <= s.max; e++ {
			for _, m := range ms {
				v := decimal(m, e)
				if at := math.Log10(v); s.min <= at && at <= s.max && !math.IsInf(v, 0) {
					ts = append(ts, v)
				}
			}
		}
		if len(ts) <= yTicks+2 {
			return ts
		}
	}
	var some []float64
	for i := 0; i < len(ts); i += (len(ts) + yTicks - 1) / yTicks {
		some = append(some, ts[i])
	}
	return some
}

// decimal returns m times ten to the power of e, as close as there is a number.
func decimal(m, e float64) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(m, 'f', -1, 64)+"e"+strconv.FormatFloat(e, 'f', -1, 64), 64)
	return v
}
