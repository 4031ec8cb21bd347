package runtime_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
)

func TestBitTuple(t *testing.T) {
	tuple, err := runtime.ParseBitTuple("6_2_3")
	require.NoError(t, err)
	require.Equal(t, runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, tuple)
	require.Equal(t, "6_2_3", tuple.String())

	text, err := json.Marshal(map[runtime.BitTuple]int{tuple: 1})
	require.NoError(t, err)
	require.JSONEq(t, `{"6_2_3": 1}`, string(text))

	for _, bad := range []string{"", "6", "6_2", "6_2_3_4", "6_2_", "_6_2_3", "06_2_3", "+6_2_3", "6_2_0", "6_2_33", "6-2-3", "6_2_x", " 6_2_3"} {
		_, err := runtime.ParseBitTuple(bad)
		require.ErrorContains(t, err, "is not a bit tuple", bad)
	}
}

// Every tuple has one spelling, and nothing else parses to it.
func FuzzParseBitTuple(f *testing.F) {
	for _, s := range []string{"6_2_3", "16_16_16", "1_1_1", "6_2", "0_2_3", "6__3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if tuple, err := runtime.ParseBitTuple(s); err == nil {
			require.Equal(t, s, tuple.String())
		}
	})
}

func TestRange(t *testing.T) {
	for text, want := range map[string]runtime.Range{"1": {1, 1}, "2..16": {2, 16}, "33..": {33, 0}} {
		var r runtime.Range
		require.NoError(t, r.UnmarshalText([]byte(text)))
		require.Equal(t, want, r)
		require.Equal(t, text, r.String())
	}
	for _, bad := range []string{"", "0", "..", "..4", "4..2", "0..2", "a..b", "1...3", "5..0", "-1"} {
		var r runtime.Range
		require.Error(t, r.UnmarshalText([]byte(bad)), bad)
		require.Zero(t, r, bad)
	}
	require.True(t, runtime.Range{Min: 33}.Contains(1<<20))
	require.False(t, runtime.Range{Min: 2, Max: 16}.Contains(17))
}

func TestSpread(t *testing.T) {
	a, b, c := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, runtime.BitTuple{Gate: 4, Up: 4, Down: 4}, runtime.BitTuple{Gate: 2, Up: 2, Down: 2}
	p := runtime.Profile{Experts: 64, Mix: []runtime.Share{{a, 42}, {b, 21}, {c, 1}}}
	for _, n := range []int{1, 16, 48, 64, 1000} {
		given := map[runtime.BitTuple]int{}
		for i, tuple := range p.Spread(n) {
			given[tuple]++
			for _, s := range p.Mix {
				owed := float64(s.Experts) * float64(i+1) / 64
				require.InDelta(t, owed, given[s.Tuple], 1, "%v of the first %d", s.Tuple, i+1)
			}
		}
	}
}
