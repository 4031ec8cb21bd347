package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A job is work that several goroutines share. Each calls work once, with a
// number of its own below that of the workers; any of them may come late or
// not at all, and the caller of pool.run is number 0.
type job interface{ work(worker int) }

// A pool runs one job at a time, so that jobs of several queues do not crowd
// each other off the processors. Its goroutines outlive jobs and devices.
type pool struct {
	mu      sync.Mutex
	helpers []*helper
	tasks   tasks

	job    job
	wanted int32         // helpers of the job
	epoch  atomic.Uint32 // of jobs
	state  atomic.Int64  // of the job: twice the helpers at work, and 1 while more may join
}

// A helper is a goroutine of a pool. It looks out for the next job for a while
// before it sleeps: the passes of a layer follow one another closely.
type helper struct {
	number   int
	sleeping atomic.Bool
	wake     chan struct{}
}

const lookout = time.Millisecond

// workers is the pool of all devices.
var workers pool

// run calls j.work from up to n goroutines and returns when none is at it any
// more.
func (p *pool) run(n int, j job) {
	if n == 1 {
		j.work(0)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runLocked(n, j)
}

// each calls task for every i from 0 to count-1, from up to n goroutines.
func (p *pool) each(n, count int, task func(worker, i int)) {
	if n <= 1 {
		for i := range count {
			task(0, i)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tasks.task = task
	deal(sized(&p.tasks.cursors, n), count)
	p.runLocked(n, &p.tasks)
	p.tasks.task = nil
}

// tasks are a job of independent tasks.
type tasks struct {
	cursors []cursor
	task    func(worker, i int)
}

func (t *tasks) work(worker int) {
	for {
		i, ok := take(t.cursors, worker)
		if !ok {
			return
		}
		t.task(worker, i)
	}
}

// runLocked is run for n of more than 1, with p locked.
func (p *pool) runLocked(n int, j job) {
	for len(p.helpers) < n-1 {
		h := &helper{number: len(p.helpers) + 1, wake: make(chan struct{}, 1)}
		p.helpers = append(p.helpers, h)
		go h.loop(p, p.epoch.Load())
	}
	p.job, p.wanted = j, int32(n-1)
	p.state.Store(1)
	p.epoch.Add(1)
	for _, h := range p.helpers[:n-1] {
		if h.sleeping.CompareAndSwap(true, false) {
			h.wake <- struct{}{}
		}
	}
	j.work(0)
	p.state.Add(-1)
	for i := 0; p.state.Load() != 0; i++ {
		if i%100 == 99 {
			runtime.Gosched()
		}
	}
	p.job = nil
}

// join reports whether h may work at the current job.
func (p *pool) join() bool {
	for {
		s := p.state.Load()
		if s&1 == 0 {
			return false
		}
		if p.state.CompareAndSwap(s, s+2) {
			return true
		}
	}
}

func (h *helper) loop(p *pool, seen uint32) {
	for {
		h.await(p, seen)
		seen = p.epoch.Load()
		if p.join() {
			if h.number <= int(p.wanted) {
				p.job.work(h.number)
			}
			p.state.Add(-2)
		}
	}
}

// await returns when there is a newer job than the one seen.
func (h *helper) await(p *pool, seen uint32) {
	for start := time.Now(); time.Since(start) < lookout; {
		for range 20 {
			if p.epoch.Load() != seen {
				return
			}
		}
		runtime.Gosched()
	}
	h.sleeping.Store(true)
	if p.epoch.Load() != seen && h.sleeping.CompareAndSwap(true, false) {
		return
	}
	<-h.wake
}
