package moe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
)

// faults say what goes wrong with kernels, by symbol.
type faults struct {
	missing []string
	failed  []string // to compile
	launch  []string // refused by Launch
	wait    []string // reported by Wait, after doing harm
}

type faultyLibrary struct {
	runtime.Library
	faults
}

func (l faultyLibrary) Availability() runtime.Availability {
	have := maps.Clone(l.Library.Availability())
	for _, symbol := range l.missing {
		delete(have, symbol)
	}
	for _, symbol := range l.failed {
		have[symbol] = runtime.Status{State: runtime.Failed, Words: "error: not today"}
	}
	return have
}

func (l faultyLibrary) NewQueue() (runtime.Queue, error) {
	q, err := l.Library.NewQueue()
	return &faultyQueue{Queue: q, faults: l.faults}, err
}

type faultyQueue struct {
	runtime.Queue
	faults
	broken []error
}

var errInjected = errors.New("injected")

func (q *faultyQueue) Launch(l runtime.Launch) error {
	for _, symbol := range q.launch {
		if l.Kernel.Symbol == symbol {
			return &runtime.LaunchError{Kernel: l.Kernel, Err: errInjected}
		}
	}
	for _, symbol := range q.wait {
		if l.Kernel.Symbol == symbol {
			q.broken = append(q.broken, &runtime.LaunchError{Kernel: l.Kernel, Err: errInjected})
			return q.spoil(l)
		}
	}
	return q.Queue.Launch(l)
}

// spoil fills what l owns of its output with NaN: the rows of its work list or,
// if it has none, everything.
func (q *faultyQueue) spoil(l runtime.Launch) error {
	args := map[string]runtime.Arg{}
	var output runtime.Buffer
	for i, b := range l.Kernel.Bindings {
		args[b.Name] = l.Args[i]
		if b.Access == runtime.Write {
			output = l.Args[i].Buffer
		}
	}
	spoil := func(first, end int) error {
		_, err := output.WriteAt(bytes.Repeat([]byte{0xff}, end-first), int64(first))
		return err
	}
	if l.Kernel.Pass == runtime.Combine {
		return spoil(0, output.Size())
	}
	columns := l.Shape.Hidden
	if l.Kernel.Pass == runtime.GateUp {
		columns = l.Shape.Intermediate
	}
	work := make([]runtime.Work, l.Shape.Items)
	items := make([]byte, binary.Size(work))
	if _, err := args["work"].Buffer.ReadAt(items, int64(args["work"].Offset)); err != nil {
		return err
	}
	if _, err := binary.Decode(items, binary.LittleEndian, work); err != nil {
		return err
	}
	for _, w := range work {
		if err := spoil(int(4*w.First*columns), int(4*(w.First+w.Rows)*columns)); err != nil {
			return err
		}
	}
	return nil
}

func (q *faultyQueue) Wait(ctx context.Context) error {
	err := errors.Join(append(q.broken, q.Queue.Wait(ctx))...)
	q.broken = nil
	return err
}

// Every expert has the one row of the one token, so the family is decode.
func TestFallback(t *testing.T) {
	const (
		tuple, fairway, generic = runtime.Tuple, runtime.Fairway, runtime.Generic
		gateUp, down            = runtime.GateUp, runtime.Down
	)
	a, b := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, runtime.BitTuple{Gate: 4, Up: 4, Down: 4}
	fairways := []string{generated.MoeTrellisSwigluDecodeFairway, generated.MoeTrellisSwigluDecodeFairwayDown}
	for _, test := range []struct {
		name      string
		faults    faults
		launches  map[string]uint64
		fallbacks map[moe.Fallback]uint64
	}{
		{
			"nothing", faults{},
			map[string]uint64{fairways[0]: 1, fairways[1]: 1, generated.MoeCombine: 1},
			map[moe.Fallback]uint64{},
		},
		{
			"fairway missing", faults{missing: fairways},
			map[string]uint64{
				generated.MoeTrellisSwigluDecode623: 1, generated.MoeTrellisSwigluDecode623Down: 1,
				generated.MoeTrellisSwigluDecode444: 1, generated.MoeTrellisSwigluDecode444Down: 1, generated.MoeCombine: 1,
			},
			map[moe.Fallback]uint64{
				{a, gateUp, fairway, tuple, runtime.ReasonMissing}: 1, {a, down, fairway, tuple, runtime.ReasonMissing}: 1,
				{b, gateUp, fairway, tuple, runtime.ReasonMissing}: 1, {b, down, fairway, tuple, runtime.ReasonMissing}: 1,
			},
		},
		{
			"one kernel does not compile", faults{missing: fairways[:1], failed: []string{generated.MoeTrellisSwigluDecode444}},
			map[string]uint64{
				generated.MoeTrellisSwigluDecode623: 1, generated.MoeTrellisSwigluDecode: 1, fairways[1]: 1, generated.MoeCombine: 1,
			},
			map[moe.Fallback]uint64{
				{a, gateUp, fairway, tuple, runtime.ReasonMissing}: 1,
				{b, gateUp, fairway, tuple, runtime.ReasonMissing}: 1,
				{b, gateUp, tuple, generic, runtime.ReasonFailed}:  1,
			},
		},
		{
			"one tuple has no kernel at all",
			faults{missing: append([]string{generated.MoeTrellisSwigluDecode444Down, generated.MoeTrellisSwigluDecodeDown}, fairways...)},
			map[string]uint64{
				generated.MoeTrellisSwigluDecode623: 1, generated.MoeTrellisSwigluDecode623Down: 1, generated.MoeCombine: 1,
			},
			map[moe.Fallback]uint64{
				{a, gateUp, fairway, tuple, runtime.ReasonMissing}:  1,
				{a, down, fairway, tuple, runtime.ReasonMissing}:    1,
				{b, down, fairway, tuple, runtime.ReasonMissing}:    1,
				{b, down, tuple, generic, runtime.ReasonMissing}:    1,
				{b, down, generic, moe.Host, runtime.ReasonMissing}: 1,
			},
		},
		{
			"a launch is refused", faults{missing: fairways, launch: []string{generated.MoeTrellisSwigluDecode444}},
			map[string]uint64{
				generated.MoeTrellisSwigluDecode623: 1, generated.MoeTrellisSwigluDecode623Down: 1,
				generated.MoeTrellisSwigluDecode444Down: 2, generated.MoeTrellisSwigluDecode: 1, generated.MoeCombine: 2,
			},
			map[moe.Fallback]uint64{
				{a, gateUp, fairway, tuple, runtime.ReasonMissing}: 1, {a, down, fairway, tuple, runtime.ReasonMissing}: 1,
				{b, gateUp, fairway, tuple, runtime.ReasonMissing}: 1, {b, down, fairway, tuple, runtime.ReasonMissing}: 1,
				{b, gateUp, tuple, generic, runtime.ReasonLaunch}: 1,
			},
		},
		{
			"a launch fails midway", faults{missing: fairways, wait: []string{generated.MoeTrellisSwigluDecode623}},
			map[string]uint64{
				generated.MoeTrellisSwigluDecode444: 1, generated.MoeTrellisSwigluDecode444Down: 1,
				generated.MoeTrellisSwigluDecode623Down: 2, generated.MoeTrellisSwigluDecode: 1, generated.MoeCombine: 2,
			},
			map[moe.Fallback]uint64{
				{a, gateUp, fairway, tuple, runtime.ReasonMissing}: 1, {a, down, fairway, tuple, runtime.ReasonMissing}: 1,
				{b, gateUp, fairway, tuple, runtime.ReasonMissing}: 1, {b, down, fairway, tuple, runtime.ReasonMissing}: 1,
				{a, gateUp, tuple, generic, runtime.ReasonLaunch}: 1,
			},
		},
		{
			"the shared launch fails midway", faults{wait: fairways[1:]},
			map[string]uint64{
				fairways[0]: 2, generated.MoeTrellisSwigluDecode623Down: 1, generated.MoeTrellisSwigluDecode444Down: 1, generated.MoeCombine: 2,
			},
			map[moe.Fallback]uint64{
				{a, down, fairway, tuple, runtime.ReasonLaunch}: 1, {b, down, fairway, tuple, runtime.ReasonLaunch}: 1,
			},
		},
		{
			"every launch fails",
			faults{launch: []string{fairways[0], generated.MoeTrellisSwigluDecode}, wait: []string{generated.MoeTrellisSwigluDecode623, generated.MoeTrellisSwigluDecode444, generated.MoeCombine}},
			map[string]uint64{fairways[1]: 3},
			map[moe.Fallback]uint64{
				{a, gateUp, fairway, tuple, runtime.ReasonLaunch}:                                     1,
				{a, gateUp, tuple, generic, runtime.ReasonLaunch}:                                     1,
				{a, gateUp, generic, moe.Host, runtime.ReasonLaunch}:                                  1,
				{b, gateUp, fairway, tuple, runtime.ReasonLaunch}:                                     1,
				{b, gateUp, tuple, generic, runtime.ReasonLaunch}:                                     1,
				{b, gateUp, generic, moe.Host, runtime.ReasonLaunch}:                                  1,
				{runtime.BitTuple{}, runtime.Combine, runtime.Helper, moe.Host, runtime.ReasonLaunch}: 1,
			},
		},
		{
			"the sum is missing", faults{missing: []string{generated.MoeCombine}},
			map[string]uint64{fairways[0]: 1, fairways[1]: 1},
			map[moe.Fallback]uint64{
				{runtime.BitTuple{}, runtime.Combine, runtime.Helper, moe.Host, runtime.ReasonMissing}: 1,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(25, 26))
			m := newModel(t, r, 80, 48, []runtime.BitTuple{a, b, a}, false, 3)
			s := requireForward(t, m, options(t, test.faults), randomInput(r, 80))
			require.Equal(t, test.launches, s.Launches)
			require.Equal(t, test.fallbacks, s.Fallbacks)
			require.Equal(t, map[runtime.BitTuple]uint64{a: 2, b: 1}, s.Assignments)
			require.Len(t, s.FallbackCounts(), len(test.fallbacks))
		})
	}
}

// Whatever is taken away, the result is the oracle's.
func TestFallbackProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	tuples := tuplesOf(t, "6_2_3", "4_4_4", "7_7_7", "16_16_16", "6_2_3", "5_3_4")
	m := newModel(t, r, 48, 32, tuples, true, 2)
	symbols := []string{generated.MoeCombine}
	for _, k := range generated.Table.Kernels {
		if k.Kind != runtime.Helper {
			symbols = append(symbols, k.Symbol)
		}
	}
	for range 40 {
		var f faults
		for _, symbol := range symbols {
			switch r.IntN(8) {
			case 0:
				f.missing = append(f.missing, symbol)
			case 1:
				f.failed = append(f.failed, symbol)
			case 2:
				f.launch = append(f.launch, symbol)
			case 3:
				f.wait = append(f.wait, symbol)
			}
		}
		tokens := 1 + r.IntN(60)
		s := requireForward(t, m, options(t, f), randomInput(r, tokens*48))
		var rows uint64
		for _, n := range s.Assignments {
			rows += n
		}
		require.Equal(t, uint64(3*tokens), rows)
	}
}

// The last step is an error, which says what is lacking.
func TestFallbackToError(t *testing.T) {
	r := rand.New(rand.NewPCG(29, 30))
	m := newModel(t, r, 48, 32, tuplesOf(t, "7_7_7", "16_16_16"), false, 2)
	o := options(t, faults{missing: []string{generated.MoeTrellisSwigluDecode}})
	o.Codecs = nil
	layer, err := moe.NewLayer(m.Weights, o)
	require.NoError(t, err)
	_, err = layer.Forward(context.Background(), randomInput(r, 48))
	require.ErrorContains(t, err, "no kernel for gate_up of trellis 7_7_7 with 1 rows")
	require.ErrorContains(t, err, `add the line "- 7_7_7" to tuples in specs/codecs/trellis.yaml`)
	require.ErrorContains(t, err, "no kernel for gate_up of bf16 16_16_16 with 1 rows")
	require.ErrorContains(t, err, `the host has no codec "bf16"`)
	require.Zero(t, layer.Counters().Snapshot().Forwards)
}
