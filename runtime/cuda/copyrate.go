package cuda

import (
	"errors"
	"fmt"
	"slices"

	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// CopyRate returns the bytes that the GPU reads and writes in a second while it
// copies size bytes of its memory to another place there: the median of some
// copies. To be of use, size is many times that of the GPU's cache.
func (d *Device) CopyRate(size int) (float64, error) {
	from, err := d.NewBuffer(size)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := d.NewBuffer(size)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	var rates []float64
	err = d.do(func() error { return d.transfers.rates(d.api, to.(*buffer).at, from.(*buffer).at, size, &rates) })
	if err != nil {
		return 0, fmt.Errorf("cuda: copy rate: %w", err)
	}
	slices.Sort(rates)
	return rates[len(rates)/2], nil
}

// rates times copies.
func (t *transfers) rates(api *driver.API, to, from driver.Pointer, size int, rates *[]float64) (err error) {
	const copies = 9
	t.mu.Lock()
	defer t.mu.Unlock()
	var events [copies + 1]driver.Event
	defer func() {
		for _, e := range events {
			if e != 0 {
				err = errors.Join(err, api.DestroyEvent(e))
			}
		}
	}()
	for i := range events {
		if events[i], err = api.NewEvent(); err != nil {
			return err
		}
	}
	if err := api.Copy(to, from, size, t.stream); err != nil { // to warm up
		return err
	}
	for i, e := range events {
		if err := api.Record(e, t.stream); err != nil {
			return err
		}
		if i < copies {
			if err := api.Copy(to, from, size, t.stream); err != nil {
				return err
			}
		}
	}
	if err := t.finish(api); err != nil {
		return err
	}
	for i := range copies {
		took, err := api.Elapsed(events[i], events[i+1])
		if err != nil {
			return err
		}
		*rates = append(*rates, 2*float64(size)/took.Seconds())
	}
	return nil
}
