//go:build !darwin || !(amd64 || arm64)

package metal

import (
	"fmt"
	goruntime "runtime"

	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// system returns the runtime of this system.
func system() (objc.Runtime, error) {
	return nil, fmt.Errorf("no Metal on %s/%s; it is part of macOS", goruntime.GOOS, goruntime.GOARCH)
}
