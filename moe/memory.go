package moe

import (
	"slices"

	"github.com/marlingen/marlingen/runtime"
)

// A memory keeps what a table and an availability answer, both of which do not
// change: the answers would be the same. Nil keeps nothing.
type memory struct {
	rows     []int // where another body may begin to serve, ascending from 0
	layers   []int // likewise, rows of a layer
	families map[runtime.Request]string
	choices  map[runtime.Request]runtime.Choice
}

func newMemory(t *runtime.Table) *memory {
	m := &memory{rows: []int{0}, layers: []int{0}, families: map[runtime.Request]string{}, choices: map[runtime.Request]runtime.Choice{}}
	for _, k := range t.Kernels {
		m.rows = append(m.rows, k.Rows.Min)
		if k.Rows.Max > 0 {
			m.rows = append(m.rows, k.Rows.Max+1)
		}
		if k.LayerRows > 0 {
			m.layers = append(m.layers, k.LayerRows+1)
		}
	}
	for _, ns := range []*[]int{&m.rows, &m.layers} {
		slices.Sort(*ns)
		*ns = slices.Compact(*ns)
	}
	return m
}

// key returns the least request with the answer of r: bodies tell row counts
// apart by their ranges alone, and layers by their limits.
func (m *memory) key(r runtime.Request) runtime.Request {
	r.Rows, r.Layer = floor(m.rows, r.Rows), floor(m.layers, max(r.Rows, r.Layer))
	return r
}

// floor returns the greatest of ns that is not above n.
func floor(ns []int, n int) int {
	i, found := slices.BinarySearch(ns, n)
	if !found {
		i--
	}
	return ns[i]
}

func (m *memory) family(r runtime.Request, ask func() string) string {
	if m == nil {
		return ask()
	}
	key := m.key(r)
	family, ok := m.families[key]
	if !ok {
		family = ask()
		m.families[key] = family
	}
	return family
}

// choice does not keep errors, which tell the request.
func (m *memory) choice(r runtime.Request, ask func() (runtime.Choice, error)) (runtime.Choice, error) {
	if m == nil {
		return ask()
	}
	key := m.key(r)
	if c, ok := m.choices[key]; ok {
		return c, nil
	}
	c, err := ask()
	if err == nil {
		m.choices[key] = c
	}
	return c, err
}
