package devicetest

import (
	"io/fs"
	"testing"

	"github.com/marlingen/marlingen/runtime"
)

// Options adjusts the suite to a device.
type Options struct {
	// Allow reports whether the device may lack a kernel or fail to compile
	// it. Without it every kernel must be present.
	Allow func(*runtime.Kernel) bool

	// Short leaves out the larger shapes, as testing.Short does.
	Short bool
}

// Run tests dev with the kernels of table, made of sources. Its subtests are
// Contract, Layer and the symbols of the table. It does not close dev.
func Run(t *testing.T, dev runtime.Device, table *runtime.Table, sources fs.FS, o Options) {
	o.Short = o.Short || testing.Short()
	lib, err := dev.Load(t.Context(), table, sources)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	defer lib.Close()
	have := lib.Availability()

	t.Run("Contract", func(t *testing.T) {
		for _, c := range contract {
			t.Run(c.name, func(t *testing.T) {
				if err := withSession(t.Context(), dev, lib, table, c.check); err != nil {
					t.Error(err)
				}
			})
		}
	})
	for _, k := range table.Kernels {
		t.Run(k.Symbol, func(t *testing.T) {
			if s := have.Of(k); s.State != runtime.Present {
				if o.Allow != nil && o.Allow(k) {
					t.Skipf("%v: %s", s.State, s.Words)
				}
				t.Fatalf("%v: %s", s.State, s.Words)
			}
			err := withSession(t.Context(), dev, lib, table, func(s *session) error { return checkKernel(s, k, o.Short) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("Layer", func(t *testing.T) {
		for _, codec := range table.Codecs {
			t.Run(codec.Name, func(t *testing.T) {
				err := withSession(t.Context(), dev, lib, table, func(s *session) error { return checkLayer(s, codec) })
				if _, lacking := err.(*runtime.NoKernelError); lacking && o.Allow != nil {
					t.Skip(err)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	})
}
