// One row of an expert.
//
// A threadgroup owns 16 outputs, that is a row of weight tiles. It stages the inputs by chunks, times su,
// with the sum of each tile of them. Thread i works for output i % 16, on every eighth tile from i / 16 on.
// The two threads of a simdgroup that share an output are added up by a shuffle, the simdgroups through
// threadgroup memory, in their order.

template <typename Spec>
struct Inputs {
  float4 x[Spec::chunk / 4];
  float sum[Spec::chunk / 16];
};

// Stages the inputs from first on, times su, and their sums; inputs that there are not are 0.
template <typename Spec, typename Weights>
METAL_FUNC void stage(threadgroup Inputs<Spec>& inputs, const Weights w, device const float* x, uint first,
                      uint index) {
  static_assert(Spec::chunk % (4 * Spec::threads) == 0, "every thread of a simdgroup takes part in each sum");
  for (uint i = index; i < Spec::chunk / 4; i += Spec::threads) {
    const uint input = first + 4 * i;
    float4 v = 0.0f;
    if (input < w.inputs) v = *(device const float4*)(x + input) * w.before4(input);
    inputs.x[i] = v;
    float sum = v.x + v.y + v.z + v.w;
    sum += simd_shuffle_xor(sum, 1);
    sum += simd_shuffle_xor(sum, 2);
    if (i % 4 == 0) inputs.sum[i / 4] = sum;
  }
}

template <typename Spec>
struct GateUpScratch {
  Inputs<Spec> gate;
  Inputs<Spec> up;
  float partial[2][Spec::threads / 32][Spec::outputs];
};

template <typename Spec, typename Gate, typename Up>
METAL_FUNC void gate_up(const GateUp args, threadgroup GateUpScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(GateUpScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  static_assert(Spec::outputs == Gate::Side && Spec::outputs == Up::Side, "it owns a row of tiles");
  const uint row = args.work[at.group.x].first;
  if (args.work[at.group.x].rows == 0) return;

  device const Expert& expert = args.experts[args.work[at.group.x].expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Gate gate(args.weights, &expert.gate, hidden, intermediate);
  const Up up(args.weights, &expert.up, hidden, intermediate);
  device const float* x = args.x + ulong(args.token[row]) * hidden;
  const uint output = at.group.y * Spec::outputs + at.index % Spec::outputs;

  float g = 0.0f, u = 0.0f;
  for (uint first = 0; first < hidden; first += Spec::chunk) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage(scratch.gate, gate, x, first, at.index);
    stage(scratch.up, up, x, first, at.index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint tiles = min(uint(Spec::chunk), hidden - first) / 16;
    for (uint t = at.index / 16; t < tiles; t += Spec::threads / 16) {
      g += gate.dot(first / 16 + t, output, scratch.gate.x + 4 * t, scratch.gate.sum[t]);
      u += up.dot(first / 16 + t, output, scratch.up.x + 4 * t, scratch.up.sum[t]);
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
    args.h[ulong(row) * intermediate + output] = silu(g * gate.after(output)) * (u * up.after(output));
  }
}

template <typename Spec>
struct DownScratch {
  Inputs<Spec> inputs;
  float partial[Spec::threads / 32][Spec::outputs];
};

template <typename Spec, typename Weights>
METAL_FUNC void down(const Down args, threadgroup DownScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(DownScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  static_assert(Spec::outputs == Weights::Side, "it owns a row of tiles");
  const uint row = args.work[at.group.x].first;
  if (args.work[at.group.x].rows == 0) return;

  device const Expert& expert = args.experts[args.work[at.group.x].expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Weights w(args.weights, &expert.down, intermediate, hidden);
  device const float* h = args.h + ulong(row) * intermediate;
  const uint output = at.group.y * Spec::outputs + at.index % Spec::outputs;

  float y = 0.0f;
  for (uint first = 0; first < intermediate; first += Spec::chunk) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage(scratch.inputs, w, h, first, at.index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint tiles = min(uint(Spec::chunk), intermediate - first) / 16;
    for (uint t = at.index / 16; t < tiles; t += Spec::threads / 16) {
      y += w.dot(first / 16 + t, output, scratch.inputs.x + 4 * t, scratch.inputs.sum[t]);
    }
  }

  y += simd_shuffle_xor(y, 16);
  if (at.lane < 16) scratch.partial[at.simd][at.lane] = y;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.index < Spec::outputs) {
    y = 0.0f;
    for (uint s = 0; s < Spec::threads / 32; ++s) y += scratch.partial[s][at.index];
    args.y[ulong(row) * hidden + output] = args.prob[row] * (y * w.after(output));
  }
}
