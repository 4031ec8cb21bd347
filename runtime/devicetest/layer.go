package devicetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A layer is a whole mixture-of-experts layer on a device: sixteen routed
// experts of all specialised tuples and of others, and a shared one.
type layer struct {
	session *session
	codec   *runtime.Codec
	shape   runtime.Shape
	tuples  []runtime.BitTuple // by expert
	inputs  inputs
	sizes   outputs
	args    map[string]runtime.Arg
}

const (
	layerRouted       = 16
	layerTopK         = 4
	layerHidden       = 144
	layerIntermediate = 112
)

// checkLayer runs the passes of a layer, chosen as a layer chooses them, in two
// submissions: routing and grouping; the experts and their sum.
func checkLayer(s *session, codec *runtime.Codec) error {
	r := rand.New(rand.NewPCG(1, 5))
	w, err := newWeights(codec)
	if err != nil {
		return err
	}
	tuples := append([]runtime.BitTuple{{Gate: codec.Widths[0], Up: codec.Widths[len(codec.Widths)-1], Down: codec.Widths[1]}}, codec.Tuples...)
	l := &layer{session: s, codec: codec}
	var experts []oracle.Expert
	for i := range layerRouted + 1 {
		l.tuples = append(l.tuples, tuples[i%len(tuples)])
		e, err := w.expert(r, l.tuples[i], layerHidden, layerIntermediate, runtime.GateUp, runtime.Down)
		if err != nil {
			return err
		}
		experts = append(experts, e)
	}
	router, bias := normal(r, layerRouted*layerHidden, 2/math.Sqrt(layerHidden)), normal(r, layerRouted, 0.1)
	truth := oracle.Layer{
		Router: oracle.Router{
			Weight: oracle.Matrix{Out: layerRouted, In: layerHidden, W: oracle.Floats(router)}, Bias: oracle.Floats(bias),
			TopK: layerTopK, Groups: 1, TopKGroups: 1, Normalize: true, Scale: 1.75,
		},
		Experts: experts[:layerRouted], Shared: &experts[layerRouted],
	}
	routing := runtime.Routing{TopK: layerTopK, Groups: 1, TopKGroups: 1, Normalize: 1, Scale: 1.75}
	for _, tokens := range []int{1, 40, 7, 130} {
		x := normal(r, tokens*layerHidden, 1)
		l.inputs = inputs{
			"routing": runtime.AppendRouting(nil, routing), "router": encode(router), "bias": encode(bias),
			"weights": w.data, "experts": w.descriptors, "x": encode(x),
		}
		have, err := l.forward(tokens)
		if err != nil {
			return err
		}
		rows := make([][]float64, tokens)
		for t := range rows {
			rows[t] = oracle.Floats(x[t*layerHidden : (t+1)*layerHidden])
		}
		want, choices, err := truth.Forward(rows)
		if err != nil {
			return err
		}
		for t := range rows {
			if choices[t].Margin < tolerance*choices[t].Magnitude/4 {
				continue
			}
			for i := range want[t].Magnitude { // the weights of the experts are off, too
				want[t].Magnitude[i] *= 2 + choices[t].Magnitude
			}
			if err := s.judge(have[t*layerHidden:(t+1)*layerHidden], want[t]); err != nil {
				return fmt.Errorf("%d tokens, token %d: %w", tokens, t, err)
			}
		}
	}
	return nil
}

// forward returns the output of l for its input x.
func (l *layer) forward(tokens int) ([]float32, error) {
	const slots = layerTopK + 1
	rows, experts := tokens*slots, len(l.tuples)
	blocks := (rows + block - 1) / block
	l.shape = runtime.Shape{
		Tokens: uint32(tokens), Slots: slots, Experts: uint32(experts),
		Hidden: layerHidden, Intermediate: layerIntermediate, Rows: uint32(rows),
	}
	l.sizes = outputs{
		"scores": 4 * tokens * (layerRouted + 1), "chosen": 4 * rows, "chosen_prob": 4 * rows,
		"counts": 4 * blocks * experts, "base": 4 * blocks * experts, "offsets": 4 * (experts + 1),
		"token": 4 * rows, "prob": 4 * rows, "row": 4 * rows,
		"h": 4 * rows * layerIntermediate, "y": 4 * rows * layerHidden, "out": 4 * tokens * layerHidden,
	}
	l.args = make(map[string]runtime.Arg)
	for name, data := range l.inputs {
		var err error
		if name == "weights" {
			l.args[name], err = l.session.wrap(name, data)
		} else {
			l.args[name], err = l.session.place(name, len(data), data)
		}
		if err != nil {
			return nil, err
		}
	}
	for name, size := range l.sizes {
		var err error
		if l.args[name], err = l.session.place(name, size, nil); err != nil {
			return nil, err
		}
	}

	for _, pass := range []runtime.Pass{runtime.Route, runtime.Count, runtime.Prefix, runtime.Scatter} {
		if err := l.helper(pass); err != nil {
			return nil, err
		}
	}
	if err := l.session.queue.Wait(l.session.ctx); err != nil {
		return nil, err
	}
	grouped, err := l.session.results(outputs{"offsets": l.sizes["offsets"]})
	if err != nil {
		return nil, err
	}
	offsets := decodeUints(grouped["offsets"])
	for e := range l.tuples {
		if offsets[e] > offsets[e+1] || int(offsets[e+1]) > rows {
			return nil, fmt.Errorf("offsets %v of %d rows", offsets, rows)
		}
	}

	for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
		if err := l.experts(pass, offsets); err != nil {
			return nil, err
		}
	}
	if err := l.helper(runtime.Combine); err != nil {
		return nil, err
	}
	if err := l.session.queue.Wait(l.session.ctx); err != nil {
		return nil, err
	}
	out, err := l.session.results(outputs{"out": l.sizes["out"]})
	return decodeFloats(out["out"]), err
}

// helper enqueues a helper pass and a barrier.
func (l *layer) helper(pass runtime.Pass) error {
	choice, err := runtime.Select(l.session.table, l.session.lib.Availability(), runtime.Request{Pass: pass})
	if err != nil {
		return err
	}
	if err := l.launch(choice.Kernel, l.shape, l.args); err != nil {
		return err
	}
	l.session.queue.Barrier()
	return nil
}

// experts enqueues the launches of pass, one for each kernel that is best for
// some expert, and a barrier.
func (l *layer) experts(pass runtime.Pass, offsets []uint32) error {
	work := make(map[*runtime.Kernel][]runtime.Work)
	for e, tuple := range l.tuples {
		rows := int(offsets[e+1] - offsets[e])
		if rows == 0 {
			continue
		}
		choice, err := runtime.Select(l.session.table, l.session.lib.Availability(), runtime.Request{
			Pass: pass, Codec: l.codec.Name, Tuple: tuple, Rows: rows, Shared: e%2 == 0,
		})
		if err != nil {
			return err
		}
		work[choice.Kernel] = append(work[choice.Kernel], split(uint32(e), int(offsets[e]), rows, choice.Kernel.Tile)...)
	}
	for k, items := range work {
		shape := l.shape
		shape.Items = uint32(len(items))
		list, err := l.session.place("work of "+k.Symbol, 12*len(items), encode(items))
		if err != nil {
			return err
		}
		l.args["work"] = list
		if err := l.launch(k, shape, l.args); err != nil {
			return err
		}
	}
	l.session.queue.Barrier()
	return nil
}

func (l *layer) launch(k *runtime.Kernel, shape runtime.Shape, args map[string]runtime.Arg) error {
	launch := runtime.Launch{Kernel: k, Shape: shape}
	for _, b := range k.Bindings {
		arg, ok := args[b.Name]
		switch {
		case b.Name == "shape":
			arg = runtime.Arg{Bytes: runtime.AppendShape(nil, shape)}
		case b.Access == runtime.Constant:
			arg = runtime.Arg{Bytes: l.inputs[b.Name]}
		case !ok:
			return errors.New("the suite has no argument " + b.Name)
		}
		launch.Args = append(launch.Args, arg)
	}
	return l.session.queue.Launch(launch)
}
