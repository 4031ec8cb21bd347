package tokenizer

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// maxID is the largest id that is read. No model comes near it.
const maxID = 1<<22 - 1

// Parse reads a tokenizer.json. file is its name for errors, which are
// reported together and name the place in the file.
func Parse(file string, data []byte) (*Tokenizer, error) {
	m := &mistakes{file: file}
	v := document(m, data)
	if err := m.err(); err != nil {
		return nil, err
	}
	f := v.fields("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
	f["version"].only(`"1.0"`)
	f["truncation"].onlyIfPresent("null")
	f["padding"].onlyIfPresent("null")

	t := &Tokenizer{special: make(map[int32]bool), vocab: make(map[string]int32), merges: make(map[pair]merge)}
	t.readNormalizer(f["normalizer"])
	t.readPreTokenizer(f["pre_tokenizer"])
	readByteLevel(f["decoder"])
	tokens := readAdded(f["added_tokens"])
	t.add(tokens, t.readModel(f["model"], tokens))
	if err := m.err(); err != nil {
		return nil, err
	}
	// What it names has to be known.
	t.readPostProcessor(f["post_processor"])
	if err := m.err(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tokenizer) readNormalizer(v value) {
	if v.null() {
		return
	}
	if t.normalize = v.kind("NFC") != ""; t.normalize {
		v.fields("type")
	}
}

func (t *Tokenizer) readPreTokenizer(v value) {
	steps := []value{v}
	switch v.kind("ByteLevel", "Sequence") {
	case "":
		return
	case "Sequence":
		steps = v.fields("type", "pretokenizers")["pretokenizers"].list()
		if len(steps) == 0 {
			v.fault("has no ByteLevel at its end")
			return
		}
	}
	last := len(steps) - 1
	for _, step := range steps[:last] {
		if step.kind("Split") != "" {
			t.readSplit(step)
		}
	}
	f := readByteLevel(steps[last])
	if f == nil {
		return
	}
	if string(f["add_prefix_space"].json) == "true" {
		f["add_prefix_space"].only("false")
	}
	if regex := f["use_regex"].json; regex == nil || string(regex) == "true" {
		t.splitters = append(t.splitters, byteLevel)
	}
}

// readByteLevel returns the fields of a ByteLevel, or nil. But for a
// pre_tokenizer, they change no id and no text.
func readByteLevel(v value) map[string]value {
	if v.kind("ByteLevel") == "" {
		return nil
	}
	f := v.fields("type", "add_prefix_space", "trim_offsets", "use_regex")
	f["add_prefix_space"].boolean()
	f["trim_offsets"].boolean()
	if f["use_regex"].json != nil {
		f["use_regex"].boolean()
	}
	return f
}

func (t *Tokenizer) readSplit(v value) {
	f := v.fields("type", "pattern", "behavior", "invert")
	f["behavior"].only(`"Isolated"`)
	f["invert"].only("false")

	pattern := f["pattern"].fields("Regex", "String")
	kind, compile := pattern["Regex"], newSplitter
	if kind.json == nil {
		kind, compile = pattern["String"], newLiteralSplitter
	} else if pattern["String"].json != nil {
		f["pattern"].fault("has both a Regex and a String")
	}
	s, ok := kind.text()
	if !ok {
		return
	}
	splitter, err := compile(s)
	if err != nil {
		kind.fault("%s: %w", kind.is(), err)
		return
	}
	t.splitters = append(t.splitters, splitter)
}

// An addedToken is an added token as it stands in the file.
type addedToken struct {
	added
	special bool
	at      value
}

func readAdded(v value) []addedToken {
	if v.null() {
		return nil
	}
	var tokens []addedToken
	seen := make(map[string]bool)
	for _, v := range v.list() {
		f := v.fields("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
		for _, name := range []string{"single_word", "lstrip", "rstrip", "normalized"} {
			f[name].only("false")
		}
		special := f["special"].boolean()
		id, isID := f["id"].id()
		content, isText := f["content"].text()
		if !isID || !isText {
			continue
		}
		if seen[content] {
			f["content"].fault("is %q, as that of another", content)
		}
		seen[content] = true
		if bytes, ok := fromByteLevel(content); ok && bytes != content {
			f["content"].fault("is %q, which a ByteLevel decoder reads as %q", content, bytes)
		}
		tokens = append(tokens, addedToken{added{content, id}, special, v})
	}
	return tokens
}

// readModel returns model.vocab as it stands in the file, or nil.
func (t *Tokenizer) readModel(v value, tokens []addedToken) map[string]int32 {
	if v.kind("BPE") == "" {
		return nil
	}
	f := v.fields("type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
		"fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges")
	f["dropout"].onlyIfPresent("null")
	f["unk_token"].onlyIfPresent("null")
	f["continuing_subword_prefix"].onlyIfPresent("null", `""`)
	f["end_of_word_suffix"].onlyIfPresent("null", `""`)
	f["fuse_unk"].onlyIfPresent("false")
	f["byte_fallback"].onlyIfPresent("false")
	if f["ignore_merges"].json != nil {
		t.ignoreMerges = f["ignore_merges"].boolean()
	}
	ids := t.readVocab(f["vocab"], tokens)
	if ids != nil {
		t.readMerges(f["merges"])
	}
	return ids
}

func (t *Tokenizer) readVocab(v value, tokens []addedToken) map[string]int32 {
	isAdded := make(map[string]bool)
	for _, a := range tokens {
		isAdded[a.text] = true
	}
	ids := make(map[string]int32)
	if !v.each(func(name string, json json.RawMessage, again bool) {
		v := v.in("["+strconv.Quote(name)+"]", json)
		if again {
			v.fault("appears twice")
			return
		}
		id, ok := v.id()
		if !ok {
			return
		}
		ids[name] = id
		text, ok := fromByteLevel(name)
		switch {
		case name == "":
			v.fault("is an empty token")
		case ok:
			t.vocab[text] = id
			t.put(id, text, v)
		case isAdded[name]:
			t.put(id, name, v)
		default:
			v.fault("is neither of byte-level characters nor an added token")
		}
	}) {
		return nil
	}
	var lacks []string
	for b := range t.bytes {
		id, ok := t.vocab[string([]byte{byte(b)})]
		if !ok {
			lacks = append(lacks, "0x"+strconv.FormatInt(int64(b), 16))
		}
		t.bytes[b] = id
	}
	if len(lacks) > 0 {
		v.fault("lacks %d of the 256 bytes, from %s on", len(lacks), lacks[0])
	}
	return ids
}

// put notes the text of an id.
func (t *Tokenizer) put(id int32, text string, v value) {
	if n := int(id) + 1 - len(t.texts); n > 0 {
		t.texts = append(t.texts, make([]string, n)...)
	}
	if was := t.texts[id]; was != "" && was != text {
		v.fault("has id %d, that of %q", id, was)
		return
	}
	t.texts[id] = text
}

func (t *Tokenizer) readMerges(v value) {
	for rank, v := range v.list() {
		left, right, ok := v.sides()
		if !ok {
			continue
		}
		var p pair
		ok = true
		token := func(name string) (id int32) {
			text, isText := fromByteLevel(name)
			id, known := t.vocab[text]
			if !isText || !known {
				v.fault("%s: %q is not in model.vocab", v.is(), name)
				ok = false
			}
			return id
		}
		p.left, p.right = token(left), token(right)
		id := token(left + right)
		if !ok {
			continue
		}
		if was, again := t.merges[p]; again {
			v.fault("%s, as model.merges[%d] is", v.is(), was.rank)
			continue
		}
		t.merges[p] = merge{uint32(rank), id}
	}
}

// sides returns the two tokens of a merge, "a b" or ["a", "b"].
func (v value) sides() (left, right string, ok bool) {
	if len(v.json) > 0 && v.json[0] == '[' {
		sides := v.list()
		if len(sides) != 2 {
			v.fault("%s, not a pair", v.is())
			return "", "", false
		}
		left, isLeft := sides[0].text()
		right, isRight := sides[1].text()
		return left, right, isLeft && isRight
	}
	s, ok := v.text()
	if !ok {
		return "", "", false
	}
	left, right, ok = strings.Cut(s, " ")
	if !ok || strings.Contains(right, " ") {
		v.fault("%s, not two tokens with a space between", v.is())
		return "", "", false
	}
	return left, right, true
}

// add makes the added tokens findable. Hugging Face takes their ids not from
// added_tokens but from vocab or, for those that it lacks, counts on from its
// size; a file that says otherwise is refused.
func (t *Tokenizer) add(tokens []addedToken, vocab map[string]int32) {
	if vocab == nil {
		return
	}
	next := int32(len(vocab))
	for _, a := range tokens {
		id, ok := vocab[a.text]
		if !ok {
			id = next
		}
		next = max(next, id+1)
		if a.id != id {
			a.at.in(".id", nil).fault("is %d, but %d to Hugging Face, by model.vocab", a.id, id)
			continue
		}
		t.put(a.id, a.text, a.at)
		if a.special {
			t.special[a.id] = true
		}
		first := &t.added[a.text[0]]
		*first = append(*first, a.added)
	}
	for _, tokens := range t.added {
		slices.SortFunc(tokens, func(a, b added) int { return len(b.text) - len(a.text) })
	}
}

func (t *Tokenizer) readPostProcessor(v value) {
	if v.null() {
		return
	}
	steps := []value{v}
	if kind := v.kind("ByteLevel", "TemplateProcessing", "Sequence"); kind == "" {
		return
	} else if kind == "Sequence" {
		steps = v.fields("type", "processors")["processors"].list()
	}
	templates := 0
	for _, step := range steps {
		switch step.kind("ByteLevel", "TemplateProcessing") {
		case "ByteLevel":
			readByteLevel(step)
		case "TemplateProcessing":
			if templates++; templates > 1 {
				step.fault("is the second TemplateProcessing; only one is supported")
			}
			t.readTemplate(step)
		}
	}
}

// readTemplate reads what stands around a text. Pairs of texts are not encoded
// here, so that theirs is passed over.
func (t *Tokenizer) readTemplate(v value) {
	f := v.fields("type", "single", "pair", "special_tokens")
	special := make(map[string][]int32)
	f["special_tokens"].each(func(name string, json json.RawMessage, again bool) {
		v := f["special_tokens"].in("["+strconv.Quote(name)+"]", json)
		if again {
			v.fault("appears twice")
			return
		}
		special[name] = t.readSpecial(name, v)
	})
	texts := 0
	for _, v := range f["single"].list() {
		part := v.fields("Sequence", "SpecialToken")
		if part["Sequence"].json != nil && part["SpecialToken"].json == nil {
			f := part["Sequence"].fields("id", "type_id")
			f["id"].only(`"A"`)
			f["type_id"].only("0")
			texts++
			continue
		}
		if part["Sequence"].json != nil {
			v.fault("is both a Sequence and a SpecialToken")
		}
		f := part["SpecialToken"].fields("id", "type_id")
		f["type_id"].only("0")
		name, ok := f["id"].text()
		ids, known := special[name]
		switch {
		case !ok:
		case !known:
			f["id"].fault("is %q, which is not in special_tokens", name)
		case texts == 0:
			t.before = append(t.before, ids...)
		default:
			t.after = append(t.after, ids...)
		}
	}
	if texts != 1 {
		f["single"].fault("has %d Sequences, not one", texts)
	}
}

// readSpecial returns the ids of one of a template's special_tokens.
func (t *Tokenizer) readSpecial(name string, v value) []int32 {
	f := v.fields("id", "ids", "tokens")
	if id, ok := f["id"].text(); ok && id != name {
		f["id"].fault("%s, not %q", f["id"].is(), name)
	}
	elements, tokens := f["ids"].list(), f["tokens"].list()
	if len(elements) != len(tokens) {
		v.fault("has %d ids for %d tokens", len(elements), len(tokens))
		return nil
	}
	ids := make([]int32, len(elements))
	for i := range ids {
		id, isID := elements[i].id()
		text, isText := tokens[i].text()
		if !isID || !isText {
			continue
		}
		if want, ok := t.ID(text); !ok || want != id {
			elements[i].fault("is %d, not the id of %q", id, text)
		}
		ids[i] = id
	}
	return ids
}
