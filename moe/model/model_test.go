package model_test

import (
	"context"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/model"
)

// The shipped model, and the same with quantised experts. Next to each lies a
// record of what another implementation computed of the former.
const (
	source = "../../testdata/glm-tiny"
	mixed  = "../../testdata/glm-tiny-mixed"
)

// slow leaves out the longer texts.
var slow = false

// shipped opens the model in dir with the given frequencies.
func shipped(t testing.TB, dir string, f model.Frequencies) *model.Model {
	t.Helper()
	c, err := checkpoint.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	m, err := model.Open(c, options(t, f))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func record(t testing.TB) *checkpoint.Tensors {
	t.Helper()
	r, err := checkpoint.OpenTensors(source + "/reference.safetensors")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func recorded(t testing.TB, name string) []int32 {
	t.Helper()
	ids, _, err := record(t).Int32(name)
	require.NoError(t, err)
	return ids
}

// windows returns the texts whose perplexity was recorded.
func windows(t testing.TB) [][]int32 {
	t.Helper()
	all, shape, err := record(t).Int32("eval_ids")
	require.NoError(t, err)
	var texts [][]int32
	for i := range shape[0] {
		texts = append(texts, all[i*shape[1]:(i+1)*shape[1]])
	}
	return texts
}

func TestLogits(t *testing.T) {
	want, _, err := record(t).Float32("logits")
	require.NoError(t, err)
	in := recorded(t, "input_ids")
	m := shipped(t, source, model.RoundedFrequencies)
	got := logits(t, m, m.NewCache(), in)
	require.Less(t, distance(t, got, want), 1e-5)
	require.Less(t, distance(t, logits(t, m, m.NewCache(), in, 1, 1, 30, 2), want), 1e-5)

	ideal := newIdeal(t, os.DirFS(source), model.RoundedFrequencies).logits(in)
	require.Less(t, distance(t, ideal, want), 1e-5)
	require.Less(t, distance(t, got, ideal), 1e-5)

	exact := shipped(t, source, model.ExactFrequencies)
	require.Greater(t, distance(t, logits(t, exact, exact.NewCache(), in), want), 1e-4)
}

func TestGreedy(t *testing.T) {
	prompt, want := recorded(t, "greedy_prompt"), recorded(t, "greedy_out")
	require.Equal(t, prompt, want[:len(prompt)])
	m := shipped(t, source, model.RoundedFrequencies)
	got, err := generate(context.Background(), m, prompt, len(want)-len(prompt), greedy(t))
	require.NoError(t, err)
	require.Equal(t, want[len(prompt):], got)
}

func TestFit(t *testing.T) {
	in := recorded(t, "input_ids")
	for _, dir := range []string{source, mixed} {
		rounded := shipped(t, dir, model.RoundedFrequencies)
		want := logits(t, rounded, rounded.NewCache(), in)
		m := shipped(t, dir, model.ExactFrequencies)
		before := logits(t, m, m.NewCache(), in)
		require.NotEqual(t, want, before)

		fit, ok, err := m.Fit(context.Background(), record(t))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, model.RoundedFrequencies, fit.Frequencies)
		require.Less(t, fit.Error, 1e-6)
		require.Equal(t, want, logits(t, m, m.NewCache(), in))
	}
	require.Equal(t, "exact", model.ExactFrequencies.String())
	require.Equal(t, "rounded to bfloat16", model.RoundedFrequencies.String())
}

// TestLikelihood compares what is said of two texts with the oracle.
func TestLikelihood(t *testing.T) {
	n := 40
	if slow || testing.Short() {
		n = 12
	}
	for _, dir := range []string{source, mixed} {
		m, ideal := shipped(t, dir, model.RoundedFrequencies), newIdeal(t, os.DirFS(dir), model.RoundedFrequencies)
		var l model.Likelihood
		want := 0.0
		for _, text := range windows(t)[:2] {
			one, err := m.Likelihood(context.Background(), text[:n])
			require.NoError(t, err)
			l.Add(one)
			want += ideal.nll(text[:n])
		}
		require.Equal(t, 2*(n-1), l.Tokens)
		require.InEpsilon(t, want, l.NLL, 1e-6)
		require.InEpsilon(t, math.Exp(want/float64(l.Tokens)), l.Perplexity(), 1e-5)
	}
}

// TestPerplexity compares the perplexity over whole texts with the one recorded
// and, of the first two, with the one that the oracle computed.
func TestPerplexity(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	m := shipped(t, source, model.RoundedFrequencies)
	var l model.Likelihood
	for i, text := range windows(t) {
		if i == 2 {
			require.InEpsilon(t, 15.53796915, l.Perplexity(), 1e-6)
			if slow {
				return
			}
		}
		one, err := m.Likelihood(context.Background(), text)
		require.NoError(t, err)
		l.Add(one)
	}
	require.Equal(t, 32*511, l.Tokens)
	require.InDelta(t, 10.7459, l.Perplexity(), 0.00005)
}
