package tune

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/gen"
)

// A point is a value for each knob of a family's pass.
type point map[string]int

// String returns the knobs in order: "chunk=512 threads=64".
func (p point) String() string {
	var parts []string
	for _, knob := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, fmt.Sprintf("%s=%d", knob, p[knob]))
	}
	return strings.Join(parts, " ")
}

// but returns what of p is other than in usual.
func (p point) but(usual point) point {
	other := point{}
	for knob, v := range p {
		if usual[knob] != v {
			other[knob] = v
		}
	}
	return other
}

// A space is the points of a family's pass.
type space struct {
	usual  point
	values map[string][]int // by knob, only those with a choice
	known  map[string]point // by name
}

// newSpace returns the points that the knobs of a pass make: those of them that
// mean anything to the device.
func newSpace(p gen.FamilyPassSpec, means func(knob string) bool) *space {
	s := &space{usual: point{}, values: map[string][]int{}, known: map[string]point{}}
	for knob, values := range p.Knobs {
		now, ok := p.Number(knob)
		if !ok || len(values) < 2 || !means(knob) {
			continue
		}
		s.usual[knob] = now
		for _, v := range values {
			s.values[knob] = append(s.values[knob], v.V)
		}
	}
	s.name(s.usual)
	return s
}

// name returns the name of p, by which the space knows it then.
func (s *space) name(p point) string {
	name := p.String()
	s.known[name] = p
	return name
}

// neighbours returns the points that differ from one in a knob, in the order of
// knobs and values, then those that differ in two, in an order of no meaning: a
// search may not come to their end.
func (s *space) neighbours(of string) (names []string) {
	center := s.known[of]
	var ones, twos []point
	knobs := slices.Sorted(maps.Keys(s.values))
	for i, a := range knobs {
		for _, v := range s.values[a] {
			if v == center[a] {
				continue
			}
			one := maps.Clone(center)
			one[a] = v
			ones = append(ones, one)
			for _, b := range knobs[i+1:] {
				for _, w := range s.values[b] {
					if w != center[b] {
						two := maps.Clone(one)
						two[b] = w
						twos = append(twos, two)
					}
				}
			}
		}
	}
	h := fnv.New64()
	h.Write([]byte(of))
	rand.New(rand.NewPCG(h.Sum64(), 1)).Shuffle(len(twos), func(i, j int) { twos[i], twos[j] = twos[j], twos[i] })
	for _, p := range append(ones, twos...) {
		names = append(names, s.name(p))
	}
	return names
}
