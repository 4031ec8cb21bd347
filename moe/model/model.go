// Package model runs whole models of architecture glm4_moe_lite in float32:
// embeddings, multi-head latent attention, dense and mixture-of-experts
// layers, and the head. Mixtures of experts are run by package moe on a
// device; everything else, by gonum's BLAS on the host.
//
// It is there to show what mixtures of experts are for, and what quantising
// them costs: text and perplexity.
package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gonum.org/v1/gonum/blas/blas32"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
)

// chunk is the number of tokens that are run together: what bounds the memory
// of a long Forward.
const chunk = 512

// A Model is a language model. Its methods may be called by several
// goroutines, each with a Cache of its own.
type Model struct {
	checkpoint *checkpoint.Checkpoint
	arch       *checkpoint.Architecture
	hidden     int
	embedding  []float32 // [vocabulary, hidden]
	blocks     []*block
	norm       norm
	head       matrix // [vocabulary, hidden]
	rotary     *rotary
}

// A block is one layer of a model.
type block struct {
	attention     attention
	attentionNorm norm
	forwardNorm   norm
	forward       feedForward
}

// A feedForward is the second half of a block. x and the result are [tokens,
// hidden].
type feedForward interface {
	Forward(ctx context.Context, x []float32) ([]float32, error)
	Close() error
}

// Options say how a model runs.
type Options struct {
	MoE         moe.Options // of its mixtures of experts, which share Counters
	Frequencies Frequencies // of position embeddings
}

// Open returns the model of c. The checkpoint must outlive the model.
// Its error names every tensor that is missing, wrong or left over, all at
// once.
func Open(c *checkpoint.Checkpoint, o Options) (m *Model, err error) {
	if !c.Faithful() {
		return nil, fmt.Errorf("the checkpoint does not say all that its model computes: %s", strings.Join(c.Warnings(), "; "))
	}
	arch, err := c.Architecture()
	if err != nil {
		return nil, err
	}
	m = &Model{checkpoint: c, arch: arch, hidden: c.Config.Hidden, rotary: newRotary(arch, o.Frequencies)}
	l := &loader{checkpoint: c, rotary: m.rotary, used: map[string]bool{}}
	m.embedding = l.floats("model.embed_tokens.weight", arch.Vocabulary, m.hidden)
	m.norm = l.norm("model.norm", m.hidden, arch.Epsilon)
	if arch.TiedEmbeddings {
		m.head = matrix{Rows: arch.Vocabulary, Cols: m.hidden, Stride: m.hidden, Data: m.embedding}
	} else {
		m.head = l.matrix("lm_head", arch.Vocabulary, m.hidden)
	}
	if o.MoE.Counters == nil {
		o.MoE.Counters = new(moe.Counters)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
			m = nil
		}
	}()
	for n := range c.Config.Layers {
		m.blocks = append(m.blocks, l.block(n, arch, o.MoE))
	}
	l.leftOver(c.Config.Layers + arch.Extra)
	return m, l.err()
}

// Close frees what the model holds on its device.
func (m *Model) Close() error {
	var errs []error
	for _, b := range m.blocks {
		if b.forward != nil {
			errs = append(errs, b.forward.Close())
		}
	}
	return errors.Join(errs...)
}

// Vocabulary returns the number of tokens that the model knows.
func (m *Model) Vocabulary() int { return m.arch.Vocabulary }

// MaxPositions returns the most tokens that the model takes in one sequence.
func (m *Model) MaxPositions() int { return m.arch.MaxPositions }

// Hidden returns the width of a token's state.
func (m *Model) Hidden() int { return m.hidden }

// Layers returns the number of blocks.
func (m *Model) Layers() int { return len(m.blocks) }

// Ends reports whether token id ends a text.
func (m *Model) Ends(id int32) bool { return slices.Contains(m.arch.End, id) }

// MoE returns the mixture of experts of layer n, or nil if it has none.
func (m *Model) MoE(n int) *moe.Layer {
	l, _ := m.blocks[n].forward.(*moe.Layer)
	return l
}

// Forward runs tokens that follow those which cache holds, and adds them to
// it. It returns the states that the last block leaves, [tokens, hidden]. After
// an error the cache holds what it held before.
func (m *Model) Forward(ctx context.Context, cache *Cache, ids []int32) (states []float32, err error) {
	before := cache.length
	defer func() {
		if err != nil {
			cache.truncate(before)
		}
	}()
	if n := before + len(ids); n > m.arch.MaxPositions {
		return nil, fmt.Errorf("%d tokens; the model takes %d (max_position_embeddings)", n, m.arch.MaxPositions)
	}
	if states, err = m.Embed(ids); err != nil {
		return nil, err
	}
	for x := range slices.Chunk(states, chunk*m.hidden) {
		for n := range m.blocks {
			m.Attend(n, cache, x)
			y, err := m.FeedForward(ctx, n, m.Input(n, x))
			if err != nil {
				return nil, err
			}
			add(x, y)
		}
		cache.length += len(x) / m.hidden
	}
	return states, nil
}

// Logits returns the scores of every token to be the next, [tokens,
// vocabulary], after the last states of x, [tokens, hidden].
func (m *Model) Logits(x []float32) []float32 {
	x = slices.Clone(x)
	m.norm.apply(x)
	return m.head.apply(x)
}

// Embed returns the states that the blocks begin with, [tokens, hidden].
func (m *Model) Embed(ids []int32) ([]float32, error) {
	x := make([]float32, 0, len(ids)*m.hidden)
	for i, id := range ids {
		if id < 0 || int(id) >= m.arch.Vocabulary {
			return nil, fmt.Errorf("token %d of the input is %d, and the vocabulary has %d", i, id, m.arch.Vocabulary)
		}
		x = append(x, m.embedding[int(id)*m.hidden:][:m.hidden]...)
	}
	return x, nil
}

// Attend adds to x, the states of [tokens, hidden], what the attention of
// block n makes of them and of the tokens that cache holds.
func (m *Model) Attend(n int, cache *Cache, x []float32) {
	b := m.blocks[n]
	in := slices.Clone(x)
	b.attentionNorm.apply(in)
	add(x, b.attention.forward(in, &cache.layers[n], cache.length))
}

// Input returns what the feed-forward network of block n takes of the states
// x, [tokens, hidden].
func (m *Model) Input(n int, x []float32) []float32 {
	in := slices.Clone(x)
	m.blocks[n].forwardNorm.apply(in)
	return in
}

// FeedForward returns what the feed-forward network of block n makes of x,
// [tokens, hidden]. If that is not finite, the error names the weights that
// are not, if there are any.
func (m *Model) FeedForward(ctx context.Context, n int, x []float32) ([]float32, error) {
	y, err := m.blocks[n].forward.Forward(ctx, x)
	if err == nil && !finite(y) {
		err = errors.New("the result is not finite")
	}
	if err != nil {
		if ctx.Err() == nil {
			err = errors.Join(err, m.checkpoint.CheckFinite(n))
		}
		return nil, fmt.Errorf("layer %d: %w", n, err)
	}
	return y, nil
}

var errNotFinite = errors.New("the scores of the next token are not finite")

func finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}

// add adds y to x.
func add(x, y []float32) {
	blas32.Axpy(1, blas32.Vector{N: len(y), Inc: 1, Data: y}, blas32.Vector{N: len(x), Inc: 1, Data: x})
}
