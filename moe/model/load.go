package model

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
)

// A loader reads the tensors of a model and collects what is wrong with them.
type loader struct {
	checkpoint *checkpoint.Checkpoint
	rotary     *rotary
	used       map[string]bool
	errs       []error
}

func (l *loader) err() error { return errors.Join(l.errs...) }

// floats returns the elements of a tensor, or zeros if there are none.
func (l *loader) floats(name string, shape ...int) []float32 {
	l.used[name] = true
	v, err := l.checkpoint.Float32s(name, shape...)
	if err != nil {
		l.errs = append(l.errs, err)
	}
	return v
}

func (l *loader) matrix(module string, out, in int) matrix {
	return matrix(dense(out, in, l.floats(module+".weight", out, in)))
}

func (l *loader) norm(module string, n int, epsilon float64) norm {
	return norm{l.floats(module+".weight", n), epsilon}
}

func (l *loader) block(n int, arch *checkpoint.Architecture, o moe.Options) *block {
	hidden := l.checkpoint.Config.Hidden
	prefix := fmt.Sprintf("model.layers.%d.", n)
	b := &block{
		attentionNorm: l.norm(prefix+"input_layernorm", hidden, arch.Epsilon),
		forwardNorm:   l.norm(prefix+"post_attention_layernorm", hidden, arch.Epsilon),
		attention:     l.attention(prefix+"self_attn.", hidden, arch),
	}
	if l.checkpoint.Config.LayerTypes[n] == checkpoint.Dense {
		b.forward = &mlp{
			gate: l.matrix(prefix+"mlp.gate_proj", arch.Intermediate, hidden),
			up:   l.matrix(prefix+"mlp.up_proj", arch.Intermediate, hidden),
			down: l.matrix(prefix+"mlp.down_proj", hidden, arch.Intermediate),
		}
		return b
	}
	weights, err := l.checkpoint.Layer(n)
	if err != nil {
		l.errs = append(l.errs, err)
		return b
	}
	// A router compares: of weights that are not finite it may make a choice
	// that is.
	l.floats(prefix+"mlp.gate.weight", len(weights.Experts), hidden)
	l.floats(prefix+"mlp.gate.e_score_correction_bias", len(weights.Experts))
	layer, err := moe.NewLayer(weights, o)
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("layer %d: %w", n, err))
		return b
	}
	b.forward = layer
	return b
}

func (l *loader) attention(prefix string, hidden int, arch *checkpoint.Architecture) attention {
	a := attention{
		heads: arch.Heads, nope: arch.NopeDim, rope: arch.RopeDim, value: arch.ValueDim, rank: arch.KeyRank,
		rotary: l.rotary,
	}
	queries := a.heads * (a.nope + a.rope)
	if arch.QueryRank > 0 {
		a.queryDown = l.matrix(prefix+"q_a_proj", arch.QueryRank, hidden)
		a.queryNorm = l.norm(prefix+"q_a_layernorm", arch.QueryRank, latentEpsilon)
		a.query = l.matrix(prefix+"q_b_proj", queries, arch.QueryRank)
	} else {
		a.query = l.matrix(prefix+"q_proj", queries, hidden)
	}
	a.latent = l.matrix(prefix+"kv_a_proj_with_mqa", a.rank+a.rope, hidden)
	a.keyNorm = l.norm(prefix+"kv_a_layernorm", a.rank, latentEpsilon)
	a.expand = l.matrix(prefix+"kv_b_proj", a.heads*(a.nope+a.value), a.rank)
	a.out = l.matrix(prefix+"o_proj", hidden, a.heads*a.value)
	return a
}

// leftOver reports the tensors that no part of the model has taken. Those of
// mixtures of experts are the checkpoint's to judge; layers from the given one
// on are none of the model's.
func (l *loader) leftOver(layers int) {
	c := l.checkpoint
	for _, name := range c.Names() {
		if l.used[name] {
			continue
		}
		if rest, ok := strings.CutPrefix(name, "model.layers."); ok {
			number, rest, _ := strings.Cut(rest, ".")
			n, err := strconv.Atoi(number)
			if err == nil && strconv.Itoa(n) == number && (n >= c.Config.Layers && n < layers || n >= 0 && n < c.Config.Layers && c.Config.LayerTypes[n] == checkpoint.Sparse && strings.HasPrefix(rest, "mlp.")) {
				continue
			}
		}
		l.errs = append(l.errs, c.Mistake(name, errors.New("is no part of the model")))
	}
}

// latentEpsilon is that of the norms between the factors of attention's
// matrices. It is in no config.json: transformers builds them with the default
// of its norm, whatever rms_norm_eps is.
const latentEpsilon = 1e-6
