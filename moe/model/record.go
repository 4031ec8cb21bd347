package model

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A Fit says how near a model comes to a record.
type Fit struct {
	Frequencies Frequencies // with which it comes nearest
	Error       float64     // ‖model − record‖ / ‖record‖
}

// Fit sets the model's frequencies to those that reproduce a record of what
// another implementation computed: tensors input_ids, [1, tokens], and
// layers.N.moe.in, [tokens, hidden], of the first mixture of experts. What
// precedes that is never quantised, so that any difference is of another kind.
// ok tells whether there is such a record; without, or after an error, nothing
// changes. No other method may be called at the same time, and no cache that
// was filled before may be used after.
func (m *Model) Fit(ctx context.Context, record *checkpoint.Tensors) (best Fit, ok bool, err error) {
	first := slices.IndexFunc(m.blocks, func(b *block) bool { _, dense := b.forward.(*mlp); return !dense })
	name := fmt.Sprintf("layers.%d.moe.in", first)
	if _, ok := record.Lookup("input_ids"); !ok {
		return Fit{}, false, nil
	}
	if _, ok := record.Lookup(name); !ok {
		return Fit{}, false, nil
	}
	ids, _, err := record.Int32("input_ids")
	if err != nil {
		return Fit{}, false, err
	}
	want, shape, err := record.Float32(name)
	if err != nil {
		return Fit{}, false, err
	}
	if one, _ := record.Lookup("input_ids"); len(ids) == 0 || !slices.Equal(one.Shape, []int{1, len(ids)}) {
		return Fit{}, false, fmt.Errorf("input_ids: shape is %v, want [1 tokens]", one.Shape)
	}
	if !slices.Equal(shape, []int{len(ids), m.hidden}) {
		return Fit{}, false, fmt.Errorf("%s: shape is %v, want [%d %d]", name, shape, len(ids), m.hidden)
	}
	was := *m.rotary
	defer func() {
		if err != nil {
			*m.rotary = was
		}
	}()
	best.Error = math.Inf(1)
	for _, f := range []Frequencies{ExactFrequencies, RoundedFrequencies} {
		*m.rotary = *newRotary(m.arch, f)
		x, err := m.Embed(ids)
		if err != nil {
			return Fit{}, false, err
		}
		cache := m.NewCache()
		for n := range first {
			m.Attend(n, cache, x)
			y, err := m.FeedForward(ctx, n, m.Input(n, x))
			if err != nil {
				return Fit{}, false, err
			}
			add(x, y)
		}
		m.Attend(first, cache, x)
		if e := oracle.Distance(oracle.Floats(m.Input(first, x)), oracle.Floats(want)); e < best.Error {
			best = Fit{f, e}
		}
	}
	if math.IsInf(best.Error, 1) {
		return Fit{}, false, fmt.Errorf("%s: it is zero, or not finite", name)
	}
	*m.rotary = *newRotary(m.arch, best.Frequencies)
	return best, true, nil
}
