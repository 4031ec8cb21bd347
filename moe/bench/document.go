package bench

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// Fill sets what r measured in d: its correctness, counters and cells, whose rates
// are those of the medians beside them.
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
		c := result.Cell{
			Name: cell.name(), Samples: len(cell.Times), RoundsMS: cell.RoundsMS, MS: ms,
			Labels: map[string]string{
				"sweep": cell.Sweep, "mix": cell.Mix, "tuples": strconv.Itoa(cell.Tuples), "shape": cell.Shape.String(),
				"experts": strconv.Itoa(cell.Shape.Experts), "batch": strconv.Itoa(cell.Batch), "threads": strconv.Itoa(cell.Threads), "precision": cell.Precision,
				"layers": strconv.Itoa(cell.Layers),
			},
			Metrics: map[string]float64{
				"gb_s": cell.Bytes / ms.Median / 1e6, "gmac_s": cell.MACs / ms.Median / 1e6, "bytes": cell.Bytes, "macs": cell.MACs, "deviation": cell.Deviation,
			},
		}
		if cell.FloorMS > 0 {
			c.Labels["bound"], c.Metrics["floor_ms"], c.Metrics["fraction"] = cell.Bound, cell.FloorMS, cell.FloorMS/ms.Median
		}
		compared(&c, cell.Override, r.overridden())
		d.Cells = append(d.Cells, c)
	}
	return errors.Join(errs...)
}

// overridden reports whether a kernel was compared with those that are selected.
func (r *Report) overridden() bool {
	return slices.ContainsFunc(r.Results, func(r Result) bool { return r.Override != "" })
}

// compared labels c with which kernels ran, if there are cells of others.
func compared(c *result.Cell, override string, others bool) {
	if !others {
		return
	}
	c.Labels["variant"], c.Labels["kernels"] = Selected, Selected
	if override != "" {
		c.Labels["variant"], c.Labels["kernels"] = Overridden, override
	}
	c.Name += "/" + c.Labels["variant"]
}

var notOfNames = regexp.MustCompile(`[^\w/:-]+`)

// name returns the name of r's cell, such as
// layers/6_2_3/experts:64/batch:1/threads:2/fast.
func (r Result) name() string {
	name := fmt.Sprintf("%s/%s/experts:%d/batch:%d/threads:%d/%s", r.Sweep, r.Mix, r.Shape.Experts, r.Batch, r.Threads, r.Precision)
	return notOfNames.ReplaceAllString(name, "_")
}
