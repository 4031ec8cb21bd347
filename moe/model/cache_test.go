package model_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
)

// long returns a model that takes more tokens than are run together, and so
// many tokens.
func long(t testing.TB) (*model.Model, []int32) {
	z := small()
	z.types, z.positions = []checkpoint.LayerType{d, s}, 1100
	m := z.build(t, 11)
	return open(t, m.files()), m.ids(z.positions)
}

// TestPieces runs a text at once, token by token, and in random pieces, some of
// them longer than what is run together.
func TestPieces(t *testing.T) {
	m, ids := long(t)
	want := logits(t, m, m.NewCache(), ids)
	require.Equal(t, want, logits(t, m, m.NewCache(), ids))

	ones := make([]int, len(ids))
	for i := range ones {
		ones[i] = 1
	}
	cache := m.NewCache()
	require.Less(t, distance(t, logits(t, m, cache, ids, ones...), want), 1e-5)
	require.Equal(t, len(ids), cache.Len())
	_, err := m.Forward(context.Background(), cache, ids[:1])
	require.ErrorContains(t, err, "1101 tokens; the model takes 1100 (max_position_embeddings)")
	require.Equal(t, len(ids), cache.Len())

	r := rand.New(rand.NewPCG(1, 2))
	for _, pieces := range [][]int{{511, 2, 512}, {1, 513}, {r.IntN(600), r.IntN(600), r.IntN(20), r.IntN(20)}, {700}} {
		require.Less(t, distance(t, logits(t, m, m.NewCache(), ids, pieces...), want), 1e-5, "%v", pieces)
	}

	cache = m.NewCache()
	states, err := m.Forward(context.Background(), cache, nil)
	require.NoError(t, err)
	require.Empty(t, states)
	require.Zero(t, cache.Len())
	require.Empty(t, m.Logits(nil))

	states, err = m.Forward(context.Background(), cache, ids[:3])
	require.NoError(t, err)
	require.Equal(t, m.Logits(states), m.Logits(states))
	require.Equal(t, m.Logits(states)[m.Vocabulary():], m.Logits(states[m.Hidden():]))
}

// An expiring context is cancelled after some questions.
type expiring struct {
	context.Context
	left atomic.Int32
}

func (e *expiring) Err() error {
	if e.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// TestForwardFails checks that a Forward that fails, early or late, leaves no
// trace in its cache.
func TestForwardFails(t *testing.T) {
	m, ids := long(t)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	never := &expiring{Context: context.Background()}
	never.left.Store(1 << 30)
	_, err := m.Forward(never, m.NewCache(), ids)
	require.NoError(t, err)
	late := &expiring{Context: context.Background()}
	late.left.Store((1<<30 - never.left.Load()) * 2 / 3) // in the second or third part

	unknown := append(append([]int32{}, ids[100:800]...), 37)
	for name, c := range map[string]struct {
		ctx  context.Context
		ids  []int32
		want string
	}{
		"unknown token":      {context.Background(), unknown, "token 700 of the input is 37, and the vocabulary has 37"},
		"negative token":     {context.Background(), []int32{3, -1}, "token 1 of the input is -1"},
		"too many":           {context.Background(), ids[:1001], "1101 tokens; the model takes 1100"},
		"cancelled":          {cancelled, ids[100:], "context canceled"},
		"cancelled, one":     {cancelled, ids[100:101], "context canceled"},
		"cancelled too late": {late, ids[:1000], "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			cache, spared := m.NewCache(), m.NewCache()
			logits(t, m, cache, ids[:100])
			logits(t, m, spared, ids[:100])
			states, err := m.Forward(c.ctx, cache, c.ids)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, states)
			require.Equal(t, 100, cache.Len())
			require.Equal(t, logits(t, m, spared, ids[100:120]), logits(t, m, cache, ids[100:120]))

			empty := m.NewCache()
			if _, err = m.Forward(c.ctx, empty, c.ids); err != nil {
				require.Zero(t, empty.Len())
				require.Equal(t, logits(t, m, m.NewCache(), ids[:20]), logits(t, m, empty, ids[:20]))
			}
		})
	}
}

// TestParallel runs two texts at the same time, on one model.
func TestParallel(t *testing.T) {
	m, ids := long(t)
	texts := [][]int32{ids[:60], ids[60:130], ids[130:190]}
	want := make([][]float32, len(texts))
	for i, text := range texts {
		want[i] = logits(t, m, m.NewCache(), text, 20, 1, 1)
	}
	got := make([][]float32, len(texts))
	var wg sync.WaitGroup
	for i, text := range texts {
		wg.Go(func() { got[i] = logits(t, m, m.NewCache(), text, 20, 1, 1) })
	}
	wg.Wait()
	require.Equal(t, want, got)
}
