package cuda

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// A library holds what became of a table.
type library struct {
	device    *Device
	have      runtime.Availability
	functions map[string]function // by symbol, of the kernels that are present
	modules   []driver.Module
	closed    atomic.Bool
}

// A function is a kernel on the GPU.
type function struct {
	handle driver.Function
	order
}

// Load compiles the PTX among sources, module by module: what is wrong with one
// is a matter of its own kernels.
func (d *Device) Load(ctx context.Context, t *runtime.Table, sources fs.FS) (runtime.Library, error) {
	if err := d.hold(); err != nil {
		return nil, err
	}
	l := &library{device: d, have: make(runtime.Availability), functions: make(map[string]function)}
	if err := l.load(ctx, t, sources); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *library) load(ctx context.Context, t *runtime.Table, sources fs.FS) error {
	names, err := fs.Glob(sources, "*.ptx")
	if err != nil {
		return err
	}
	manifest, err := runtime.ReadManifest(sources)
	if err != nil && len(names) > 0 {
		return fmt.Errorf("cuda: the sources that PTX has to belong to: %w", err)
	}
	missing := "no PTX among the sources defines a kernel of this name"
	if len(names) == 0 {
		missing = "there is no PTX among the sources"
	}
	for _, k := range t.Kernels {
		l.have[k.Symbol] = runtime.Status{State: runtime.Missing, Words: missing}
		if k.Body == nil {
			l.have[k.Symbol] = runtime.Status{State: runtime.Failed, Words: "the kernel has no body"}
		}
	}
	modules := make([]*module, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { modules[i], errs[i] = l.device.loadModule(sources, name, manifest.Digest) })
	}
	wg.Wait()
	for _, m := range modules {
		if m != nil && m.handle != 0 {
			l.modules = append(l.modules, m.handle)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return l.device.do(func() error {
		for _, m := range modules {
			if err := l.add(m, t); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// add looks the kernels of a table up in a module.
func (l *library) add(m *module, t *runtime.Table) error {
	for _, k := range t.Kernels {
		if k.Body == nil || !m.defines(k.Symbol) || l.have[k.Symbol].State != runtime.Missing {
			continue
		}
		if m.words != "" {
			l.have[k.Symbol] = runtime.Status{State: runtime.Failed, Words: m.words}
			continue
		}
		f, err := m.function(l.device.api, k.Symbol)
		if err != nil {
			return err
		}
		words, err := l.device.prepare(f, k)
		switch {
		case err != nil:
			return err
		case words != "":
			l.have[k.Symbol] = runtime.Status{State: runtime.Failed, Words: words}
		default:
			l.have[k.Symbol] = runtime.Status{State: runtime.Present}
			l.functions[k.Symbol] = function{f, m.entries[k.Symbol]}
		}
	}
	return nil
}

func (l *library) Availability() runtime.Availability { return l.have }

// Close unloads the modules.
func (l *library) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	d := l.device
	err := d.do(func() error {
		var errs []error
		for _, m := range l.modules {
			errs = append(errs, d.api.Unload(m))
		}
		return errors.Join(errs...)
	})
	return errors.Join(known(err), d.release())
}
