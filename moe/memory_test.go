package moe_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
)

// An idle library runs nothing, and tells of what it is given.
type idleLibrary struct {
	runtime.Library
	launched func(runtime.Launch) // or nil
}

func (l idleLibrary) NewQueue() (runtime.Queue, error) { return idleQueue(l), nil }

type idleQueue idleLibrary

func (q idleQueue) Launch(l runtime.Launch) error {
	if q.launched != nil {
		q.launched(l)
	}
	return nil
}

func (q idleQueue) Barrier()                   {}
func (q idleQueue) Wait(context.Context) error { return nil }
func (q idleQueue) Close() error               { return nil }

// mixed returns a layer of all listed tuples and some others, and a shared
// expert.
func mixed(t *testing.T, r *rand.Rand) *model {
	t.Helper()
	tuples := slices.Clone(generated.Table.Codecs[0].Tuples)
	tuples = append(tuples, tuplesOf(t, "7_7_7", "6_2_3", "6_2_3", "8_2_5", "6_3_4", "4_4_4")...)
	return newModel(t, r, 64, 32, tuples, true, 3)
}

// A forward allocates nothing of its own once it has run as many tokens.
func TestForwardKeepsMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	m := mixed(t, r)
	o := options(t, faults{})
	o.Library = idleLibrary{Library: o.Library}
	for _, tokens := range []int{1, 4, 100} {
		layer, err := moe.NewLayer(m.Weights, o)
		require.NoError(t, err)
		var inputs [][]float32
		for range 50 {
			inputs = append(inputs, randomInput(r, tokens*64))
		}
		out := make([]float32, tokens*64)
		ctx := t.Context()
		forwards := func() {
			for _, x := range inputs {
				if err := layer.ForwardInto(ctx, out, x); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 30 { // grows the memory of each group and step to what any of them needs
			forwards()
		}
		allocations := testing.AllocsPerRun(3, forwards)
		require.Zero(t, allocations, "%d tokens", tokens)
		require.NoError(t, layer.Close())
	}
}

// What a forward launches is what Plan says, whatever came before.
func TestForwardFollowsPlan(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 44))
	m := mixed(t, r)
	type launch struct {
		kernel *runtime.Kernel
		work   []byte
	}
	var launches []launch
	o := options(t, faults{})
	o.Library = idleLibrary{o.Library, func(l runtime.Launch) {
		at := slices.IndexFunc(l.Kernel.Bindings, func(b runtime.Binding) bool { return b.Name == "work" })
		if at < 0 {
			return // combine
		}
		work := make([]byte, 12*l.Shape.Items)
		_, err := l.Args[at].Buffer.ReadAt(work, int64(l.Args[at].Offset))
		require.NoError(t, err)
		launches = append(launches, launch{l.Kernel, work})
	}}
	layer, err := moe.NewLayer(m.Weights, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, layer.Close()) }()
	for range 200 {
		x := randomInput(r, (1+r.IntN(100))*64)
		routing, err := layer.Route(x)
		require.NoError(t, err)
		a, err := layer.Assign(routing)
		require.NoError(t, err)
		plan, err := layer.Plan(a)
		require.NoError(t, err)
		var want []launch
		for _, s := range plan.Steps() {
			var work []byte
			for _, w := range s.Work {
				work = runtime.AppendWork(work, w)
			}
			want = append(want, launch{s.Kernel, work})
		}
		launches = nil
		_, err = layer.Forward(t.Context(), x)
		require.NoError(t, err)
		require.Equal(t, want, launches)
	}
}

func TestForwardIntoErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 46))
	layer, err := moe.NewLayer(mixed(t, r).Weights, options(t, faults{}))
	require.NoError(t, err)
	defer func() { require.NoError(t, layer.Close()) }()
	require.ErrorContains(t, layer.ForwardInto(t.Context(), make([]float32, 65), make([]float32, 64)), "65 outputs for 64 inputs")
}
