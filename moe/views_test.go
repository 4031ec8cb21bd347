package moe_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
)

// A layer finds the same bits on a device that computes where the caller has the
// input and the output, on one that does not, and where the two overlap, also
// when launches fail.
func TestForwardInPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 62))
	m := mixed(t, r)
	const tokens = 5
	x := randomInput(r, tokens*m.Hidden)
	for name, f := range map[string]faults{
		"no faults": {}, "gate_up fails": {wait: []string{"moe_trellis_swiglu_decode_6_2_3", "moe_trellis_swiglu_decode_fairway", "moe_trellis_swiglu_prefill4_fairway"}},
		"combine fails": {wait: []string{"moe_combine"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, f)
			copying := o
			copying.Device = struct{ runtime.Device }{o.Device}
			_, viewer := copying.Device.(runtime.Viewer)
			require.False(t, viewer)
			apart, err := moe.NewLayer(m.Weights, copying)
			require.NoError(t, err)
			want, err := apart.Forward(t.Context(), x)
			require.NoError(t, err)
			require.NoError(t, apart.Close())

			layer, err := moe.NewLayer(m.Weights, o)
			require.NoError(t, err)
			for offset := range 3 {
				both := slices.Repeat([]float32{float32(math.NaN())}, 3*len(x)) // the output lies after the input, then half over it, then on it
				at := offset * len(x) / 2
				in, out := both[len(x):2*len(x)], both[2*len(x)-at:3*len(x)-at]
				copy(in, x)
				require.NoError(t, layer.ForwardInto(t.Context(), out, in))
				require.Equal(t, want, slices.Clone(out), offset)
				if offset == 0 {
					require.Equal(t, x, slices.Clone(in))
				}
			}
			require.NoError(t, layer.Close())
		})
	}
}
