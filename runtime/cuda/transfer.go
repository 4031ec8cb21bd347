package cuda

import (
	"errors"
	"sync"

	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// stagingBytes is what small writes are gathered in; a write of more than half
// of it is not small.
const stagingBytes = 1 << 20

// transfers are the copies from and to the memory of a device. They go through
// one stream. What is written to a buffer is on its way when the write returns;
// a queue waits for it on the device, before its next launch.
type transfers struct {
	mu      sync.Mutex
	stream  driver.Stream
	written driver.Event
	staging []byte // of the host, that the device reads by itself
	staged  int
	writes  uint64 // since the beginning
}

func (t *transfers) open(api *driver.API) (err error) {
	if t.stream, err = api.NewStream(); err != nil {
		return err
	}
	if t.written, err = api.NewEvent(); err != nil {
		return err
	}
	t.staging, err = api.AllocHost(stagingBytes)
	return err
}

// close frees what open got.
func (t *transfers) close(api *driver.API) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	if t.stream != 0 {
		errs = append(errs, api.Synchronize(t.stream))
	}
	if t.staging != nil {
		errs = append(errs, api.FreeHost(t.staging))
	}
	if t.written != 0 {
		errs = append(errs, api.DestroyEvent(t.written))
	}
	if t.stream != 0 {
		errs = append(errs, api.DestroyStream(t.stream))
	}
	t.stream, t.written, t.staging = 0, 0, nil
	return errors.Join(errs...)
}

// zero clears memory of the device.
func (t *transfers) zero(api *driver.API, to driver.Pointer, size int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes++
	return api.Fill(to, 0, size, t.stream)
}

// write copies from the host, which may change from when it returns.
func (t *transfers) write(api *driver.API, to driver.Pointer, from []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes++
	if len(from) > len(t.staging)/2 {
		if err := api.Upload(to, from, t.stream); err != nil {
			return err
		}
		return t.finish(api)
	}
	if len(from) > len(t.staging)-t.staged {
		if err := t.finish(api); err != nil {
			return err
		}
	}
	from = t.staging[t.staged:][:copy(t.staging[t.staged:], from)]
	t.staged += len(from)
	return api.Upload(to, from, t.stream)
}

// read copies to the host.
func (t *transfers) read(api *driver.API, to []byte, from driver.Pointer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := api.Download(to, from, t.stream); err != nil {
		return err
	}
	return t.finish(api)
}

// finish waits for all copies.
func (t *transfers) finish(api *driver.API) error {
	t.staged = 0
	return api.Synchronize(t.stream)
}

// order makes a stream wait for the writes since it has seen some, and returns
// how many it has seen now.
func (t *transfers) order(api *driver.API, s driver.Stream, seen uint64) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writes == seen {
		return seen, nil
	}
	if err := api.Record(t.written, t.stream); err != nil {
		return seen, err
	}
	return t.writes, api.WaitEvent(s, t.written)
}
