//go:build amd64 || arm64

package metal

import (
	"github.com/marlingen/marlingen/runtime/metal/internal/native"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// system returns the runtime of this system.
func system() (objc.Runtime, error) { return native.Load(native.System) }
