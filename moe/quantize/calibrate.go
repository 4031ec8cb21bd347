package quantize

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/model"
)

// A Calibration is a text that an unquantised model reads while its experts
// are quantised, so that their errors count by what they do to its states.
type Calibration struct {
	Model   *model.Model // of the checkpoint that is quantised
	Windows [][]int32    // sequences of tokens
}

// A walk takes the states of all windows from layer to layer.
type walk struct {
	model  *model.Model
	states [][]float32 // of each window, [tokens, hidden], that enter layer next
	next   int
}

// newWalk returns a walk at the first layer.
func (c *Calibration) newWalk() (*walk, error) {
	if len(c.Windows) == 0 {
		return nil, errors.New("the text to calibrate with is empty")
	}
	w := &walk{model: c.Model}
	for i, ids := range c.Windows {
		if len(ids) > c.Model.MaxPositions() {
			return nil, fmt.Errorf("window %d has %d tokens; the model takes %d", i, len(ids), c.Model.MaxPositions())
		}
		x, err := c.Model.Embed(ids)
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i, err)
		}
		w.states = append(w.states, x)
	}
	return w, nil
}

// fork returns a walk that goes on from where w is with the first n windows.
func (w *walk) fork(n int) *walk {
	f := &walk{model: w.model, next: w.next}
	for _, x := range w.states[:min(n, len(w.states))] {
		f.states = append(f.states, slices.Clone(x))
	}
	return f
}

// enter walks on to layer n and returns what its feed-forward network takes,
// [tokens, hidden] of all windows.
func (w *walk) enter(ctx context.Context, n int) ([]float32, error) {
	if err := w.pass(ctx, n); err != nil {
		return nil, err
	}
	return w.attend(ctx)
}

// finish walks past the last layer and returns the states there, of each
// window.
func (w *walk) finish(ctx context.Context) ([][]float32, error) {
	return w.states, w.pass(ctx, w.model.Layers())
}

// pass walks past all layers before layer n.
func (w *walk) pass(ctx context.Context, n int) error {
	for w.next < n {
		x, err := w.attend(ctx)
		if err != nil {
			return err
		}
		y, err := w.forward(ctx, x)
		if err != nil {
			return err
		}
		w.leave(y)
	}
	return nil
}

// attend runs the attention of the next layer and returns what its feed-forward
// network takes.
func (w *walk) attend(ctx context.Context) ([]float32, error) {
	ins := make([][]float32, len(w.states))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, x := range w.states {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			w.model.Attend(w.next, w.model.NewCache(), x)
			ins[i] = w.model.Input(w.next, x)
			return nil
		})
	}
	err := group.Wait()
	return slices.Concat(ins...), err
}

// forward returns what the feed-forward network of the next layer makes of x.
func (w *walk) forward(ctx context.Context, x []float32) ([]float32, error) {
	var out []float32
	for part := range slices.Chunk(x, moe.MaxTokens*w.model.Hidden()) {
		y, err := w.model.FeedForward(ctx, w.next, part)
		if err != nil {
			return nil, err
		}
		out = append(out, y...)
	}
	return out, nil
}

// leave adds y, the output of the next layer's feed-forward network, and goes
// past it.
func (w *walk) leave(y []float32) {
	for _, x := range w.states {
		for i := range x {
			x[i] += y[i]
		}
		y = y[len(x):]
	}
	w.next++
}

// rows returns the rows of each expert of the next layer, whose inputs are x:
// the routed experts', and behind them the shared one's.
func (w *walk) rows(x []float32, experts int, shared bool) ([]rows, error) {
	hidden := w.model.Hidden()
	all := make([]rows, experts, experts+1)
	first := 0
	for part := range slices.Chunk(x, moe.MaxTokens*hidden) {
		r, err := w.model.MoE(w.next).Route(part)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", w.next, err)
		}
		for i, e := range r.Experts {
			all[e].token = append(all[e].token, first+i/r.TopK)
			all[e].weight = append(all[e].weight, r.Weights[i])
		}
		first += r.Tokens
	}
	if shared {
		var s rows
		for t := range first {
			s.token, s.weight = append(s.token, t), append(s.weight, 1)
		}
		all = append(all, s)
	}
	return all, nil
}
