package tune

import (
	"math"
	"slices"
)

// doubt is the probability with which a bound of a median is wrong.
const doubt = 0.001

// A spread is a median, and bounds that the median of all such numbers lies
// within, each with a doubt of its own.
type spread struct{ low, median, high float64 }

// spreadOf returns that of xs. It assumes nothing of how they are distributed: a
// number is above the median as often as below. There have to be enough of them
// for the doubt, ten.
func spreadOf(xs []float64) spread {
	xs = slices.Sorted(slices.Values(xs))
	n := len(xs)
	// The probability that at most k of n lie below the median.
	k, term := -1, math.Pow(2, -float64(n))
	for sum := term; sum <= doubt && k+1 < n/2; sum += term {
		k++
		term *= float64(n-k) / float64(k+1)
	}
	if k < 0 {
		return spread{math.Inf(-1), median(xs), math.Inf(1)}
	}
	return spread{xs[k], median(xs), xs[n-1-k]}
}

// median returns the median of xs, which are not empty.
func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	n := len(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}

// logRatios returns log(a/b) of each pair.
func logRatios(a, b []float64) []float64 {
	rs := make([]float64, len(a))
	for i := range a {
		rs[i] = math.Log(a[i] / b[i])
	}
	return rs
}
