package msl_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

const (
	tryThreads = 64
	tryGroups  = 4
	tryFloats  = 256
)

// The kernel that bodies are put into: 4 threadgroups of 64 threads, in which
// each thread owns an element of in and out.
const tryText = `#include <metal_stdlib>
using namespace metal;
struct Shape { uint tokens, slots, experts, hidden, intermediate, rows, items; };
kernel void try_it(constant Shape& shape [[buffer(0)]], device const float* in [[buffer(1)]], device float* out [[buffer(2)]],
                   uint group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                   uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float shared[64];
  const uint t = thread_index, i = group * 64 + t;
#line 1 "body"
BODY
}
`

// try runs a body with in[i] = i.
func try(t *testing.T, dev *msl.Device, body string) ([]byte, error) {
	t.Helper()
	k := &runtime.Kernel{Kind: runtime.Helper, Symbol: "try_it", Body: &runtime.Body{
		Pass: "try", Source: "try.metal", Threads: tryThreads,
		Grid: [3]runtime.Axis{{Dim: runtime.Items, Per: 1}, {Dim: runtime.One, Per: 1}, {Dim: runtime.One, Per: 1}},
		Bindings: []runtime.Binding{
			{Name: "shape", Type: "Shape", Access: runtime.Constant},
			{Name: "in", Type: "float", Access: runtime.Read},
			{Name: "out", Type: "float", Access: runtime.Write},
		},
	}}
	lib, err := dev.Load(t.Context(), &runtime.Table{Kernels: []*runtime.Kernel{k}}, fstest.MapFS{
		"try.metal": {Data: []byte(strings.Replace(tryText, "BODY", body, 1))},
	})
	require.NoError(t, err)
	defer lib.Close()
	status := lib.Availability().Of(k)
	require.Equal(t, runtime.Present, status.State, status.Words)

	host := make([]float32, tryFloats)
	for i := range host {
		host[i] = float32(i)
	}
	in, err := dev.NewBuffer(4 * tryFloats)
	require.NoError(t, err)
	defer in.Close()
	_, err = in.WriteAt(bytesOf(host), 0)
	require.NoError(t, err)
	out, err := dev.NewBuffer(4 * tryFloats)
	require.NoError(t, err)
	defer out.Close()

	q, err := lib.NewQueue()
	require.NoError(t, err)
	defer q.Close()
	shape := runtime.Shape{Items: tryGroups}
	require.NoError(t, q.Launch(runtime.Launch{Kernel: k, Shape: shape, Args: []runtime.Arg{
		{Bytes: runtime.AppendShape(nil, shape)}, {Buffer: in}, {Buffer: out},
	}}))
	launched := q.Wait(t.Context())
	result := make([]byte, 4*tryFloats)
	_, err = out.ReadAt(result, 0)
	require.NoError(t, err)
	return result, launched
}

const reverse64 = `  shared[t] = in[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[i] = shared[63 - t];`

// What the checker finds, and in which lines of the body.
var violations = []struct {
	name, body string
	kind       msl.ViolationKind
	buffer     string
	line       int
	other      int
	offset     int64
}{
	{"missing barrier", "shared[t] = in[i];\nout[i] = shared[max(t, 1u) - 1];", msl.Race, "shared", 2, 1, 0},
	{"barrier without memory", "shared[t] = in[i];\nthreadgroup_barrier(mem_flags::mem_none);\nout[i] = shared[63 - t];", msl.Race, "shared", 3, 1, -1},
	{"barrier for other memory", "shared[t] = in[i];\nthreadgroup_barrier(mem_flags::mem_device);\nout[i] = shared[63 - t];", msl.Race, "shared", 3, 1, -1},
	{"barrier of a simdgroup", "shared[t] = in[i];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = shared[63 - t];", msl.Race, "shared", 3, 1, -1},
	{"write after read", "shared[t] = in[i];\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = shared[63 - t];\nshared[t] = 0.0f;", msl.Race, "shared", 3, 4, -1},
	{"two threads write", "shared[t / 2] = 1.0f;", msl.Race, "shared", 1, 1, 0},
	{"two threadgroups write", "out[t] = in[i];", msl.Race, "out", 1, 1, 0},
	{"read past the end", "out[i] = in[i + 1];", msl.Bounds, "in", 1, 0, 1024},
	{"read before the beginning", "out[i] = in[int(i) - 1];", msl.Bounds, "in", 1, 0, -4},
	{"write past the end", "out[i + 1] = in[i];", msl.Bounds, "out", 1, 0, 1024},
	{"threadgroup memory, past the end", "threadgroup float* s = shared;\ns[t + 1] = in[i];", msl.Bounds, "shared", 2, 0, 256},
	{"threadgroup array, past the end", "shared[t + 1] = in[i];", msl.Undefined, "", 1, 0, 0},
	{"write to an input", "*(device float*)(ulong)(in + i) = 1.0f;", msl.ReadOnly, "in", 1, 0, 0},
	{"uninitialised", "if (t < 32) shared[t] = in[i];\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = shared[t];", msl.Uninitialised, "shared", 3, 0, 128},
	{"divergent barrier", "if (t < 40)\n  threadgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = 1.0f;", msl.Barrier, "", 2, 0, 0},
	{"barrier after return", "if (t >= 40) return;\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = 1.0f;", msl.Barrier, "", 2, 0, 0},
	{"different barriers", "if (t < 40)\n  threadgroup_barrier(mem_flags::mem_threadgroup);\nelse {\n  out[i] = 1.0f;\n  threadgroup_barrier(mem_flags::mem_device);\n}", msl.Barrier, "", 5, 2, 0},
	{"divergent sum", "float s = 0.0f;\nif (lane < 16)\n  s = simd_sum(in[i]);\nelse\n  s = simd_max(in[i]);\nout[i] = s;", msl.Divergence, "", 5, 3, 0},
	{"sum or barrier", "float s = 0.0f;\nif (lane < 16)\n  s = simd_sum(in[i]);\nelse\n  threadgroup_barrier(mem_flags::mem_none);\nout[i] = s;", msl.Divergence, "", 3, 5, 0},
	{"lane that is not there", "if (lane >= 16) return;\nout[i] = simd_shuffle(in[i], lane + 16);", msl.Divergence, "", 2, 0, 0},
	{"misaligned", "out[i] = (*(device const float4*)(in + (i & 1))).x;", msl.Undefined, "", 1, 0, 0},
	{"division by zero", "out[i] = float(i / shape.rows);", msl.Undefined, "", 1, 0, 0},
	{"index past a local array", "float a[4] = {};\nfor (uint j = 0; j <= 4 + shape.rows; ++j) a[j] = in[j];\nout[i] = a[t & 3];", msl.Undefined, "", 2, 0, 0},
}

func TestChecker(t *testing.T) {
	dev := open(t, msl.Options{Checker: true})
	for _, v := range violations {
		t.Run(v.name, func(t *testing.T) {
			_, err := try(t, dev, v.body)
			var have *msl.Violation
			require.ErrorAs(t, err, &have)
			failed, only := runtime.FailedLaunches(err)
			assert.True(t, only && len(failed) == 1, "%v", err)
			t.Log(err)
			assert.Equal(t, v.kind, have.Kind)
			assert.Equal(t, v.buffer, have.Buffer)
			assert.Equal(t, msl.Place{File: "body", Line: v.line}, have.At)
			if v.other > 0 {
				assert.Equal(t, msl.Place{File: "body", Line: v.other}, have.Other)
			}
			if v.offset >= 0 || v.kind == msl.Bounds {
				assert.Equal(t, v.offset, have.Offset)
			}
			assert.Equal(t, "try_it", have.Kernel)
		})
	}
	for name, body := range map[string]string{
		"barrier":           reverse64,
		"barrier of a simd": "shared[t] = in[i];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = shared[t ^ 31];",
		"shuffle":           "out[i] = simd_shuffle_xor(in[i], 1);",
		"uniform return":    "if (group == 1) return;\nshared[t] = in[i];\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = shared[63 - t];",
		"atomic": `device atomic_uint* n = (device atomic_uint*)out;
atomic_fetch_add_explicit(n, 1u, memory_order_relaxed);`,
	} {
		t.Run("right: "+name, func(t *testing.T) {
			_, err := try(t, dev, body)
			require.NoError(t, err)
		})
	}
}

// A device may stand idle for longer than a launch may take.
func TestIdle(t *testing.T) {
	dev := open(t, msl.Options{Timeout: time.Second})
	for range 2 {
		_, err := try(t, dev, reverse64)
		require.NoError(t, err)
		time.Sleep(1200 * time.Millisecond)
	}
}

func TestSurvival(t *testing.T) {
	for _, o := range []msl.Options{{}, {Checker: true}} {
		o.Timeout = time.Second
		dev := open(t, o)
		right := func() {
			t.Helper()
			out, err := try(t, dev, reverse64)
			require.NoError(t, err)
			assert.Equal(t, bytesOf([]float32{63, 62, 61}), out[:12])
		}
		right()
		_, err := try(t, dev, "out[ulong(i) << 40] = 1.0f;")
		require.Error(t, err)
		t.Log(err)
		right()
		_, err = try(t, dev, "while (atomic_load_explicit((device atomic_uint*)out, memory_order_relaxed) == 0) {}")
		require.ErrorContains(t, err, "did not end within 1s")
		failed, only := runtime.FailedLaunches(err)
		assert.True(t, only && len(failed) == 1, "%v", err)
		right()
		_, err = try(t, dev, "out[i + 4096] = in[i];")
		var v *msl.Violation
		require.ErrorAs(t, err, &v)
		assert.Equal(t, msl.Bounds, v.Kind)
		assert.Equal(t, "out", v.Buffer)
		assert.Equal(t, msl.Place{File: "body", Line: 1}, v.At)
		right()
	}
}
