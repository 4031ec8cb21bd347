package runtime

// A Profile is a shape of layer and a mixture of tuples, to quantise, tune and
// measure with.
type Profile struct {
	Name         string
	Doc          string
	Hidden       int
	Intermediate int
	Experts      int // routed
	TopK         int
	Codec        string
	Shared       BitTuple // of the shared expert
	Mix          []Share  // of the routed experts; the counts add up to Experts
	Bench        Bench
	Spec         string // file that declares it
}

// A Bench says what is worth measuring of a profile; it may be empty.
type Bench struct {
	Rows    []int // of an expert, for kernels; ascending
	Batches []int // tokens at once, for prefill; ascending
}

// A Share is a part of a mixture.
type Share struct {
	Tuple   BitTuple
	Experts int
}

// Spread returns the tuples of n experts in the shares of p's mix. Each prefix
// holds each share to within one expert, so tuples are interleaved, and the
// same n gives the same tuples.
func (p *Profile) Spread(n int) []BitTuple {
	tuples := make([]BitTuple, n)
	given := make([]int, len(p.Mix))
	for i := range tuples {
		best, most := 0, 0
		for j, share := range p.Mix {
			// What share j is owed after i+1 experts, times p.Experts.
			if owed := share.Experts*(i+1) - given[j]*p.Experts; j == 0 || owed > most {
				best, most = j, owed
			}
		}
		given[best]++
		tuples[i] = p.Mix[best].Tuple
	}
	return tuples
}
