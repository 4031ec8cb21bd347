package tokenizer_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/marlingen/marlingen/moe/tokenizer"
	"github.com/stretchr/testify/require"
)

// A textbook merges the pair of the lowest rank, the leftmost of several, over
// and over: what BPE is, in time cubic in the text.
type textbook struct {
	Vocab  map[string]int32
	Merges [][2]string
	ranks  map[[2]string]int
}

func (b *textbook) encode(symbols []string) (ids []int32) {
	for {
		best, at := math.MaxInt, 0
		for i := range len(symbols) - 1 {
			if rank, ok := b.ranks[[2]string{symbols[i], symbols[i+1]}]; ok && rank < best {
				best, at = rank, i
			}
		}
		if best == math.MaxInt {
			break
		}
		symbols[at] += symbols[at+1]
		symbols = append(symbols[:at+1], symbols[at+2:]...)
	}
	for _, s := range symbols {
		ids = append(ids, b.Vocab[s])
	}
	return ids
}

func TestMerge(t *testing.T) {
	data, err := os.ReadFile(files["tiny"])
	require.NoError(t, err)
	var file struct{ Model textbook }
	require.NoError(t, json.Unmarshal(data, &file))
	book := &file.Model
	book.ranks = make(map[[2]string]int)
	for rank, m := range book.Merges {
		book.ranks[m] = rank
	}
	// All of a text is one piece.
	tok, err := tokenizer.Parse("t.json", []byte(strings.Replace(string(data), `"use_regex": true`, `"use_regex": false`, 1)))
	require.NoError(t, err)

	spelling := strings.NewReplacer(" ", "Ġ", "\n", "Ċ", "\t", "ĉ")
	rng := rand.New(rand.NewPCG(1, 2))
	for _, alphabet := range []string{"e", "re", " \t\n", "enrt ", "etaoin shrdlu", "return err\n\t(){}", "abcdefghijklmnopqrstuvwxyz 0123456789.,;()[]{}\"=:"} {
		for range 300 {
			text := make([]byte, rng.IntN(60))
			for i := range text {
				text[i] = alphabet[rng.IntN(len(alphabet))]
			}
			want := book.encode(strings.Split(spelling.Replace(string(text)), ""))
			if len(text) == 0 {
				want = nil
			}
			require.Equal(t, want, encode(t, tok, string(text)), "%q", text)
		}
	}
}

// The time of a long piece is far from quadratic, which would take minutes.
func TestRun(t *testing.T) {
	for name := range files {
		tok := open(t, name)
		for _, unit := range []string{" ", "\n", "re", "日", "1", "<"} {
			text := strings.Repeat(unit, 1<<18/len(unit)) + "x"
			start := time.Now()
			ids := encode(t, tok, text)
			require.Less(t, time.Since(start), 20*time.Second, "%s %q", name, unit)
			require.Equal(t, text, decode(t, tok, ids))
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	var text strings.Builder
	for _, file := range []string{"parse.go", "parse_test.go", "json.go", "tokenizer.go", "merge.go"} {
		data, err := os.ReadFile(file)
		require.NoError(b, err)
		text.Write(data)
	}
	benchmark(b, text.String())
}

func BenchmarkEncodeRun(b *testing.B) { benchmark(b, strings.Repeat(" ", 1<<20)) }

func benchmark(b *testing.B, text string) {
	for name := range files {
		b.Run(name, func(b *testing.B) {
			tok := open(b, name)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				encode(b, tok, text)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	data, err := os.ReadFile(files["tiny"])
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := tokenizer.Parse("t.json", data)
		require.NoError(b, err)
	}
}
