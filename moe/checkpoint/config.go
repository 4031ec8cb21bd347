package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/moe/trellis"
)

// modelType is the architecture that this package reads.
const modelType = "glm4_moe_lite"

// A Config is what a config.json of model_type glm4_moe_lite says of a model's
// MoE layers.
type Config struct {
	Layers     int // num_hidden_layers
	Hidden     int // hidden_size
	LayerTypes []LayerType

	Experts       int     // n_routed_experts
	SharedExperts int     // n_shared_experts: 0 or 1
	Intermediate  int     // moe_intermediate_size
	TopK          int     // num_experts_per_tok
	Groups        int     // n_group
	TopKGroups    int     // topk_group
	Normalize     bool    // norm_topk_prob
	Scale         float64 // routed_scaling_factor

	Quantization *Quantization // quantization_config; nil if there is none
}

// A LayerType says which feed-forward network a layer has.
type LayerType string

// The types of layers.
const (
	Dense  LayerType = "dense"  // one for all tokens
	Sparse LayerType = "sparse" // a mixture of experts
)

// A Quantization says how experts may be quantised. Their widths are in their
// tensors' shapes.
type Quantization struct {
	Method    string `json:"quant_method"`
	Version   int    `json:"version"`
	GroupSize int    `json:"group_size"`
}

// quantization is the one that this package reads.
var quantization = Quantization{Method: "trellis", Version: 1, GroupSize: trellis.Group}

// MoELayers returns the layers that are mixtures of experts.
func (c *Config) MoELayers() []int {
	var layers []int
	for n, t := range c.LayerTypes {
		if t == Sparse {
			layers = append(layers, n)
		}
	}
	return layers
}

// ParseConfig reads a config.json. file is its name for errors. Fields that do
// not concern MoE layers are passed over.
func ParseConfig(file string, data []byte) (*Config, error) {
	var f faults
	p, err := newFields(file, data, &f)
	if err != nil {
		return nil, err
	}

	// With another architecture, nothing else means what it says here.
	if p.only("model_type", modelType); f != nil {
		return nil, f.err()
	}
	p.only("hidden_act", "silu")
	p.onlyIfPresent("scoring_func", "sigmoid")
	p.onlyIfPresent("topk_method", "noaux_tc")
	if v, ok := p.values["moe_layer_freq"]; ok && string(v) != "1" {
		p.fault("moe_layer_freq is %s; only 1 is supported", clip(v))
	}
	c := &Config{
		Layers:        p.integer("num_hidden_layers", 1, maxCount),
		Hidden:        p.integer("hidden_size", 1, maxSize),
		Experts:       p.integer("n_routed_experts", 1, maxCount),
		SharedExperts: p.integer("n_shared_experts", 0, 1),
		Intermediate:  p.integer("moe_intermediate_size", 1, maxSize),
		TopK:          p.integer("num_experts_per_tok", 1, maxCount),
		Groups:        p.integer("n_group", 1, maxCount),
		TopKGroups:    p.integer("topk_group", 1, maxCount),
		Normalize:     p.boolean("norm_topk_prob"),
		Scale:         p.number("routed_scaling_factor"),
		Quantization:  p.quantization(),
	}
	c.LayerTypes = p.layerTypes(c.Layers)
	if len(p.missing) > 0 {
		p.fault("missing %s", strings.Join(p.missing, ", "))
	}
	if f == nil {
		c.check(p)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// What no model comes near.
const (
	maxSize  = 1 << 24 // of a dimension
	maxCount = 1 << 16 // of layers or experts
)

// check reports fields that contradict each other.
func (c *Config) check(p *fields) {
	perGroup := c.Experts / c.Groups
	switch {
	case c.Experts%c.Groups != 0:
		p.fault("n_routed_experts is %d, not a multiple of n_group, %d", c.Experts, c.Groups)
	case c.Groups > 1 && perGroup < 2:
		p.fault("n_group is %d: its groups are ranked by their two best experts, but have %d", c.Groups, perGroup)
	case c.TopKGroups > c.Groups:
		p.fault("topk_group is %d, more than n_group, %d", c.TopKGroups, c.Groups)
	case c.TopK > perGroup*c.TopKGroups:
		p.fault("num_experts_per_tok is %d, more than the %d experts to choose from", c.TopK, perGroup*c.TopKGroups)
	}
}

// QuantizedConfig returns the config.json data, of a model that is not
// quantised, as that of a model whose experts are trellis matrices. file is
// its name for errors.
func QuantizedConfig(file string, data []byte) ([]byte, error) {
	c, err := ParseConfig(file, data)
	if err != nil {
		return nil, err
	}
	if c.Quantization != nil {
		return nil, &Error{File: file, Err: errors.New("has a quantization_config already")}
	}
	members, err := object(data)
	if err != nil {
		return nil, &Error{File: file, Err: err}
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for _, m := range members {
		if m.name != "quantization_config" {
			fmt.Fprintf(&b, "%s:%s,", marshal(m.name), m.value)
		}
	}
	fmt.Fprintf(&b, `"quantization_config":%s}`, marshal(quantization))
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
		return nil, &Error{File: file, Err: err}
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// fields reads the values of an object and collects what is wrong with them.
type fields struct {
	file    string
	faults  *faults
	values  map[string]json.RawMessage
	missing []string
}

// newFields returns the fields of the object data, whose mistakes go to f.
func newFields(file string, data []byte, f *faults) (*fields, error) {
	members, err := object(data)
	if err != nil {
		return nil, &Error{File: file, Err: err}
	}
	p := &fields{file: file, faults: f, values: make(map[string]json.RawMessage)}
	for _, m := range members {
		if m.again {
			p.fault("%s appears twice", m.name)
		}
		p.values[m.name] = m.value
	}
	return p, nil
}

func (p *fields) fault(format string, args ...any) { p.faults.add(p.file, "", format, args...) }

// value returns the value of a field that has to be there.
func (p *fields) value(name string) (json.RawMessage, bool) {
	v, ok := p.values[name]
	if !ok {
		p.missing = append(p.missing, name)
	}
	return v, ok
}

// only reads a field that has to be there and to be want.
func (p *fields) only(name, want string) {
	if _, ok := p.value(name); ok {
		p.onlyIfPresent(name, want)
	}
}

// onlyIfPresent reads a field that, if it is there, has to be want.
func (p *fields) onlyIfPresent(name, want string) {
	if v, ok := p.values[name]; ok {
		if s, ok := text(v); !ok || s != want {
			p.fault("%s is %s; only %q is supported", name, clip(v), want)
		}
	}
}

// integer returns 0 if there is a mistake.
func (p *fields) integer(name string, least, greatest int) int {
	v, ok := p.value(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	switch {
	case err != nil:
		p.fault("%s is %s, not an integer", name, clip(v))
		return 0
	case n < int64(least) || n > int64(greatest):
		p.fault("%s is %d, not in %d..%d", name, n, least, greatest)
		return 0
	}
	return int(n)
}

func (p *fields) number(name string) float64 {
	v, ok := p.value(name)
	if !ok {
		return 0
	}
	x, err := strconv.ParseFloat(string(v), 64)
	switch {
	case err != nil || math.IsInf(x, 0) || math.IsNaN(x):
		p.fault("%s is %s, not a number", name, clip(v))
	case math.Abs(x) > math.MaxFloat32:
		p.fault("%s is %s, beyond float32", name, clip(v))
	}
	return x
}

func (p *fields) boolean(name string) bool {
	v, ok := p.value(name)
	if ok && string(v) != "true" && string(v) != "false" {
		p.fault("%s is %s, not true or false", name, clip(v))
	}
	return string(v) == "true"
}

// layerTypes reads mlp_layer_types, first_k_dense_replace or both. Of layers,
// 0 stands for a number that was mistaken.
func (p *fields) layerTypes(layers int) []LayerType {
	_, listed := p.values["mlp_layer_types"]
	_, counted := p.values["first_k_dense_replace"]
	if !listed && !counted {
		p.missing = append(p.missing, "mlp_layer_types or first_k_dense_replace")
		return nil
	}
	var fromList, fromCount []LayerType
	mistakes := len(*p.faults)
	if listed {
		fromList = p.listed(layers)
	}
	if counted {
		n := p.integer("first_k_dense_replace", 0, maxCount)
		for i := range layers {
			t := Sparse
			if i < n {
				t = Dense
			}
			fromCount = append(fromCount, t)
		}
	}
	if len(*p.faults) > mistakes || layers == 0 {
		return nil
	}
	if listed && counted && !slices.Equal(fromList, fromCount) {
		p.fault("mlp_layer_types and first_k_dense_replace disagree")
	}
	if listed {
		return fromList
	}
	return fromCount
}

func (p *fields) listed(layers int) []LayerType {
	elements, ok := list(p.values["mlp_layer_types"])
	if !ok {
		p.fault("mlp_layer_types is not a list")
		return nil
	}
	if layers > 0 && len(elements) != layers {
		p.fault("mlp_layer_types has %d elements for %d layers", len(elements), layers)
	}
	var types []LayerType
	for i, e := range elements {
		s, _ := text(e)
		if t := LayerType(s); t != Dense && t != Sparse {
			p.fault("mlp_layer_types[%d] is %s; only %q and %q are supported", i, clip(e), Dense, Sparse)
		}
		types = append(types, LayerType(s))
	}
	return types
}

// quantization reads quantization_config, whose absence or null says that
// nothing is quantised.
func (p *fields) quantization() *Quantization {
	const name = "quantization_config"
	v, ok := p.values[name]
	if !ok || string(v) == "null" {
		return nil
	}
	members, err := object(v)
	if err != nil {
		p.fault("%s: %w", name, err)
		return nil
	}
	want := map[string]string{
		"quant_method": string(marshal(quantization.Method)),
		"version":      string(marshal(quantization.Version)),
		"group_size":   string(marshal(quantization.GroupSize)),
	}
	for _, m := range members {
		w, ok := want[m.name]
		switch {
		case m.again:
			p.fault("%s: %s appears twice", name, m.name)
		case !ok:
			p.fault("%s: %s is not known", name, m.name)
		case string(m.value) != w:
			p.fault("%s: %s is %s; only %s is supported", name, m.name, clip(m.value), w)
		}
	}
	for _, m := range members {
		delete(want, m.name)
	}
	for _, field := range slices.Sorted(maps.Keys(want)) {
		p.missing = append(p.missing, name+"."+field)
	}
	q := quantization
	return &q
}
