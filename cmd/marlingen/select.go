package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/marlingen/marlingen/runtime"
)

type selectCmd struct {
	deviceFlag
	Tokens   int              `help:"Rows of the expert: the tokens that chose it." default:"1"`
	Layer    int              `help:"Rows of all experts together; without it, there are no others."`
	Bits     runtime.BitTuple `help:"Tuple of the expert, such as 6_2_3." required:"" placeholder:"TUPLE"`
	Codec    string           `help:"Codec of the expert's weights." default:"trellis"`
	Shared   bool             `help:"Experts of other tuples share the launch."`
	Override string           `help:"Ask for this kernel in its pass, as a benchmark would." placeholder:"SYMBOL"`
	Explain  bool             `help:"Say what was passed over and why, and how the kernel is launched."`
	JSON     bool             `help:"Write JSON."`
}

// Help is shown by marlingen select --help.
func (*selectCmd) Help() string {
	return `Chooses a kernel for both passes as a layer would, from what the device has. Exits with 1 if
there is none.

  marlingen select --tokens 1 --bits 6_2_3 --explain
  marlingen select --tokens 5 --bits 7_7_7 --explain    # in no spec: generic`
}

// A selection is the JSON form of a choice.
type selection struct {
	Pass    runtime.Pass `json:"pass"`
	Symbol  string       `json:"symbol,omitempty"`
	Kind    runtime.Kind `json:"kind,omitempty"`
	Why     string       `json:"why,omitempty"`
	Source  string       `json:"source,omitempty"`
	Spec    string       `json:"spec,omitempty"`
	Threads int          `json:"threads,omitempty"`
	Grid    []string     `json:"grid,omitempty"`
	Error   string       `json:"error,omitempty"`
}

func (c *selectCmd) Run(ctx context.Context, a *app) error {
	if c.Tokens < 1 {
		return fmt.Errorf("--tokens %d: want at least 1", c.Tokens)
	}
	if c.Layer != 0 && c.Layer < c.Tokens {
		return fmt.Errorf("--layer %d: want at least the %d rows of the expert", c.Layer, c.Tokens)
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	overridden := s.table.Kernel(c.Override)
	if c.Override != "" && overridden == nil {
		return fmt.Errorf("--override %s: the table has no such kernel", c.Override)
	}

	var selections []selection
	var errs []error
	for _, pass := range []runtime.Pass{runtime.GateUp, runtime.Down} {
		r := runtime.Request{Pass: pass, Codec: c.Codec, Tuple: c.Bits, Rows: c.Tokens, Layer: c.Layer, Shared: c.Shared}
		if overridden != nil && overridden.Pass == pass {
			r.Override = c.Override
		}
		choice, err := runtime.Select(s.table, s.library.Availability(), r)
		if err != nil {
			errs = append(errs, err)
			selections = append(selections, selection{Pass: pass, Error: err.Error()})
			continue
		}
		k := choice.Kernel
		sel := selection{Pass: pass, Symbol: k.Symbol, Kind: k.Kind, Why: choice.Why(), Source: k.Source, Spec: k.Line, Threads: k.Threads}
		for _, axis := range k.Grid {
			sel.Grid = append(sel.Grid, axis.String())
		}
		selections = append(selections, sel)
	}
	if c.JSON {
		if err := a.json(selections); err != nil {
			return err
		}
		if len(errs) > 0 {
			return errFailed
		}
		return nil
	}
	for _, sel := range selections {
		if sel.Error != "" {
			continue
		}
		fmt.Fprintf(a.out, "%-8s %s\n", sel.Pass, sel.Symbol)
		if c.Explain {
			fmt.Fprintf(a.out, "  kind    %s\n  why     %s\n  spec    %s\n  source  generated/%s\n  launch  %d threads × %v threadgroups\n",
				sel.Kind, sel.Why, sel.Spec, sel.Source, sel.Threads, sel.Grid)
		}
	}
	return errors.Join(errs...)
}
