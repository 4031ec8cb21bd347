package model

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// An attention is a layer's multi-head latent attention, as DeepSeek-V2
// introduced it. Of a token, its cache keeps one latent vector, from which
// every head could make its key and value, and one key of position. Instead of
// making them, a head multiplies its query by the matrix that would make its
// keys, and what it has gathered by the one that would make its values.
type attention struct {
	heads, nope, rope, value, rank int

	query     matrix // [heads·(nope+rope), hidden or queryRank]
	queryDown matrix // [queryRank, hidden]; of no rows for queries that are not compressed
	queryNorm norm
	latent    matrix  // [rank+rope, hidden]
	keyNorm   norm    // [rank]
	expand    matrix  // [heads·(nope+value), rank]: of each head keys, then values
	out       matrix  // [hidden, heads·value]
	rotary    *rotary // the model's
}

// A Cache holds what the layers of a model keep of the tokens so far. It is
// one sequence's.
type Cache struct {
	length int
	layers [][]float32 // [length, rank+rope] each
	width  int
}

// NewCache returns a cache of no tokens.
func (m *Model) NewCache() *Cache {
	return &Cache{layers: make([][]float32, len(m.blocks)), width: m.arch.KeyRank + m.arch.RopeDim}
}

// Len returns the number of tokens that c holds.
func (c *Cache) Len() int { return c.length }

// truncate drops all but the first n tokens.
func (c *Cache) truncate(n int) {
	for i, l := range c.layers {
		c.layers[i] = l[:min(len(l), n*c.width)]
	}
	c.length = n
}

// forward returns the attention of x, [tokens, hidden], the first of which is
// at position start. It adds the tokens to cache.
func (a *attention) forward(x []float32, cache *[]float32, start int) []float32 {
	kept := a.latent.apply(x)
	width := a.rank + a.rope
	tokens := len(kept) / width
	a.keyNorm.rows(kept, width)
	for t := range tokens {
		a.rotary.turn(kept[t*width+a.rank:][:a.rope], start+t)
	}
	*cache = append(*cache, kept...)

	q := x
	if a.queryDown.Rows > 0 {
		q = a.queryDown.apply(x)
		a.queryNorm.apply(q)
	}
	q = a.query.apply(q)
	gathered := a.attend(q, *cache, tokens, start)
	return a.out.apply(gathered)
}

// attend returns what each head gathers, [tokens, heads·value], for queries q
// of [tokens, heads·(nope+rope)].
func (a *attention) attend(q, cache []float32, tokens, start int) []float32 {
	width, head := a.rank+a.rope, a.nope+a.rope
	total := start + tokens
	queries := dense(tokens, a.heads*head, q)
	keys := dense(total, width, cache)
	gathered := dense(tokens, a.heads*a.value, make([]float32, tokens*a.heads*a.value))

	absorbed := dense(tokens, width, make([]float32, tokens*width))
	scores := dense(tokens, total, make([]float32, tokens*total))
	latents := dense(tokens, a.rank, make([]float32, tokens*a.rank))
	scale := 1 / math.Sqrt(float64(head))
	for h := range a.heads {
		expand := a.expand.Data[h*(a.nope+a.value)*a.rank:]
		toKey := dense(a.nope, a.rank, expand)
		toValue := dense(a.value, a.rank, expand[a.nope*a.rank:])

		mine := columns(queries, h*head, (h+1)*head)
		product(columns(absorbed, 0, a.rank), columns(mine, 0, a.nope), blas.NoTrans, toKey)
		for t := range tokens {
			turned := absorbed.Data[t*width+a.rank:][:a.rope]
			copy(turned, mine.Data[t*mine.Stride+a.nope:])
			a.rotary.turn(turned, start+t)
		}
		product(scores, absorbed, blas.Trans, keys)
		for t := range tokens {
			softmax(scores.Data[t*total:][:total], start+t+1, scale)
		}
		product(latents, scores, blas.NoTrans, columns(keys, 0, a.rank))
		product(columns(gathered, h*a.value, (h+1)*a.value), latents, blas.Trans, toValue)
	}
	return gathered.Data
}

// softmax replaces the first n of x by their softmax, times scale before it,
// and the others by zero.
func softmax(x []float32, n int, scale float64) {
	largest := x[0]
	for _, v := range x[:n] {
		largest = max(largest, v)
	}
	var sum float64
	for i, v := range x[:n] {
		e := math.Exp(float64(v-largest) * scale)
		x[i] = float32(e)
		sum += e
	}
	blas32.Scal(float32(1/sum), blas32.Vector{N: n, Inc: 1, Data: x})
	clear(x[n:])
}
