package checkpoint

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// An Architecture is what a config.json of model_type glm4_moe_lite says of a
// model beyond its MoE layers: multi-head latent attention, dense layers,
// embeddings.
type Architecture struct {
	Vocabulary   int // vocab_size
	MaxPositions int // max_position_embeddings
	Intermediate int // intermediate_size, of dense layers

	Heads     int // num_attention_heads
	QueryRank int // q_lora_rank; 0 for queries that are not compressed
	KeyRank   int // kv_lora_rank, of keys and values
	NopeDim   int // qk_nope_head_dim: of a head's keys, without positions
	RopeDim   int // qk_rope_head_dim: shared by all heads, rotated by position
	ValueDim  int // v_head_dim

	RopeTheta  float64 // rope_theta
	Interleave bool    // rope_interleave: pairs are neighbours, not halves
	Epsilon    float64 // rms_norm_eps

	TiedEmbeddings bool    // tie_word_embeddings: lm_head is the embedding
	Extra          int     // num_nextn_predict_layers: layers behind the last that take no part
	End            []int32 // eos_token_id: tokens that end a text
}

// ParseArchitecture reads a config.json. file is its name for errors. What it
// would have to ignore, such as a kind of rope scaling, is an error.
func ParseArchitecture(file string, data []byte) (*Architecture, error) {
	var f faults
	p, err := newFields(file, data, &f)
	if err != nil {
		return nil, err
	}
	p.onlyJSON("attention_bias", "false")
	p.onlyJSON("rope_scaling", "null")
	p.onlyJSON("partial_rotary_factor", "1", "1.0")
	p.onlyJSON("sliding_window", "null")
	a := &Architecture{
		Vocabulary:     p.integer("vocab_size", 1, maxSize),
		MaxPositions:   p.integer("max_position_embeddings", 1, maxSize),
		Intermediate:   p.integer("intermediate_size", 1, maxSize),
		Heads:          p.integer("num_attention_heads", 1, maxCount),
		KeyRank:        p.integer("kv_lora_rank", 1, maxSize),
		NopeDim:        p.integer("qk_nope_head_dim", 1, maxSize),
		RopeDim:        p.integer("qk_rope_head_dim", 2, maxSize),
		ValueDim:       p.integer("v_head_dim", 1, maxSize),
		Epsilon:        p.positive("rms_norm_eps"),
		RopeTheta:      p.theta(),
		Interleave:     true, // as transformers has it
		TiedEmbeddings: p.boolean("tie_word_embeddings"),
		End:            p.end(),
	}
	// null says that queries are not compressed.
	if v, ok := p.value("q_lora_rank"); ok && string(v) != "null" {
		a.QueryRank = p.integer("q_lora_rank", 1, maxSize)
	}
	if _, ok := p.values["rope_interleave"]; ok {
		a.Interleave = p.boolean("rope_interleave")
	}
	if _, ok := p.values["num_nextn_predict_layers"]; ok {
		a.Extra = p.integer("num_nextn_predict_layers", 0, maxCount)
	}
	p.onlyNumber("num_key_value_heads", a.Heads)
	if a.NopeDim > 0 && a.RopeDim > 0 {
		p.onlyNumber("qk_head_dim", a.NopeDim+a.RopeDim)
	}
	if len(p.missing) > 0 {
		p.fault("missing %s", strings.Join(p.missing, ", "))
	}
	if a.RopeDim%2 != 0 {
		p.fault("qk_rope_head_dim is %d, not even", a.RopeDim)
	}
	for _, id := range a.End {
		if a.Vocabulary > 0 && int(id) >= a.Vocabulary {
			p.fault("eos_token_id is %d, and vocab_size %d", id, a.Vocabulary)
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return a, nil
}

// Architecture returns what the config.json says of the model beyond its MoE
// layers.
func (c *Checkpoint) Architecture() (*Architecture, error) {
	return ParseArchitecture(c.configFile, c.config)
}

// onlyJSON reads a field that, if it is there, has to be one of want.
func (p *fields) onlyJSON(name string, want ...string) {
	if v, ok := p.values[name]; ok && !slices.Contains(want, string(v)) {
		p.fault("%s is %s; only %s is supported", name, clip(v), want[0])
	}
}

// onlyNumber reads a field that, if it is there, has to be want. 0 stands for
// a number that was mistaken.
func (p *fields) onlyNumber(name string, want int) {
	if want > 0 {
		p.onlyJSON(name, strconv.Itoa(want))
	}
}

// theta reads rope_parameters or, in its older spelling, rope_theta. If both
// are there they have to agree.
func (p *fields) theta() float64 {
	v, ok := p.values["rope_parameters"]
	if !ok {
		return p.positive("rope_theta")
	}
	members, err := object(v)
	if err != nil {
		p.fault("rope_parameters: %w", err)
		return 0
	}
	inner := &fields{file: p.file, faults: p.faults, values: map[string]json.RawMessage{}}
	for _, m := range members {
		name := "rope_parameters." + m.name
		if m.again {
			p.fault("%s appears twice", name)
		}
		switch m.name {
		case "rope_type", "type", "rope_theta", "partial_rotary_factor":
			inner.values[name] = m.value
		default:
			p.fault("%s is not known", name)
		}
	}
	inner.onlyIfPresent("rope_parameters.type", "default")
	inner.onlyIfPresent("rope_parameters.rope_type", "default")
	inner.onlyJSON("rope_parameters.partial_rotary_factor", "1", "1.0")
	theta := inner.positive("rope_parameters.rope_theta")
	p.missing = append(p.missing, inner.missing...)
	if _, ok := p.values["rope_theta"]; ok {
		if older := p.positive("rope_theta"); older > 0 && theta > 0 && older != theta {
			p.fault("rope_theta is %v, and rope_parameters.rope_theta %v", older, theta)
		}
	}
	return theta
}

// positive reads a number above zero.
func (p *fields) positive(name string) float64 {
	mistakes := len(*p.faults)
	x := p.number(name)
	if _, ok := p.values[name]; ok && len(*p.faults) == mistakes && !(x > 0) {
		p.fault("%s is %v, not above 0", name, x)
	}
	return x
}

// end reads eos_token_id: one token, a list, or null for none.
func (p *fields) end() []int32 {
	const name = "eos_token_id"
	v, ok := p.value(name)
	if !ok || string(v) == "null" {
		return nil
	}
	elements, ok := list(v)
	if !ok {
		elements = []json.RawMessage{v}
	}
	var ids []int32
	for _, e := range elements {
		id, err := strconv.ParseInt(string(e), 10, 32)
		if err != nil || id < 0 {
			p.fault("%s is %s, not a token or a list of them", name, clip(v))
			return nil
		}
		ids = append(ids, int32(id))
	}
	return ids
}
