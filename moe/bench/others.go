package bench

// others returns a function that tells which part of the machine's processor
// time other programs, and hosts of virtual machines, have taken since. It is
// negative where the system does not tell.
func others() func() float64 {
	busy, all, own, ok := processorTime()
	return func() float64 {
		b, a, o, still := processorTime()
		if !ok || !still || a == all {
			return -1
		}
		return max(0, float64((b-busy)-(o-own))/float64(a-all))
	}
}
