// Package limits measures what a machine can do at most with a number of
// threads: read memory, and multiply and add in int8 and in float32.
//
// Each thread has a processor of its own, where the system can be asked for it
// (on Linux), and takes its own times, of pieces of work so short that few are
// interrupted. Whoever asked sleeps meanwhile, and nothing polls.
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

// What a sample does, in pieces of a millisecond and less.
const (
	window = 256 << 20 // bytes read
	piece  = 8 << 20   // of them at once, a multiple of 512
	calls  = 64        // of a loop of arithmetic, in each thread
	turns  = 1 << 16   // of the loop in one call; sums of float32 stay exact
)

// A Meter measures one machine. Its methods are for one goroutine.
type Meter struct {
	memory []byte
	piece  int // bytes that are read at once
	at     int // where the next piece begins
}

// NewMeter returns a meter that reads memory, a window of 256 MiB in each
// sample. Caches keep out of the figures if memory is several times their size.
func NewMeter(memory []byte) (*Meter, error) {
	m := &Meter{memory: memory, piece: min(piece, len(memory)&^511)}
	if m.piece == 0 {
		return nil, fmt.Errorf("limits: %d bytes to read; want 512 and more", len(memory))
	}
	return m, nil
}

// Sample measures once, in some 50 ms, with at most GOMAXPROCS threads.
func (m *Meter) Sample(threads int) (Sample, error) {
	if most := goruntime.GOMAXPROCS(0); threads < 1 || threads > most {
		return Sample{}, fmt.Errorf("limits: %d threads; want 1 to %d", threads, most)
	}
	var s Sample
	var errs [3]error
	s.Read, errs[0] = together(threads, max(1, min(window, len(m.memory))/m.piece/threads), func() func() float64 {
		p := m.next()
		return func() float64 {
			machine.read(p)
			return float64(len(p))
		}
	})
	if machine.dot != nil {
		s.Int8, errs[1] = together(threads, calls, func() func() float64 { return multiply(machine.dot) })
	}
	if machine.fma != nil {
		s.FP32, errs[2] = together(threads, calls, func() func() float64 { return multiply(machine.fma) })
	}
	return s, errors.Join(errs[:]...)
}

// next returns the next piece of memory.
func (m *Meter) next() []byte {
	if m.at+m.piece > len(m.memory) {
		m.at = 0
	}
	m.at += m.piece
	return m.memory[m.at-m.piece : m.at]
}

// multiply returns a call of a loop of arithmetic, which returns what it did:
// its sums count its products, which are all 1.
func multiply[T uint32 | float32](loop func(turns int, sums *[16]T)) func() float64 {
	return func() float64 {
		var sums [16]T
		loop(turns, &sums)
		done := 0.0
		for _, s := range sums {
			done += float64(s)
		}
		return done
	}
}

// together runs pieces of work on threads that start at once, and returns what
// they do per nanosecond: the sum of each thread's median. So it does not count
// when a thread has to wait for its processor.
func together(threads, pieces int, work func() func() float64) (float64, error) {
	todo := make([][]func() float64, threads)
	for range pieces {
		for i := range todo {
			todo[i] = append(todo[i], work())
		}
	}
	rates := make([]float64, threads)
	errs := make([]error, threads)
	var ready atomic.Int32
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() {
			goruntime.LockOSThread() // for good: a thread ends with its goroutine, pinned as it is
			errs[i] = pin(i)
			seen := make([]float64, pieces)
			for ready.Add(1); int(ready.Load()) < threads; {
			}
			for p, do := range todo[i] {
				start := time.Now()
				done := do()
				seen[p] = done / float64(time.Since(start).Nanoseconds())
			}
			rates[i] = median(seen)
		})
	}
	wg.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum, errors.Join(errs...)
}

// median sorts vs and returns its middle, or the mean of the two there.
func median(vs []float64) float64 {
	slices.Sort(vs)
	return (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2
}

// A Limit is what samples say of one quantity, in its unit.
type Limit struct {
	Median float64
	Best   float64
}

// Limits are what some samples with the same number of threads say.
type Limits struct {
	Threads int
	Samples int
	Read    Limit
	Int8    Limit
	FP32    Limit
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
		return Limit{Median: median(vs), Best: slices.Max(vs)}
	}
	return Limits{
		Threads: threads, Samples: len(samples),
		Read: limit(func(s Sample) float64 { return s.Read }),
		Int8: limit(func(s Sample) float64 { return s.Int8 }),
		FP32: limit(func(s Sample) float64 { return s.FP32 }),
	}
}
