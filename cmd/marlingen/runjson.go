package main

import (
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/runtime"
)

// A runDocument is the JSON form of a run.
type runDocument struct {
	Time     time.Time  `json:"time"`
	Device   string     `json:"device"`
	Digest   string     `json:"digest"` // of the manifest
	Faithful bool       `json:"faithful"`
	Warnings []string   `json:"warnings,omitempty"`
	Layers   []runLayer `json:"layers"`
}

type runLayer struct {
	Layer       int                         `json:"layer"`
	Tokens      int                         `json:"tokens"`
	Experts     map[runtime.BitTuple]int    `json:"experts"`
	Shared      *runtime.BitTuple           `json:"shared,omitempty"`
	Plan        []runStep                   `json:"plan"`
	Launches    map[string]uint64           `json:"launches"`
	Assignments map[runtime.BitTuple]uint64 `json:"assignments"`
	Fallbacks   []moe.FallbackCount         `json:"fallbacks"`
	MS          float64                     `json:"ms"` // median
	Recorded    bool                        `json:"recorded"`
	Misrouted   int                         `json:"misrouted"`
	WeightError float64                     `json:"weight_error"`
	Error       float64                     `json:"error"`
	Explained   float64                     `json:"explained"`
	Deviation   float64                     `json:"deviation"`
	OK          bool                        `json:"ok"`
}

type runStep struct {
	Pass    runtime.Pass       `json:"pass,omitempty"` // empty for the host, which runs both
	Kernel  string             `json:"kernel"`         // or host
	Tuples  []runtime.BitTuple `json:"tuples"`
	Experts int                `json:"experts"`
	Rows    int                `json:"rows"`
	Items   int                `json:"items"`
}

func document(s *session, model *checkpoint.Checkpoint, reports []*replay.Report) runDocument {
	d := runDocument{
		Time: time.Now().UTC(), Device: s.device.Info().Name, Digest: generated.Manifest.Digest,
		Faithful: model.Faithful(), Warnings: model.Warnings(),
	}
	for _, r := range reports {
		l := runLayer{
			Layer: r.Layer, Tokens: r.Tokens, Experts: r.Experts, Shared: r.Shared,
			Launches: r.Snapshot.Launches, Assignments: r.Snapshot.Assignments,
			Fallbacks: append([]moe.FallbackCount{}, r.Snapshot.FallbackCounts()...),
			MS:        milliseconds(r.Time()), Recorded: r.Recorded, Misrouted: r.Misrouted,
			WeightError: r.WeightError, Error: r.Error, Explained: r.Explained, Deviation: r.Deviation,
			OK: r.Faults() == nil,
		}
		for _, step := range r.Plan.Steps() {
			l.Plan = append(l.Plan, newRunStep(step.Kernel.Pass, step.Kernel.Symbol, step.Groups, step.Rows(), len(step.Work)))
		}
		for _, g := range r.Plan.Host {
			l.Plan = append(l.Plan, newRunStep("", string(moe.Host), []moe.Group{g}, g.Rows, 0))
		}
		d.Layers = append(d.Layers, l)
	}
	return d
}

func newRunStep(pass runtime.Pass, kernel string, groups []moe.Group, rows, items int) runStep {
	s := runStep{Pass: pass, Kernel: kernel, Rows: rows, Items: items}
	for _, g := range groups {
		s.Tuples = append(s.Tuples, g.Tuple)
		s.Experts += len(g.Experts)
	}
	return s
}
