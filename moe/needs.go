package moe

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/marlingen/marlingen/runtime"
)

// A NeedState says whether what layers need is there.
type NeedState string

// The states of a need, the best first.
const (
	NeedPresent NeedState = "present"      // the best kernel is there
	NeedGeneric NeedState = "generic only" // no spec lists the tuple; a kernel that runs any is there
	NeedMissing NeedState = "missing"      // the library lacks the best kernel
	NeedFailed  NeedState = "failed"       // the device refused the best kernel
	NeedHost    NeedState = "host only"    // there is no kernel for the codec
)

// A Need is one thing that layers ask a kernel for: a pass over the rows that a
// family serves, of experts of one tuple, alone in a launch or sharing it.
type Need struct {
	Pass    runtime.Pass     `json:"pass,omitempty"`
	Codec   string           `json:"codec,omitempty"` // empty for a pass without experts
	Tuple   runtime.BitTuple `json:"tuple"`
	Family  string           `json:"family,omitempty"`
	Shared  bool             `json:"shared"`
	Experts int              `json:"experts"`          // of the tuple in all layers
	Kernel  string           `json:"kernel,omitempty"` // the best one for it, if the table has one
	Runs    string           `json:"runs,omitempty"`   // the one that runs it, if any is there
	State   NeedState        `json:"state"`
	Words   string           `json:"words,omitempty"` // of the device, if it refused the kernel
}

// Needs returns what a table's kernels are needed for by layers with the given
// weights, whatever tokens choose, and what is there of them: for each pass,
// family and tuple, alone and, where a layer has several tuples, shared.
func Needs(t *runtime.Table, have runtime.Availability, layers []Weights) []Need {
	type class struct {
		codec string
		tuple runtime.BitTuple
	}
	experts := map[class]int{}
	shares := map[class]bool{}
	for _, w := range layers {
		classes := map[class]bool{}
		all := w.Experts
		if w.Shared != nil {
			all = append(slices.Clone(all), *w.Shared)
		}
		for i := range all {
			c := class{all[i].Codec, all[i].Tuple()}
			classes[c] = true
			experts[c]++
		}
		for c := range classes {
			for other := range classes {
				shares[c] = shares[c] || other != c && other.codec == c.codec
			}
		}
	}
	var needs []Need
	for _, b := range bodies(t, "") {
		needs = append(needs, need(t, have, runtime.Request{Pass: b.Pass}, b, 0))
	}
	for _, c := range slices.SortedFunc(maps.Keys(experts), func(a, b class) int {
		return cmp.Or(cmp.Compare(a.codec, b.codec), a.tuple.Compare(b.tuple))
	}) {
		for _, b := range bodies(t, c.codec) {
			r := runtime.Request{Pass: b.Pass, Codec: c.codec, Tuple: c.tuple, Rows: b.Rows.Min}
			if r.Layer = b.LayerRows; r.Layer == 0 {
				r.Layer = math.MaxInt
			}
			needs = append(needs, need(t, have, r, b, experts[c]))
			if r.Shared = true; shares[c] {
				needs = append(needs, need(t, have, r, b, experts[c]))
			}
		}
		if t.Codec(c.codec) == nil {
			needs = append(needs, Need{Codec: c.codec, Tuple: c.tuple, Experts: experts[c], State: NeedHost})
		}
	}
	return needs
}

// bodies returns the bodies of a codec, in the order of the table.
func bodies(t *runtime.Table, codec string) (bs []*runtime.Body) {
	for _, k := range t.Kernels {
		if k.Codec == codec && !slices.Contains(bs, k.Body) {
			bs = append(bs, k.Body)
		}
	}
	return bs
}

func need(t *runtime.Table, have runtime.Availability, r runtime.Request, b *runtime.Body, experts int) Need {
	n := Need{Pass: r.Pass, Codec: r.Codec, Tuple: r.Tuple, Family: b.Family, Shared: r.Shared, Experts: experts, State: NeedPresent}
	choice, err := runtime.Select(t, have, r)
	passed := choice.Passed
	none := (*runtime.NoKernelError)(nil)
	if errors.As(err, &none) {
		passed = none.Passed
	} else if choice.Kernel != nil {
		n.Kernel, n.Runs = choice.Kernel.Symbol, choice.Kernel.Symbol
	}
	if n.Runs == "" {
		n.State = NeedHost
	} else if len(passed) > 0 {
		n.State = NeedGeneric // unless one of those before it should be there
	}
	for _, p := range passed {
		if p.Symbol == "" {
			continue
		}
		n.Kernel, n.State, n.Words = p.Symbol, NeedMissing, p.Words
		if p.Reason != runtime.ReasonMissing {
			n.State = NeedFailed
		}
		break
	}
	return n
}
