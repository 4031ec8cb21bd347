package bench

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// Fill sets what r measured in d: its correctness, counters and cells.
func (r *Report) Fill(d *result.Document) error {
	d.Counters = result.NewCounters(r.Counters)
	var errs []error
	for _, cell := range r.Results {
		d.Correctness.Merge(result.Correctness{
			Passed: cell.Known > 0 && cell.Deviation <= cell.Tolerance, Checked: cell.Known, Worst: cell.Deviation, Tolerance: cell.Tolerance,
		})
		ms, err := result.Summarize(cell.Times)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", cell.name(), err))
		}
		d.Cells = append(d.Cells, result.Cell{
			Name: cell.name(), Samples: len(cell.Times), RoundsMS: cell.RoundsMS, MS: ms,
			Labels: map[string]string{
				"sweep": cell.Sweep, "mix": cell.Mix, "tuples": strconv.Itoa(cell.Tuples), "shape": cell.Shape.String(),
				"experts": strconv.Itoa(cell.Shape.Experts), "batch": strconv.Itoa(cell.Batch), "threads": strconv.Itoa(cell.Threads), "precision": cell.Precision,
				"layers": strconv.Itoa(cell.Layers), "bound": cell.Bound,
			},
			Metrics: map[string]float64{
				"gb_s": cell.GBs, "gmac_s": cell.GMACs, "bytes": cell.Bytes, "macs": cell.MACs,
				"floor_ms": cell.FloorMS, "fraction": cell.Fraction, "deviation": cell.Deviation,
			},
		})
	}
	return errors.Join(errs...)
}

var notOfNames = regexp.MustCompile(`[^\w/:-]+`)

// name returns the name of r's cell, such as
// layers/6_2_3/experts:64/batch:1/threads:2/fast.
func (r Result) name() string {
	name := fmt.Sprintf("%s/%s/experts:%d/batch:%d/threads:%d/%s", r.Sweep, r.Mix, r.Shape.Experts, r.Batch, r.Threads, r.Precision)
	return notOfNames.ReplaceAllString(name, "_")
}
