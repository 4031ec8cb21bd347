// Package limits measures what a machine can do at most with a number of
// threads: read memory, and multiply and add in int8 and in float32.
//
// Each thread has a processor of its own, where the system can be asked for it
// (on Linux), and takes its own times. Whoever asked sleeps meanwhile, and
// nothing polls.
package limits

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Sample is one measurement with some threads.
type Sample struct {
	Read float64 // GB/s (10⁹ bytes) of streaming reads
	Int8 float64 // 10⁹ multiply-accumulates per second; 0 if the package has no loop for the machine
	FP32 float64 // the same in float32
}

// What a sample does.
const (
	window = 256 << 20 // bytes read
	chunk  = 1 << 20   // of them in one call, a multiple of stride
	stride = 512       // bytes that all loops read in whole turns
	calls  = 64        // of a loop of arithmetic
	turns  = 1 << 16   // of the loop in one call; sums of float32 stay exact
)

// A Meter measures one machine. Its methods are for one goroutine.
type Meter struct {
	memory []byte
	at     int // where the next window begins
}

// NewMeter returns a meter that reads memory, a window of 256 MiB in each
// sample. Caches keep out of the figures if memory is several times their size.
func NewMeter(memory []byte) (*Meter, error) {
	if len(memory) < chunk {
		return nil, fmt.Errorf("limits: %d bytes to read; want %d and more", len(memory), chunk)
	}
	return &Meter{memory: memory}, nil
}

// Sample measures once, in some 50 ms, with at most GOMAXPROCS threads.
func (m *Meter) Sample(threads int) (Sample, error) {
	if most := goruntime.GOMAXPROCS(0); threads < 1 || threads > most {
		return Sample{}, fmt.Errorf("limits: %d threads; want 1 to %d", threads, most)
	}
	var s Sample
	var errs [3]error
	s.Read, errs[0] = together(threads, m.reader(threads))
	if machine.dot != nil {
		s.Int8, errs[1] = together(threads, func(int) float64 { return repeat(machine.dot) })
	}
	if machine.fma != nil {
		s.FP32, errs[2] = together(threads, func(int) float64 { return repeat(machine.fma) })
	}
	return s, errors.Join(errs[:]...)
}

// reader returns the work of threads that read the next window, each a part.
func (m *Meter) reader(threads int) func(i int) float64 {
	size := min(window, len(m.memory)) / threads / chunk * chunk
	size = max(size, chunk)
	if m.at+threads*size > len(m.memory) {
		m.at = 0
	}
	from := m.memory[m.at:]
	m.at += threads * size
	return func(i int) float64 {
		part := from[min(i*size, len(from)-size):][:size]
		for ; len(part) > 0; part = part[chunk:] {
			machine.read(part[:chunk])
		}
		return float64(size)
	}
}

// repeat calls a loop of arithmetic and returns what it did: its sums count
// its products, which are all 1.
func repeat[T uint32 | float32](loop func(turns int, sums *[16]T)) float64 {
	done := 0.0
	for range calls {
		var sums [16]T
		loop(turns, &sums)
		for _, s := range sums {
			done += float64(s)
		}
	}
	return done
}

// together runs work(0) to work(threads-1) at once and returns what they did
// per nanosecond, from the first's start to the last's end.
func together(threads int, work func(i int) float64) (float64, error) {
	type result struct {
		start, end time.Time
		done       float64
		err        error
	}
	results := make([]result, threads)
	var ready atomic.Int32
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			goruntime.LockOSThread() // for good: a thread ends with its goroutine, pinned as it is
			err := pin(i)
			for ready.Add(1); int(ready.Load()) < threads; {
			}
			r := result{start: time.Now(), err: err}
			r.done = work(i)
			r.end = time.Now()
			results[i] = r
		})
	}
	wg.Wait()
	all := results[0]
	for _, r := range results[1:] {
		if r.start.Before(all.start) {
			all.start = r.start
		}
		if r.end.After(all.end) {
			all.end = r.end
		}
		all.done += r.done
		all.err = errors.Join(all.err, r.err)
	}
	return all.done / float64(all.end.Sub(all.start).Nanoseconds()), all.err
}

// A Limit is what samples say of one quantity, in its unit.
type Limit struct {
	Median float64 `json:"median"`
	Best   float64 `json:"best"`
}

// Limits are what some samples with the same number of threads say.
type Limits struct {
	Threads int   `json:"threads"`
	Samples int   `json:"samples"`
	Read    Limit `json:"read_gb_s"`
	Int8    Limit `json:"int8_gmac_s"`
	FP32    Limit `json:"fp32_gmac_s"`
}

// Of returns the limits that samples with some threads show.
func Of(threads int, samples []Sample) Limits {
	limit := func(of func(Sample) float64) Limit {
		if len(samples) == 0 {
			return Limit{}
		}
		var vs []float64
		for _, s := range samples {
			vs = append(vs, of(s))
		}
		slices.Sort(vs)
		return Limit{Median: (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2, Best: vs[len(vs)-1]}
	}
	return Limits{
		Threads: threads, Samples: len(samples),
		Read: limit(func(s Sample) float64 { return s.Read }),
		Int8: limit(func(s Sample) float64 { return s.Int8 }),
		FP32: limit(func(s Sample) float64 { return s.FP32 }),
	}
}
