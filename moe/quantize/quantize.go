// Package quantize turns a checkpoint of unquantised experts into one whose
// experts are trellis matrices, each with a tuple of its own.
package quantize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/dense"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
)

// A Plan says which tuple each expert gets.
type Plan struct {
	Tuples map[int][]runtime.BitTuple // of each layer's routed experts
	Shared runtime.BitTuple           // of the shared ones
}

// Spread returns the plan that gives the experts of c the tuples of p's mix,
// interleaved over experts and layers, in the shares of the mix.
func Spread(c *checkpoint.Checkpoint, p *runtime.Profile) Plan {
	layers, experts := c.MoELayers(), c.Config.Experts
	tuples := p.Spread(len(layers) * experts)
	plan := Plan{Tuples: map[int][]runtime.BitTuple{}, Shared: p.Shared}
	for i, layer := range layers {
		plan.Tuples[layer] = tuples[i*experts : (i+1)*experts]
	}
	return plan
}

// Options say how to quantise.
type Options struct {
	Progress func(done, total int) // called after each matrix; may be nil
}

// A module is a projection that is to be quantised.
type module struct {
	name    string
	bits    uint8
	out, in int
}

// Write writes c, which is the checkpoint in directory from, with its experts
// quantised to directory to. That must not exist, or be empty; it appears once
// it is complete. Every tensor that is not an expert's is copied unchanged, as
// is every other file. It is an error if an expert of c is quantised already,
// or if the plan has no tuple for it.
func Write(ctx context.Context, c *checkpoint.Checkpoint, from, to string, plan Plan, o Options) (err error) {
	if err := c.Check(); err != nil {
		return err
	}
	modules, err := modules(c, plan)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		return err
	}
	if config, err = checkpoint.QuantizedConfig(filepath.Join(from, "config.json"), config); err != nil {
		return err
	}
	if entries, err := os.ReadDir(to); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s exists and is not empty", to)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(to)), 0o755); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(filepath.Clean(to)), "."+filepath.Base(to)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(partial))
		}
	}()
	if err := os.Chmod(partial, 0o755); err != nil {
		return err
	}
	if err := copyOthers(from, partial); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(partial, "config.json"), config, 0o644); err != nil {
		return err
	}
	drafts := drafts(ctx, c, modules, o.Progress)
	if err := checkpoint.WriteTensorsFile(filepath.Join(partial, "model.safetensors"), drafts, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(partial, to)
}

// modules returns the projections of c's experts, with the widths of the plan.
func modules(c *checkpoint.Checkpoint, plan Plan) ([]module, error) {
	var ms []module
	var errs []error
	add := func(prefix string, t runtime.BitTuple) {
		hidden, intermediate := c.Config.Hidden, c.Config.Intermediate
		for _, m := range []module{
			{prefix + "gate_proj", t.Gate, intermediate, hidden},
			{prefix + "up_proj", t.Up, intermediate, hidden},
			{prefix + "down_proj", t.Down, hidden, intermediate},
		} {
			if _, ok := c.Tensor(m.name + ".weight"); !ok {
				errs = append(errs, fmt.Errorf("%s is quantised already", m.name))
			} else if err := trellis.CheckShape(m.bits, m.out, m.in); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.name, err))
			}
			ms = append(ms, m)
		}
	}
	for _, layer := range c.MoELayers() {
		tuples := plan.Tuples[layer]
		if len(tuples) != c.Config.Experts {
			errs = append(errs, fmt.Errorf("layer %d: %d tuples for %d experts", layer, len(tuples), c.Config.Experts))
			continue
		}
		for e, t := range tuples {
			add(fmt.Sprintf("model.layers.%d.mlp.experts.%d.", layer, e), t)
		}
		if c.Config.SharedExperts > 0 {
			add(fmt.Sprintf("model.layers.%d.mlp.shared_experts.", layer), plan.Shared)
		}
	}
	return ms, errors.Join(errs...)
}

// drafts returns the tensors to be written. The quantised come first: their
// sizes are multiples of 32 bytes, so all of them are aligned. A matrix is
// quantised when its turn comes, and forgotten after it.
func drafts(ctx context.Context, c *checkpoint.Checkpoint, modules []module, progress func(done, total int)) []checkpoint.Draft {
	var ds []checkpoint.Draft
	replaced := map[string]bool{}
	for i, m := range modules {
		replaced[m.name+".weight"] = true
		var tensor *trellis.Tensor
		for _, part := range trellis.Components {
			d := checkpoint.Draft{
				Name:  m.name + "." + part.String(),
				DType: checkpoint.F16,
				Shape: part.Shape(m.bits, m.out, m.in),
			}
			if part == trellis.Indices {
				d.DType = checkpoint.U8
			}
			d.Bytes = func() ([]byte, error) {
				var err error
				if part == trellis.Components[0] {
					tensor, err = quantise(ctx, c, m)
					if err != nil {
						return nil, err
					}
				}
				b := tensor.Part(part)
				if part == trellis.Components[len(trellis.Components)-1] {
					tensor = nil
					if progress != nil {
						progress(i+1, len(modules))
					}
				}
				return b, nil
			}
			ds = append(ds, d)
		}
	}
	// The others by the size of their elements, so that they are aligned too.
	var others []checkpoint.Draft
	for _, name := range c.Names() {
		if t, ok := c.Tensor(name); ok && !replaced[name] {
			others = append(others, t.Draft())
		}
	}
	slices.SortStableFunc(others, func(a, b checkpoint.Draft) int { return b.DType.Size() - a.DType.Size() })
	return append(ds, others...)
}

// quantise reads and quantises one matrix.
func quantise(ctx context.Context, c *checkpoint.Checkpoint, m module) (*trellis.Tensor, error) {
	t, _ := c.Tensor(m.name + ".weight")
	codec, ok := map[checkpoint.DType]dense.Codec{
		checkpoint.BF16: dense.BF16, checkpoint.F16: dense.F16, checkpoint.F32: dense.F32,
	}[t.DType]
	if !ok {
		return nil, fmt.Errorf("%s: its dtype is %s", t.Name, t.DType)
	}
	w := make([]float32, m.out*m.in)
	codec.Decode(w, t.Data)
	q, err := trellis.Quantize(ctx, w, m.out, m.in, m.bits, trellis.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	return q, nil
}

// copyOthers copies the files of from that are no part of its weights.
func copyOthers(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		weights := strings.HasPrefix(name, "model") && (strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".safetensors.index.json"))
		if !e.Type().IsRegular() || weights || name == "config.json" {
			continue
		}
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
