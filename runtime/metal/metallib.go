package metal

import (
	"fmt"
	"strings"

	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// MetallibName is the compiled library that Load looks for among its sources.
const MetallibName = "marlin.metallib"

const digestPrefix = "marlingen_digest_"

// DigestSource returns a Metal source that makes a library carry the digest of
// the manifest it was compiled from: as the name of a function, which is what a
// library can be asked for.
func DigestSource(digest string) string {
	return fmt.Sprintf("kernel void %s%s() {}\n", digestPrefix, digest)
}

// binary makes a module of a compiled library, if it is of the right digest.
func (d *Device) binary(data []byte) (m module, err error) {
	d.pool(func() {
		bytes := d.rt.Data(data)
		defer d.rt.ReleaseData(bytes)
		id, failure := d.rt.SendError(d.id, d.sel.newLibraryWithData, uintptr(bytes))
		if id == 0 {
			err = fmt.Errorf("metal: %s: %s", MetallibName, d.words(failure))
			return
		}
		m = d.module(objc.ID(id))
		err = m.checkDigest(d.options.Digest)
	})
	return m, err
}

func (m module) checkDigest(want string) error {
	have := "none"
	for name := range m.names {
		if digest, ok := strings.CutPrefix(name, digestPrefix); ok {
			have = digest
		}
	}
	switch {
	case want == "":
		return fmt.Errorf("metal: %s is of digest %s, and the device was opened without one to compare", MetallibName, have)
	case have != want:
		return fmt.Errorf("metal: %s is of digest %s, want %s: compile it anew with marlingen compile, or remove it", MetallibName, have, want)
	}
	return nil
}
