package moe

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/marlingen/marlingen/runtime"
)

// Host is the kind of a step that the host's own arithmetic takes. It is no
// kind of kernel.
const Host runtime.Kind = "host"

// A Fallback is a step down that a tuple took, in one pass of one Forward.
type Fallback struct {
	Tuple  runtime.BitTuple `json:"tuple"` // zero for a pass without experts
	Pass   runtime.Pass     `json:"pass"`
	From   runtime.Kind     `json:"from"` // what would have been better
	To     runtime.Kind     `json:"to"`
	Reason runtime.Reason   `json:"reason"`
}

// Compare orders fallbacks for print.
func (f Fallback) Compare(g Fallback) int {
	return cmp.Or(f.Tuple.Compare(g.Tuple), cmp.Compare(f.Pass, g.Pass), cmp.Compare(f.From, g.From),
		cmp.Compare(f.To, g.To), cmp.Compare(f.Reason, g.Reason))
}

// Counters count what layers do, where they do it. The zero value is ready;
// layers may share one, and its methods may be called at any time.
type Counters struct {
	mu       sync.Mutex
	snapshot Snapshot
}

// A Snapshot is the state of Counters at one moment.
type Snapshot struct {
	Epoch       uint64                      `json:"epoch"`       // number of resets before
	Forwards    uint64                      `json:"forwards"`    // that succeeded
	Launches    map[string]uint64           `json:"launches"`    // that completed, by symbol
	Assignments map[runtime.BitTuple]uint64 `json:"assignments"` // rows computed, by tuple
	Fallbacks   map[Fallback]uint64         `json:"-"`           // steps down
}

// A FallbackCount is a kind of step down and how often it was taken.
type FallbackCount struct {
	Fallback
	Count uint64 `json:"count"`
}

// FallbackCounts returns s's fallbacks in order.
func (s Snapshot) FallbackCounts() []FallbackCount {
	var fs []FallbackCount
	for f, n := range s.Fallbacks {
		fs = append(fs, FallbackCount{f, n})
	}
	slices.SortFunc(fs, func(a, b FallbackCount) int { return a.Compare(b.Fallback) })
	return fs
}

// Snapshot returns a copy of the counts.
func (c *Counters) Snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copy()
}

// Reset returns the counts and starts a new epoch from zero.
func (c *Counters) Reset() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.copy()
	c.snapshot = Snapshot{Epoch: old.Epoch + 1}
	return old
}

func (c *Counters) copy() Snapshot {
	s := c.snapshot
	s.Launches = cloned(s.Launches)
	s.Assignments = cloned(s.Assignments)
	s.Fallbacks = cloned(s.Fallbacks)
	return s
}

// cloned returns a copy of m that is never nil.
func cloned[K comparable](m map[K]uint64) map[K]uint64 {
	if m == nil {
		return map[K]uint64{}
	}
	return maps.Clone(m)
}

func (c *Counters) forward() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshot.Forwards++
}

func (c *Counters) launch(symbol string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snapshot.Launches == nil {
		c.snapshot.Launches = map[string]uint64{}
	}
	c.snapshot.Launches[symbol]++
}

func (c *Counters) assign(t runtime.BitTuple, rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snapshot.Assignments == nil {
		c.snapshot.Assignments = map[runtime.BitTuple]uint64{}
	}
	c.snapshot.Assignments[t] += uint64(rows)
}

func (c *Counters) fallback(f Fallback) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snapshot.Fallbacks == nil {
		c.snapshot.Fallbacks = map[Fallback]uint64{}
	}
	c.snapshot.Fallbacks[f]++
}
