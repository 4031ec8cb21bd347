package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/quantize"
	"github.com/marlingen/marlingen/runtime"
)

type quantizeCmd struct {
	Model   string             `help:"Checkpoint to read: a folder in the layout of Hugging Face." required:"" type:"existingdir"`
	Out     string             `help:"Folder to write; it must not exist, or be empty." required:"" type:"path"`
	Profile string             `help:"Mixture of tuples, from specs/profiles: ${profiles}." xor:"tuples" placeholder:"NAME"`
	Tuples  []runtime.BitTuple `help:"Tuples to give to the experts in turn, instead of a profile." xor:"tuples" placeholder:"TUPLE"`
	Shared  *runtime.BitTuple  `help:"Tuple of the shared experts, if not the profile's or the first of --tuples." placeholder:"TUPLE"`
	JSON    bool               `help:"Write JSON."`
}

// Help is shown by marlingen quantize --help.
func (*quantizeCmd) Help() string {
	return `Quantises the experts of a checkpoint, routed and shared, to the trellis codec. Everything else is
copied unchanged. The same input gives the same bytes.

  marlingen quantize --model glm-tiny --out glm-tiny-mixed --profile glm47
  marlingen quantize --model glm-tiny --out glm-tiny-6_2_3 --tuples 6_2_3`
}

// A quantization is the JSON form of what quantize did.
type quantization struct {
	Out     string                   `json:"out"`
	Experts map[runtime.BitTuple]int `json:"experts"` // routed ones, by tuple
	Shared  runtime.BitTuple         `json:"shared"`
	Seconds float64                  `json:"seconds"`
}

func (c *quantizeCmd) Run(ctx context.Context, a *app) error {
	profile, err := c.profile()
	if err != nil {
		return err
	}
	src, err := checkpoint.Open(c.Model)
	if err != nil {
		return err
	}
	defer src.Close()

	plan := quantize.Spread(src, profile)
	done := quantization{Out: c.Out, Shared: plan.Shared, Experts: map[runtime.BitTuple]int{}}
	for _, tuples := range plan.Tuples {
		for _, t := range tuples {
			done.Experts[t]++
		}
	}
	show, end := a.progress("quantising")
	start := time.Now()
	err = quantize.Write(ctx, src, c.Model, c.Out, plan, quantize.Options{Progress: show})
	end()
	if err != nil {
		return err
	}
	done.Seconds = time.Since(start).Seconds()
	if c.JSON {
		return a.json(done)
	}
	var tuples []string
	for t, n := range done.Experts {
		tuples = append(tuples, fmt.Sprintf("%d of %v", n, t))
	}
	slices.Sort(tuples)
	fmt.Fprintf(a.out, "%s: experts %s; shared %v; %.1f s\n", c.Out, strings.Join(tuples, ", "), done.Shared, done.Seconds)
	return nil
}

// profile returns the mixture that the flags ask for.
func (c *quantizeCmd) profile() (*runtime.Profile, error) {
	if c.Profile == "" && len(c.Tuples) == 0 {
		return nil, errors.New("--profile or --tuples: one of them is needed")
	}
	p := runtime.Profile{Experts: len(c.Tuples)}
	for _, t := range c.Tuples {
		p.Mix = append(p.Mix, runtime.Share{Tuple: t, Experts: 1})
		p.Shared = c.Tuples[0]
	}
	if c.Profile != "" {
		i := slices.IndexFunc(generated.Profiles, func(p *runtime.Profile) bool { return p.Name == c.Profile })
		if i < 0 {
			return nil, fmt.Errorf("--profile %s: there are %s", c.Profile, profileNames())
		}
		p = *generated.Profiles[i]
		if p.Codec != "trellis" {
			return nil, fmt.Errorf("--profile %s is for codec %s; only trellis can be written", c.Profile, p.Codec)
		}
	}
	if c.Shared != nil {
		p.Shared = *c.Shared
	}
	return &p, nil
}

func profileNames() string {
	var names []string
	for _, p := range generated.Profiles {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
