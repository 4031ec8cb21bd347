package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// What a GPU is measured with: layers enough that its cache holds none of them
// when their turn comes, and copies that are many times as large as it.
const (
	graphLayers = 8
	graphCopy   = 1 << 30
)

// errNoGraphResult is why there is no result of graphs: their launches pass the
// counters by, and a result without counts is none.
var errNoGraphResult = errors.New("--result: launches of replayed graphs are not counted, so a run on cuda leaves no result that could be verified")

// graphs is Run on a device that replays graphs.
func (c *benchCmd) graphs(ctx context.Context, a *app) error {
	if c.Markdown != "" || c.Plot != "" {
		return errors.New("--markdown and --plot are for --device cpu")
	}
	if c.Result != "" {
		return errNoGraphResult
	}
	if c.Rounds < 1 {
		return fmt.Errorf("--rounds %d: want at least 1", c.Rounds)
	}
	shape, mixes, batches, err := c.layers()
	if err != nil {
		return err
	}
	s, err := c.session(ctx, cpu.Options{})
	if err != nil {
		return err
	}
	defer s.close()
	o := bench.GraphOptions{
		Device: s.device, Library: s.library, Table: s.table, Codecs: codecs,
		Shape: shape, Mixes: mixes, Batches: batches, Layers: graphLayers, Known: 2,
		Tolerance: max(replay.OutputTolerance, s.device.Info().Tolerance),
		Samples:   5 * c.Rounds, Time: c.Time / 40, Copy: graphCopy, Seed: 1,
	}
	if c.Quick {
		o.Samples, o.Known = 5*min(2, c.Rounds), 1
	}
	show, finish := a.progress("measuring")
	o.Progress = show
	r, err := bench.RunGraphs(ctx, o)
	finish()
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(r)
	}
	fmt.Fprintf(a.out, "%s · %s · copies at %.0f GB/s · library loaded in %.1f s\n%v, %d layers in turn\n\n",
		r.Device.Name, r.Device.Driver, r.CopyGBs, s.load.Seconds(), r.Shape, r.Layers)
	var rows [][]string
	for i := range r.Results {
		rows = append(rows, report.GraphRow(&r.Results[i]))
	}
	a.columns(report.GraphHeader, rows)
	fmt.Fprintf(a.out, "\n%s", report.GraphLegend)
	return nil
}
