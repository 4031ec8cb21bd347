package bench

// The sweeps of Standard. All but Layers are named after what grows in them.
const (
	Layers  = "layers"
	Batch   = "batch"
	Experts = "experts"
	Tuples  = "tuples"
)

// Standard returns what is worth measuring of a shape: some mixes at some batch
// sizes in every variant; and, for the last mix in the variants of the most
// threads, the cost as the batch, the number of experts and the number of
// tuples grow. Layers of many experts have a third of the shape's intermediate.
func Standard(s Shape, mixes []Mix, batches []int, variants []*Variant) []Sweep {
	main := Sweep{Name: Layers, Variants: variants}
	for _, m := range mixes {
		main.Cases = append(main.Cases, Case{m, s, batches})
	}
	most := 0
	for _, v := range variants {
		most = max(most, v.Threads)
	}
	var widest []*Variant
	for _, v := range variants {
		if v.Threads == most {
			widest = append(widest, v)
		}
	}
	mix := mixes[len(mixes)-1]
	batch := Sweep{Name: Batch, Variants: widest, Cases: []Case{{mix, s, doubling(1, 1024)}}}
	experts := Sweep{Name: Experts, Variants: widest}
	narrow := s
	narrow.Intermediate = max(16, s.Intermediate/3&^15)
	for _, narrow.Experts = range doubling(max(8, s.TopK), 512) {
		experts.Cases = append(experts.Cases, Case{mix, narrow, []int{1, 16}})
	}
	tuples := Sweep{Name: Tuples, Variants: widest}
	for _, n := range doubling(1, min(64, s.Experts)) {
		tuples.Cases = append(tuples.Cases, Case{Distinct(n), s, []int{1, 16}})
	}
	return []Sweep{main, batch, experts, tuples}
}

// doubling returns first, twice first and so on, up to last.
func doubling(first, last int) (ns []int) {
	for n := first; n <= last; n *= 2 {
		ns = append(ns, n)
	}
	return ns
}
