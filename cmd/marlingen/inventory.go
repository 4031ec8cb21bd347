package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metallib"
	"github.com/marlingen/marlingen/runtime/msl"
)

type inventoryCmd struct {
	deviceFlag
	Require    []string `help:"Symbols that must be present; all of the table if none are named." xor:"required" placeholder:"SYMBOL"`
	RequiredBy string   `help:"Show what a checkpoint needs instead, which must be present." xor:"required" type:"existingdir" placeholder:"DIR"`
	Library    []string `help:"Read these files, .metal or .metallib, instead of asking a device." type:"existingfile" placeholder:"FILE"`
	JSON       bool     `help:"Write JSON."`
}

// Help is shown by marlingen inventory --help.
func (*inventoryCmd) Help() string {
	return `Loads the generated library on a device and asks it for every kernel of the table: present,
missing (the library has no such function) or failed (the device refused it; its words follow).
With --library it reads which functions are in files, which says nothing of whether a device takes
them. With --required-by it shows, for each pass, tuple and family that a checkpoint's layers may
come to, whether the best kernel is there, or only a generic one. Exits with 1 if a required kernel
is not present.

  marlingen inventory --required-by glm-tiny-mixed
  marlingen inventory --library generated/trellis_decode.metal --require moe_trellis_swiglu_decode_6_2_3`
}

// An inventory is what a device said of the table, once.
type inventory struct {
	Time    time.Time       `json:"time"`
	Device  string          `json:"device"`
	Kind    string          `json:"kind"`
	Driver  string          `json:"driver"`
	Digest  string          `json:"digest"` // of the manifest
	LoadMS  float64         `json:"load_ms"`
	Kernels []inventoryItem `json:"kernels,omitempty"`
	Needs   []moe.Need      `json:"needs,omitempty"`   // with --required-by
	Unknown []string        `json:"unknown,omitempty"` // functions of --library that the table lacks
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
	inv, kernels, have, err := c.ask(ctx)
	if err != nil {
		return err
	}
	required := map[string]bool{}
	var unknown []error
	for _, symbol := range c.Require {
		required[symbol] = true
		if kernels.Kernel(symbol) == nil {
			unknown = append(unknown, fmt.Errorf("--require %s: the table has no such kernel", symbol))
		}
	}
	if err := errors.Join(unknown...); err != nil {
		return err
	}
	if c.RequiredBy != "" {
		return c.needs(a, inv, kernels, have)
	}
	counts := map[runtime.State]int{}
	absent := 0
	for _, k := range kernels.Kernels {
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
		fmt.Fprintf(a.out, "\n%d present, %d missing, %d failed\n", counts[runtime.Present], counts[runtime.Missing], counts[runtime.Failed])
		a.origin(inv)
	}
	if absent > 0 {
		fmt.Fprintf(a.err, "marlingen: %d required kernels are not present\n", absent)
		return errFailed
	}
	return nil
}

// ask returns the kernels that there may be, those that a device or files have,
// and where that is from.
func (c *inventoryCmd) ask(ctx context.Context) (*inventory, *runtime.Table, runtime.Availability, error) {
	inv := &inventory{Time: time.Now().UTC(), Digest: generated.Manifest.Digest}
	if len(c.Library) > 0 {
		have, err := readLibraries(ctx, c.Library, generated.All.Every(c.Device.target()), &inv.Unknown)
		inv.Device, inv.Kind = strings.Join(c.Library, ", "), "library"
		return inv, c.Device.table(), have, err
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	defer s.close()
	info := s.device.Info()
	inv.Device, inv.Kind, inv.Driver, inv.LoadMS = info.Name, info.Kind, info.Driver, milliseconds(s.load)
	return inv, s.table, s.library.Availability(), nil
}

// readLibraries returns what is in files, and adds what a table lacks to unknown.
func readLibraries(ctx context.Context, files []string, kernels *runtime.Table, unknown *[]string) (runtime.Availability, error) {
	have := runtime.Availability{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var symbols []string
		if filepath.Ext(file) == ".metallib" {
			functions, failure := metallib.Functions(data)
			for _, f := range functions {
				if f.Type == metallib.Kernel {
					symbols = append(symbols, f.Name)
				}
			}
			err = failure
		} else {
			symbols, err = msl.Kernels(ctx, file, string(data))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, symbol := range symbols {
			have[symbol] = runtime.Status{State: runtime.Present}
			if kernels.Kernel(symbol) == nil {
				*unknown = append(*unknown, symbol)
			}
		}
	}
	return have, nil
}

// needs shows what the checkpoint of --required-by needs.
func (c *inventoryCmd) needs(a *app, inv *inventory, kernels *runtime.Table, have runtime.Availability) error {
	layers, err := readLayers(c.RequiredBy)
	if err != nil {
		return err
	}
	inv.Needs = moe.Needs(kernels, have, layers)
	counts := map[moe.NeedState]int{}
	var rows []table.Row
	for _, n := range inv.Needs {
		counts[n.State]++
		shared := "alone"
		if n.Shared {
			shared = "shared"
		}
		tuple := ""
		if n.Codec != "" {
			tuple = n.Tuple.String()
		}
		rows = append(rows, table.Row{n.Pass, n.Codec, tuple, n.Family, shared, n.Experts, n.Kernel, n.State, n.Runs, n.Words})
	}
	if c.JSON {
		if err := a.json(inv); err != nil {
			return err
		}
	} else {
		a.table(table.Row{"pass", "codec", "tuple", "family", "launch", "experts", "kernel", "state", "runs", "words"}, rows, 6)
		fmt.Fprintln(a.out)
		for _, s := range []moe.NeedState{moe.NeedPresent, moe.NeedGeneric, moe.NeedMissing, moe.NeedFailed, moe.NeedHost} {
			if counts[s] > 0 {
				fmt.Fprintf(a.out, "%d %s\n", counts[s], s)
			}
		}
		a.origin(inv)
	}
	if absent := len(inv.Needs) - counts[moe.NeedPresent]; absent > 0 {
		fmt.Fprintf(a.err, "marlingen: %s needs %d kernels that are not present\n", c.RequiredBy, absent)
		return errFailed
	}
	return nil
}

// readLayers returns the MoE layers of a checkpoint, without their weights.
func readLayers(dir string) (layers []moe.Weights, err error) {
	model, err := openCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	for _, n := range model.MoELayers() {
		w, err := model.Layer(n)
		if err != nil {
			return nil, err
		}
		w.Data = nil
		layers = append(layers, w)
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("%s has no layers of experts", dir)
	}
	return layers, nil
}

// origin says where an inventory is from, for people.
func (a *app) origin(inv *inventory) {
	if len(inv.Unknown) > 0 {
		fmt.Fprintf(a.out, "not in the table: %s\n", strings.Join(inv.Unknown, ", "))
	}
	if inv.Kind == "library" {
		fmt.Fprintf(a.out, "read from %s, for the table of %s\n", inv.Device, inv.Digest)
		return
	}
	fmt.Fprintf(a.out, "device %s (%s, %s)\nlibrary %s, loaded in %.1f ms at %s\n",
		inv.Device, inv.Kind, inv.Driver, inv.Digest, inv.LoadMS, inv.Time.Format(time.RFC3339))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
