//go:build darwin || linux

package fake

import (
	"encoding/binary"
	"fmt"

	"github.com/marlingen/marlingen/runtime"
)

// A span is memory, from an address up to another.
type span struct{ from, to uintptr }

func (s span) meets(t span) bool { return s.from < t.to && t.from < s.to }

// overlaps names the launches that touch what another one of them writes. They
// may run at the same time.
func overlaps(together []dispatch) (conflicts []string) {
	if len(together) < 2 {
		return nil
	}
	type use struct {
		*dispatch
		name  string
		write bool
		spans []span
	}
	var before []use
	for i := range together {
		d := &together[i]
		var uses []use
		for j, b := range d.kernel.Bindings {
			switch b.Access {
			case runtime.Read:
				uses = append(uses, use{d, b.Name, false, whole(d.args[j])})
			case runtime.Write:
				uses = append(uses, use{d, b.Name, true, d.writes(j)})
			}
		}
		for _, u := range uses {
			for _, v := range before {
				if (u.write || v.write) && meet(u.spans, v.spans) {
					conflicts = append(conflicts, fmt.Sprintf("%s of %s and %s of %s are in the same memory, one is written, and no barrier stands between the launches",
						v.name, v.kernel.Symbol, u.name, u.kernel.Symbol))
				}
			}
		}
		before = append(before, uses...)
	}
	return conflicts
}

func meet(a, b []span) bool {
	for _, s := range a {
		for _, t := range b {
			if s.meets(t) {
				return true
			}
		}
	}
	return false
}

// whole is all that an argument may reach.
func whole(b binding) []span {
	data := b.data()
	return []span{{address(data), address(data) + uintptr(len(data))}}
}

// writes returns what a kernel writes of argument i: all of it, but of experts
// the rows of its work list.
func (d *dispatch) writes(i int) (spans []span) {
	columns := d.shape.Hidden
	switch d.kernel.Pass {
	case runtime.GateUp:
		columns = d.shape.Intermediate
	case runtime.Down:
	default:
		return whole(d.args[i])
	}
	work := make([]runtime.Work, d.shape.Items)
	if _, err := binary.Decode(d.arg("work"), binary.LittleEndian, work); err != nil {
		return whole(d.args[i]) // the list is too short, which running it tells
	}
	base := address(d.args[i].data())
	for _, w := range work {
		from := base + 4*uintptr(w.First)*uintptr(columns)
		spans = append(spans, span{from, from + 4*uintptr(w.Rows)*uintptr(columns)})
	}
	return spans
}
