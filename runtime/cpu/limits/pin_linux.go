package limits

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// pin binds the calling thread to the i-th of the processors that it may use.
func pin(i int) error {
	var usable, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &usable); err != nil {
		return fmt.Errorf("limits: processors of a thread: %w", err)
	}
	for cpu, left := 0, i; cpu < 8*len(usable)*8; cpu++ {
		if !usable.IsSet(cpu) {
			continue
		}
		if left == 0 {
			one.Set(cpu)
			break
		}
		left--
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("limits: thread %d on a processor of its own: %w", i, err)
	}
	return nil
}
