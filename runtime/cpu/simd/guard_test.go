//go:build unix

package simd

import (
	"testing"

	"golang.org/x/sys/unix"
)

// guarded returns a copy of b between two pages that cannot be touched: at the
// end of its memory, or at its start.
func guarded(t testing.TB, b []byte, atEnd bool) []byte {
	page := unix.Getpagesize()
	size := (len(b) + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	for _, edge := range [][]byte{m[:page], m[page+size:]} {
		if err := unix.Mprotect(edge, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	at := page
	if atEnd {
		at += size - len(b)
	}
	copy(m[at:], b)
	return m[at : at+len(b) : at+len(b)]
}
