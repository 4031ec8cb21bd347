// Package result is what a benchmark run leaves behind: one JSON document, and
// what has to be true of it before anybody may quote a number from it.
//
// A document is read strictly: a field that is missing is a mistake, as is one
// that nobody knows. A run that was interrupted or skipped is one that says so,
// never one without numbers.
package result

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
)

// Schema is the version of Document.
const Schema = 2

// A Status says how a run ended.
type Status string

// The ways in which a run ends.
const (
	Complete    Status = "complete"
	Interrupted Status = "interrupted"
	Skipped     Status = "skipped"
	Failed      Status = "failed"
)

// A Level says what was timed.
type Level string

// The levels.
const (
	Kernels Level = "kernel" // launches
	Layers  Level = "layer"  // forwards of layers
	Models  Level = "model"  // tokens of a whole model
)

// A Document is what came of one run.
type Document struct {
	Schema      int         `json:"schema"`
	ID          string      `json:"id"` // of this run and no other: 32 hex digits
	Status      Status      `json:"status"`
	Why         string      `json:"why,omitempty"` // of a status other than complete
	Time        time.Time   `json:"time"`          // at which it began, UTC
	Seconds     float64     `json:"seconds"`       // that it took
	Benchmark   string      `json:"benchmark"`     // decode, prefill, kernels, …
	Level       Level       `json:"level"`
	Args        []string    `json:"args"` // of the command line, without the command
	Device      Device      `json:"device"`
	Machine     Machine     `json:"machine"`
	Digest      string      `json:"digest"` // of the manifest
	Commit      string      `json:"commit"` // that the command was built from: hex digits; empty if unknown
	Dirty       bool        `json:"dirty"`  // it was built from more than the commit
	Correctness Correctness `json:"correctness"`
	Counters    Counters    `json:"counters"` // of what was timed
	Cells       []Cell      `json:"cells"`
}

// A Device is what ran the kernels.
type Device struct {
	Kind   string `json:"kind"` // cpu, metal, cuda, …
	Name   string `json:"name"`
	Driver string `json:"driver"` // its version
}

// A Machine is the device's host.
type Machine struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"` // that Go uses
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Go         string `json:"go"`
}

// Correctness is the check of outputs against the float64 oracle, made before
// anything was timed.
type Correctness struct {
	Passed    bool    `json:"passed"`
	Checked   int     `json:"checked"`   // outputs that were compared
	Worst     float64 `json:"worst"`     // deviation among them
	Tolerance float64 `json:"tolerance"` // that it may have
}

// Merge adds the check of other outputs. Of the worst deviations it keeps the
// one that is nearest to its tolerance, or furthest beyond it.
func (c *Correctness) Merge(other Correctness) {
	if *c == (Correctness{}) {
		*c = other
		return
	}
	c.Passed = c.Passed && other.Passed
	c.Checked += other.Checked
	if other.Worst*c.Tolerance >= c.Worst*other.Tolerance {
		c.Worst, c.Tolerance = other.Worst, other.Tolerance
	}
}

// Counters are those of the fairway, summed over all cells.
type Counters struct {
	Forwards    uint64                      `json:"forwards"`    // of layers; none where kernels were timed without one
	Launches    map[string]uint64           `json:"launches"`    // by symbol
	Assignments map[runtime.BitTuple]uint64 `json:"assignments"` // rows, by tuple
	Fallbacks   []moe.FallbackCount         `json:"fallbacks"`
}

// NewCounters returns the counters that s shows.
func NewCounters(s moe.Snapshot) Counters {
	c := Counters{
		Forwards: s.Forwards, Launches: s.Launches, Assignments: s.Assignments,
		Fallbacks: append([]moe.FallbackCount{}, s.FallbackCounts()...),
	}
	if c.Launches == nil {
		c.Launches = map[string]uint64{}
	}
	if c.Assignments == nil {
		c.Assignments = map[runtime.BitTuple]uint64{}
	}
	return c
}

// A Cell is one thing that was timed.
type Cell struct {
	Name     string             `json:"name"`   // of letters, digits, _, /, : and -
	Labels   map[string]string  `json:"labels"` // such as tuples, batch, threads; cells with the same labels but variant and kernels were measured in turns
	Samples  int                `json:"samples"`
	RoundsMS []float64          `json:"rounds_ms"` // median of each round's samples, in order
	MS       Distribution       `json:"ms"`        // milliseconds of a sample
	Metrics  map[string]float64 `json:"metrics"`   // such as gb_s
}

// A Distribution describes samples.
type Distribution struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
	Spread float64 `json:"spread"` // median distance from the median
}

// NewID returns an ID for a run.
func NewID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// Summarize describes samples, of which there is at least one. A percentile is
// the smallest sample that as many are not above.
func Summarize(samples []float64) (Distribution, error) {
	for _, s := range samples {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return Distribution{}, fmt.Errorf("a sample is %v", s)
		}
	}
	if len(samples) == 0 {
		return Distribution{}, fmt.Errorf("there are no samples")
	}
	v := slices.Sorted(slices.Values(samples))
	d := Distribution{Min: v[0], Median: median(v), P95: percentile(v, 95), P99: percentile(v, 99), Max: v[len(v)-1]}
	var away []float64
	for _, s := range v {
		away = append(away, math.Abs(s-d.Median))
	}
	slices.Sort(away)
	d.Spread = median(away)
	return d, nil
}

func median(sorted []float64) float64 {
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func percentile(sorted []float64, p int) float64 {
	return sorted[(p*len(sorted)+99)/100-1]
}
