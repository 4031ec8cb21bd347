package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/report"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// What a GPU is measured with: layers enough that its cache holds none of them
// when their turn comes, and copies that are many times as large as it.
const (
	graphLayers = 8
	graphCopy   = 1 << 30
)

// graphs is Run on a device that replays graphs.
func (c *benchLayersCmd) graphs(ctx context.Context, a *app) error {
	if c.Markdown != "" || c.Plot != "" {
		return errors.New("--markdown and --plot are for --device cpu")
	}
	if c.Rounds < 1 {
		return fmt.Errorf("--rounds %d: want at least 1", c.Rounds)
	}
	shape, mixes, batches, err := c.layers()
	if err != nil {
		return err
	}
	o := bench.GraphOptions{Shape: shape, Mixes: mixes, Batches: batches, Known: 2, Rounds: c.Rounds, Time: c.Time}
	if c.Quick {
		o.Rounds, o.Known = min(2, c.Rounds), 1
	}
	return c.deviceFlag.graphs(ctx, a, &c.resultFlags, "layers", o)
}

// graphs measures layers in replayed graphs. o.Time is that of a cell in a round.
func (f deviceFlag) graphs(ctx context.Context, a *app, to *resultFlags, benchmark string, o bench.GraphOptions) error {
	started := time.Now()
	d := newResult(a.args, started, runtime.Info{Kind: string(f.Device)})
	d.Benchmark, d.Level = benchmark, result.Layers
	s, err := f.session(ctx, cpu.Options{})
	if err != nil {
		return to.record(ctx, d, err)
	}
	defer s.close()
	if o.Override != "" {
		if err := s.checkOverride(o.Override); err != nil {
			return err
		}
	}
	info := s.device.Info()
	d.Device = result.Device{Kind: info.Kind, Name: info.Name, Driver: info.Driver}
	o.Device, o.Library, o.Table, o.Codecs = s.device, s.library, s.table, codecs
	o.Layers, o.Copy, o.Seed = graphLayers, graphCopy, 1
	o.Tolerance = max(replay.OutputTolerance, info.Tolerance)
	const samples = 5 // in a round
	o.Samples, o.Time = samples, o.Time/(8*samples)
	show, finish := a.progress("measuring")
	o.Progress = show
	r, err := bench.RunGraphs(ctx, o)
	finish()
	if err == nil {
		err = r.Fill(d.Document)
	}
	if err := to.record(ctx, d, err); err != nil {
		return err
	}
	return to.show(a, d, func() {
		fmt.Fprintf(a.out, "%s · %s · copies at %.0f GB/s · library loaded in %.1f s\n%v, %d layers in turn\n\n",
			r.Device.Name, r.Device.Driver, r.CopyGBs, s.load.Seconds(), r.Shape, r.Layers)
		var rows [][]string
		for i := range r.Results {
			rows = append(rows, report.GraphRow(&r.Results[i]))
		}
		a.columns(report.GraphHeader, rows)
		fmt.Fprintf(a.out, "\n%s", report.GraphLegend)
	})
}
