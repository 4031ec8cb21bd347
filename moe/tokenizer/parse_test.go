package tokenizer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/marlingen/marlingen/moe/tokenizer"
	"github.com/stretchr/testify/require"
)

type object = map[string]any

// edit returns the file of the tokenizer split with the value at each path
// replaced, or removed where it is replaced by nil. A path's steps are members
// and indices.
func edit(t testing.TB, changes object) []byte {
	data, err := os.ReadFile(files["split"])
	require.NoError(t, err)
	var root any
	require.NoError(t, json.Unmarshal(data, &root))
	for path, v := range changes {
		at := root
		steps := strings.Split(path, "/")
		for i, step := range steps {
			last := i == len(steps)-1
			switch container := at.(type) {
			case object:
				switch {
				case last && v == nil:
					delete(container, step)
				case last:
					container[step] = v
				}
				at = container[step]
			case []any:
				var n int
				_, err := fmt.Sscan(step, &n)
				require.NoError(t, err)
				if last {
					container[n] = v
				}
				at = container[n]
			}
		}
	}
	data, err = json.Marshal(root)
	require.NoError(t, err)
	return data
}

var null = json.RawMessage("null")

const (
	pre      = "pre_tokenizer/pretokenizers/"
	post     = "post_processor/processors/"
	template = post + "1/"
)

func TestParse(t *testing.T) {
	for _, changes := range []object{
		{},
		{"truncation": nil, "padding": nil, "normalizer": nil, "later": null},
		{"model/dropout": nil, "model/unk_token": nil, "model/fuse_unk": nil, "model/byte_fallback": nil, "model/ignore_merges": nil, "model/end_of_word_suffix": ""},
		{"post_processor": nil},
		{"added_tokens": null, "post_processor": null},
		{"normalizer": object{"type": "NFC"}},
		{"pre_tokenizer": object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}},
		{"model/merges/4": "Ġ t"},
		{"model/vocab/a": 4000, "added_tokens": []any{}, "post_processor": nil}, // a hole
	} {
		_, err := tokenizer.Parse("t.json", edit(t, changes))
		require.NoError(t, err)
	}
	_, err := tokenizer.Open("testdata/none.json")
	require.ErrorIs(t, err, os.ErrNotExist)
}

var badFiles = []struct {
	changes object
	want    []string // all mistakes, in order
}{
	{object{"version": "2.0", "truncation": object{"max_length": 5}, "padding": 1, "decoder": null, "chat": "x"}, []string{
		`t.json: chat is not known`,
		`t.json: version is "2.0"; only "1.0" is supported`,
		`t.json: truncation is {"max_length":5}; only null is supported`,
		`t.json: padding is 1; only null is supported`,
		`t.json: decoder is null, not an object`,
	}},
	{object{"version": nil, "model": nil, "normalizer": object{"type": "NFKC"}, "pre_tokenizer": object{"type": "Metaspace"}, "decoder": object{"type": "Sequence"}}, []string{
		`t.json: version is missing; only "1.0" is supported`,
		`t.json: normalizer.type is "NFKC"; only "NFC" is supported`,
		`t.json: pre_tokenizer.type is "Metaspace"; only "ByteLevel" and "Sequence" are supported`,
		`t.json: decoder.type is "Sequence"; only "ByteLevel" is supported`,
		`t.json: model is missing, not an object`,
	}},
	{object{"model/type": "Unigram"}, []string{`t.json: model.type is "Unigram"; only "BPE" is supported`}},
	{object{"model/dropout": 0.1, "model/unk_token": "<unk>", "model/continuing_subword_prefix": "##", "model/end_of_word_suffix": "</w>",
		"model/fuse_unk": true, "model/byte_fallback": true, "model/ignore_merges": 1, "model/cache": 5}, []string{
		`t.json: model.cache is not known`,
		`t.json: model.dropout is 0.1; only null is supported`,
		`t.json: model.unk_token is "\u003cunk\u003e"; only null is supported`,
		`t.json: model.continuing_subword_prefix is "##"; only null and "" are supported`,
		`t.json: model.end_of_word_suffix is "\u003c/w\u003e"; only null and "" are supported`,
		`t.json: model.fuse_unk is true; only false is supported`,
		`t.json: model.byte_fallback is true; only false is supported`,
		`t.json: model.ignore_merges is 1, not true or false`,
	}},
	{object{"model/vocab": []int{1}, "model/merges": null}, []string{`t.json: model.vocab is [1], not an object`}},
	{object{"model/merges": null}, []string{`t.json: model.merges is null, not a list`}},
	{object{"model/vocab": object{"a": -1, "b": 1.5, "c": 1 << 22, "d": "1", "日": 1, "": 2, "e": 3, "f": 3}, "model/merges": []any{}, "added_tokens": []any{}}, []string{
		`t.json: model.vocab[""] is an empty token`,
		`t.json: model.vocab["a"] is -1, not an id in 0..4194303`,
		`t.json: model.vocab["b"] is 1.5, not an id in 0..4194303`,
		`t.json: model.vocab["c"] is 4194304, not an id in 0..4194303`,
		`t.json: model.vocab["d"] is "1", not an id in 0..4194303`,
		`t.json: model.vocab["f"] has id 3, that of "e"`,
		`t.json: model.vocab["日"] is neither of byte-level characters nor an added token`,
		`t.json: model.vocab lacks 254 of the 256 bytes, from 0x0 on`,
	}},
	{object{"model/merges/0": "abc", "model/merges/1": "a b c", "model/merges/2": []string{"a"}, "model/merges/3": 7, "model/merges/4": "zq a",
		"model/merges/5": "q ĵ", "model/merges/6": []any{"a", 1}, "model/merges/7": []string{"", "a"}, "model/merges/8": "i n", "model/merges/159": "i n"}, []string{
		`t.json: model.merges[0] is "abc", not two tokens with a space between`,
		`t.json: model.merges[1] is "a b c", not two tokens with a space between`,
		`t.json: model.merges[2] is ["a"], not a pair`,
		`t.json: model.merges[3] is 7, not a string`,
		`t.json: model.merges[4] is "zq a": "zq" is not in model.vocab`,
		`t.json: model.merges[4] is "zq a": "zqa" is not in model.vocab`,
		`t.json: model.merges[5] is "q ĵ": "qĵ" is not in model.vocab`,
		`t.json: model.merges[6][1] is 1, not a string`,
		`t.json: model.merges[7][0] is empty`,
		`t.json: model.merges[159] is "i n", as model.merges[8] is`,
	}},
	{object{pre + "0/behavior": "Removed", pre + "0/invert": true, pre + "1/pattern": object{"Regex": "a", "String": "b"}, pre + "2/add_prefix_space": true}, []string{
		`t.json: pre_tokenizer.pretokenizers[0].behavior is "Removed"; only "Isolated" is supported`,
		`t.json: pre_tokenizer.pretokenizers[0].invert is true; only false is supported`,
		`t.json: pre_tokenizer.pretokenizers[1].pattern has both a Regex and a String`,
		`t.json: pre_tokenizer.pretokenizers[2].add_prefix_space is true; only false is supported`,
	}},
	{object{pre + "0": object{"type": "Digits"}, pre + "1/pattern": object{}, pre + "2": object{"type": "Split"}}, []string{
		`t.json: pre_tokenizer.pretokenizers[0].type is "Digits"; only "Split" is supported`,
		`t.json: pre_tokenizer.pretokenizers[1].pattern.String is missing, not a string`,
		`t.json: pre_tokenizer.pretokenizers[2].type is "Split"; only "ByteLevel" is supported`,
	}},
	{object{"pre_tokenizer/pretokenizers": []any{}}, []string{`t.json: pre_tokenizer has no ByteLevel at its end`}},
	{object{"pre_tokenizer": nil}, []string{`t.json: pre_tokenizer is missing, not an object`}},
	{object{pre + "2/use_regex": "yes", pre + "2/trim_offsets": nil}, []string{
		`t.json: pre_tokenizer.pretokenizers[2].trim_offsets is missing, not true or false`,
		`t.json: pre_tokenizer.pretokenizers[2].use_regex is "yes", not true or false`,
	}},
	{object{"added_tokens/0/single_word": true, "added_tokens/1/lstrip": true, "added_tokens/2/rstrip": true, "added_tokens/3/normalized": true, "added_tokens/4/special": nil, "added_tokens/5/content": "é", "added_tokens/6/content": ""}, []string{
		`t.json: added_tokens[0].single_word is true; only false is supported`,
		`t.json: added_tokens[1].lstrip is true; only false is supported`,
		`t.json: added_tokens[2].rstrip is true; only false is supported`,
		`t.json: added_tokens[3].normalized is true; only false is supported`,
		`t.json: added_tokens[4].special is missing, not true or false`,
		`t.json: added_tokens[5].content is "é", which a ByteLevel decoder reads as "\xe9"`,
		`t.json: added_tokens[6].content is empty`,
		`t.json: added_tokens[5].id is 422, but 165 to Hugging Face, by model.vocab`,
	}},
	{object{"added_tokens/1/id": 4000, "added_tokens/3/content": "<sop>", "added_tokens/5": 1, "added_tokens/6/content": json.RawMessage(`"\ud800"`)}, []string{
		`t.json: added_tokens[3].content is "<sop>", as that of another`,
		`t.json: added_tokens[5] is 1, not an object`,
		`t.json: added_tokens[6].content is "\ud800", which holds U+FFFD or half of a surrogate pair`,
		`t.json: added_tokens[1].id is 4000, but 418 to Hugging Face, by model.vocab`,
	}},
	{object{"post_processor": object{"type": "BertProcessing"}}, []string{
		`t.json: post_processor.type is "BertProcessing"; only "ByteLevel" and "TemplateProcessing" and "Sequence" are supported`,
	}},
	{object{post + "0": object{"type": "Sequence"}, template + "single/0/SpecialToken/type_id": 1, template + "single/1/SpecialToken/id": "<bop>", template + "single/2/Sequence/id": "B",
		template + "special_tokens/[gMASK]/ids": []int{1}, template + "special_tokens/<sop>/ids": []int{1, 2}}, []string{
		`t.json: post_processor.processors[0].type is "Sequence"; only "ByteLevel" and "TemplateProcessing" are supported`,
		`t.json: post_processor.processors[1].special_tokens["<sop>"] has 2 ids for 1 tokens`,
		`t.json: post_processor.processors[1].special_tokens["[gMASK]"].ids[0] is 1, not the id of "[gMASK]"`,
		`t.json: post_processor.processors[1].single[0].SpecialToken.type_id is 1; only 0 is supported`,
		`t.json: post_processor.processors[1].single[1].SpecialToken.id is "<bop>", which is not in special_tokens`,
		`t.json: post_processor.processors[1].single[2].Sequence.id is "B"; only "A" is supported`,
	}},
	{object{post + "0": object{"type": "TemplateProcessing", "single": []any{}, "special_tokens": object{}}}, []string{
		`t.json: post_processor.processors[0].single has 0 Sequences, not one`,
		`t.json: post_processor.processors[1] is the second TemplateProcessing; only one is supported`,
	}},
}

func TestParseErrors(t *testing.T) {
	for _, bad := range badFiles {
		_, err := tokenizer.Parse("t.json", edit(t, bad.changes))
		require.EqualError(t, err, strings.Join(bad.want, "\n"))
	}
}

var badTexts = []struct{ text, want string }{
	{"", "t.json: not JSON: after byte 0: unexpected end of JSON input"},
	{"{", "t.json: not JSON: after byte 1: unexpected end of JSON input"},
	{`{"a":1}}`, "t.json: not JSON: after byte 8: invalid character '}' after top-level value"},
	{"{\"a\": \"\xff\"}", "t.json: not UTF-8 at byte 7"},
	{"[]", "t.json: is [], not an object"},
	{`{"version":"1.0","version":"1.0","model":{"type":"BPE","type":"BPE","vocab":{"a":1,"\u0061":2},"merges":[]}}`, `t.json: version appears twice
t.json: pre_tokenizer is missing, not an object
t.json: decoder is missing, not an object
t.json: model.type appears twice
t.json: model.vocab["a"] appears twice
t.json: model.vocab lacks 255 of the 256 bytes, from 0x0 on`},
}

func TestParseText(t *testing.T) {
	for _, bad := range badTexts {
		_, err := tokenizer.Parse("t.json", []byte(bad.text))
		require.EqualError(t, err, bad.want)
	}
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, `"f%d":1,`, i)
	}
	_, err := tokenizer.Parse("t.json", []byte("{"+strings.TrimSuffix(many.String(), ",")+"}"))
	require.ErrorContains(t, err, "f99 is not known\nand 104 more")
}

// What Oniguruma understands otherwise, or not at all, is refused.
func TestPatterns(t *testing.T) {
	for _, pattern := range []string{
		`\p{N}`, `\p{Han}+|[一-龥]`, `[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`" + `{|}~][A-Za-z]+| ?[\p{P}\p{S}]+[\r\n]*`,
		`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}`, `(?=(\d{3})+(?!\d))`, `(?<!a)b{2,}`,
	} {
		_, err := tokenizer.Parse("t.json", edit(t, object{pre + "0/pattern/Regex": pattern}))
		require.NoError(t, err, pattern)
	}
	for pattern, want := range map[string]string{
		`a$`:         `what stands at byte 1, "$", is not supported`,
		`^a`:         `what stands at byte 0, "^a", is not supported`,
		`a.`:         `what stands at byte 1, "."`,
		`\w+`:        `what stands at byte 0, "\\w+"`,
		`[\w]`:       `what stands at byte 0, "[\\w]"`,
		`(?i:ss)`:    `what stands at byte 0, "(?i:ss)"`,
		`(?i:é)`:     `what stands at byte 1, "?i:é)"`,
		`\bx`:        `what stands at byte 0`,
		`\h`:         `what stands at byte 0`,
		`a(?i)b`:     `what stands at byte 2, "?i)b"`,
		`(?m:a)`:     `what stands at byte 1, "?m:a)"`,
		`(?<n>a)`:    `what stands at byte 1, "?<n>a)"`,
		`a{1,3}+`:    `what stands at byte 6, "+"`,
		`a**`:        `what stands at byte 2, "*"`,
		`*a`:         `what stands at byte 0, "*a"`,
		`a{,3}`:      `what stands at byte 1, "{,3}"`,
		`[a-z&&b]`:   `what stands at byte 0`,
		`[a-z-[b]]`:  `what stands at byte 0`,
		`[[:alpha:]`: `what stands at byte 0`,
		`\p{Nope}`:   `what stands at byte 0, \p{Nope}, names no category or script`,
		`[\p{Any}]`:  `what stands at byte 0, \p{Any}, names no category or script`,
		`(a`:         "missing closing )",
		`[z-a]`:      "range in reverse order",
	} {
		_, err := tokenizer.Parse("t.json", edit(t, object{pre + "0/pattern/Regex": pattern}))
		require.ErrorContains(t, err, "t.json: pre_tokenizer.pretokenizers[0].pattern.Regex is ", pattern)
		require.ErrorContains(t, err, want, pattern)
	}
}

// A pattern that matches nothing cuts all the same.
func TestEmptyMatch(t *testing.T) {
	tok, err := tokenizer.Parse("t.json", edit(t, object{pre + "0/pattern/Regex": `(?=t)`}))
	require.NoError(t, err)
	the, ok := tok.ID(" the")
	require.True(t, ok)
	require.NotContains(t, encode(t, tok, " the"), the)
	require.Equal(t, " the t", decode(t, tok, encode(t, tok, " the t")))
}

// FuzzParse holds Parse to return what encodes and decodes, or an error.
func FuzzParse(f *testing.F) {
	for _, bad := range badFiles {
		f.Add(edit(f, bad.changes))
	}
	for _, bad := range badTexts {
		f.Add([]byte(bad.text))
	}
	nfc, err := os.ReadFile(files["nfc"])
	require.NoError(f, err)
	f.Add(nfc)
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := tokenizer.Parse("t.json", data)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				require.NotContains(t, line, "%!")
			}
			return
		}
		const text = "It's 1234 naïve  日本\r\n\t<sop>func(x) \u2028ok"
		require.Equal(t, text, decode(t, tok, encode(t, tok, text)))
	})
}
