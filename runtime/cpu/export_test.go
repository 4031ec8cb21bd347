package cpu

import (
	"context"

	"github.com/marlingen/marlingen/runtime"
)

// RunFirst runs the first of the launches of q and those that can join it, which
// Wait will do again, and returns how many.
func RunFirst(ctx context.Context, q runtime.Queue) int {
	of := q.(*queue)
	defer of.pending[0].call.leave()
	n, _ := runSome(ctx, of.library.device.engine, of.pending)
	return n
}
