package result_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchfmt"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// Go's own reader finds each round of each cell.
func TestWriteGo(t *testing.T) {
	d := good()
	d.Benchmark, d.Machine.Processors = "decode", 2
	d.Cells = []result.Cell{
		{Name: "decode/6_2_3/batch:1", RoundsMS: []float64{2, 4}, Metrics: map[string]float64{"bytes": 8e6, "tokens": 1}},
		{Name: "6_2_3/batch:4", RoundsMS: []float64{5}},
	}
	var b bytes.Buffer
	require.NoError(t, d.WriteGo(&b))
	r := benchfmt.NewReader(&b, "out")
	var names []string
	var seconds, rates, tokens []float64
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			names = append(names, string(rec.Name))
			require.Equal(t, d.ID, rec.GetConfig("run"))
			require.Equal(t, d.Device.Kind, rec.GetConfig("device"))
			for _, v := range rec.Values {
				switch v.Unit {
				case "sec/op":
					seconds = append(seconds, v.Value)
				case "B/s":
					rates = append(rates, v.Value)
				case "GB/s":
					rates = append(rates, v.Value*1e9)
				case "tokens/s":
					tokens = append(tokens, v.Value)
				default:
					require.Fail(t, v.Unit)
				}
			}
		case *benchfmt.SyntaxError:
			require.NoError(t, rec)
		}
	}
	require.NoError(t, r.Err())
	require.Equal(t, []string{"Decode/6_2_3/batch=1-2", "Decode/6_2_3/batch=1-2", "Decode/6_2_3/batch=4-2"}, names)
	require.InDeltaSlice(t, []float64{2e-3, 4e-3, 5e-3}, seconds, 1e-12)
	require.InDeltaSlice(t, []float64{4e9, 2e9}, rates, 1)
	require.InDeltaSlice(t, []float64{500, 250}, tokens, 1e-9)
	require.Equal(t, 1, r.Units().GetBetter("tokens/s"))
	require.Equal(t, 1, r.Units().GetBetter("GB/s"))
	require.Equal(t, -1, r.Units().GetBetter("ns/op"))
}
