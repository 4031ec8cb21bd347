package cuda

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// Options chooses a device.
type Options struct {
	Index   int    // of the GPU, from 0
	Library string // path of the driver's library; if empty, libcuda.so.1, where the system's loader finds it
}

// A Device runs kernels on one GPU.
type Device struct {
	api     *driver.API
	number  driver.Device
	context driver.Context
	info    runtime.Info
	lost    atomic.Pointer[LostError]
	closed  atomic.Bool
	held    atomic.Int64 // what keeps the context: the device, and what came of it

	transfers transfers
}

var _ runtime.Device = (*Device)(nil)

var errClosed = errors.New("cuda: use of a closed device")

// A LostError is what everything fails with once a kernel has gone wrong: the
// driver gives a process no second chance.
type LostError struct{ Err error }

func (e *LostError) Error() string {
	return fmt.Sprintf("the GPU is lost to this process, which has to be started anew: %v", e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Devices returns the number of GPUs.
func Devices(o Options) (int, error) {
	api, err := load(o)
	if err != nil {
		return 0, err
	}
	return devices(api)
}

func load(o Options) (*driver.API, error) {
	path := o.Library
	if path == "" {
		path = "libcuda.so.1"
	}
	api, err := driver.Load(path)
	switch {
	case driver.Code(err) == driver.NoDevice:
		return nil, fmt.Errorf("cuda: no GPU: %w", err)
	case err != nil:
		return nil, fmt.Errorf("cuda: %w", err)
	}
	return api, nil
}

func devices(api *driver.API) (int, error) {
	n, err := api.Devices()
	switch {
	case err != nil:
		return 0, fmt.Errorf("cuda: %w", err)
	case n == 0:
		return 0, errors.New("cuda: the driver finds no GPU")
	}
	return n, nil
}

// Open returns the device of a GPU. It is absent, which the error says, where
// there is no driver, one that is too old, or no such GPU.
func Open(o Options) (*Device, error) {
	api, err := load(o)
	if err != nil {
		return nil, err
	}
	n, err := devices(api)
	if err != nil {
		return nil, err
	}
	if o.Index < 0 || o.Index >= n {
		return nil, fmt.Errorf("cuda: no GPU %d; there are %d, from 0", o.Index, n)
	}
	d := &Device{api: api}
	if err := d.open(o.Index); err != nil {
		return nil, fmt.Errorf("cuda: GPU %d: %w", o.Index, err)
	}
	return d, nil
}

func (d *Device) open(index int) (err error) {
	if d.number, err = d.api.Device(index); err != nil {
		return err
	}
	name, err := d.api.Name(d.number)
	if err != nil {
		return err
	}
	d.info = runtime.Info{Name: name, Kind: "cuda", Driver: fmt.Sprintf("CUDA %d.%d", d.api.Version/1000, d.api.Version%1000/10)}
	for attribute, value := range map[driver.DeviceAttribute]*int{
		driver.MaxThreads: &d.info.Threads, driver.MaxSharedOptin: &d.info.ThreadgroupBytes,
	} {
		if *value, err = d.api.Attribute(d.number, attribute); err != nil {
			return err
		}
	}
	if d.context, err = d.api.Retain(d.number); err != nil {
		return err
	}
	d.held.Store(1)
	if err := d.do(func() error { return d.transfers.open(d.api) }); err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}

// Info describes the GPU and its driver.
func (d *Device) Info() runtime.Info { return d.info }

// do calls f on a thread whose context is d's, and notes if that is lost.
func (d *Device) do(f func() error) error {
	if lost := d.lost.Load(); lost != nil {
		return lost
	}
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	err := d.api.SetCurrent(d.context)
	if err == nil {
		err = f()
	}
	if driver.Fatal(driver.Code(err)) {
		d.lost.CompareAndSwap(nil, &LostError{err})
		return d.lost.Load()
	}
	return err
}

// hold keeps the context until release. It fails if d is closed.
func (d *Device) hold() error {
	if d.closed.Load() {
		return errClosed
	}
	d.held.Add(1)
	return nil
}

// release lets go of the context, which ends with the last of its holders.
func (d *Device) release() error {
	if d.held.Add(-1) > 0 {
		return nil
	}
	err := d.do(func() error { return d.transfers.close(d.api) })
	return known(errors.Join(err, d.api.Release(d.number)))
}

// Close ends the use of d. What came of it can still be closed.
func (d *Device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	return d.release()
}

// known leaves out what was said when the device was lost: to close things
// after that is no further mistake.
func known(err error) error {
	if _, lost := errors.AsType[*LostError](err); lost {
		return nil
	}
	return err
}
