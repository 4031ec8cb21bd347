package moe_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime/oracle"
)

func randomRouter(r *rand.Rand, experts, hidden int) moe.Router {
	router := moe.Router{
		Weight: make([]float32, experts*hidden), Bias: make([]float32, experts),
		TopK: 1, Groups: 1, TopKGroups: 1, Normalize: true, Scale: 1.8,
	}
	for i := range router.Weight {
		router.Weight[i] = float32(r.NormFloat64() / math.Sqrt(float64(hidden)))
	}
	for i := range router.Bias {
		router.Bias[i] = float32(r.NormFloat64() * 0.1)
	}
	return router
}

func oracleRouter(r moe.Router, hidden int) oracle.Router {
	return oracle.Router{
		Weight: oracle.Matrix{Out: len(r.Bias), In: hidden, W: oracle.Floats(r.Weight)}, Bias: oracle.Floats(r.Bias),
		TopK: r.TopK, Groups: r.Groups, TopKGroups: r.TopKGroups, Normalize: r.Normalize, Scale: float64(r.Scale),
	}
}

func randomInput(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func TestRouterAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, test := range []struct{ experts, topK, groups, kept int }{
		{16, 4, 1, 1}, {1, 1, 1, 1}, {64, 4, 1, 1}, {64, 6, 8, 3}, {300, 8, 1, 1}, {256, 8, 8, 4}, {6, 4, 3, 2}, {16, 16, 1, 1},
	} {
		for _, normalize := range []bool{true, false} {
			t.Run(fmt.Sprintf("%+v,normalize=%v", test, normalize), func(t *testing.T) {
				const hidden, tokens = 48, 50
				router := randomRouter(r, test.experts, hidden)
				router.TopK, router.Groups, router.TopKGroups, router.Normalize = test.topK, test.groups, test.kept, normalize
				require.NoError(t, router.Check(hidden))
				x := randomInput(r, tokens*hidden)
				routing, err := router.Route(x, hidden)
				require.NoError(t, err)
				ideal := oracleRouter(router, hidden)
				require.NoError(t, ideal.Check())
				for token := range tokens {
					want := ideal.Route(oracle.Floats(x[token*hidden:][:hidden]))
					if want.Margin < 1e-6 {
						continue // float32 may decide otherwise
					}
					require.Equal(t, want.Experts, routing.Experts[token*test.topK:][:test.topK])
					require.InDeltaSlice(t, want.Weights, oracle.Floats(routing.Weights[token*test.topK:][:test.topK]), 1e-6)
				}
			})
		}
	}
}

// Equal scores: the lower expert wins, and the bias has no part in weights.
func TestRouterTies(t *testing.T) {
	router := moe.Router{
		Weight: make([]float32, 6*16), Bias: []float32{0, 1, 0, 1, 1, 0},
		TopK: 4, Groups: 1, TopKGroups: 1, Normalize: true, Scale: 2,
	}
	routing, err := router.Route(make([]float32, 16), 16)
	require.NoError(t, err)
	require.Equal(t, []int{1, 3, 4, 0}, routing.Experts)
	require.Equal(t, []float32{0.5, 0.5, 0.5, 0.5}, routing.Weights)

	router.Groups, router.TopKGroups, router.TopK = 3, 1, 2 // group sums 1, 1, 1
	routing, err = router.Route(make([]float32, 16), 16)
	require.NoError(t, err)
	require.Equal(t, []int{1, 0}, routing.Experts)
}

func TestRouterErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	router := randomRouter(r, 8, 16)
	x := randomInput(r, 300*16)
	for _, token := range []int{299, 150, 33, 1} { // the first is told, whichever goroutine comes to it
		x[token*16+4] = float32(math.NaN())
		for range 10 {
			_, err := router.Route(x, 16)
			require.EqualError(t, err, fmt.Sprintf("router: the score of token %d for expert 0 is NaN", token))
		}
	}

	for want, edit := range map[string]func(*moe.Router){
		"weights for 8 experts":          func(r *moe.Router) { r.Weight = r.Weight[1:] },
		"n_group 3":                      func(r *moe.Router) { r.Groups = 3 },
		"topk_group 2":                   func(r *moe.Router) { r.TopKGroups = 2 },
		"groups of 1 expert":             func(r *moe.Router) { r.Groups = 8 },
		"num_experts_per_tok 9":          func(r *moe.Router) { r.TopK = 9 },
		"num_experts_per_tok 0":          func(r *moe.Router) { r.TopK = 0 },
		"routed_scaling_factor is NaN":   func(r *moe.Router) { r.Scale = float32(math.NaN()) },
		"num_experts_per_tok 5 of 4 exp": func(r *moe.Router) { r.Groups, r.TopKGroups, r.TopK = 2, 1, 5 },
	} {
		edited := router
		edit(&edited)
		require.ErrorContains(t, edited.Check(16), want)
	}
}
