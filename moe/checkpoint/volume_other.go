//go:build !linux && !darwin

package checkpoint

import "os"

// mapFiles reads files of a directory into memory.
func mapFiles(dir string, names []string) (*volume, error) { return readFiles(os.DirFS(dir), names) }
