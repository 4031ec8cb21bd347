package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Decode returns the text of ids, special tokens included. Bytes that are not
// UTF-8 become U+FFFD, one for each sequence that is cut short or cannot begin.
func (t *Tokenizer) Decode(ids []int32) (string, error) {
	var b strings.Builder
	d := t.NewDecoder()
	for i, id := range ids {
		s, err := d.Next(id)
		if err != nil {
			return "", fmt.Errorf("ids[%d]: %w", i, err)
		}
		b.WriteString(s)
	}
	b.WriteString(d.Flush())
	return b.String(), nil
}

// A Decoder turns ids into text one by one. What it returns adds up to what
// Decode returns.
type Decoder struct {
	t    *Tokenizer
	rest []byte // the start of a character
}

// NewDecoder returns a Decoder at the start of a text.
func (t *Tokenizer) NewDecoder() *Decoder { return &Decoder{t: t} }

// Next returns the text that is certain with id, which may be none: it holds
// back the start of a character. An unknown id is an error and changes nothing.
func (d *Decoder) Next(id int32) (string, error) {
	if id < 0 || int(id) >= len(d.t.texts) || d.t.texts[id] == "" {
		return "", fmt.Errorf("no token has id %d", id)
	}
	b := append(d.rest, d.t.texts[id]...)
	var out strings.Builder
	for utf8.FullRune(b) {
		n := 1
		if r, size := utf8.DecodeRune(b); r != utf8.RuneError || size > 1 {
			n = size
			out.Write(b[:n])
		} else {
			for n < len(b) && !utf8.FullRune(b[:n+1]) {
				n++
			}
			out.WriteRune(utf8.RuneError)
		}
		b = b[n:]
	}
	d.rest = append(d.rest[:0], b...)
	return out.String(), nil
}

// Flush ends the text: it returns U+FFFD if the start of a character is held
// back. The Decoder is then at the start of a text again.
func (d *Decoder) Flush() string {
	if len(d.rest) == 0 {
		return ""
	}
	d.rest = d.rest[:0]
	return string(utf8.RuneError)
}
