package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"unsafe"

	"github.com/marlingen/marlingen/moe"
)

// A volume holds files in one piece of memory, each from the start of a page
// on. What follows a file's end in its last page is zero.
type volume struct {
	data  []byte // a whole number of pages
	files []moe.Span
	close func() error
}

func (v *volume) file(i int) []byte { return v.files[i].Of(v.data) }

// lay returns the places of files of the given sizes, and the bytes that they
// take together.
func lay(sizes []int64) (files []moe.Span, total int, err error) {
	for _, n := range sizes {
		if n > int64(math.MaxInt-total-os.Getpagesize()) {
			return nil, 0, errors.New("the files do not fit in the address space")
		}
		files = append(files, moe.Span{Offset: total, Size: int(n)})
		total = pages(total + int(n))
	}
	return files, total, nil
}

// pages rounds n up to whole pages.
func pages(n int) int {
	page := os.Getpagesize()
	return (n + page - 1) / page * page
}

// buffer returns n bytes, rounded up to whole pages, that start at a page.
func buffer(n int) []byte {
	n = pages(n)
	b := make([]byte, n+os.Getpagesize())
	skip := pages(address(b)) - address(b)
	return b[skip : skip+n : skip+n]
}

// address returns where the non-empty b lies.
func address(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// readFiles reads files into memory.
func readFiles(fsys fs.FS, names []string) (*volume, error) {
	var f faults
	sizes := make([]int64, len(names))
	for i, name := range names {
		info, err := fs.Stat(fsys, name)
		if err == nil {
			err = regular(info)
		}
		if err != nil {
			f.add(name, "", "%w", cause(err))
			continue
		}
		sizes[i] = info.Size()
	}
	if f != nil {
		return nil, f.err()
	}
	files, total, err := lay(sizes)
	if err != nil {
		return nil, err
	}
	v := &volume{data: buffer(total), files: files, close: func() error { return nil }}
	for i, name := range names {
		if err := readFile(fsys, name, v.file(i)); err != nil {
			f.add(name, "", "%w", cause(err))
		}
	}
	if f != nil {
		return nil, f.err()
	}
	return v, nil
}

// readFile reads the file whose size is that of dst.
func readFile(fsys fs.FS, name string, dst []byte) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := io.ReadFull(f, dst); err != nil {
		return fmt.Errorf("after %d bytes of %d: %w", n, len(dst), err)
	}
	if n, _ := f.Read(make([]byte, 1)); n > 0 {
		return errors.New("it grew while it was read")
	}
	return nil
}

// regular reports an error if info is not a file's.
func regular(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return nil
}

// cause returns err without the path that it may repeat.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
