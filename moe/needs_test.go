package moe_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
)

func TestNeeds(t *testing.T) {
	have := runtime.Availability{}
	for _, k := range generated.Table.Kernels {
		have[k.Symbol] = runtime.Status{State: runtime.Present}
	}
	expert := func(codec string, gate, up, down uint8) moe.Expert {
		return moe.Expert{Codec: codec, Gate: moe.Matrix{Bits: gate}, Up: moe.Matrix{Bits: up}, Down: moe.Matrix{Bits: down}}
	}
	a, b, dense := expert("trellis", 6, 2, 3), expert("trellis", 7, 5, 2), expert("bf16", 16, 16, 16)
	layers := []moe.Weights{{Experts: []moe.Expert{a, a}, Shared: &a}, {Experts: []moe.Expert{a, b}}, {Experts: []moe.Expert{dense, dense}}}

	helpers, families := 0, map[*runtime.Body]bool{}
	for _, k := range generated.Table.Kernels {
		if k.Codec == "" {
			helpers++
		} else {
			families[k.Body] = true
		}
	}
	needs := moe.Needs(generated.Table, have, layers)
	require.Len(t, needs, helpers+4*len(families)+1, "two tuples, alone and shared, and the host's")
	for _, n := range needs {
		switch {
		case n.Codec == "bf16":
			require.Equal(t, moe.Need{Codec: "bf16", Tuple: dense.Tuple(), Experts: 2, State: moe.NeedHost}, n)
			continue
		case n.Codec == "":
			require.Zero(t, n.Experts)
			require.Equal(t, moe.NeedPresent, n.State)
		case n.Tuple == a.Tuple():
			require.Equal(t, moe.NeedPresent, n.State)
			require.Equal(t, 4, n.Experts)
		default:
			require.Equal(t, moe.NeedGeneric, n.State, "no spec lists 7_5_2")
			require.Equal(t, 1, n.Experts)
			require.Equal(t, runtime.Generic, generated.Table.Kernel(n.Runs).Kind)
		}
		require.Equal(t, n.Kernel, n.Runs)
		require.Equal(t, n.Pass, generated.Table.Kernel(n.Runs).Pass)
	}
	require.Len(t, moe.Needs(generated.Table, have, layers[:1]), helpers+len(families), "one tuple shares with no other")

	// What is not there is told, and what runs in its place.
	find := func(have runtime.Availability, pass runtime.Pass, family string, shared bool) moe.Need {
		for _, n := range moe.Needs(generated.Table, have, layers) {
			if n.Pass == pass && n.Family == family && n.Shared == shared && (n.Codec == "" || n.Tuple == a.Tuple()) {
				return n
			}
		}
		t.Fatal("not needed")
		return moe.Need{}
	}
	less := maps.Clone(have)
	delete(less, generated.MoeTrellisSwigluDecode623)
	delete(less, generated.MoeCombine)
	less[generated.MoeTrellisSwigluDecodeFairwayDown] = runtime.Status{State: runtime.Failed, Words: "too long"}
	n := find(less, runtime.GateUp, "decode", false)
	require.Equal(t, moe.NeedMissing, n.State)
	require.Equal(t, generated.MoeTrellisSwigluDecode623, n.Kernel)
	require.Equal(t, generated.MoeTrellisSwigluDecodeFairway, n.Runs)
	n = find(less, runtime.Down, "decode", true)
	require.Equal(t, moe.NeedFailed, n.State)
	require.Equal(t, "too long", n.Words)
	require.Equal(t, generated.MoeTrellisSwigluDecode623Down, n.Runs)
	n = find(less, runtime.Combine, "", false)
	require.Equal(t, moe.Need{Pass: runtime.Combine, Kernel: generated.MoeCombine, State: moe.NeedMissing}, n)
	n = find(runtime.Availability{}, runtime.Down, "base", true)
	require.Equal(t, moe.NeedMissing, n.State)
	require.Equal(t, generated.MoeTrellisSwigluFairwayDown, n.Kernel)
	require.Empty(t, n.Runs)
}
