package msl

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A cache is a directory of files that never change: the name of each holds the
// digest of what it was made from. Processes can share it, since a file appears
// with its content or not at all.
type cache struct{ dir string }

// openCache returns the cache in dir, in $MARLINGEN_CACHE/msl or in the user's
// cache directory.
func openCache(dir string) (*cache, error) {
	if dir == "" {
		base := os.Getenv("MARLINGEN_CACHE")
		if base == "" {
			user, err := os.UserCacheDir()
			if err != nil {
				return nil, fmt.Errorf("msl: no directory to cache what clang compiles: %w; set MARLINGEN_CACHE to one", err)
			}
			base = filepath.Join(user, "marlingen")
		}
		dir = filepath.Join(base, "msl")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("msl: %w", err)
	}
	c := &cache{dir}
	c.tidy()
	return c, nil
}

// tidy removes what processes that were killed left half-made.
func (c *cache) tidy() {
	left, _ := filepath.Glob(filepath.Join(c.dir, "tmp-*"))
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.RemoveAll(path)
		}
	}
}

func (c *cache) path(name string) string { return filepath.Join(c.dir, name) }

// digest returns the name for what is made of parts.
func digest(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%q\n", p)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// file returns the path of name, which write makes if it is not there. Write is
// given the path to write to.
func (c *cache) file(name string, write func(path string) error) (string, error) {
	path := c.path(name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	temporary, err := os.MkdirTemp(c.dir, "tmp-")
	if err != nil {
		return "", fmt.Errorf("msl: %w", err)
	}
	defer os.RemoveAll(temporary)
	made := filepath.Join(temporary, name)
	if err := write(made); err != nil {
		return "", err
	}
	if err := os.Rename(made, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Stat(path); there != nil { // somebody else's directory will do
			return "", fmt.Errorf("msl: %w", err)
		}
	}
	return path, nil
}

// shim returns the directory with the files of the shim, and their digest.
func (c *cache) shim() (dir, sum string, err error) {
	files := shimFiles()
	names := slices.Sorted(maps.Keys(files))
	var parts []any
	for _, name := range names {
		parts = append(parts, name, string(files[name]))
	}
	sum = digest(parts...)
	dir, err = c.file(shimName+sum, func(path string) error {
		for _, name := range names {
			to := filepath.Join(path, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(to, files[name], 0o600); err != nil {
				return err
			}
		}
		return nil
	})
	return dir, sum, err
}
