package result_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

var digest = strings.Repeat("d1", 32)

// good returns a document that can be quoted.
func good() *result.Document {
	tuple := runtime.BitTuple{Gate: 6, Up: 2, Down: 3}
	cell := func(name string, median float64) result.Cell {
		return result.Cell{
			Name: name, Labels: map[string]string{"batch": "1"}, Samples: 9, RoundsMS: []float64{median, 3}, Metrics: map[string]float64{"gb_s": 12.5},
			MS: result.Distribution{Min: 1, Median: median, P95: 4, P99: 4, Max: 5, Spread: 0.5},
		}
	}
	return &result.Document{
		Schema: result.Schema, ID: result.NewID(), Status: result.Complete,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Seconds: 7,
		Benchmark: "decode", Level: result.Layers, Args: []string{"bench", "--quick"},
		Device:      result.Device{Kind: "cpu", Name: "a processor", Driver: "go1.26"},
		Machine:     result.Machine{Processor: "a processor", Processors: 2, OS: "linux", Arch: "amd64", Go: "go1.26"},
		Digest:      digest,
		Commit:      strings.Repeat("c0", 20),
		Correctness: result.Correctness{Passed: true, Checked: 4, Worst: 1e-7, Tolerance: 1e-5},
		Counters: result.Counters{
			Forwards: 3, Launches: map[string]uint64{"moe_route": 3, "moe_combine": 3},
			Assignments: map[runtime.BitTuple]uint64{tuple: 12},
			Fallbacks: []moe.FallbackCount{{
				Fallback: moe.Fallback{Tuple: tuple, Pass: runtime.Down, From: runtime.Tuple, To: runtime.Generic, Reason: runtime.ReasonUnlisted},
				Count:    2,
			}},
		},
		Cells: []result.Cell{cell("6_2_3/batch:1", 2), cell("6_2_3/batch:4", 3)},
	}
}

func TestRoundTrip(t *testing.T) {
	d := good()
	data, err := d.Encode()
	require.NoError(t, err)
	back, err := result.Parse(data)
	require.NoError(t, err)
	require.Equal(t, d, back)
	require.NoError(t, back.Check(digest))
	require.NotEqual(t, d.ID, good().ID)

	d.Cells = nil
	_, err = d.Encode()
	require.ErrorContains(t, err, "cells is null")
}

// edited returns a good document's JSON, after change.
func edited(t *testing.T, change func(map[string]any)) []byte {
	t.Helper()
	data, err := good().Encode()
	require.NoError(t, err)
	var v map[string]any
	require.NoError(t, json.Unmarshal(data, &v))
	change(v)
	data, err = json.Marshal(v)
	require.NoError(t, err)
	return data
}

// Every field has to be there, and no other.
func TestParseStrict(t *testing.T) {
	var all map[string]any
	require.NoError(t, json.Unmarshal(edited(t, func(map[string]any) {}), &all))
	for name := range all {
		_, err := result.Parse(edited(t, func(v map[string]any) { delete(v, name) }))
		if name == "schema" {
			require.ErrorContains(t, err, "it has no schema version")
			continue
		}
		require.EqualError(t, err, name+" is missing")
		_, err = result.Parse(edited(t, func(v map[string]any) {
			v[strings.ToUpper(name)] = v[name]
			delete(v, name)
		}))
		require.ErrorContains(t, err, name+" is missing\n")
		require.ErrorContains(t, err, strings.ToUpper(name)+" is not known")
	}

	_, err := result.Parse(edited(t, func(v map[string]any) {
		cell := v["cells"].([]any)[1].(map[string]any)
		delete(cell, "samples")
		cell["ms"].(map[string]any)["p50"] = 1
		delete(v["counters"].(map[string]any)["fallbacks"].([]any)[0].(map[string]any), "reason")
		v["device"] = "cpu"
		v["args"] = nil
	}))
	require.ErrorContains(t, err, "cells[1].samples is missing")
	require.ErrorContains(t, err, "cells[1].ms.p50 is not known")
	require.ErrorContains(t, err, "counters.fallbacks[0].reason is missing")
	require.ErrorContains(t, err, "device is not an object")
	require.ErrorContains(t, err, "args is null")

	for text, want := range map[string]string{
		``:                         "not a result",
		`[]`:                       "no schema version",
		`{"status": "skipped"}`:    "no schema version",
		`{"schema": 1}`:            "schema version 1; this command reads 2",
		`{"schema": "2"}`:          "schema version 2; this command reads 2",
		`{"schema": 2} {}`:         "there is more after it",
		`{"schema": 2}`:            "cells is missing",
		`{"schema": 2, "cells": 2`: "not a result",
	} {
		_, err := result.Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err = result.Parse(edited(t, func(v map[string]any) { v["dirty"] = "no" }))
	require.ErrorContains(t, err, "dirty")
	_, err = result.Parse(edited(t, func(v map[string]any) { v["time"] = "yesterday" }))
	require.ErrorContains(t, err, "yesterday")
}

// There is one way for a run to be right, and each of these is not it.
func TestCheck(t *testing.T) {
	for want, spoil := range map[string]func(*result.Document){
		`schema is 1`:                         func(d *result.Document) { d.Schema = 1 },
		`id "1" is not that of a run`:         func(d *result.Document) { d.ID = "1" },
		`"interrupted", not complete: Ctrl-C`: func(d *result.Document) { d.Status, d.Why = result.Interrupted, "Ctrl-C" },
		`"skipped", not complete`:             func(d *result.Document) { d.Status = result.Skipped },
		`"failed", not complete`:              func(d *result.Document) { d.Status = result.Failed },
		`the run is "", not complete`:         func(d *result.Document) { d.Status = "" },
		`has no time`:                         func(d *result.Document) { d.Time = time.Time{} },
		`or took none`:                        func(d *result.Document) { d.Seconds = 0 },
		`benchmark ""`:                        func(d *result.Document) { d.Benchmark = "" },
		`args []`:                             func(d *result.Document) { d.Args = nil },
		`level "both"`:                        func(d *result.Document) { d.Level = "both" },
		`names no device`:                     func(d *result.Document) { d.Device.Name = "" },
		`manifest e2`:                         func(d *result.Document) { d.Digest = strings.Repeat("e2", 32) },
		`digest "" is not that of a manifest`: func(d *result.Document) { d.Digest = "" },
		`commit "" is not one`:                func(d *result.Document) { d.Commit = "" },
		`the tree was dirty`:                  func(d *result.Document) { d.Dirty = true },
		`the outputs were not right`:          func(d *result.Document) { d.Correctness.Passed = false },
		`no outputs were checked`:             func(d *result.Document) { d.Correctness.Checked = 0 },
		`the worst deviation is 0.1`:          func(d *result.Document) { d.Correctness.Worst = 0.1 },
		`the worst deviation is NaN`:          func(d *result.Document) { d.Correctness.Worst = math.NaN() },
		`no forwards were counted`:            func(d *result.Document) { d.Counters.Forwards = 0 },
		`no launches were counted`:            func(d *result.Document) { d.Counters.Launches = map[string]uint64{"moe_route": 0} },
		`no assignments were counted`:         func(d *result.Document) { d.Counters.Assignments = nil },
		`nothing was timed`:                   func(d *result.Document) { d.Cells = nil },
		`6_2_3/batch:1 is there twice`:        func(d *result.Document) { d.Cells[1].Name = d.Cells[0].Name },
		`cell "a.b": a name is of`:            func(d *result.Document) { d.Cells[0].Name = "a.b" },
		`has no samples`:                      func(d *result.Document) { d.Cells[0].Samples = 0 },
		`is no distribution of times`:         func(d *result.Document) { d.Cells[1].MS.Median = 4.5 },
		`Min:0 `:                              func(d *result.Document) { d.Cells[1].MS.Min = 0 },
		`its rounds took []`:                  func(d *result.Document) { d.Cells[0].RoundsMS = nil },
		`its rounds took [1 NaN]`:             func(d *result.Document) { d.Cells[0].RoundsMS = []float64{1, math.NaN()} },
		`its rounds took [+Inf]`:              func(d *result.Document) { d.Cells[0].RoundsMS = []float64{math.Inf(1)} },
		`its rounds took [0 1]`:               func(d *result.Document) { d.Cells[0].RoundsMS = []float64{0, 1} },
		`P99:6 `:                              func(d *result.Document) { d.Cells[1].MS.P99 = 6 },
	} {
		d := good()
		spoil(d)
		err := d.Check(digest)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n", "one mistake, one complaint")
	}
	// What was measured can be left out of what is wrong with it.
	for want, spoil := range map[string]func(*result.Document){
		"the worst deviation is …, and the tolerance …":     func(d *result.Document) { d.Correctness.Worst = 0.1 },
		"cell 6_2_3/batch:4: … is no distribution of times": func(d *result.Document) { d.Cells[1].MS.Median = 4.5 },
		"cell 6_2_3/batch:1: its rounds took …":             func(d *result.Document) { d.Cells[0].RoundsMS[1] = -1 },
		"the tree was dirty":                                func(d *result.Document) { d.Dirty = true },
	} {
		d := good()
		spoil(d)
		var complaint *result.Complaint
		require.ErrorAs(t, d.Check(digest), &complaint)
		require.Equal(t, want, complaint.Brief())
	}
	empty := (&result.Document{}).Check(digest)
	require.Greater(t, strings.Count(empty.Error(), "\n"), 10, "all complaints at once")
}

func TestExpect(t *testing.T) {
	for text, want := range map[string]string{
		"device.kind=cpu":                              "",
		"device.kind=metal":                            `device.kind is "cpu"; expected device.kind=metal`,
		"device.name=a processor":                      "",
		"dirty=false":                                  "",
		"dirty=true":                                   "dirty is false",
		"machine.processors=2.0":                       "",
		"machine.processors=two":                       "machine.processors is 2",
		"machine.processors>1":                         "",
		"machine.processors>2":                         "machine.processors is 2",
		"machine.processors>=2":                        "",
		"machine.processors<2":                         "machine.processors is 2",
		"device.kind<2":                                `device.kind is "cpu"`,
		"cells.6_2_3/batch:1.ms.median=2":              "",
		"cells.6_2_3/batch:1.ms.median<=1.5":           "cells.6_2_3/batch:1.ms.median is 2",
		"cells.*.ms.median<=3":                         "",
		"cells.*.ms.median<=2":                         "cells.6_2_3/batch:4.ms.median is 3",
		"cells.*.metrics.gb_s>=12.5":                   "",
		"cells.*.metrics.typo>=0":                      "there is no cells.6_2_3/batch:1.metrics.typo",
		"cells.6_2_3.ms.median<=9":                     "there is no cells.6_2_3",
		"cells=2":                                      "",
		"cells>=3":                                     "cells is a list of 2",
		"counters.fallbacks=0":                         "counters.fallbacks is a list of 1",
		"counters.fallbacks.0.reason=unlisted":         "",
		"counters.fallbacks.*.count<=1":                "counters.fallbacks.0.count is 2",
		"counters.launches=2":                          "",
		"counters.launches.*>=3":                       "",
		"counters.assignments.6_2_3=12":                "",
		"correctness.worst<=1e-6":                      "",
		"commit=" + strings.Repeat("c0", 20):           "",
		"device.kind.x=1":                              "there is no device.kind.x",
		"colour=red":                                   "there is no colour",
		"counters.launches.moe_route.*=1":              "nothing is counters.launches.moe_route.*",
		"benchmark=decode|prefill|skipped|interrupted": `benchmark is "decode"`,
	} {
		var e result.Expectation
		require.NoError(t, e.UnmarshalText([]byte(text)))
		require.Equal(t, text, e.String())
		err := e.Check(good())
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
	for _, text := range []string{"", "fast", "a==b=", "=1", "a<=", "a<=b", "a<=NaN", "a>=-Inf", ".a=1", "a..b=1", "a b=1", "a!=1"} {
		var e result.Expectation
		err := e.UnmarshalText([]byte(text))
		if text == "a==b=" {
			require.NoError(t, err, "a value may be anything")
			continue
		}
		require.Error(t, err, text)
	}
}

// A percentile is held against its definition.
func TestSummarize(t *testing.T) {
	for n := 1; n <= 250; n++ {
		samples := make([]float64, n)
		for i := range samples {
			samples[i] = float64((i*7919+13)%n) + 1 // each of 1 to n, if n is no multiple of 7919
		}
		d, err := result.Summarize(samples)
		require.NoError(t, err)
		for p, got := range map[int]float64{95: d.P95, 99: d.P99} {
			below := func(v float64) (count int) {
				for _, s := range samples {
					if s <= v {
						count++
					}
				}
				return count
			}
			require.GreaterOrEqual(t, 100*below(got), p*n)
			require.Less(t, 100*below(got-1), p*n)
		}
		require.Equal(t, float64(n+1)/2, d.Median)
		require.Equal(t, []float64{1, float64(n)}, []float64{d.Min, d.Max})
		require.True(t, slices.IsSorted([]float64{d.Min, d.Median, d.P95, d.P99, d.Max}))
	}
	d, err := result.Summarize([]float64{1, 2, 4, 8, 100})
	require.NoError(t, err)
	require.Equal(t, 3.0, d.Spread, "of 3, 2, 0, 4 and 96")

	_, err = result.Summarize(nil)
	require.Error(t, err)
	_, err = result.Summarize([]float64{1, math.NaN()})
	require.Error(t, err)
}

// Kernels are timed without a layer that forwards.
func TestCheckKernels(t *testing.T) {
	d := good()
	d.Level, d.Counters.Forwards = result.Kernels, 0
	require.NoError(t, d.Check(d.Digest))
	d.Counters.Launches = map[string]uint64{}
	require.EqualError(t, d.CheckMeasured(), "no launches were counted")
	d.Level = result.Layers
	require.ErrorContains(t, d.CheckMeasured(), "no forwards were counted")
}

// Of several checks the worst is told, as a part of what it may be.
func TestMerge(t *testing.T) {
	var c result.Correctness
	c.Merge(result.Correctness{Passed: true, Checked: 2, Worst: 1e-6, Tolerance: 1e-5})
	c.Merge(result.Correctness{Passed: true, Checked: 3, Worst: 2e-3, Tolerance: 5e-2})
	require.Equal(t, result.Correctness{Passed: true, Checked: 5, Worst: 1e-6, Tolerance: 1e-5}, c)
	c.Merge(result.Correctness{Checked: 1, Worst: 6e-2, Tolerance: 5e-2})
	require.Equal(t, result.Correctness{Checked: 6, Worst: 6e-2, Tolerance: 5e-2}, c)
}
