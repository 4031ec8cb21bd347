package tokenizer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/tokenizer"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
)

const model = "../../testdata/glm-tiny"

// files holds the tokenizers of golden.json by name.
var files = map[string]string{
	"tiny":  filepath.Join(model, "tokenizer.json"),
	"split": "testdata/split.json", // as GLM-4's: a Split by a pattern, one by a text, merges as pairs, a template
	"nfc":   "testdata/nfc.json",   // as Qwen's and Llama 3's: NFC, ignore_merges, both patterns, merges as strings
}

func open(t testing.TB, name string) *tokenizer.Tokenizer {
	tok, err := tokenizer.Open(files[name])
	require.NoError(t, err)
	return tok
}

func encode(t testing.TB, tok *tokenizer.Tokenizer, text string) []int32 {
	ids, err := tok.Encode(text)
	require.NoError(t, err)
	return ids
}

func decode(t testing.TB, tok *tokenizer.Tokenizer, ids []int32) string {
	text, err := tok.Decode(ids)
	require.NoError(t, err)
	return text
}

// A golden text comes with its ids and, where they decode to another text, that.
type golden struct {
	Text    string
	IDs     []int32
	Decoded *string
}

// readGolden reads testdata/golden.json, which Hugging Face's own tokenizer
// wrote, version 0.23.2 of the npm package tokenizers, by
//
//	t = Tokenizer.fromFile(file)
//	ids = (await t.encode(text, null, {addSpecialTokens: false})).getIds()
//	decoded = await t.decode(ids, false)
//
// "cut" holds ids of single bytes of tiny, which are not UTF-8 together.
func readGolden(t testing.TB) map[string][]golden {
	data, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var all map[string][]golden
	require.NoError(t, json.Unmarshal(data, &all))
	return all
}

func TestGolden(t *testing.T) {
	all := readGolden(t)
	require.Len(t, all, len(files)+1)
	for name := range files {
		tok := open(t, name)
		for _, g := range all[name] {
			require.Equal(t, append([]int32(nil), g.IDs...), encode(t, tok, g.Text), "%s %q", name, g.Text)
			want := g.Text
			if g.Decoded != nil {
				want = *g.Decoded
			}
			require.Equal(t, want, decode(t, tok, g.IDs), "%s %q", name, g.Text)
		}
	}
	for _, g := range all["cut"] {
		tok := open(t, "tiny")
		require.Equal(t, *g.Decoded, decode(t, tok, g.IDs), "%v", g.IDs)
	}
}

// The ids that the model's reference was computed with are those of its text.
func TestReference(t *testing.T) {
	tok := open(t, "tiny")
	ref, err := checkpoint.OpenTensors(filepath.Join(model, "reference.safetensors"))
	require.NoError(t, err)
	defer ref.Close()
	ids := func(name string) []int32 {
		ids, _, err := ref.Int32(name)
		require.NoError(t, err)
		return ids
	}
	var info struct{ Greedy string }
	data, err := os.ReadFile(filepath.Join(model, "info.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &info))

	require.Equal(t, ids("greedy_prompt"), encode(t, tok, "func (r *Reader) Read("))
	require.Equal(t, info.Greedy, decode(t, tok, ids("greedy_out")))

	// A window may be cut inside of what is one piece to the tokenizer.
	const window, border = 512, 8
	eval := ids("eval_ids")
	require.Zero(t, len(eval)%window)
	for at := 0; at < len(eval); at += window {
		want := eval[at+border : at+window-border]
		got := encode(t, tok, decode(t, tok, eval[at:at+window]))
		start := 0
		for !slices.Equal(want, got[start:min(start+len(want), len(got))]) && start < 2*border {
			start++
		}
		require.Less(t, start, 2*border, "window %d", at/window)
	}
}

func TestTokens(t *testing.T) {
	tok := open(t, "split")
	require.Equal(t, 424, tok.Size())
	for _, c := range []struct {
		text    string
		special bool
	}{
		{"[gMASK]", true}, {"<think>", false}, {"<think>\n", false}, {"<｜开始▁｜>", true},
		{" the", false}, {"\n", false}, {"\xe4", false}, {" hello", false},
	} {
		id, ok := tok.ID(c.text)
		require.True(t, ok, "%q", c.text)
		require.Equal(t, c.special, tok.Special(id), "%q", c.text)
	}
	for _, text := range []string{"", "Ġthe", "<think", "[gMASK]<sop>", "日"} {
		_, ok := tok.ID(text)
		require.False(t, ok, "%q", text)
	}
	require.False(t, tok.Special(-1))

	before, after := tok.Template()
	require.Equal(t, "[gMASK]<sop>", decode(t, tok, before))
	require.Equal(t, "<|endoftext|>", decode(t, tok, after))
	before, after = open(t, "nfc").Template()
	require.Empty(t, before)
	require.Empty(t, after)
}

func TestUnknown(t *testing.T) {
	tok := open(t, "tiny")
	_, err := tok.Decode([]int32{5, 2048})
	require.EqualError(t, err, "ids[1]: no token has id 2048")
	_, err = tok.Decode([]int32{-1})
	require.EqualError(t, err, "ids[0]: no token has id -1")
	_, err = tok.Encode("añ\xc3<|end|>")
	require.EqualError(t, err, "text is not UTF-8 at byte 3")
	_, err = tok.Encode("\xed\xa0\x80")
	require.EqualError(t, err, "text is not UTF-8 at byte 0")
	_, err = open(t, "nfc").Encode("ab<|im_end|>a" + strings.Repeat("\u0301", 31))
	require.EqualError(t, err, "after byte 12: more than 30 combining characters in a row cannot be normalised")
}

func TestDecoder(t *testing.T) {
	tok := open(t, "tiny")
	ids := encode(t, tok, "a€")
	require.Len(t, ids, 3) // "€" is not one token
	d := tok.NewDecoder()
	next := func(id int32) string {
		s, err := d.Next(id)
		require.NoError(t, err)
		return s
	}
	require.Equal(t, "a", next(ids[0]))
	require.Equal(t, "", next(ids[1]))
	_, err := d.Next(9999)
	require.Error(t, err)
	require.Equal(t, "€", next(ids[2]))
	require.Equal(t, "", d.Flush())
	require.Equal(t, "", next(ids[1]))
	require.Equal(t, "\ufffda", next(ids[0]))
	require.Equal(t, "", next(ids[1]))
	require.Equal(t, "\ufffd", d.Flush())
	require.Equal(t, "a", next(ids[0]))
}

func TestConcurrent(t *testing.T) {
	tok := open(t, "split")
	text := "func main() { héllo 12345 }\n<think>\n"
	want := encode(t, tok, text)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if ids, err := tok.Encode(text); err != nil || len(ids) != len(want) {
					t.Errorf("got %v, %v", ids, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzRoundTrip holds Decode to the inverse of Encode for all UTF-8.
func FuzzRoundTrip(f *testing.F) {
	for _, g := range readGolden(f)["split"] {
		f.Add(g.Text)
	}
	f.Add("\xc3(")
	tiny, split, nfc := open(f, "tiny"), open(f, "split"), open(f, "nfc")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			_, err := tiny.Encode(text)
			require.ErrorContains(t, err, "not UTF-8")
			text = strings.ToValidUTF8(text, "?")
		}
		require.Equal(t, text, decode(t, tiny, encode(t, tiny, text)))
		require.Equal(t, text, decode(t, split, encode(t, split, text)))
		ids, err := nfc.Encode(text)
		if err != nil {
			require.ErrorContains(t, err, "combining characters")
			return
		}
		// What added tokens divide is not composed.
		require.Equal(t, norm.NFC.String(text), norm.NFC.String(decode(t, nfc, ids)))
	})
}

// FuzzDecode holds a Decoder to Decode for ids that mean no text.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xe6, 0x97, 0xa5, 0xf0, 0x9f, 0xff, 0x80})
	tok := open(f, "split") // whose first ids are single bytes
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw []byte
		var ids []int32
		for _, c := range b {
			id, ok := tok.ID(string([]byte{c}))
			require.True(t, ok)
			ids, raw = append(ids, id), append(raw, c)
		}
		whole := decode(t, tok, ids)
		require.True(t, utf8.ValidString(whole))
		if utf8.Valid(raw) {
			require.Equal(t, string(raw), whole)
		}
		var parts string
		d := tok.NewDecoder()
		for _, id := range ids {
			s, err := d.Next(id)
			require.NoError(t, err)
			parts += s
		}
		require.Equal(t, whole, parts+d.Flush())
	})
}
