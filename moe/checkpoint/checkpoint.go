// Package checkpoint reads the MoE layers of a model from its config.json and
// its safetensors files, strictly, and writes safetensors files.
//
// A checkpoint is a directory in the layout of Hugging Face: config.json with
// model.safetensors or, for several files, model.safetensors.index.json and
// the files that it names. Weights of experts are BF16, F16, F32 or, as package
// trellis describes, quantised; experts of one layer may differ.
//
// Nothing is guessed: a file that contradicts itself, a tensor that is missing
// or that belongs to no part of a layer, and a field with another meaning than
// the one that is implemented are errors. They name file and tensor, and are
// reported together; each is an *Error.
package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/marlingen/marlingen/moe"
)

// The files of a checkpoint.
const (
	configName = "config.json"
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
)

// A Checkpoint is an open checkpoint. Its methods other than Close may be
// called at the same time.
type Checkpoint struct {
	Config Config

	config     []byte // its file, and the name of that
	configFile string

	home    string // the file that should name a missing tensor
	volume  *volume
	tensors map[string]*located
	layers  map[int][]string // names of a layer's MLP tensors, sorted
	older   bool             // in the older layout
	closed  atomic.Bool
}

// A located tensor is one of a checkpoint, known by its name in the current
// layout.
type located struct {
	Tensor        // with the name that its file gives it
	file   string // for errors
	at     int    // offset in the volume
}

// Open opens the checkpoint in directory dir. On Linux and macOS its files are
// mapped, next to each other in one read-only piece of memory; elsewhere they
// are read. A file must not be truncated while it is mapped.
func Open(dir string) (*Checkpoint, error) {
	return open(os.DirFS(dir),
		func(name string) string { return filepath.Join(dir, name) },
		func(names []string) (*volume, error) { return mapFiles(dir, names) })
}

// OpenFS opens the checkpoint in the root of fsys, reading its files into
// memory.
func OpenFS(fsys fs.FS) (*Checkpoint, error) {
	return open(fsys,
		func(name string) string { return name },
		func(names []string) (*volume, error) { return readFiles(fsys, names) })
}

// open opens the checkpoint in the root of fsys. path makes the name of a file
// for errors; load loads files.
func open(fsys fs.FS, path func(string) string, load func([]string) (*volume, error)) (*Checkpoint, error) {
	var f faults
	c := &Checkpoint{configFile: path(configName)}
	var err error
	if c.config, err = readSmall(fsys, configName, path); err == nil {
		var parsed *Config
		if parsed, err = ParseConfig(c.configFile, c.config); err == nil {
			c.Config = *parsed
		}
	}
	if err != nil {
		f = append(f, err)
	}
	if err := c.load(fsys, path, load); err != nil {
		f = append(f, err)
	}
	if f == nil {
		c.checkQuantization(&f)
	}
	if f != nil {
		if c.volume != nil {
			_ = c.volume.close()
		}
		return nil, f.err()
	}
	return c, nil
}

// readSmall reads a whole file that is not one of tensors.
func readSmall(fsys fs.FS, name string, path func(string) string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, &Error{File: path(name), Err: cause(err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHeader+1))
	if err == nil && len(data) > maxHeader {
		err = fmt.Errorf("has more than %d bytes", maxHeader)
	}
	if err != nil {
		return nil, &Error{File: path(name), Err: cause(err)}
	}
	return data, nil
}

// load loads the files of tensors and finds the tensors in them.
func (c *Checkpoint) load(fsys fs.FS, path func(string) string, load func([]string) (*volume, error)) error {
	shardOf, shards, err := listShards(fsys, path)
	if err != nil {
		return err
	}
	c.home = path(singleName)
	if shardOf != nil {
		c.home = path(indexName)
	}
	if c.volume, err = load(shards); err != nil {
		return err
	}

	var f faults
	parsed := true
	var all []*located
	found := make(map[string]string) // shard of each tensor, by its name there
	for i, shard := range shards {
		tensors, _, err := parseTensors(path(shard), c.volume.file(i))
		if err != nil {
			f = append(f, err)
			parsed = false
			continue
		}
		listed := slices.Contains(slices.Collect(maps.Values(shardOf)), shard)
		for _, t := range tensors {
			if other, ok := found[t.Name]; ok {
				f.add(path(shard), t.Name, "is in %s too", path(other))
				continue
			}
			found[t.Name] = shard
			if want, ok := shardOf[t.Name]; listed && !ok {
				f.add(path(shard), t.Name, "is not in %s", path(indexName))
			} else if ok && want != shard {
				f.add(path(shard), t.Name, "should be in %s, says %s", path(want), path(indexName))
			}
			c.older = c.older || isOlder(t.Name)
			all = append(all, &located{Tensor: t, file: path(shard), at: c.volume.files[i].Offset + t.offset})
		}
	}
	if parsed {
		for _, name := range slices.Sorted(maps.Keys(shardOf)) {
			if _, ok := found[name]; !ok {
				f.add(path(shardOf[name]), name, "is missing, though %s has it there", path(indexName))
			}
		}
	}
	c.arrange(&f, all)
	return f.err()
}

// arrange files the tensors under their names in the current layout.
func (c *Checkpoint) arrange(f *faults, all []*located) {
	c.tensors = make(map[string]*located)
	for _, t := range all {
		name := t.Name
		if c.older {
			name = currentName(name)
		}
		if other, ok := c.tensors[name]; ok {
			f.add(t.file, t.Name, "means the same as %s of %s", other.Name, other.file)
			continue
		}
		c.tensors[name] = t
	}
	c.layers = make(map[int][]string)
	for _, name := range c.Names() {
		if n, ok := layerOf(name); ok {
			c.layers[n] = append(c.layers[n], name)
		}
	}
}

// listShards returns the shard of each tensor, nil if there is one file only,
// and all shards, sorted.
func listShards(fsys fs.FS, path func(string) string) (shardOf map[string]string, shards []string, err error) {
	has := func(name string) bool {
		_, err := fs.Stat(fsys, name)
		return err == nil
	}
	switch single, index := has(singleName), has(indexName); {
	case single && index:
		return nil, nil, &Error{File: path(indexName), Err: fmt.Errorf("%s is there too; which of them is the model?", path(singleName))}
	case single:
		return nil, []string{singleName}, nil
	case !index:
		return nil, nil, &Error{File: path(singleName), Err: fmt.Errorf("%w, nor is there %s", fs.ErrNotExist, path(indexName))}
	}
	data, err := readSmall(fsys, indexName, path)
	if err != nil {
		return nil, nil, err
	}
	if shardOf, err = ParseIndex(path(indexName), data); err != nil {
		return nil, nil, err
	}
	shards = slices.Compact(slices.Sorted(maps.Values(shardOf)))
	older := false
	for name := range shardOf {
		older = older || isOlder(name)
	}
	if older && has(olderBase) && !slices.Contains(shards, olderBase) {
		shards = append(shards, olderBase)
	}
	return shardOf, shards, nil
}

// checkQuantization checks that config and tensors agree on whether there are
// quantised weights.
func (c *Checkpoint) checkQuantization(f *faults) {
	var quantised *located
	for _, name := range slices.Sorted(maps.Keys(c.tensors)) {
		if strings.HasSuffix(name, ".indices") {
			quantised = c.tensors[name]
			break
		}
	}
	switch says := c.Config.Quantization != nil; {
	case says && quantised == nil:
		f.add(c.configFile, "", "quantization_config: there are no quantised tensors")
	case says && c.older:
		f.add(c.configFile, "", "quantization_config: the tensors are those of an older layout, which has none")
	case !says && quantised != nil && !c.older:
		f.add(c.configFile, "", "missing quantization_config, but %s has %s", quantised.file, quantised.Name)
	}
}

const layerPrefix = "model.layers."

// layerOf returns the layer whose feed-forward network a tensor belongs to.
func layerOf(name string) (n int, ok bool) {
	rest, ok := strings.CutPrefix(name, layerPrefix)
	if !ok {
		return 0, false
	}
	number, rest, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	return n, err == nil && strconv.Itoa(n) == number && strings.HasPrefix(rest, "mlp.")
}

// Close unmaps the files. The weights of its layers must not be used any more.
func (c *Checkpoint) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.volume.close()
}

// MoELayers returns the layers that are mixtures of experts, in order.
func (c *Checkpoint) MoELayers() []int { return c.Config.MoELayers() }

// Names returns the names of all tensors, sorted, as in the current layout.
func (c *Checkpoint) Names() []string { return slices.Sorted(maps.Keys(c.tensors)) }

// Tensor returns a tensor by its name in the current layout.
func (c *Checkpoint) Tensor(name string) (Tensor, bool) {
	t, ok := c.tensors[name]
	if !ok || c.closed.Load() {
		return Tensor{}, false
	}
	return t.Tensor, true
}

// Warnings returns what a reader of results should know of the checkpoint.
func (c *Checkpoint) Warnings() []string {
	if c.older {
		return slices.Clone(olderWarnings)
	}
	return nil
}

// Faithful reports whether the checkpoint says all that is needed to compute
// what its model computed. That of the older layout does not.
func (c *Checkpoint) Faithful() bool { return !c.older }

// Check reports what is wrong with any of the MoE layers.
func (c *Checkpoint) Check() error {
	var errs []error
	for _, n := range c.MoELayers() {
		_, err := c.plan(n)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Layer returns the weights of layer n, which is one of MoELayers.
//
// Their Data is a window of the mapped files, of whole pages, that covers the
// layer's experts, and with it whatever else lies between them. It dies with
// Close. Should a part not be aligned as its codec demands, or be in the older
// layout, the parts are copied to memory of their own; Relaid tells.
func (c *Checkpoint) Layer(n int) (moe.Weights, error) {
	p, err := c.plan(n)
	if err != nil {
		return moe.Weights{}, err
	}
	w := moe.Weights{Hidden: c.Config.Hidden, Intermediate: c.Config.Intermediate}
	if w.Router, err = c.router(p); err != nil {
		return moe.Weights{}, err
	}
	if p.relaid == "" {
		p.window(&w, c.volume.data)
	} else if err := p.relay(&w); err != nil {
		return moe.Weights{}, err
	}
	return w, nil
}

// Relaid returns why Layer copies the weights of layer n, or nothing if it
// does not.
func (c *Checkpoint) Relaid(n int) (why string, err error) {
	p, err := c.plan(n)
	if err != nil {
		return "", err
	}
	return p.relaid, nil
}
