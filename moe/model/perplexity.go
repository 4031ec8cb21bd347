package model

import (
	"context"
	"fmt"
	"math"
)

// A Likelihood is how well a model predicts tokens.
type Likelihood struct {
	Tokens int     // predicted
	NLL    float64 // sum of their negative log likelihoods, in nats
}

// Perplexity returns e to the mean negative log likelihood.
func (l Likelihood) Perplexity() float64 { return math.Exp(l.NLL / float64(l.Tokens)) }

// Add adds what m is for another text.
func (l *Likelihood) Add(m Likelihood) {
	l.Tokens += m.Tokens
	l.NLL += m.NLL
}

// Likelihood returns how well m predicts each token of a sequence but the
// first.
func (m *Model) Likelihood(ctx context.Context, ids []int32) (Likelihood, error) {
	if len(ids) < 2 {
		return Likelihood{}, fmt.Errorf("a sequence of %d tokens; there is nothing to predict", len(ids))
	}
	states, err := m.Forward(ctx, m.NewCache(), ids[:len(ids)-1])
	if err != nil {
		return Likelihood{}, err
	}
	l := Likelihood{Tokens: len(ids) - 1}
	for at := 0; at < l.Tokens; at += chunk {
		end := min(at+chunk, l.Tokens)
		logits := m.Logits(states[at*m.hidden : end*m.hidden])
		if !finite(logits) {
			return Likelihood{}, errNotFinite
		}
		for i, id := range ids[at+1 : end+1] {
			if id < 0 || int(id) >= m.arch.Vocabulary {
				return Likelihood{}, fmt.Errorf("token %d is %d, and the vocabulary has %d", at+1+i, id, m.arch.Vocabulary)
			}
			l.NLL += surprise(logits[i*m.arch.Vocabulary:][:m.arch.Vocabulary], id)
		}
	}
	return l, nil
}

// surprise returns the negative log likelihood of token id.
func surprise(logits []float32, id int32) float64 {
	largest := logits[0]
	for _, v := range logits {
		largest = max(largest, v)
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v - largest))
	}
	return math.Log(sum) - float64(logits[id]-largest)
}
