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

	"gonum.org/v1/gonum/blas/blas32"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
)

// Options say how to quantise.
type Options struct {
	// Calibration is the text whose reading is to be spared; nil to treat all
	// weights alike. Its model has to be of the same checkpoint.
	Calibration *Calibration

	Stage    trellis.Stage         // how far to go with it
	Progress func(done, total int) // called after each expert; may be nil
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
	q := &quantiser{checkpoint: c, plan: plan, stage: o.Stage, progress: o.Progress, layer: -1}
	if err := q.check(); err != nil {
		return err
	}
	if o.Calibration != nil {
		if q.walk, err = o.Calibration.newWalk(); err != nil {
			return err
		}
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
	if err := checkpoint.WriteTensorsFile(filepath.Join(partial, "model.safetensors"), q.drafts(ctx), map[string]string{"format": "pt"}); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(partial, to)
}

// A quantiser quantises expert after expert.
type quantiser struct {
	checkpoint *checkpoint.Checkpoint
	plan       Plan
	stage      trellis.Stage
	progress   func(done, total int)

	walk  *walk // nil without a calibration
	layer int   // that the walk is in, or -1
	x     []float32
	rows  []rows
	out   []float32 // of the layer's experts so far, [tokens, hidden]
}

// check reports what the plan and the checkpoint do not allow.
func (q *quantiser) check() error {
	c := q.checkpoint
	experts := c.Config.Experts + c.Config.SharedExperts
	var errs []error
	for _, layer := range c.MoELayers() {
		if n := len(q.plan[layer]); n != experts {
			errs = append(errs, fmt.Errorf("layer %d: %d tuples for %d experts", layer, n, experts))
			continue
		}
		for e, t := range q.plan[layer] {
			for _, p := range projections(c.Config, t) {
				name := prefix(c.Config, layer, e) + p.name
				if _, ok := c.Tensor(name + ".weight"); !ok {
					errs = append(errs, fmt.Errorf("%s is quantised already", name))
				} else if err := trellis.CheckShape(p.bits, p.out, p.in); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// drafts returns the tensors to be written. The quantised come first: their
// sizes are multiples of 32 bytes, so all of them are aligned. An expert is
// quantised when the turn of its first tensor comes, and forgotten after its
// last.
func (q *quantiser) drafts(ctx context.Context) []checkpoint.Draft {
	c := q.checkpoint
	var ds []checkpoint.Draft
	replaced := map[string]bool{}
	layers := c.MoELayers()
	for i, layer := range layers {
		for e, tuple := range q.plan[layer] {
			var tensors [3]*trellis.Tensor
			first := len(ds)
			for k, p := range projections(c.Config, tuple) {
				module := prefix(c.Config, layer, e) + p.name
				replaced[module+".weight"] = true
				for _, part := range trellis.Components {
					d := checkpoint.Draft{Name: module + "." + part.String(), DType: checkpoint.F16, Shape: part.Shape(p.bits, p.out, p.in)}
					if part == trellis.Indices {
						d.DType = checkpoint.U8
					}
					d.Bytes = func() ([]byte, error) { return tensors[k].Part(part), nil }
					ds = append(ds, d)
				}
			}
			begin, end := ds[first].Bytes, ds[len(ds)-1].Bytes
			ds[first].Bytes = func() (b []byte, err error) {
				if tensors, err = q.expert(ctx, layer, e); err != nil {
					return nil, err
				}
				return begin()
			}
			ds[len(ds)-1].Bytes = func() ([]byte, error) {
				b, err := end()
				tensors = [3]*trellis.Tensor{}
				if q.progress != nil {
					q.progress(i*len(q.plan[layer])+e+1, len(layers)*len(q.plan[layer]))
				}
				return b, err
			}
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

// expert returns the projections of an expert with the widths of the plan. It
// is called once for each, in order.
func (q *quantiser) expert(ctx context.Context, layer, e int) (ts [3]*trellis.Tensor, err error) {
	ex, err := read(q.checkpoint, layer, e)
	if err != nil {
		return ts, err
	}
	t := q.plan[layer][e]
	widths := [3]uint8{t.Gate, t.Up, t.Down}
	if q.walk == nil {
		for i, bits := range widths {
			if ts[i], err = ex.quantise(ctx, i, bits, trellis.Options{}); err != nil {
				return ts, err
			}
		}
		return ts, nil
	}
	if err := q.enter(ctx, layer); err != nil {
		return ts, err
	}
	if err := q.calibrated(ctx, ex, widths, &q.rows[e], &ts); err != nil {
		return ts, err
	}
	if e == len(q.rows)-1 {
		q.walk.leave(q.out)
		q.layer = -1
	}
	return ts, nil
}

// enter walks to a layer, past the layers that are quantised already.
func (q *quantiser) enter(ctx context.Context, layer int) (err error) {
	if q.layer == layer {
		return nil
	}
	if q.x, err = q.walk.enter(ctx, layer); err != nil {
		return err
	}
	c := q.checkpoint.Config
	q.layer, q.out = layer, make([]float32, len(q.x))
	q.rows, err = q.walk.rows(q.x, c.Experts, c.SharedExperts > 0)
	return err
}

// calibrated quantises an expert for the inputs that its rows have once all
// before it is quantised, and adds its output to the layer's.
func (q *quantiser) calibrated(ctx context.Context, ex *expert, widths [3]uint8, r *rows, ts *[3]*trellis.Tensor) error {
	var moment *trellis.Hessian
	var quantised [3]blas32.General
	x := r.of(q.x, q.checkpoint.Config.Hidden)
	for i, bits := range widths {
		var err error
		switch i {
		case 0:
			moment, err = r.moment(x)
		case 2:
			x = hidden(times(x, quantised[0]), times(x, quantised[1]))
			moment, err = r.moment(x)
		}
		if err != nil {
			return fmt.Errorf("%s%s: %w", ex.name, ex.projections[i].name, err)
		}
		if ts[i], err = ex.quantise(ctx, i, bits, trellis.Options{Hessian: moment, Stage: q.stage}); err != nil {
			return err
		}
		if quantised[i], err = decode(ts[i]); err != nil {
			return err
		}
	}
	r.addTo(q.out, times(x, quantised[2]))
	return nil
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
