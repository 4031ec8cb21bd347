package model_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/model"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime/cpu"
)

const source = "../../testdata/glm-tiny"

func open(t testing.TB, dir string) *model.Model {
	t.Helper()
	c, err := checkpoint.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	m, err := model.Open(c, model.Options{MoE: options(t), Frequencies: model.RoundedFrequencies})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func options(t testing.TB) moe.Options {
	t.Helper()
	device := cpu.New(cpu.Options{})
	library, err := device.Load(context.Background(), generated.Table, generated.Sources)
	require.NoError(t, err)
	return moe.Options{
		Device: device, Library: library, Table: generated.Table,
		Codecs: []moe.Codec{trellis.Codec{}, dense.BF16, dense.F16, dense.F32},
	}
}

func record(t testing.TB) *checkpoint.Tensors {
	t.Helper()
	r, err := checkpoint.OpenTensors(source + "/reference.safetensors")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func ids(t testing.TB, r *checkpoint.Tensors, name string) ([]int32, []int) {
	t.Helper()
	v, shape, err := r.Int32(name)
	require.NoError(t, err)
	return v, shape
}

func TestLogits(t *testing.T) {
	m, r := open(t, source), record(t)
	in, _ := ids(t, r, "input_ids")
	want, _, err := r.Float32("logits")
	require.NoError(t, err)
	states, err := m.Forward(context.Background(), m.NewCache(), in)
	require.NoError(t, err)
	got := m.Logits(states)
	var diff, size, worst float64
	for i := range want {
		d := float64(got[i] - want[i])
		diff += d * d
		size += float64(want[i]) * float64(want[i])
		worst = max(worst, math.Abs(d))
	}
	t.Logf("relative %.3g worst %.3g", math.Sqrt(diff/size), worst)
}

func TestPPL(t *testing.T) {
	for _, dir := range []string{source, source + "-mixed"} {
		m, r := open(t, dir), record(t)
		in, shape := ids(t, r, "eval_ids")
		var l model.Likelihood
		start := time.Now()
		for i := range shape[0] {
			w, err := m.Likelihood(context.Background(), in[i*shape[1]:(i+1)*shape[1]])
			require.NoError(t, err)
			l.Add(w)
		}
		t.Logf("%s %.6f %d %v", dir, l.Perplexity(), l.Tokens, time.Since(start))
	}
}

func TestGreedy(t *testing.T) {
	m, r := open(t, source), record(t)
	prompt, _ := ids(t, r, "greedy_prompt")
	want, _ := ids(t, r, "greedy_out")
	s, err := model.NewSampler(0, 1, 0)
	require.NoError(t, err)
	start := time.Now()
	got := prompt
	for id, err := range m.Generate(context.Background(), prompt, len(want)-len(prompt), s) {
		require.NoError(t, err)
		got = append(got, id)
	}
	t.Log(time.Since(start), len(got))
	require.Equal(t, want, got)
}
