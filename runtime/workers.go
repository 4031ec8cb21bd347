package runtime

// Workers are goroutines that share work. A Device that computes on the host's
// processors implements it: what the host does with them does not crowd the
// device's own work off the processors.
type Workers interface {
	// Workers returns the number of goroutines.
	Workers() int

	// Each calls task for every i from 0 to n-1 and returns when all calls have
	// returned. Worker is the number of the goroutine that calls; calls with the
	// same one follow one another.
	Each(n int, task func(worker, i int))
}
