// Package tokenizer reads Hugging Face's tokenizer.json of byte-level BPE and
// turns text into token ids and back.
//
// It is our own because the Go library that reads these files,
// github.com/sugarme/tokenizer, passes over fields that it does not know and
// splits trailing white space otherwise; only the patterns, which need
// lookahead, are a library's.
//
// What a file asks for is done or refused by name, never passed over. The
// meaning of a field is that of huggingface/tokenizers. Patterns see a
// character as package unicode does: one that is newer than its Version is no
// letter to them.
package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A Tokenizer turns text into token ids and back. It is safe for concurrent
// use.
type Tokenizer struct {
	texts   []string         // of tokens by id, any bytes; empty if no token has the id
	special map[int32]bool   // the added tokens that are special
	added   [256][]added     // by their first byte, longest first
	vocab   map[string]int32 // model.vocab by text
	bytes   [256]int32       // the tokens of single bytes
	merges  map[pair]merge

	ignoreMerges  bool
	normalize     bool // to NFC
	splitters     []splitter
	before, after []int32
}

// An added token is found in a text before anything else is.
type added struct {
	text string
	id   int32
}

// Open reads the tokenizer.json at path.
func Open(path string) (*Tokenizer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Size returns one more than the largest id. Not every id below it need have a
// token.
func (t *Tokenizer) Size() int { return len(t.texts) }

// Special reports whether the file marks the token as special.
func (t *Tokenizer) Special(id int32) bool { return t.special[id] }

// ID returns the id of the token that stands for text: "<|user|>" or " the",
// not "Ġthe".
func (t *Tokenizer) ID(text string) (id int32, ok bool) {
	if a := t.addedAt(text); a != nil && a.text == text {
		return a.id, true
	}
	id, ok = t.vocab[text]
	return id, ok
}

// Template returns the ids that the file's post_processor puts before and
// after a text. Encode leaves them out.
func (t *Tokenizer) Template() (before, after []int32) { return t.before, t.after }

// Encode returns the ids of text, which must be UTF-8. Added tokens, special
// or not, are recognised wherever they stand in it.
func (t *Tokenizer) Encode(text string) ([]int32, error) {
	if at := invalid(text); at < len(text) {
		return nil, fmt.Errorf("text is not UTF-8 at byte %d", at)
	}
	if len(text) > math.MaxInt32 {
		return nil, fmt.Errorf("text has %d bytes, more than %d", len(text), math.MaxInt32)
	}
	e := encoder{Tokenizer: t}
	start := 0
	for i := 0; i < len(text); {
		a := t.addedAt(text[i:])
		if a == nil {
			i++
			continue
		}
		if err := e.ordinary(text[start:i]); err != nil {
			return nil, fmt.Errorf("after byte %d: %w", start, err)
		}
		e.ids = append(e.ids, a.id)
		i += len(a.text)
		start = i
	}
	if err := e.ordinary(text[start:]); err != nil {
		return nil, fmt.Errorf("after byte %d: %w", start, err)
	}
	return e.ids, nil
}

// invalid returns the offset of the first byte that is not UTF-8, or the
// length of text.
func invalid(text string) int {
	if utf8.ValidString(text) {
		return len(text)
	}
	at := 0
	for {
		r, n := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
}

// addedAt returns the longest added token that text starts with, or nil.
func (t *Tokenizer) addedAt(text string) *added {
	if text == "" {
		return nil
	}
	tokens := t.added[text[0]]
	for i := range tokens {
		if strings.HasPrefix(text, tokens[i].text) {
			return &tokens[i]
		}
	}
	return nil
}

// An encoder holds what one call of Encode needs.
type encoder struct {
	*Tokenizer
	ids   []int32
	nodes []node
	queue queue
}

// ordinary encodes text that holds no added token.
func (e *encoder) ordinary(text string) error {
	if e.normalize {
		nfc := norm.NFC.String(text)
		// Package norm separates more than 30 combining characters with a
		// joiner, which NFC does not.
		const joiner = "\u034f"
		if strings.Count(nfc, joiner) != strings.Count(text, joiner) {
			return errors.New("more than 30 combining characters in a row cannot be normalised")
		}
		text = nfc
	}
	return e.pieces(text, e.splitters)
}

// pieces encodes the pieces that the splitters, one after the other, make of
// text.
func (e *encoder) pieces(text string, splitters []splitter) error {
	if len(splitters) > 0 {
		return splitters[0].split(text, func(piece string) error { return e.pieces(piece, splitters[1:]) })
	}
	if e.ignoreMerges {
		if id, ok := e.vocab[text]; ok {
			e.ids = append(e.ids, id)
			return nil
		}
	}
	e.merge(text)
	return nil
}
