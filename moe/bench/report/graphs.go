package report

import (
	"fmt"

	"github.com/marlingen/marlingen/moe/bench"
)

// GraphHeader names the columns of GraphRow.
var GraphHeader = []string{"tuples", "batch", "µs", "10 %", "90 %", "MB", "GB/s", "of copy", "launches", "error", "forward µs"}

// GraphRow writes what of r is worth reading.
func GraphRow(r *bench.GraphResult) []string {
	mix := r.Mix
	if r.Override != "" {
		mix += ", " + r.Override
	}
	low, high := r.Graph.Tenths()
	us := func(ms float64) string { return number(1e3 * ms) }
	return []string{
		mix, fmt.Sprint(r.Batch), us(r.Graph.Median()), us(low), us(high), number(r.Bytes / 1e6), number(r.GBs),
		fmt.Sprintf("%.0f %%", 100*r.Fraction), fmt.Sprint(r.Launches), fmt.Sprintf("%.1e", r.Deviation), us(r.Forward.Median()),
	}
}

// GraphLegend says what the columns mean.
const GraphLegend = `µs           of a layer, median of samples of replayed graphs; a tenth of them is below 10 %, a tenth above 90 %.
             Gate_up, down and the sum over slots of the routed experts; routing is not in it
MB, GB/s     of the distinct experts that a layer reads, scales and all
of copy      GB/s by what the GPU copies in its own memory, bytes read and written
launches     per layer
error        the largest of ‖output − oracle‖ / ‖oracle‖ of tokens of the first and the last layer
forward µs   of Layer.Forward, from an input on the host to an output there: routing, on the device, planning and
             copies included
`
