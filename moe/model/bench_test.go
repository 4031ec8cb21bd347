package model_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/model"
)

// BenchmarkPrefill512 runs 512 tokens at once.
func BenchmarkPrefill512(b *testing.B) {
	for _, dir := range []string{source, mixed} {
		b.Run(filepath.Base(dir), func(b *testing.B) {
			m, text := shipped(b, dir, model.RoundedFrequencies), windows(b)[0]
			for b.Loop() {
				_, err := m.Forward(context.Background(), m.NewCache(), text)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.N*len(text))/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkDecode generates 64 tokens, one by one, after a prompt of 64.
func BenchmarkDecode(b *testing.B) {
	const n = 64
	for _, dir := range []string{source, mixed} {
		b.Run(filepath.Base(dir), func(b *testing.B) {
			m, prompt, s := shipped(b, dir, model.RoundedFrequencies), windows(b)[0][:n], greedy(b)
			for b.Loop() {
				b.StopTimer()
				cache := m.NewCache()
				all := logits(b, m, cache, prompt)
				next := s.Choose(all[len(all)-m.Vocabulary():])
				b.StartTimer()
				for range n {
					states, err := m.Forward(context.Background(), cache, []int32{next})
					require.NoError(b, err)
					next = s.Choose(m.Logits(states))
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
