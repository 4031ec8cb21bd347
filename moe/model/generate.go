package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
)

// A Sampler chooses tokens.
type Sampler struct {
	temperature float64
	topP        float64
	random      *rand.Rand
}

// NewSampler returns a sampler that chooses among the likeliest tokens that
// have probability topP together, at the given temperature; a temperature of 0
// takes the likeliest. With the same seed it chooses the same tokens whenever
// it is given the same scores.
func NewSampler(temperature, topP float64, seed uint64) (*Sampler, error) {
	switch {
	case !(temperature >= 0) || math.IsInf(temperature, 0):
		return nil, fmt.Errorf("temperature %v is not a finite number ≥ 0", temperature)
	case !(topP > 0 && topP <= 1):
		return nil, fmt.Errorf("top-p %v is not above 0 and at most 1", topP)
	}
	return &Sampler{temperature, topP, rand.New(rand.NewPCG(seed, 0))}, nil
}

// Choose returns a token for its scores, [vocabulary], which are finite.
// Without a temperature, the lower token of equal scores wins.
func (s *Sampler) Choose(logits []float32) int32 {
	best := int32(0)
	for id, v := range logits {
		if v > logits[best] {
			best = int32(id)
		}
	}
	if s.temperature == 0 {
		return best
	}
	type candidate struct {
		id     int32
		weight float64
	}
	var sum float64
	candidates := make([]candidate, len(logits))
	for id, v := range logits {
		w := math.Exp(float64(v-logits[best]) / s.temperature)
		candidates[id] = candidate{int32(id), w}
		sum += w
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.weight, a.weight) })
	n, kept := 0, 0.0
	for n < len(candidates) && (n == 0 || kept < s.topP*sum) {
		kept += candidates[n].weight
		n++
	}
	at := s.random.Float64() * kept
	for _, c := range candidates[:n] {
		if at -= c.weight; at < 0 {
			return c.id
		}
	}
	return best // of what rounding left over
}

// Generate returns the tokens that follow prompt, as they are chosen: at most
// the given number, fewer if one ends the text, which is the last then, or if
// the model takes no more positions. An error is the last thing it yields.
func (m *Model) Generate(ctx context.Context, prompt []int32, most int, s *Sampler) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		if len(prompt) == 0 {
			yield(0, errors.New("the prompt is empty"))
			return
		}
		cache, next := m.NewCache(), prompt
		for range min(most, m.MaxPositions()-len(prompt)+1) {
			states, err := m.Forward(ctx, cache, next)
			if err != nil {
				yield(0, err)
				return
			}
			logits := m.Logits(states[len(states)-m.hidden:])
			if !finite(logits) {
				yield(0, errNotFinite)
				return
			}
			id := s.Choose(logits)
			if !yield(id, nil) || m.Ends(id) {
				return
			}
			next = []int32{id}
		}
		if len(prompt) > m.MaxPositions() {
			yield(0, fmt.Errorf("the prompt has %d tokens; the model takes %d (max_position_embeddings)", len(prompt), m.MaxPositions()))
		}
	}
}
