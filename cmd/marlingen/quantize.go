package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/quantize"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

type quantizeCmd struct {
	Model     string             `help:"Checkpoint to read: a folder in the layout of Hugging Face." required:"" type:"existingdir" placeholder:"DIR"`
	Out       string             `help:"Folder to write; it must not exist, or be empty." required:"" type:"path" placeholder:"DIR"`
	Calibrate string             `help:"Text that the model reads meanwhile, so that errors count by what they do to it." type:"existingfile" placeholder:"FILE"`
	Profile   string             `help:"Mixture of tuples, from specs/profiles: ${profiles}." xor:"mix" placeholder:"NAME"`
	TargetBPW float64            `name:"target-bpw" help:"Bits per weight that all experts may take together, every component counted: each gets the tuple that is best by measurement. Needs --calibrate." xor:"mix" placeholder:"BITS"`
	Tuples    []runtime.BitTuple `help:"Tuples to give to the experts in turn or, with --target-bpw, to choose from; there, without it, those that kernels are specialised for." placeholder:"TUPLE"`
	Shared    *runtime.BitTuple  `help:"Tuple of the shared experts, if not the profile's or the first of --tuples." placeholder:"TUPLE"`
	JSON      bool               `help:"Write JSON."`
}

// Help is shown by marlingen quantize --help.
func (*quantizeCmd) Help() string {
	return `Quantises the experts of a checkpoint, routed and shared, to the trellis codec. Everything else is
copied unchanged. Without --calibrate the same input gives the same bytes on every machine; with it,
on every machine whose float32 arithmetic is the same.

  marlingen quantize --model glm-tiny --out glm-tiny-mixed --profile glm47 --calibrate text.txt
  marlingen quantize --model glm-tiny --out glm-tiny-3.7 --target-bpw 3.7 --calibrate text.txt
  marlingen quantize --model glm-tiny --out glm-tiny-6_2_3 --tuples 6_2_3`
}

// calibrationWindow is the number of tokens that are read together.
const calibrationWindow = 512

// A quantization is the JSON form of what quantize did.
type quantization struct {
	Out           string                   `json:"out"`
	Experts       map[runtime.BitTuple]int `json:"experts"` // routed ones, by tuple
	Shared        map[runtime.BitTuple]int `json:"shared"`
	Bytes         int                      `json:"bytes"` // of experts
	BitsPerWeight float64                  `json:"bits_per_weight"`
	Seconds       float64                  `json:"seconds"`
}

func (c *quantizeCmd) Run(ctx context.Context, a *app) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	start := time.Now()
	var src *checkpoint.Checkpoint
	var calibration *quantize.Calibration
	if c.Calibrate == "" {
		if src, err = checkpoint.Open(c.Model); err != nil {
			return err
		}
		defer src.Close()
	} else {
		var m *languageModel
		if m, err = (modelFlags{placeFlags: placeFlags{deviceFlag{"cpu"}, "exact"}, Model: c.Model, Rope: "auto"}).open(ctx, a); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.close()) }()
		src = m.weights
		if calibration, err = readCalibration(m, c.Calibrate); err != nil {
			return err
		}
	}
	plan, err := c.plan(ctx, a, src, calibration)
	if err != nil {
		return err
	}
	show, end := a.progress("quantising")
	err = quantize.Write(ctx, src, c.Model, c.Out, plan, quantize.Options{Calibration: calibration, Progress: show})
	end()
	if err != nil {
		return err
	}
	done := quantization{Out: c.Out, BitsPerWeight: plan.BitsPerWeight(src), Seconds: time.Since(start).Seconds()}
	done.Experts, done.Shared = plan.Tuples(src)
	done.Bytes, _ = plan.Size(src)
	if c.JSON {
		return a.json(done)
	}
	fmt.Fprintf(a.out, "%s: experts %s; shared %s; %.3f bits per weight, %.1f MB; %.1f s\n",
		c.Out, countTuples(done.Experts), countTuples(done.Shared), done.BitsPerWeight, float64(done.Bytes)/1e6, done.Seconds)
	return nil
}

// readCalibration reads a text to calibrate m with.
func readCalibration(m *languageModel, file string) (*quantize.Calibration, error) {
	windows, err := readWindows(file, m, min(calibrationWindow, m.MaxPositions()))
	return &quantize.Calibration{Model: m.Model, Windows: windows}, err
}

// countTuples lists tuples, the most frequent first.
func countTuples(n map[runtime.BitTuple]int) string {
	var parts []string
	for _, t := range sortedTuples(n) {
		parts = append(parts, fmt.Sprintf("%d × %v", n[t], t))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// check reports flags that make no sense together.
func (c *quantizeCmd) check() error {
	switch {
	case c.TargetBPW < 0 || c.TargetBPW != c.TargetBPW:
		return fmt.Errorf("--target-bpw %v: want bits per weight", c.TargetBPW)
	case c.TargetBPW > 0 && c.Calibrate == "":
		return errors.New("--target-bpw needs --calibrate: tuples are given by what they do to a text")
	case c.TargetBPW > 0 && c.Shared != nil:
		return errors.New("--shared: with --target-bpw, shared experts get their tuples as the others do")
	case c.Profile != "" && len(c.Tuples) > 0:
		return errors.New("--profile and --tuples: one of them")
	case c.Profile == "" && len(c.Tuples) == 0 && c.TargetBPW == 0:
		return errors.New("--profile, --tuples or --target-bpw: one of them is needed")
	}
	return nil
}

// plan returns which expert gets which tuple.
func (c *quantizeCmd) plan(ctx context.Context, a *app, src *checkpoint.Checkpoint, calibration *quantize.Calibration) (quantize.Plan, error) {
	if c.TargetBPW == 0 {
		profile, err := c.profile()
		if err != nil {
			return nil, err
		}
		return quantize.Spread(src, profile), nil
	}
	tuples := c.Tuples
	if len(tuples) == 0 {
		tuples = generated.Table.Codec(trellis.Codec{}.Name()).Tuples
	}
	show, end := a.progress("measuring")
	defer end()
	s, err := quantize.Measure(ctx, src, calibration, tuples, show)
	if err != nil {
		return nil, err
	}
	return s.Allocate(tuples, c.TargetBPW)
}

// profile returns the mixture that the flags ask for.
func (c *quantizeCmd) profile() (*runtime.Profile, error) {
	p := runtime.Profile{Experts: len(c.Tuples)}
	for _, t := range c.Tuples {
		p.Mix = append(p.Mix, runtime.Share{Tuple: t, Experts: 1})
		p.Shared = c.Tuples[0]
	}
	if c.Profile != "" {
		named := profileOf(c.Profile)
		if named == nil {
			return nil, fmt.Errorf("--profile %s: there are %s", c.Profile, profileNames())
		}
		p = *named
		if p.Codec != "trellis" {
			return nil, fmt.Errorf("--profile %s is for codec %s; only trellis can be written", c.Profile, p.Codec)
		}
	}
	if c.Shared != nil {
		p.Shared = *c.Shared
	}
	return &p, nil
}

// profileOf returns the profile of the given name, or nil.
func profileOf(name string) *runtime.Profile {
	for _, p := range generated.Profiles {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func profileNames() string {
	var names []string
	for _, p := range generated.Profiles {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
