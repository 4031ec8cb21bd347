package metal

import (
	"fmt"
	"sync"

	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// A residency is a MTLResidencySet: buffers that the system keeps where the GPU
// can read them, also when it has not done so for a while. It holds what Wrap
// returns: a model's weights. A nil one does nothing.
type residency struct {
	device *Device

	mu sync.Mutex
	id objc.ID // 0 once closed
}

// newResidency returns a set that the command queue uses, or nil on a system
// that has none. To ask for the method is not enough: some GPUs have it, and
// abort when it is called.
func (d *Device) newResidency() (*residency, error) {
	if !d.responds(d.id, d.sel.newResidencySet) || !d.supports(familyMetal3) {
		return nil, nil
	}
	descriptor := d.get(d.get(d.rt.Class("MTLResidencySetDescriptor"), d.sel.alloc), d.sel.init)
	defer d.release(descriptor)
	id, failure := d.rt.SendError(d.id, d.sel.newResidencySet, uintptr(descriptor))
	if id == 0 {
		return nil, fmt.Errorf("residency set: %s", d.words(failure))
	}
	d.tell(d.queue, d.sel.addResidencySet, id)
	return &residency{device: d, id: objc.ID(id)}, nil
}

func (r *residency) add(buffer objc.ID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id == 0 {
		return
	}
	d := r.device
	d.tell(r.id, d.sel.addAllocation, uintptr(buffer))
	d.ask(r.id, d.sel.commit)
	d.ask(r.id, d.sel.requestResidency)
}

func (r *residency) remove(buffer objc.ID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id == 0 {
		return
	}
	d := r.device
	d.tell(r.id, d.sel.removeAllocation, uintptr(buffer))
	d.ask(r.id, d.sel.commit)
}

func (r *residency) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.device
	d.tell(d.queue, d.sel.removeResidencySet, uintptr(r.id))
	d.ask(r.id, d.sel.endResidency)
	d.release(r.id)
	r.id = 0
}
