// Up to four rows of an expert; each weight is decoded once for the four.
//
// As in the decode family, a threadgroup owns 16 outputs and stages the inputs by chunks, times su; thread i
// works for output i % 16, on every eighth tile of inputs from i / 16 on. A float4 holds the four rows: of an
// input, of a sum. Rows that there are not are 0.

template <typename Spec>
struct GateUpScratch {
  float4 gate[Spec::chunk];
  float4 up[Spec::chunk];
  float4 partial[2][Spec::threads / 32][Spec::outputs];
};

// Returns Σ W·x over the inputs of a tile.
template <typename Weights>
METAL_FUNC float4 dot_rows(const Weights weights, uint tile, uint output, threadgroup const float4* x) {
  float4 w[4];
  weights.decode(tile, output, w);
  float4 s = 0.0f;
  #pragma unroll
  for (uint q = 0; q < 4; ++q) {
    s += w[q].x * x[4 * q];
    s += w[q].y * x[4 * q + 1];
    s += w[q].z * x[4 * q + 2];
    s += w[q].w * x[4 * q + 3];
  }
  return s;
}

template <typename Spec, typename Gate, typename Up>
METAL_FUNC void gate_up(const GateUp args, threadgroup GateUpScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(GateUpScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  static_assert(Spec::tile == 4, "a float4 holds the rows");
  static_assert(Spec::outputs == Gate::Side && Spec::outputs == Up::Side, "it owns a row of tiles");
  const Work work = args.work[at.group.x];
  if (work.rows == 0) return;

  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Gate gate(args.weights, &expert.gate, hidden, intermediate);
  const Up up(args.weights, &expert.up, hidden, intermediate);
  const uint output = at.group.y * Spec::outputs + at.index % Spec::outputs;

  float4 g = 0.0f, u = 0.0f;
  for (uint first = 0; first < hidden; first += Spec::chunk) {
    const uint inputs = min(uint(Spec::chunk), hidden - first);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = at.index; i < inputs; i += Spec::threads) {
      float4 x = 0.0f;
      #pragma unroll
      for (uint r = 0; r < 4; ++r) {
        if (r < work.rows) x[r] = args.x[ulong(args.token[work.first + r]) * hidden + first + i];
      }
      scratch.gate[i] = x * gate.before(first + i);
      scratch.up[i] = x * up.before(first + i);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint t = at.index / 16; t < inputs / 16; t += Spec::threads / 16) {
      g += dot_rows(gate, first / 16 + t, output, scratch.gate + 16 * t);
      u += dot_rows(up, first / 16 + t, output, scratch.up + 16 * t);
    }
  }

  g += simd_shuffle_xor(g, 16);
  u += simd_shuffle_xor(u, 16);
  if (at.lane < 16) {
    scratch.partial[0][at.simd][at.lane] = g;
    scratch.partial[1][at.simd][at.lane] = u;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.index < Spec::outputs) {
    g = u = 0.0f;
    for (uint s = 0; s < Spec::threads / 32; ++s) {
      g += scratch.partial[0][s][at.index];
      u += scratch.partial[1][s][at.index];
    }
    g *= gate.after(output);
    u *= up.after(output);
    #pragma unroll
    for (uint r = 0; r < 4; ++r) {
      if (r < work.rows) args.h[ulong(work.first + r) * intermediate + output] = silu(g[r]) * u[r];
    }
  }
}

template <typename Spec>
struct DownScratch {
  float4 h[Spec::chunk];
  float4 partial[Spec::threads / 32][Spec::outputs];
};

template <typename Spec, typename Weights>
METAL_FUNC void down(const Down args, threadgroup DownScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(DownScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  static_assert(Spec::tile == 4, "a float4 holds the rows");
  static_assert(Spec::outputs == Weights::Side, "it owns a row of tiles");
  const Work work = args.work[at.group.x];
  if (work.rows == 0) return;

  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Weights w(args.weights, &expert.down, intermediate, hidden);
  const uint output = at.group.y * Spec::outputs + at.index % Spec::outputs;

  float4 y = 0.0f;
  for (uint first = 0; first < intermediate; first += Spec::chunk) {
    const uint inputs = min(uint(Spec::chunk), intermediate - first);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = at.index; i < inputs; i += Spec::threads) {
      float4 h = 0.0f;
      #pragma unroll
      for (uint r = 0; r < 4; ++r) {
        if (r < work.rows) h[r] = args.h[ulong(work.first + r) * intermediate + first + i];
      }
      scratch.h[i] = h * w.before(first + i);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint t = at.index / 16; t < inputs / 16; t += Spec::threads / 16) {
      y += dot_rows(w, first / 16 + t, output, scratch.h + 16 * t);
    }
  }

  y += simd_shuffle_xor(y, 16);
  if (at.lane < 16) scratch.partial[at.simd][at.lane] = y;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.index < Spec::outputs) {
    y = 0.0f;
    for (uint s = 0; s < Spec::threads / 32; ++s) y += scratch.partial[s][at.index];
    y *= w.after(output);
    #pragma unroll
    for (uint r = 0; r < 4; ++r) {
      if (r < work.rows) args.y[ulong(work.first + r) * hidden + output] = args.prob[work.first + r] * y[r];
    }
  }
}
