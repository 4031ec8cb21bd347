package model_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/model"
)

func greedy(t testing.TB) *model.Sampler { return sampler(t, 0, 1, 0) }

func sampler(t testing.TB, temperature, topP float64, seed uint64) *model.Sampler {
	t.Helper()
	s, err := model.NewSampler(temperature, topP, seed)
	require.NoError(t, err)
	return s
}

// generate returns the tokens that m generates, and the error after them.
func generate(ctx context.Context, m *model.Model, prompt []int32, most int, s *model.Sampler) (ids []int32, err error) {
	for id, e := range m.Generate(ctx, prompt, most, s) {
		if err = e; err == nil {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// TestGenerate stops generation in all ways.
func TestGenerate(t *testing.T) {
	prompt, whole := recorded(t, "greedy_prompt"), recorded(t, "greedy_out")
	want := whole[len(prompt):]
	tiny := os.DirFS(source)
	ctx := context.Background()

	// The first token that has not appeared before it ends the text.
	at := 2
	for slices.Contains(want[:at], want[at]) {
		at++
	}
	for _, ends := range []any{want[at], []int32{want[at], 2047}} {
		m := rounded(t, with(t, tiny, change{"eos_token_id": ends}))
		require.True(t, m.Ends(want[at]))
		require.False(t, m.Ends(want[0]))
		got, err := generate(ctx, m, prompt, 50, greedy(t))
		require.NoError(t, err)
		require.Equal(t, want[:at+1], got)
	}

	// Positions run out: the last token generated needs none.
	m := rounded(t, with(t, tiny, change{"max_position_embeddings": len(prompt) + 3}))
	require.Equal(t, len(prompt)+3, m.MaxPositions())
	require.Equal(t, 2048, m.Vocabulary())
	got, err := generate(ctx, m, prompt, 50, greedy(t))
	require.NoError(t, err)
	require.Equal(t, want[:4], got)
	full := whole[:len(prompt)+3]
	got, err = generate(ctx, m, full, 50, greedy(t))
	require.NoError(t, err)
	require.Equal(t, want[3:4], got)
	got, err = generate(ctx, m, whole[:len(prompt)+4], 50, greedy(t))
	require.ErrorContains(t, err, "max_position_embeddings")
	require.Empty(t, got)

	// So many and no more.
	for _, most := range []int{-1, 0, 1, 3} {
		got, err := generate(ctx, m, prompt, most, greedy(t))
		require.NoError(t, err)
		require.Len(t, got, max(0, most))
	}

	// The caller has enough.
	got = nil
	for id, err := range m.Generate(ctx, prompt, 50, greedy(t)) {
		require.NoError(t, err)
		if got = append(got, id); len(got) == 2 {
			break
		}
	}
	require.Equal(t, want[:2], got)
	for _, err := range m.Generate(ctx, nil, 50, greedy(t)) {
		require.Error(t, err)
		break
	}

	// The caller is called off.
	cancelled, cancel := context.WithCancel(ctx)
	defer cancel()
	got = nil
	for id, e := range m.Generate(cancelled, prompt, 50, greedy(t)) {
		if err = e; err == nil {
			got = append(got, id)
			cancel()
		}
	}
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, want[:1], got)

	_, err = generate(ctx, m, nil, 50, greedy(t))
	require.EqualError(t, err, "the prompt is empty")
	_, err = generate(ctx, m, []int32{1, 2048}, 50, greedy(t))
	require.EqualError(t, err, "token 1 of the input is 2048, and the vocabulary has 2048")
	_, err = generate(ctx, m, []int32{-1}, 50, greedy(t))
	require.ErrorContains(t, err, "token 0 of the input is -1")

	// A seed says all.
	random := func(seed uint64) []int32 {
		got, err := generate(ctx, shipped(t, source, model.RoundedFrequencies), prompt, 20, sampler(t, 1.5, 0.9, seed))
		require.NoError(t, err)
		return got
	}
	require.Equal(t, random(1), random(1))
	require.NotEqual(t, random(1), random(2))
}

func TestNewSamplerErrors(t *testing.T) {
	for _, temperature := range []float64{math.NaN(), -1, math.Inf(1), math.Inf(-1)} {
		_, err := model.NewSampler(temperature, 1, 0)
		require.ErrorContains(t, err, "temperature")
	}
	for _, topP := range []float64{math.NaN(), 0, -0.5, 1.1, math.Inf(1)} {
		_, err := model.NewSampler(1, topP, 0)
		require.ErrorContains(t, err, "top-p")
	}
}

var scores = []float32{0.3, -1, 2.25, 0, 2.5, -7, 1.1, 0.31, -0.2, 1.9, 2.4, -30}

// softmax returns the probabilities of scores, largest first, and which they
// are of.
func softmax(temperature float64) (p []float64, of []int32) {
	sum := 0.0
	all := make([]float64, len(scores))
	for id, v := range scores {
		all[id] = math.Exp(float64(v) / temperature)
		sum += all[id]
		of = append(of, int32(id))
	}
	slices.SortFunc(of, func(a, b int32) int {
		if all[a] > all[b] {
			return -1
		}
		return 1
	})
	for _, id := range of {
		p = append(p, all[id]/sum)
	}
	return p, of
}

// TestSampler counts what is chosen, against the probabilities of the smallest
// set of tokens that top-p allows.
func TestSampler(t *testing.T) {
	const draws = 50000
	for _, temperature := range []float64{0.3, 1, 2} {
		for _, topP := range []float64{1e-9, 0.2, 0.5, 0.9, 1} {
			p, of := softmax(temperature)
			n, kept := 0, 0.0
			for n == 0 || n < len(p) && kept < topP {
				kept += p[n]
				n++
			}
			s := sampler(t, temperature, topP, 5)
			counts := map[int32]int{}
			for range draws {
				counts[s.Choose(scores)]++
			}
			chi := 0.0
			for i, id := range of[:n] {
				want := draws * p[i] / kept
				if want > 5 {
					chi += (float64(counts[id]) - want) * (float64(counts[id]) - want) / want
					require.NotZero(t, counts[id])
				}
				delete(counts, id)
			}
			require.Empty(t, counts, "temperature %v, top-p %v: outside of the %d", temperature, topP, n)
			require.Less(t, chi, 40.0, "temperature %v, top-p %v", temperature, topP) // one in 30,000 for 11 degrees of freedom
		}
	}
}

func TestSamplerGreedy(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		logits := make([]float32, 50)
		for i := range logits {
			logits[i] = float32(r.NormFloat64())
		}
		want := greedy(t).Choose(logits)
		require.Equal(t, slices.Max(logits), logits[want])
		for _, temperature := range []float64{1e-4, 1e-300, math.SmallestNonzeroFloat64} {
			require.Equal(t, want, sampler(t, temperature, 1, 0).Choose(logits))
		}
		require.Equal(t, want, sampler(t, 1, 1e-12, 0).Choose(logits))
	}
	require.Equal(t, int32(1), greedy(t).Choose([]float32{1, 2, 2}))
	require.Equal(t, int32(1), sampler(t, 1, 0.01, 0).Choose([]float32{1, 2, 2}))
	require.Equal(t, int32(0), sampler(t, 1, 1, 0).Choose([]float32{-3}))
	exactly := sampler(t, 1, 0.5, 0) // half of the probability is enough
	for range 20 {
		require.Equal(t, int32(0), exactly.Choose([]float32{1, 1}))
	}
	const far = math.MaxFloat32
	require.Equal(t, int32(2), sampler(t, 1, 1, 0).Choose([]float32{-far, 0, far}))
}
