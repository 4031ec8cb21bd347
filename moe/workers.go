package moe

import (
	gort "runtime"
	"sync"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
)

// workersOf returns the workers of d or, if it has none, goroutines.
func workersOf(d runtime.Device) runtime.Workers {
	if w, ok := d.(runtime.Workers); ok {
		return w
	}
	return newGoroutines(gort.GOMAXPROCS(0))
}

// goroutines are Workers for one caller at a time. They are there only while
// there is work.
type goroutines struct {
	group sync.WaitGroup
	run   []func() // of each, made once, so that go allocates nothing

	// Of one call.
	next atomic.Int64
	n    int
	task func(worker, i int)
}

func newGoroutines(n int) *goroutines {
	g := new(goroutines)
	for worker := range n {
		g.run = append(g.run, func() {
			defer g.group.Done()
			for i := int(g.next.Add(1) - 1); i < g.n; i = int(g.next.Add(1) - 1) {
				g.task(worker, i)
			}
		})
	}
	return g
}

func (g *goroutines) Workers() int { return len(g.run) }

func (g *goroutines) Each(n int, task func(worker, i int)) {
	g.next.Store(0)
	g.n, g.task = n, task
	some := g.run[:max(1, min(n, len(g.run)))]
	g.group.Add(len(some))
	for _, run := range some[1:] {
		go run()
	}
	some[0]()
	g.group.Wait()
	g.task = nil
}
