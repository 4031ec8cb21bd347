package moe_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe"
)

// requireGrouped checks that a holds exactly the assignments of chosen, sorted
// by expert and, within an expert, by token·slots+slot.
func requireGrouped(t *testing.T, a *moe.Assignments, chosen []int, prob []float32, slots, experts int) {
	t.Helper()
	require.Equal(t, len(chosen)/slots, a.Tokens)
	require.Equal(t, slots, a.Slots)
	require.Len(t, a.Offsets, experts+1)
	require.Zero(t, a.Offsets[0])
	require.Equal(t, len(chosen), a.Offsets[experts])
	for e := range experts {
		require.LessOrEqual(t, a.Offsets[e], a.Offsets[e+1])
		last := -1
		for row := a.Offsets[e]; row < a.Offsets[e+1]; row++ {
			i := int(a.Token[row])*slots + int(a.Slot[row])
			require.Equal(t, e, chosen[i])
			require.Equal(t, prob[i], a.Prob[row])
			require.Equal(t, uint32(row), a.Row[i])
			require.Greater(t, i, last, "stable")
			last = i
		}
	}
}

func TestAssign(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		tokens, slots, experts := r.IntN(70), 1+r.IntN(9), 1+r.IntN(600)
		chosen := make([]int, tokens*slots)
		prob := make([]float32, len(chosen))
		for i := range chosen {
			chosen[i], prob[i] = r.IntN(experts), r.Float32()
		}
		a, err := moe.Assign(chosen, prob, slots, experts)
		require.NoError(t, err)
		requireGrouped(t, a, chosen, prob, slots, experts)
	}
}

func TestAssignErrors(t *testing.T) {
	_, err := moe.Assign([]int{0, 3, -1, 1}, make([]float32, 4), 2, 3)
	require.ErrorContains(t, err, "token 0, slot 1: expert 3 of 3")
	require.ErrorContains(t, err, "token 1, slot 0: expert -1 of 3")
	for _, bad := range []struct{ chosen, prob, slots int }{{3, 3, 2}, {4, 3, 2}, {2, 2, 0}} {
		_, err := moe.Assign(make([]int, bad.chosen), make([]float32, bad.prob), bad.slots, 1)
		require.Error(t, err, bad)
	}
}

func FuzzAssign(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, 2, 6)
	f.Add([]byte{9, 9, 9}, 3, 10)
	f.Fuzz(func(t *testing.T, choices []byte, slots, experts int) {
		if experts < 0 || experts > 300 {
			t.Skip()
		}
		chosen, valid := make([]int, len(choices)), slots > 0
		for i, c := range choices {
			chosen[i] = int(c)
			valid = valid && int(c) < experts
		}
		prob := make([]float32, len(chosen))
		a, err := moe.Assign(chosen, prob, slots, experts)
		if valid = valid && len(chosen)%slots == 0; !valid {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		requireGrouped(t, a, chosen, prob, slots, experts)
	})
}
