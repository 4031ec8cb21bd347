//go:build linux || darwin

package checkpoint

import (
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFiles maps files of a directory. A file that is truncated while it is
// mapped takes the process down when the lost pages are read.
func mapFiles(dir string, names []string) (*volume, error) {
	var f faults
	open := make([]*os.File, len(names))
	defer func() {
		for _, file := range open {
			file.Close() // of nil too
		}
	}()
	sizes := make([]int64, len(names))
	for i, name := range names {
		path := filepath.Join(dir, name)
		file, err := os.Open(path)
		if err != nil {
			f.add(path, "", "%w", cause(err))
			continue
		}
		open[i] = file
		info, err := file.Stat()
		if err == nil {
			err = regular(info)
		}
		if err != nil {
			f.add(path, "", "%w", cause(err))
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
	if total == 0 {
		return &volume{files: files, close: func() error { return nil }}, nil
	}

	base, err := unix.MmapPtr(-1, 0, nil, uintptr(total), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		f.add(dir, "", "reserving %d bytes: %w", total, err)
		return nil, f.err()
	}
	for i, s := range files {
		if s.Size == 0 {
			continue
		}
		at := unsafe.Add(base, s.Offset)
		if _, err := unix.MmapPtr(int(open[i].Fd()), 0, at, uintptr(s.Size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
			f.add(filepath.Join(dir, names[i]), "", "mapping %d bytes: %w", s.Size, err)
		}
	}
	unmap := func() error { return unix.MunmapPtr(base, uintptr(total)) }
	if f != nil {
		_ = unmap()
		return nil, f.err()
	}
	return &volume{data: unsafe.Slice((*byte)(base), total), files: files, close: unmap}, nil
}
