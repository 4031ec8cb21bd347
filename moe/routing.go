package moe

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/runtime"
)

// A deviceRouter is how a layer routes on its device.
type deviceRouter struct {
	kernel  *runtime.Kernel
	routing []byte // the kernel's constants
	result  []byte // read back
}

// routeOnDevice makes l route on its device from now on.
func (l *Layer) routeOnDevice() error {
	choice, err := l.planner.selected(runtime.Request{Pass: runtime.Route})
	if err != nil {
		return fmt.Errorf("routing on the device: %w", err)
	}
	r := &l.weights.Router
	routing := runtime.Routing{
		TopK: uint32(r.TopK), Groups: uint32(r.Groups), TopKGroups: uint32(r.TopKGroups), Scale: r.Scale,
	}
	if r.Normalize {
		routing.Normalize = 1
	}
	l.router = &deviceRouter{kernel: choice.Kernel, routing: runtime.AppendRouting(nil, routing)}
	for name, content := range map[string][]float32{"router": r.Weight, "bias": r.Bias} {
		b, err := l.buffer(name, 4*len(content))
		if err != nil {
			return err
		}
		if _, err := b.WriteAt(bytesOf(content), 0); err != nil {
			return err
		}
	}
	return nil
}

// routed says where a result buffer holds what the route kernel chose for some
// rows, and how long it is.
func routed(rows int) (prob, size int) {
	prob = aligned(4 * rows)
	return prob, prob + 4*rows
}

// aligned returns the next place for an argument.
func aligned(n int) int { return (n + runtime.Align - 1) &^ (runtime.Align - 1) }

// route decides for the tokens of x, which are on the device already: there, if
// the layer routes there and the kernel can be launched, or else on the host.
func (f *forward) route(ctx context.Context, x []float32) error {
	if f.router == nil {
		return f.decision.route(&f.weights.Router, &f.routing, x, f.weights.Hidden)
	}
	k := f.router.kernel
	rows, tokens := int(f.shape.Rows), int(f.shape.Tokens)
	prob, size := routed(rows)
	result, err := f.buffer("routed", size)
	if err != nil {
		return err
	}
	scores, err := f.buffer("scores", 4*tokens*(len(f.weights.Experts)+f.weights.Router.Groups))
	if err != nil {
		return err
	}
	f.args["routing"] = runtime.Arg{Bytes: f.router.routing}
	f.args["router"], f.args["bias"] = runtime.Arg{Buffer: f.scratch["router"]}, runtime.Arg{Buffer: f.scratch["bias"]}
	f.args["scores"] = runtime.Arg{Buffer: scores}
	f.args["chosen"], f.args["chosen_prob"] = runtime.Arg{Buffer: result}, runtime.Arg{Buffer: result, Offset: prob}
	f.given, f.shapes, f.failed = f.given[:0], f.shapes[:0], nil
	f.launch(k, 0)
	if err := f.wait(ctx); err != nil {
		return err
	}
	if f.failed[k] != nil {
		f.counters.fallback(Fallback{Pass: runtime.Route, From: runtime.Helper, To: Host, Reason: runtime.ReasonLaunch})
		return f.decision.route(&f.weights.Router, &f.routing, x, f.weights.Hidden)
	}
	f.counters.launch(k.Symbol)
	f.router.result = sized(f.router.result, size)
	if _, err := result.ReadAt(f.router.result, 0); err != nil {
		return err
	}
	return f.take(f.router.result, tokens)
}

// take makes a routing of what the route kernel chose for some tokens.
func (f *forward) take(result []byte, tokens int) error {
	r := &f.routing
	slots := int(f.shape.Slots)
	prob, _ := routed(tokens * slots)
	r.Tokens, r.TopK = tokens, f.weights.Router.TopK
	r.Experts, r.Weights = r.Experts[:0], r.Weights[:0]
	for t := range tokens {
		for i := t * slots; i < t*slots+r.TopK; i++ {
			weight := math.Float32frombits(binary.LittleEndian.Uint32(result[prob+4*i:]))
			if v := float64(weight); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("router: a weight of token %d is %v", t, v)
			}
			r.Experts = append(r.Experts, int(binary.LittleEndian.Uint32(result[4*i:])))
			r.Weights = append(r.Weights, weight)
		}
	}
	return nil
}
