package tokenizer

import "unicode/utf8"

// The byte-level characters: those of Latin-1 that print stand for themselves,
// the other bytes in their order for the characters from U+0100 on.
var byteOf = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	next := rune(0x100)
	for b := range rune(256) {
		switch {
		case '!' <= b && b <= '~', '¡' <= b && b <= '¬', '®' <= b && b <= 'ÿ':
			m[b] = byte(b)
		default:
			m[next] = byte(b)
			next++
		}
	}
	return m
}()

// fromByteLevel returns the bytes that byte-level characters stand for. ok is
// false if one of the characters is none of them.
func fromByteLevel(s string) (text string, ok bool) {
	b := make([]byte, 0, utf8.RuneCountInString(s))
	for _, r := range s {
		c, ok := byteOf[r]
		if !ok {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}
