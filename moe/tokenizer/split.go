package tokenizer

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// patience is the longest search for one match. Only a pattern that backtracks
// without end comes near it.
const patience = 10 * time.Second

// A splitter cuts a text at both ends of every match.
type splitter struct{ *regexp2.Regexp }

// byteLevel is the splitter of a ByteLevel pre_tokenizer with use_regex.
var byteLevel = splitter{regexp2.MustCompile(`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`)}

// newSplitter returns the splitter of a pattern that means the same here as to
// Oniguruma, which Hugging Face uses.
func newSplitter(pattern string) (splitter, error) {
	if err := portable(pattern); err != nil {
		return splitter{}, err
	}
	return compile(pattern)
}

// newLiteralSplitter returns the splitter of a text.
func newLiteralSplitter(text string) (splitter, error) { return compile(regexp2.Escape(text)) }

func compile(pattern string) (splitter, error) {
	r, err := regexp2.Compile(pattern)
	if err != nil {
		return splitter{}, err
	}
	r.MatchTimeout = patience
	return splitter{r}, nil
}

// split calls yield for each piece of text, in order. No piece is empty.
func (s splitter) split(text string, yield func(string) error) error {
	var err error
	piece := func(n int) bool {
		if n > 0 {
			err = yield(text[:n])
			text = text[n:]
		}
		return err == nil
	}
	runes := []rune(text)
	done := 0 // runes cut off
	size := func(end int) (n int) {
		for ; done < end; done++ {
			n += utf8.RuneLen(runes[done])
		}
		return n
	}
	failed := s.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		at, n, _ := m.GroupRange(0)
		return piece(size(at)) && piece(size(at+n))
	})
	if failed != nil {
		// The error's own text may hold all of the input.
		return fmt.Errorf("the pattern %s takes too long or too much at character %d", s, done)
	}
	if err == nil {
		piece(len(text))
	}
	return err
}

// item is a part of a pattern that means the same to Oniguruma, in its Ruby
// syntax, and to regexp2.
var item = func() *regexp.Regexp {
	const (
		escape   = `\\(?:[sSdDrnt]|[pP]\{[A-Za-z_]+\}|[!-/:-@\[-^{-~` + "`" + `])`
		class    = `\[\^?(?:` + escape + `|[^\\\[\]])+\]`
		char     = `[^\\\[\](){}|?*+.^$]`
		anyCase  = `\(\?i:[a-z'|\[\]]+\)`
		open     = `\((?:\?(?::|<?[=!]))?`
		quantity = `(?:[?*+][?+]?|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})?`
	)
	return regexp.MustCompile(`^(?:(?:` + escape + `|` + class + `|` + anyCase + `|` + char + `|\))` + quantity + `|\||` + open + `)`)
}()

// A ligature is one character to regexp2 and, where case does not matter, the
// same as its letters to Oniguruma.
var ligature = regexp.MustCompile(`^\(\?i:.*(?:ss|st|ff|fi|fl)`)

var property = regexp.MustCompile(`\\[pP]\{([^}]*)\}`)

// portable reports the first part of a pattern that is not known to mean the
// same to Oniguruma and to regexp2. A pattern that it passes may still be none.
func portable(pattern string) error {
	for at := 0; at < len(pattern); {
		part := item.FindString(pattern[at:])
		if part == "" || part[0] == '[' && strings.Contains(part, "&&") || ligature.MatchString(part) {
			return fmt.Errorf("what stands at byte %d, %.20q, is not supported", at, pattern[at:])
		}
		for _, p := range property.FindAllStringSubmatch(part, -1) {
			if unicode.Categories[p[1]] == nil && unicode.Scripts[p[1]] == nil {
				return fmt.Errorf("what stands at byte %d, %s, names no category or script", at, p[0])
			}
		}
		at += len(part)
	}
	return nil
}
