//go:build !darwin

package host

import "io/fs"

// ReadMemory returns the machine's memory, as files below root say.
func ReadMemory(root fs.FS) Memory { return linuxMemory(root) }
