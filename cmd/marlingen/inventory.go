package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
)

type inventoryCmd struct {
	deviceFlag
	Require []string `help:"Symbols that must be present; all of the table if none are named." placeholder:"SYMBOL"`
	JSON    bool     `help:"Write JSON."`
}

// Help is shown by marlingen inventory --help.
func (*inventoryCmd) Help() string {
	return `Loads the generated library on a device and asks it for every kernel of the table: present,
missing (the library has no such function) or failed (the device refused it; its words follow).
Exits with 1 if a required kernel is not present.`
}

// An inventory is what a device said of the table, once.
type inventory struct {
	Time    time.Time       `json:"time"`
	Device  string          `json:"device"`
	Kind    string          `json:"kind"`
	Driver  string          `json:"driver"`
	Digest  string          `json:"digest"` // of the manifest
	LoadMS  float64         `json:"load_ms"`
	Kernels []inventoryItem `json:"kernels"`
}

type inventoryItem struct {
	Symbol string             `json:"symbol"`
	Pass   runtime.Pass       `json:"pass"`
	Codec  string             `json:"codec,omitempty"`
	Family string             `json:"family,omitempty"`
	Kind   runtime.Kind       `json:"kind"`
	Tuples []runtime.BitTuple `json:"tuples,omitempty"`
	State  runtime.State      `json:"state"`
	Words  string             `json:"words,omitempty"`
	Spec   string             `json:"spec"`
}

func (c *inventoryCmd) Run(ctx context.Context, a *app) error {
	required := map[string]bool{}
	var unknown []error
	for _, symbol := range c.Require {
		required[symbol] = true
		if c.Device.table().Kernel(symbol) == nil {
			unknown = append(unknown, fmt.Errorf("--require %s: the table has no such kernel", symbol))
		}
	}
	if err := errors.Join(unknown...); err != nil {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()

	info, have := s.device.Info(), s.library.Availability()
	inv := inventory{
		Time: time.Now().UTC(), Device: info.Name, Kind: info.Kind, Driver: info.Driver,
		Digest: generated.Manifest.Digest, LoadMS: milliseconds(s.load),
	}
	counts := map[runtime.State]int{}
	absent := 0
	for _, k := range s.table.Kernels {
		status := have.Of(k)
		counts[status.State]++
		if status.State != runtime.Present && (len(required) == 0 || required[k.Symbol]) {
			absent++
		}
		inv.Kernels = append(inv.Kernels, inventoryItem{
			k.Symbol, k.Pass, k.Codec, k.Family, k.Kind, k.Tuples, status.State, status.Words, k.Line,
		})
	}
	if c.JSON {
		if err := a.json(inv); err != nil {
			return err
		}
	} else {
		var rows []table.Row
		for _, k := range inv.Kernels {
			rows = append(rows, table.Row{k.Symbol, k.Pass, k.Family, k.Kind, k.State, k.Words, k.Spec})
		}
		a.table(table.Row{"kernel", "pass", "family", "kind", "state", "words", "spec"}, rows)
		fmt.Fprintf(a.out, "\n%d present, %d missing, %d failed\ndevice %s (%s, %s)\nlibrary %s, loaded in %.1f ms at %s\n",
			counts[runtime.Present], counts[runtime.Missing], counts[runtime.Failed],
			inv.Device, inv.Kind, inv.Driver, inv.Digest, inv.LoadMS, inv.Time.Format(time.RFC3339))
	}
	if absent > 0 {
		fmt.Fprintf(a.err, "marlingen: %d required kernels are not present\n", absent)
		return errFailed
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
