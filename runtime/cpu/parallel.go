package cpu

import (
	"sync"
	"sync/atomic"
)

// each calls task(0), …, task(n-1) from as many goroutines as the call has
// workers, each with a task of its own from newTask, and done when it has no
// more. It stops early with the error of the call's context.
func (c *call) each(n int, newTask func() (task func(int), done func())) error {
	var next atomic.Int64
	work := func() {
		task, done := newTask()
		defer done()
		for c.ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			task(i)
		}
	}
	if n == 0 {
		return nil
	}
	var wg sync.WaitGroup
	for range min(c.workers, n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if int(next.Load()) < n {
		return c.ctx.Err()
	}
	return nil
}

// stateless makes a task that needs nothing of its own.
func stateless(task func(int)) func() (func(int), func()) {
	return func() (func(int), func()) { return task, func() {} }
}
