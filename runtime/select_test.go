package runtime_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
)

// A world is a random table, what of it is there, and a request.
type world struct {
	table   *runtime.Table
	have    runtime.Availability
	request runtime.Request
}

var (
	passes = []runtime.Pass{runtime.GateUp, runtime.Down}
	kinds  = []runtime.Kind{runtime.Tuple, runtime.Fairway, runtime.Generic}
)

func pick[T any](r *rand.Rand, xs []T) T { return xs[r.IntN(len(xs))] }

func randomTuple(r *rand.Rand) runtime.BitTuple {
	return runtime.BitTuple{Gate: uint8(2 + r.IntN(2)), Up: uint8(2 + r.IntN(2)), Down: uint8(2 + r.IntN(2))}
}

func randomWorld(r *rand.Rand) world {
	w := world{table: &runtime.Table{}, have: runtime.Availability{}}
	for _, codec := range []string{"trellis", "exl3"} {
		c := &runtime.Codec{Name: codec, Widths: []uint8{2, 3}, Spec: "specs/codecs/" + codec + ".yaml"}
		for range r.IntN(4) {
			if t := randomTuple(r); !slices.Contains(c.Tuples, t) {
				c.Tuples = append(c.Tuples, t)
			}
		}
		w.table.Codecs = append(w.table.Codecs, c)
		for _, served := range []runtime.Body{{Rows: runtime.Range{Min: 1, Max: 1}}, {Rows: runtime.Range{Min: 2, Max: 16}},
			{Rows: runtime.Range{Min: 17}}, {Rows: runtime.Range{Min: 1, Max: 2}, LayerRows: 8}, {Rows: runtime.Range{Min: 1, Max: 16}, LayerRows: 100}} {
			for _, pass := range passes {
				if r.IntN(5) == 0 {
					continue
				}
				b := &runtime.Body{Pass: pass, Codec: codec, Rows: served.Rows, LayerRows: served.LayerRows}
				for _, order := range []*[]runtime.Kind{&b.Alone, &b.Shared} {
					for _, i := range r.Perm(len(kinds)) {
						*order = append(*order, kinds[i])
					}
				}
				add := func(kind runtime.Kind, tuples []runtime.BitTuple) {
					k := &runtime.Kernel{Body: b, Kind: kind, Tuples: tuples, Symbol: fmt.Sprintf("k%d", len(w.table.Kernels))}
					w.table.Kernels = append(w.table.Kernels, k)
					switch r.IntN(4) {
					case 0:
						w.have[k.Symbol] = runtime.Status{State: runtime.Failed, Words: "error: words of the compiler"}
					case 1, 2:
						w.have[k.Symbol] = runtime.Status{State: runtime.Present}
					}
				}
				for _, t := range c.Tuples {
					add(runtime.Tuple, []runtime.BitTuple{t})
				}
				add(runtime.Generic, nil)
				if len(c.Tuples) > 0 {
					add(runtime.Fairway, c.Tuples)
				}
			}
		}
	}
	w.request = runtime.Request{
		Pass: pick(r, passes), Codec: pick(r, []string{"trellis", "exl3", "bf16"}), Tuple: randomTuple(r),
		Rows: pick(r, []int{1, 2, 16, 17, 1000}), Layer: pick(r, []int{0, 8, 9, 100, 1000}), Shared: r.IntN(2) == 0,
	}
	return w
}

// runs reports whether k can run r, from the meaning of the columns.
func runs(k *runtime.Kernel, r runtime.Request) bool {
	return k.Pass == r.Pass && k.Codec == r.Codec && k.Rows.Min <= r.Rows && (k.Rows.Max == 0 || r.Rows <= k.Rows.Max) &&
		(k.LayerRows == 0 || max(r.Rows, r.Layer) <= k.LayerRows) &&
		(k.Tuples == nil || slices.Contains(k.Tuples, r.Tuple))
}

// rank returns the place of k in the preference that counts for r: kinds of a
// body for fewer rows of a layer come before those of another.
func (w world) rank(k *runtime.Kernel) int {
	r, before := w.request, 0
	seen := map[*runtime.Body]bool{}
	for _, o := range w.table.Kernels {
		anyTuple := &runtime.Kernel{Body: o.Body}
		if !seen[o.Body] && o.LayerRows > 0 && (k.LayerRows == 0 || o.LayerRows < k.LayerRows) && runs(anyTuple, r) {
			seen[o.Body] = true
			before += len(kinds)
		}
	}
	if r.Shared {
		return before + slices.Index(k.Shared, k.Kind)
	}
	return before + slices.Index(k.Alone, k.Kind)
}

// Whatever the table and whatever is there of it: a kernel that is chosen is
// present and can run the request, no present one would be better, and there
// is an error only if none is present.
func TestSelectProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	chosen, refused := 0, 0
	for range 20_000 {
		w := randomWorld(r)
		var present []*runtime.Kernel
		for _, k := range w.table.Kernels {
			if runs(k, w.request) && w.have[k.Symbol].State == runtime.Present {
				present = append(present, k)
			}
		}
		choice, err := runtime.Select(w.table, w.have, w.request)
		if len(present) == 0 {
			refused++
			var none *runtime.NoKernelError
			require.ErrorAs(t, err, &none)
			require.Nil(t, choice.Kernel)
			require.NotEmpty(t, none.Advice)
			continue
		}
		chosen++
		require.NoError(t, err)
		require.Contains(t, present, choice.Kernel)
		for _, k := range present {
			require.LessOrEqual(t, w.rank(choice.Kernel), w.rank(k))
		}
		// What was passed over is exactly what is preferred to the choice.
		require.Len(t, choice.Passed, w.rank(choice.Kernel))
		for _, p := range choice.Passed {
			if p.Symbol == "" {
				require.Equal(t, runtime.ReasonUnlisted, p.Reason)
				continue
			}
			status := w.have[p.Symbol]
			require.NotEqual(t, runtime.Present, status.State)
			require.Equal(t, status.Words, p.Words)
			require.Equal(t, map[runtime.State]runtime.Reason{
				runtime.Missing: runtime.ReasonMissing, runtime.Failed: runtime.ReasonFailed,
			}[status.State], p.Reason)
		}

		again, err := runtime.Select(w.table, w.have, w.request)
		require.NoError(t, err)
		require.Equal(t, choice, again)
	}
	require.Greater(t, chosen, 1000)
	require.Greater(t, refused, 1000)
}

// An override is taken if and only if it can run the request and is present.
func TestOverrideProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	taken := 0
	for range 20_000 {
		w := randomWorld(r)
		k := pick(r, w.table.Kernels)
		w.request.Override = k.Symbol
		choice, err := runtime.Select(w.table, w.have, w.request)
		if runs(k, w.request) && w.have[k.Symbol].State == runtime.Present {
			taken++
			require.NoError(t, err)
			require.Same(t, k, choice.Kernel)
			require.Equal(t, runtime.ReasonOverride, choice.Passed[0].Reason)
			continue
		}
		var refused *runtime.OverrideError
		require.ErrorAs(t, err, &refused)
		require.NotEmpty(t, refused.Why)
	}
	require.Greater(t, taken, 100)
}

// everything is an availability in which all kernels of the generated table
// are present.
func everything() runtime.Availability {
	have := runtime.Availability{}
	for _, k := range generated.Table.Kernels {
		have[k.Symbol] = runtime.Status{State: runtime.Present}
	}
	return have
}

func TestSelectGenerated(t *testing.T) {
	tuple := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
	unlisted := runtime.BitTuple{Gate: 7, Up: 7, Down: 7}
	for _, test := range []struct {
		name    string
		request runtime.Request
		edit    func(runtime.Availability)
		symbol  string
		why     string
		err     string
	}{
		{"alone", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: tuple, Rows: 1}, nil,
			generated.MoeTrellisSwigluDecode623, "first choice", ""},
		{"shared", runtime.Request{Pass: runtime.Down, Codec: "trellis", Tuple: tuple, Rows: 4, Shared: true}, nil,
			generated.MoeTrellisSwigluPrefill4FairwayDown, "first choice", ""},
		{"unlisted", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: unlisted, Rows: 20}, nil,
			generated.MoeTrellisSwiglu, "a tuple kernel: unlisted; a fairway kernel: unlisted", ""},
		{"failed", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: tuple, Rows: 40},
			func(have runtime.Availability) {
				have[generated.MoeTrellisSwigluLargeBatch623] = runtime.Status{State: runtime.Failed, Words: "error: no"}
				delete(have, generated.MoeTrellisSwigluLargeBatchFairway)
			},
			generated.MoeTrellisSwigluLargeBatch,
			"moe_trellis_swiglu_large_batch_6_2_3: failed: error: no; moe_trellis_swiglu_large_batch_fairway: missing", ""},
		{"helper", runtime.Request{Pass: runtime.Combine}, nil, generated.MoeCombine, "first choice", ""},
		{"helper missing", runtime.Request{Pass: runtime.Combine},
			func(have runtime.Availability) { delete(have, generated.MoeCombine) }, "", "",
			"no kernel for combine: moe_combine: missing: build the device's library from the generated sources"},
		{"add the tuple", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: unlisted, Rows: 1},
			func(have runtime.Availability) { clear(have) }, "", "",
			`add the line "- 7_7_7" to tuples in specs/codecs/trellis.yaml and run go generate ./...`},
		{"no width", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: runtime.BitTuple{Gate: 9, Up: 2, Down: 2}, Rows: 1}, nil,
			"", "", "codec trellis stores widths [2 3 4 5 6 7 8]; see specs/codecs/trellis.yaml"},
		{"override of no width", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: runtime.BitTuple{Gate: 9, Up: 2, Down: 2}, Rows: 1, Override: generated.MoeTrellisSwigluDecode}, nil,
			"", "", "codec trellis stores only widths [2 3 4 5 6 7 8]"},
		{"no codec", runtime.Request{Pass: runtime.GateUp, Codec: "bf16", Tuple: tuple, Rows: 1}, nil, "", "",
			"no kernel for gate_up of bf16 6_2_3 with 1 rows: add specs/codecs/bf16.yaml"},
		{"override of other rows", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: tuple, Rows: 2, Override: generated.MoeTrellisSwigluDecode623}, nil,
			"", "", "cannot run gate_up of trellis 6_2_3 with 2 rows: it is for 1 rows of an expert"},
		{"override of another tuple", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: unlisted, Rows: 1, Override: generated.MoeTrellisSwigluDecode623}, nil,
			"", "", "it was compiled for [6_2_3]"},
		{"override of nothing", runtime.Request{Pass: runtime.GateUp, Codec: "trellis", Tuple: tuple, Rows: 1, Override: "moe_typo"}, nil,
			"", "", "the table has no kernel of this name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			have := everything()
			if test.edit != nil {
				test.edit(have)
			}
			choice, err := runtime.Select(generated.Table, have, test.request)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.symbol, choice.Kernel.Symbol)
			require.Equal(t, test.why, choice.Why())
		})
	}
}

// A view holds a target's own kernels and those for all, as they are, and nobody else's.
func TestFor(t *testing.T) {
	all := generated.All
	metal, cuda := all.For(runtime.Metal3), all.For(runtime.CUDA)
	require.Equal(t, all.Codecs, cuda.Codecs)
	seen := map[*runtime.Kernel]int{}
	for target, view := range map[string]*runtime.Table{runtime.Metal3: metal, runtime.CUDA: cuda} {
		for _, k := range view.Kernels {
			seen[k]++
			require.Equal(t, k.Kind == runtime.Helper, k.Target == "", k.Symbol)
			if k.Target != "" {
				require.Equal(t, target, k.Target, k.Symbol)
			}
		}
		for rows := 1; rows <= 100; rows++ {
			for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
				for _, layer := range []int{0, 16, 17, 383, 384, 1000} {
					body := view.Body(runtime.Request{Pass: pass, Codec: "trellis", Rows: rows, Layer: layer})
					require.NotNil(t, body)
					require.Equal(t, target, body.Target)
				}
			}
		}
	}
	for _, k := range all.Kernels {
		want := 1
		if k.Kind == runtime.Helper {
			want = 2
		}
		require.Equal(t, want, seen[k], k.Symbol)
	}
	require.Empty(t, (&runtime.Table{}).For(runtime.CUDA).Kernels)
}
