package bench

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/marlingen/marlingen/runtime"
)

// A Shape is that of a layer.
type Shape struct {
	Hidden       int
	Intermediate int
	Experts      int
	TopK         int
}

func (s Shape) String() string {
	return fmt.Sprintf("hidden %d, intermediate %d, top-%d of %d experts", s.Hidden, s.Intermediate, s.TopK, s.Experts)
}

// MACs returns the multiply-accumulates of a call whose tokens take the given
// number of rows, the router's left out.
func (s Shape) MACs(rows int) float64 {
	return 3 * float64(rows) * float64(s.Hidden) * float64(s.Intermediate)
}

// A Mix says which tuples the experts of a layer have.
type Mix struct {
	Name   string
	Tuples func(experts int) []runtime.BitTuple
}

// Uniform returns the mix of one tuple.
func Uniform(t runtime.BitTuple) Mix {
	return Mix{t.String(), func(n int) []runtime.BitTuple { return slices.Repeat([]runtime.BitTuple{t}, n) }}
}

// Of returns the mix of a profile.
func Of(p *runtime.Profile) Mix { return Mix{p.Name, p.Spread} }

// Distinct returns a mix of n tuples, 1 to 64, in equal parts: 6_2_3 first, then
// those whose widths add up to as much as its do, then those a bit apart from
// that, so that a layer has much the same size for each n.
func Distinct(n int) Mix {
	const sum = 6 + 2 + 3
	away := func(t runtime.BitTuple) int {
		d := int(t.Gate) + int(t.Up) + int(t.Down) - sum
		return max(d, -d)
	}
	first := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
	var all []runtime.BitTuple
	for gate := uint8(2); gate <= 8; gate++ {
		for up := uint8(2); up <= 8; up++ {
			for down := uint8(2); down <= 8; down++ {
				if t := (runtime.BitTuple{Gate: gate, Up: up, Down: down}); t != first && away(t) <= 1 {
					all = append(all, t)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b runtime.BitTuple) int { return cmp.Compare(away(a), away(b)) })
	tuples := append([]runtime.BitTuple{first}, all...)[:n]
	name := fmt.Sprintf("%d tuples", n)
	if n == 1 {
		name = "1 tuple"
	}
	return Mix{name, func(experts int) []runtime.BitTuple {
		ts := make([]runtime.BitTuple, experts)
		for i := range ts {
			ts[i] = tuples[i%n]
		}
		return ts
	}}
}

// A Variant is one way to run layers.
type Variant struct {
	Override  string // symbol of a kernel to run in its pass; empty for those that are selected
	Precision string // of the device
	Threads   int
	Device    runtime.Device
	Library   runtime.Library
	Table     *runtime.Table // that Device loaded Library of
	Tolerance float64        // of outputs, as ‖output − oracle‖ / ‖oracle‖
}

// The variants of cells that are compared with one another: which kernels ran.
const (
	Selected   = "selected"   // those that a layer selects
	Other      = "other"      // others that are for the same
	Overridden = "overridden" // the one that was asked for, in its pass
)

// onHost reports whether a device shares the host's processors and memory, so
// that the limits that are measured there are its own.
func onHost(d runtime.Device) bool {
	kind := d.Info().Kind
	return kind == "cpu" || kind == "msl"
}

// A Case is a layer and the batches that it runs, in every variant.
type Case struct {
	Mix     Mix
	Shape   Shape
	Batches []int
}

// A Sweep is cases that are measured in turns.
type Sweep struct {
	Name     string
	Cases    []Case
	Variants []*Variant
}

// Cells returns the number of cells of s.
func (s *Sweep) Cells() int {
	n := 0
	for _, c := range s.Cases {
		n += len(c.Batches) * len(s.Variants)
	}
	return n
}
