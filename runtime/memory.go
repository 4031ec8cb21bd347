package runtime

import (
	"fmt"
	"io"
)

// ReadMemory copies memory from off on to p, as ReadAt of a Buffer does whose
// bytes the host can see.
func ReadMemory(memory, p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("read at %d of a buffer", off)
	case off > int64(len(memory)):
		return 0, io.EOF
	}
	n := copy(p, memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteMemory copies p to memory from off on, all of it or nothing, as WriteAt
// of such a Buffer does.
func WriteMemory(memory, p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(memory)) || len(p) > len(memory)-int(off) {
		return 0, fmt.Errorf("write of %d bytes at %d of a buffer of %d", len(p), off, len(memory))
	}
	return copy(memory[off:], p), nil
}
