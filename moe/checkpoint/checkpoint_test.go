package checkpoint_test

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"unsafe"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime"
	"github.com/stretchr/testify/require"
)

// opened opens the checkpoint in dir, with both ways to open one.
func opened(t *testing.T, dir string, do func(t *testing.T, c *checkpoint.Checkpoint)) {
	t.Run("mapped", func(t *testing.T) {
		c, err := checkpoint.Open(dir)
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		do(t, c)
	})
	t.Run("read", func(t *testing.T) {
		c, err := checkpoint.OpenFS(os.DirFS(dir))
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		do(t, c)
	})
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func TestDense(t *testing.T) {
	for _, shards := range []int{1, 3} {
		m := denseModel(t)
		opened(t, m.write(shards), func(t *testing.T, c *checkpoint.Checkpoint) {
			w := m.check(c, 0)
			require.Equal(t, m.weights[mlp+"gate.e_score_correction_bias"], w.Router.Bias)
			require.Equal(t, 2, w.Router.TopK)
			require.Equal(t, float32(1.8), w.Router.Scale)
			require.True(t, w.Router.Normalize)
			why, err := c.Relaid(1)
			require.NoError(t, err)
			require.Empty(t, why)
			require.Zero(t, address(w.Data)%uintptr(os.Getpagesize()))
			require.Zero(t, len(w.Data)%os.Getpagesize())
			require.True(t, c.Faithful())
			require.Empty(t, c.Warnings())
			require.Contains(t, c.Names(), "model.embed_tokens.weight")
			e, ok := c.Tensor("model.embed_tokens.weight")
			require.True(t, ok)
			require.Equal(t, []int{7, hidden}, e.Shape)
		})
	}
}

func TestMixed(t *testing.T) {
	for _, shards := range []int{1, 2, 5} {
		m := mixedModel(t)
		opened(t, m.write(shards), func(t *testing.T, c *checkpoint.Checkpoint) {
			w := m.check(c, 0)
			why, err := c.Relaid(1)
			require.NoError(t, err)
			require.Empty(t, why)
			var codecs []string
			for _, e := range w.Experts {
				codecs = append(codecs, e.Codec)
			}
			require.Equal(t, []string{"trellis", "f16", "trellis", "f32"}, codecs)
			require.Equal(t, runtime.BitTuple{Gate: 6, Up: 2, Down: 3}, w.Experts[0].Tuple())
			require.Equal(t, runtime.BitTuple{Gate: 8, Up: 5, Down: 7}, w.Experts[2].Tuple())
			require.Equal(t, "trellis", w.Shared.Codec)
		})
	}
}

func TestNoShared(t *testing.T) {
	m := denseModel(t)
	m.config["n_shared_experts"] = 0
	m.drop(func(name string) bool { return strings.Contains(name, "shared_experts") })
	opened(t, m.write(1), func(_ *testing.T, c *checkpoint.Checkpoint) { m.check(c, 0) })
}

func TestMisaligned(t *testing.T) {
	m := mixedModel(t)
	m.tensors = append([]checkpoint.Draft{checkpoint.Tensor{Name: "odd", DType: checkpoint.U8, Shape: []int{3}, Data: make([]byte, 3)}.Draft()}, m.tensors...)
	opened(t, m.write(1), func(t *testing.T, c *checkpoint.Checkpoint) {
		w := m.check(c, 0)
		why, err := c.Relaid(1)
		require.NoError(t, err)
		require.Contains(t, why, "experts.0.gate_proj.indices is not at a multiple of 16 bytes")
		require.Zero(t, address(w.Data)%uintptr(os.Getpagesize()))
		for _, e := range w.Experts {
			for _, s := range append(e.Gate.Parts, append(e.Up.Parts, e.Down.Parts...)...) {
				require.Zero(t, s.Offset%64)
			}
		}
		again, err := c.Layer(1)
		require.NoError(t, err)
		require.Equal(t, w, again)
	})
}

func TestClose(t *testing.T) {
	c, err := checkpoint.Open(denseModel(t).write(2))
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := c.Layer(1)
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	_, err = c.Layer(1)
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = c.Relaid(1)
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, c.Check(), os.ErrClosed)
	_, ok := c.Tensor("model.embed_tokens.weight")
	require.False(t, ok)
}

func TestLayerNumber(t *testing.T) {
	c, err := checkpoint.Open(denseModel(t).write(1))
	require.NoError(t, err)
	defer c.Close()
	for n, want := range map[int]string{-1: "layer -1 is not in 0..1", 2: "layer 2 is not in 0..1", 0: "layer 0 is dense"} {
		_, err := c.Layer(n)
		require.ErrorContains(t, err, want)
	}
}

// TestLayerErrors spoils one thing in a good model.
func TestLayerErrors(t *testing.T) {
	const gate = mlp + "experts.0.gate_proj"
	for name, c := range map[string]struct {
		spoil func(m *model)
		want  []string
	}{
		"unknown": {func(m *model) {
			m.add(mlp+"experts.4.gate_proj.weight", checkpoint.U8, nil, 0)
			m.add(mlp+"gate.bias", checkpoint.U8, nil, 0)
			m.add(mlp+"experts.1.gate_proj.bias", checkpoint.U8, nil, 0)
		}, []string{
			"model.safetensors: model.layers.1.mlp.experts.4.gate_proj.weight: is no part of an MoE layer with 4 experts and 1 shared",
			"mlp.gate.bias: is no part", "experts.1.gate_proj.bias: is no part",
		}},
		"missing": {func(m *model) {
			m.drop(func(s string) bool {
				return strings.Contains(s, "experts.1.") || strings.HasPrefix(s, mlp+"gate.") || s == gate+".su" || s == gate+".sv"
			})
		}, []string{
			"model.safetensors: model.layers.1.mlp.gate.weight: is missing", "mlp.gate.e_score_correction_bias: is missing",
			"experts.1.gate_proj.weight: is missing", "experts.1.up_proj.weight: is missing", "experts.1.down_proj.weight: is missing",
			"experts.0.gate_proj.su: is missing, but other components", "experts.0.gate_proj.sv: is missing",
		}},
		"no shared": {func(m *model) { m.config["n_shared_experts"] = 0 }, []string{"shared_experts.gate_proj.indices: is no part of an MoE layer with 4 experts and 0 shared"}},
		"shape": {func(m *model) {
			m.replace(mlp+"gate.weight", checkpoint.F32, make([]byte, 16), 1, 4)
			m.replace(mlp+"gate.e_score_correction_bias", checkpoint.F32, make([]byte, 12), 3)
			m.replace(mlp+"experts.1.up_proj.weight", checkpoint.F16, make([]byte, 2*hidden*intermediate), hidden, intermediate)
			m.replace(gate+".scales", checkpoint.F16, make([]byte, 2*intermediate), 1, intermediate)
			m.replace(gate+".su", checkpoint.F32, make([]byte, 4*hidden), hidden)
		}, []string{
			"gate.weight: shape is [1 4], want [4 144]", "e_score_correction_bias: shape is [3], want [4]", "experts.1.up_proj.weight: shape is [144 32], want [32 144]",
			"gate_proj.scales: shape is [1 32], want [2 32]", "gate_proj.su: dtype is F32, want F16",
		}},
		"dtype": {func(m *model) {
			m.replace(mlp+"experts.1.up_proj.weight", "I16", make([]byte, 2*hidden*intermediate), intermediate, hidden)
		}, []string{"up_proj.weight: dtype is I16, want BF16, F16 or F32"}},
		"width": {func(m *model) {
			m.replace(gate+".indices", checkpoint.U8, make([]byte, 2*9*32), 2, 9, 32)
		}, []string{"gate_proj.indices: shape is [2 9 32], want [2 9 32·bits] with bits in 2..8"}},
		"tiles": {func(m *model) {
			m.replace(gate+".indices", checkpoint.U8, make([]byte, 9*2*64), 9, 2, 64)
		}, []string{"gate_proj.indices: shape is [9 2 64], want [2 9 64]"}},
		"rank": {func(m *model) {
			m.replace(gate+".indices", checkpoint.U8, make([]byte, 64), 64)
		}, []string{"gate_proj.indices: shape is [64], want [2 9 32·bits]"}},
		"both": {func(m *model) {
			m.dense(gate+".weight", checkpoint.F16, intermediate, hidden)
		}, []string{"gate_proj.weight: is there quantised too"}},
		"codecs": {func(m *model) {
			m.drop(func(s string) bool { return strings.HasPrefix(s, gate) })
			m.dense(gate+".weight", checkpoint.F16, intermediate, hidden)
		}, []string{"experts.0: its projections have codecs f16, trellis and trellis; they must share one"}},
		"odd sizes": {func(m *model) { m.config["hidden_size"] = hidden - 1 }, []string{"in is 143, not a positive multiple of 16"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := mixedModel(t)
			c.spoil(m)
			k, err := checkpoint.Open(m.write(1))
			require.NoError(t, err)
			defer k.Close()
			_, err = k.Layer(1)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.EqualError(t, k.Check(), err.Error())
			_, again := k.Relaid(1)
			require.EqualError(t, again, err.Error())
		})
	}
}

// TestOpenErrors spoils one thing in the files of a good model.
func TestOpenErrors(t *testing.T) {
	const shard1, shard2, index = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"
	write := func(m *model, dir, name string, tensors []checkpoint.Draft) {
		require.NoError(t, checkpoint.WriteTensorsFile(filepath.Join(dir, name), tensors, nil))
	}
	for name, c := range map[string]struct {
		shards int
		spoil  func(m *model, dir string)
		want   []string
	}{
		"empty": {1, func(_ *model, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "config.json")))
			require.NoError(t, os.Remove(filepath.Join(dir, "model.safetensors")))
		}, []string{"config.json: no such file", "model.safetensors: file does not exist, nor is there"}},
		"both": {2, func(m *model, dir string) { write(m, dir, "model.safetensors", nil) }, []string{"which of them is the model?"}},
		"all": {1, func(m *model, dir string) {
			m.file(dir, "config.json", change{"model_type": "llama"})
			require.NoError(t, os.WriteFile(filepath.Join(dir, "model.safetensors"), []byte("short"), 0o666))
		}, []string{`config.json: model_type is "llama"`, "model.safetensors: truncated: 5 bytes"}},
		"no shard": {2, func(_ *model, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, shard1)))
			require.NoError(t, os.Remove(filepath.Join(dir, shard2)))
		}, []string{shard1 + ": no such file", shard2 + ": no such file"}},
		"escape": {2, func(m *model, dir string) {
			m.file(dir, index, change{"weight_map": change{"a": "../x.safetensors"}})
		}, []string{index + `: a: "../x.safetensors" is not the plain name`}},
		"bad shards": {2, func(_ *model, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, shard1), []byte("short"), 0o666))
			require.NoError(t, os.WriteFile(filepath.Join(dir, shard2), nil, 0o666))
		}, []string{shard1 + ": truncated: 5 bytes", shard2 + ": truncated: 0 bytes"}},
		"map": {2, func(m *model, dir string) {
			where := map[string]string{"lost": shard1}
			for i, d := range m.tensors {
				where[d.Name] = []string{shard1, shard2}[i%2]
			}
			where[m.tensors[0].Name] = shard2
			delete(where, m.tensors[1].Name)
			m.file(dir, index, change{"weight_map": where})
		}, []string{
			shard1 + ": model.layers.1.mlp.experts.0.gate_proj.indices: should be in ",
			shard2 + ": model.layers.1.mlp.experts.0.gate_proj.scales: is not in ",
			shard1 + ": lost: is missing, though ",
		}},
		"twice": {2, func(m *model, dir string) {
			write(m, dir, shard1, m.tensors)
		}, []string{shard2 + ": model.layers.1.mlp.experts.0.gate_proj.scales: is in "}},
		"unannounced": {1, func(m *model, dir string) {
			delete(m.config, "quantization_config")
			m.file(dir, "config.json", m.config)
		}, []string{"config.json: missing quantization_config, but ", "model.layers.1.mlp.experts.0.down_proj.indices"}},
		"unquantised": {1, func(m *model, dir string) {
			write(m, dir, "model.safetensors", denseModel(t).tensors)
		}, []string{"config.json: quantization_config: there are no quantised tensors"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := mixedModel(t)
			dir := m.write(c.shards)
			c.spoil(m, dir)
			_, err := checkpoint.Open(dir)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			_, err = checkpoint.OpenFS(os.DirFS(dir))
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, err := checkpoint.OpenFS(fstest.MapFS{"config.json": {Data: edit(t, nil)}, "model.safetensors": {Mode: fs.ModeDir}})
	require.ErrorContains(t, err, "model.safetensors: not a regular file")
}

// older adds a quantised module in the older layout.
func (m *model) older(module string, bits uint8, out, in int) {
	indices := make([]uint8, out*in)
	for i := range indices {
		indices[i] = uint8(m.rand.IntN(1 << bits))
	}
	packed, err := trellis.Pack(indices, bits, out, in)
	require.NoError(m.t, err)
	factors := func(n int, deviation float64) []float32 {
		f := make([]float32, n)
		for i := range f {
			f[i] = float32(deviation * (0.5 + m.rand.Float64()))
		}
		return f
	}
	scales, su, sv := factors((in+127)/128*out, 1e-3), factors(in, 1), factors(out, 1)
	name := strings.ReplaceAll(module, ".", "__")
	if m.rand.IntN(2) == 0 {
		name += "__weight"
	}
	m.add(name+"__indices", checkpoint.U8, append([]byte{bits}, packed...), 1+len(packed))
	m.add(name+"__scales", checkpoint.F32, encode(checkpoint.F32, scales), (in+127)/128, out)
	m.add(name+"__su", checkpoint.F32, encode(checkpoint.F32, su), in)
	m.add(name+"__sv", checkpoint.F32, encode(checkpoint.F32, sv), out)
	w := make([]float32, out*in)
	for at, index := range indices {
		o, i := at/in, at%in
		w[at] = float32((float64(index) - (math.Pow(2, float64(bits))-1)/2) * 1.24371088 *
			float64(scales[i/128*out+o]) * float64(su[i]) * float64(sv[o]))
	}
	m.weights[module] = w
}

func olderModel(t *testing.T) *model {
	m := newModel(t)
	for e := range experts {
		for i, p := range projections {
			m.older(fmt.Sprintf("%sexperts.%d.%s", mlp, e, p.name), uint8(2+(2*e+i)%7), p.out, p.in)
		}
	}
	for _, p := range projections {
		m.older(mlp+"shared_experts."+p.name, 6, p.out, p.in)
	}
	return m
}

func TestOlder(t *testing.T) {
	check := func(m *model) func(t *testing.T, c *checkpoint.Checkpoint) {
		return func(t *testing.T, c *checkpoint.Checkpoint) {
			w := m.check(c, 3*0x1p-11)
			require.Equal(t, make([]float32, experts), w.Router.Bias)
			require.False(t, c.Faithful())
			require.Len(t, c.Warnings(), 2)
			require.Contains(t, c.Warnings()[0], "Hadamard")
			require.Contains(t, c.Warnings()[1], "e_score_correction_bias")
			why, err := c.Relaid(1)
			require.NoError(t, err)
			require.Equal(t, "the experts are in the older layout", why)
			require.Equal(t, "trellis", w.Experts[0].Codec)
			require.Equal(t, runtime.BitTuple{Gate: 2, Up: 3, Down: 4}, w.Experts[0].Tuple())
		}
	}
	for _, name := range []string{mlp + "gate.weight", strings.ReplaceAll(mlp+"gate.weight", ".", "__")} {
		m := olderModel(t)
		m.weights[mlp+"gate"] = m.dense(name, checkpoint.F16, experts, hidden)
		opened(t, m.write(3), check(m))
	}

	// What is not quantised in a file of its own, which the index leaves out.
	m := olderModel(t)
	dir := m.write(2)
	m.tensors = nil
	m.dense(mlp+"gate.weight", checkpoint.F16, experts, hidden)
	require.NoError(t, checkpoint.WriteTensorsFile(filepath.Join(dir, "base_weights.safetensors"), m.tensors, nil))
	opened(t, dir, check(m))
}

func TestOlderRouter(t *testing.T) {
	m := newModel(t)
	m.config["n_routed_experts"] = 16
	for e := range 16 {
		m.denseExpert(fmt.Sprintf("%sexperts.%d.", mlp, e), checkpoint.BF16)
	}
	m.denseExpert(mlp+"shared_experts.", checkpoint.BF16)
	m.older(mlp+"gate", 8, 16, hidden)
	opened(t, m.write(1), func(t *testing.T, c *checkpoint.Checkpoint) {
		w, err := c.Layer(1)
		require.NoError(t, err)
		require.Len(t, w.Router.Weight, 16*hidden)
		for i, want := range m.weights[mlp+"gate"] {
			require.InEpsilon(t, want, w.Router.Weight[i], 3*0x1p-11)
		}
		require.False(t, c.Faithful())
	})
}

func TestOlderErrors(t *testing.T) {
	const gate = "model__layers__1__mlp__experts__0__gate_proj"
	for name, c := range map[string]struct {
		spoil func(m *model)
		want  []string
	}{
		"header": {func(m *model) {
			m.replace(gate+"__indices", checkpoint.U8, append([]byte{3}, make([]byte, 2*9*64)...), 1+2*9*64)
		}, []string{"gate_proj__indices: its first byte says 3 bits, which take 1728 bytes, but 1152 follow"}},
		"width": {func(m *model) {
			m.replace(gate+"__indices", checkpoint.U8, []byte{9}, 1)
		}, []string{"gate_proj__indices: width 9 is not in 2..8"}},
		"empty":  {func(m *model) { m.replace(gate+"__indices", checkpoint.U8, nil, 0) }, []string{"is U8 [0], want U8 [1 + n]"}},
		"scales": {func(m *model) { m.replace(gate+"__scales", checkpoint.F16, make([]byte, 128), 2, 32) }, []string{"gate_proj__scales: dtype is F16, want F32"}},
		"missing": {func(m *model) { m.drop(func(s string) bool { return s == gate+"__su" }) },
			[]string{"experts.0.gate_proj.su: is missing, but other components"}},
		"not finite": {func(m *model) {
			m.replace(gate+"__su", checkpoint.F32, encode(checkpoint.F32, append([]float32{float32(math.NaN())}, make([]float32, hidden-1)...)), hidden)
		}, []string{"experts.0.gate_proj: su[0] is NaN, beyond fp16"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel(t)
			for e := range experts {
				for _, p := range projections {
					m.older(fmt.Sprintf("%sexperts.%d.%s", mlp, e, p.name), 2, p.out, p.in)
				}
			}
			m.denseExpert(mlp+"shared_experts.", checkpoint.F16)
			m.dense(mlp+"gate.weight", checkpoint.F16, experts, hidden)
			for i := range m.tensors {
				m.tensors[i].Name = strings.Replace(m.tensors[i].Name, gate+"__weight__", gate+"__", 1)
			}
			c.spoil(m)
			k, err := checkpoint.Open(m.write(1))
			require.NoError(t, err)
			defer k.Close()
			_, err = k.Layer(1)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}

	m := olderModel(t)
	m.dense(mlp+"gate.weight", checkpoint.F16, experts, hidden)
	m.config["quantization_config"] = trellisConfig
	m.add(gate+"__sv", checkpoint.F32, make([]byte, 128), 32)
	m.add(gate+"__weight__sv", checkpoint.F32, make([]byte, 128), 32)
	m.tensors = m.tensors[1:]
	seen := make(map[string]bool)
	m.drop(func(s string) bool { again := seen[s]; seen[s] = true; return again })
	_, err := checkpoint.Open(m.write(1))
	require.ErrorContains(t, err, "means the same as "+gate)

	m = olderModel(t)
	m.config["quantization_config"] = trellisConfig
	_, err = checkpoint.Open(m.write(1))
	require.ErrorContains(t, err, "the tensors are those of an older layout, which has none")
}
