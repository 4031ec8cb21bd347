package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/runtime/cpu/limits"
)

// results returns a report of made-up numbers.
func results() *bench.Report {
	shape := bench.Shape{Hidden: 64, Intermediate: 48, Experts: 8, TopK: 2}
	r := &bench.Report{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Took: 6 * time.Second, Command: "marlingen bench", Device: "cpu",
		Machine: bench.Machine{Processor: "Abacus", OS: "linux", Arch: "amd64", Processors: 2, Go: "go1.26"},
		Memory:  7e6, Rounds: 5,
		Instructions: limits.Instructions{Read: "beads", Int8: "more beads", FP32: "half beads"},
		Limits: []limits.Limits{{
			Threads: 2, Samples: 9, Read: limits.Limit{Median: 20, Best: 25}, Int8: limits.Limit{Median: 400.4, Best: 500},
		}},
	}
	for batch := 1; batch <= 4; batch *= 2 {
		r.Results = append(r.Results, bench.Result{
			Sweep: bench.Batch, Mix: "6_2_3", Tuples: 1, Shape: shape, Batch: batch, Threads: 2, Precision: "fast",
			MS: 2 * float64(batch), BestMS: 1.5, GBs: 12.345, GMACs: 0.1234, FloorMS: 1, Bound: "read", Fraction: 0.5,
		})
	}
	return r
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, report.Markdown(&b, results(), "x.svg"))
	for _, want := range []string{
		"Written by `marlingen bench`",
		"Abacus · 2 processors · linux/amd64 · go1.26 · device cpu · 2026-01-02 · 7 MB of weights · 5 rounds · 6 s",
		"| 2 | 20.0 | 25.0 | 400 | 500 | - | - | 9 |",
		"![Time as the batch, the experts and the tuples grow](x.svg)",
		"## A growing batch",
		"Hidden 64, intermediate 48, top-2 of 8 experts.",
		"| 6_2_3 | 4 | 2 | fast | 8.00 | 1.50 | 12.3 | 0.123 | 1.00 | read | 50 % |",
	} {
		require.Contains(t, b.String(), want)
	}
	require.NotContains(t, b.String(), "A growing number")
	require.NotContains(t, b.String(), "Other programs")
	busy := results()
	busy.Others = 0.25
	require.NoError(t, report.Markdown(&b, busy, ""))
	require.Contains(t, b.String(), "**Other programs took 25 % of the processors' time: layers are slower here than alone.**")
}

func TestPlot(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, report.Plot(&b, results()))
	require.Contains(t, b.String(), "tokens in a call")
	for d := xml.NewDecoder(&b); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.ErrorContains(t, report.Plot(&b, &bench.Report{}), "nothing to plot")
}

func TestGraphRow(t *testing.T) {
	r := &bench.GraphResult{
		Mix: "6_2_3", Batch: 8, Launches: 5, Deviation: 4.2e-6, Bytes: 108e6, GBs: 1420, Fraction: 0.336,
		Graph:   bench.GraphTimes{All: []float64{.0765, .07604, .0759}},
		Forward: bench.GraphTimes{All: []float64{.15}},
	}
	require.Equal(t, []string{"6_2_3", "8", "76.0", "75.9", "76.5", "108", "1420", "34 %", "5", "4.2e-06", "150"}, report.GraphRow(r))
	require.Len(t, report.GraphRow(r), len(report.GraphHeader))
	require.True(t, report.Text(report.GraphHeader[0]))
}
