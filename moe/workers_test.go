package moe

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// Workers do each task once, and no two at a time with one number.
func TestWorkers(t *testing.T) {
	for name, w := range map[string]runtime.Workers{
		"goroutines": newGoroutines(3), "one goroutine": newGoroutines(1),
		"cpu": cpu.New(cpu.Options{Workers: 3}), "one of cpu": cpu.New(cpu.Options{Workers: 1}),
	} {
		for _, n := range []int{0, 1, 2, 3, 1000} {
			t.Run(fmt.Sprintf("%s, %d", name, n), func(t *testing.T) {
				done, busy := make([]atomic.Int32, n), make([]atomic.Bool, w.Workers())
				w.Each(n, func(worker, i int) {
					if !busy[worker].CompareAndSwap(false, true) {
						t.Errorf("two tasks of worker %d at a time", worker)
					}
					done[i].Add(1)
					busy[worker].Store(false)
				})
				for i := range done {
					require.EqualValues(t, 1, done[i].Load(), i)
				}
			})
		}
	}
}
