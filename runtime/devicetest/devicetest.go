package devicetest

import (
	"context"
	"errors"
	"fmt"
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
			if err := CheckKernel(t.Context(), dev, lib, table, k, o); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("Layer", func(t *testing.T) {
		for _, codec := range table.Codecs {
			t.Run(codec.Name, func(t *testing.T) {
				err := CheckLayer(t.Context(), dev, lib, table, codec)
				var lacking *runtime.NoKernelError
				if errors.As(err, &lacking) && o.Allow != nil {
					t.Skip(err)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// CheckContract holds dev and lib, which it loaded of table, to what package
// runtime says of them.
func CheckContract(ctx context.Context, dev runtime.Device, lib runtime.Library, table *runtime.Table) error {
	var errs []error
	for _, c := range contract {
		if err := withSession(ctx, dev, lib, table, c.check); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// CheckKernel holds a kernel that is present in lib to the oracle.
func CheckKernel(ctx context.Context, dev runtime.Device, lib runtime.Library, table *runtime.Table, k *runtime.Kernel, o Options) error {
	return withSession(ctx, dev, lib, table, func(s *session) error { return checkKernel(s, k, o.Short) })
}

// CheckLayer holds a whole layer of a codec, from routing to the sum over
// slots, to the oracle. It chooses the kernels as a layer would.
func CheckLayer(ctx context.Context, dev runtime.Device, lib runtime.Library, table *runtime.Table, codec *runtime.Codec) error {
	return withSession(ctx, dev, lib, table, func(s *session) error { return checkLayer(s, codec) })
}
