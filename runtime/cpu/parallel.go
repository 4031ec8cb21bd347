package cpu

import (
	"context"
	"runtime"
	"sync/atomic"
)

// A cursor hands out a range of numbers, to several goroutines. Each lies in
// cache lines of its own.
type cursor struct {
	next, end atomic.Int64
	_         [112]byte
}

// deal divides 0 to n-1 into ranges, one for each cursor.
func deal(cursors []cursor, n int) {
	for i := range cursors {
		cursors[i].next.Store(int64(i * n / len(cursors)))
		cursors[i].end.Store(int64((i + 1) * n / len(cursors)))
	}
}

// take returns a number for a worker: from the range of its own, and when that
// is used up from those of the others.
func take(cursors []cursor, worker int) (int, bool) {
	for i := range cursors {
		c := &cursors[(worker+i)%len(cursors)]
		if c.next.Load() >= c.end.Load() {
			continue
		}
		if n := c.next.Add(1) - 1; n < c.end.Load() {
			return int(n), true
		}
	}
	return 0, false
}

// peek returns the number that is handed out next, if there is one.
func (c *cursor) peek() (int, bool) {
	n := c.next.Load()
	return int(n), n < c.end.Load()
}

// A loop is a job of independent tasks.
type loop struct {
	call    *call
	cursors []cursor
	task    func(c *call, s *scratch, i int)
	done    atomic.Int64
}

// each calls task for every i from 0 to n-1 from the workers of c. It stops
// early with the error of the call's context.
func (c *call) each(n int, task func(c *call, s *scratch, i int)) error {
	if n == 0 {
		return nil
	}
	l := &c.loop
	l.call, l.task = c, task
	l.done.Store(0)
	workers := min(c.engine.workers, n)
	deal(sized(&l.cursors, workers), n)
	c.share(workers, l)
	if int(l.done.Load()) < n {
		return c.ctx.Err()
	}
	return nil
}

func (l *loop) work(worker int) {
	s := l.call.scratches[worker]
	n := 0
	for l.call.ctx.Err() == nil {
		i, ok := take(l.cursors, worker)
		if !ok {
			break
		}
		l.task(l.call, s, i)
		n++
	}
	l.done.Add(int64(n))
}

// await waits, not long, until n has reached a value. It reports false if ctx
// ends first.
func await(n *atomic.Int64, value int64, ctx context.Context) bool {
	for i := 0; n.Load() < value; i++ {
		if i%100 == 99 {
			if ctx.Err() != nil {
				return false
			}
			runtime.Gosched()
		}
	}
	return true
}

// share runs j on n goroutines, each of which has a scratch.
func (c *call) share(n int, j job) {
	for len(c.scratches) < n {
		c.scratches = append(c.scratches, new(scratch))
	}
	workers.run(n, j)
}

// A scratch is memory of one goroutine of a call. It is so large that it shares
// no cache line with another, and begins with a multiple of them, to which it is
// aligned for that.
type scratch struct {
	panel panel
	y     [2][][strip]float32 // by projection: rows of a segment

	inputs []*float32 // of the rows of a block
	next   []uint32
	scores []float32
	out    []bool
}

// sized makes s of n elements, whose values do not matter.
func sized[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}
