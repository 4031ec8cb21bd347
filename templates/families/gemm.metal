// Many rows of an expert, as a matrix product on 8×8 tiles.
//
// A threadgroup owns Spec::tile rows × Spec::outputs outputs; each of its four simdgroups holds a quarter of
// them in registers. By steps of Spec::depth inputs it stages the rows, and the weights, decoded once for all
// rows; what lies beyond the rows, outputs or inputs that there are is staged as 0. The products leave
// through threadgroup memory: only there is it known which element is whose.

// Rows of floats, Spec::pitch apart, for N projections. The products take the place of the operands.
template <typename Spec, uint N>
union alignas(16) Scratch {
  struct {
    float x[Spec::tile * Spec::pitch];
    float w[N][Spec::outputs * Spec::pitch];
  } step;
  float product[N][Spec::tile * Spec::pitch];
};

template <typename Spec> using GateUpScratch = Scratch<Spec, 2>;
template <typename Spec> using DownScratch = Scratch<Spec, 1>;

METAL_FUNC device const float* input(const GateUp args, uint row) {
  return args.x + ulong(args.token[row]) * args.shape.hidden;
}
METAL_FUNC device const float* input(const Down args, uint row) {
  return args.h + ulong(row) * args.shape.intermediate;
}

// Stages a step of the rows.
template <typename Spec, typename Args>
METAL_FUNC void stage_rows(threadgroup float* x, const Args args, const Work work, uint first, uint inputs,
                           uint index) {
  constexpr uint Quads = Spec::depth / 4;
  for (uint i = index; i < Spec::tile * Quads; i += Spec::threads) {
    const uint r = i / Quads, k = i % Quads * 4;
    float4 v = 0.0f;
    if (r < work.rows && first + k < inputs) {
      v = *(device const float4*)(input(args, work.first + r) + first + k);
    }
    *(threadgroup float4*)(x + r * Spec::pitch + k) = v;
  }
}

// Stages a step of the weights of the outputs from output on, times su.
template <typename Spec, typename Weights>
METAL_FUNC void stage_weights(threadgroup float* w, const Weights weights, uint output, uint first,
                              uint worker, uint workers) {
  for (uint i = worker; i < Spec::outputs * (Spec::depth / 16); i += workers) {
    const uint o = i % Spec::outputs, k = i / Spec::outputs * 16;
    float4 v[4] = {};
    if (output + o < weights.outputs && first + k < weights.inputs) {
      weights.decode((first + k) / 16, output + o, v);
      #pragma unroll
      for (uint q = 0; q < 4; ++q) v[q] *= weights.before4(first + k + 4 * q);
    }
    #pragma unroll
    for (uint q = 0; q < 4; ++q) *(threadgroup float4*)(w + o * Spec::pitch + k + 4 * q) = v[q];
  }
}

// A simdgroup's quarter of x·wᵀ, for N projections.
template <typename Spec, uint N>
struct Quarter {
  static_assert(Spec::threads == 128, "four simdgroups");
  static constant constexpr uint Rows = Spec::tile / 2;
  static constant constexpr uint Outputs = Spec::outputs / 2;

  simdgroup_float8x8 sum[N][Rows / 8][Outputs / 8];
  uint row;
  uint output;

  Quarter(uint simd) : row(simd / 2 * Rows), output(simd % 2 * Outputs) {
    #pragma unroll
    for (uint n = 0; n < N; ++n) {
      #pragma unroll
      for (uint i = 0; i < Rows / 8; ++i) {
        #pragma unroll
        for (uint j = 0; j < Outputs / 8; ++j) sum[n][i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
  }
};

// Adds a step to the sums of a quarter.
template <typename Spec, uint N>
METAL_FUNC void multiply_add(thread Quarter<Spec, N>& quarter, threadgroup const Scratch<Spec, N>& scratch) {
  constexpr uint Rows = Quarter<Spec, N>::Rows, Outputs = Quarter<Spec, N>::Outputs;
  for (uint k = 0; k < Spec::depth; k += 8) {
    simdgroup_float8x8 x[Rows / 8], w;
    #pragma unroll
    for (uint i = 0; i < Rows / 8; ++i) {
      simdgroup_load(x[i], scratch.step.x + (quarter.row + 8 * i) * Spec::pitch + k, Spec::pitch);
    }
    #pragma unroll
    for (uint n = 0; n < N; ++n) {
      #pragma unroll
      for (uint j = 0; j < Outputs / 8; ++j) {
        threadgroup const float* p = scratch.step.w[n] + (quarter.output + 8 * j) * Spec::pitch + k;
        simdgroup_load(w, p, Spec::pitch, ulong2(0), true);
        #pragma unroll
        for (uint i = 0; i < Rows / 8; ++i) {
          simdgroup_multiply_accumulate(quarter.sum[n][i][j], x[i], w, quarter.sum[n][i][j]);
        }
      }
    }
  }
}

template <typename Spec, uint N>
METAL_FUNC void store(const Quarter<Spec, N> quarter, threadgroup Scratch<Spec, N>& scratch) {
  constexpr uint Rows = Quarter<Spec, N>::Rows, Outputs = Quarter<Spec, N>::Outputs;
  #pragma unroll
  for (uint n = 0; n < N; ++n) {
    #pragma unroll
    for (uint i = 0; i < Rows / 8; ++i) {
      #pragma unroll
      for (uint j = 0; j < Outputs / 8; ++j) {
        threadgroup float* p = scratch.product[n] + (quarter.row + 8 * i) * Spec::pitch + quarter.output;
        simdgroup_store(quarter.sum[n][i][j], p + 8 * j, Spec::pitch);
      }
    }
  }
}

template <typename Spec, typename Gate, typename Up>
METAL_FUNC void gate_up(const GateUp args, threadgroup GateUpScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(GateUpScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  const Work work = args.work[at.group.x];
  if (work.rows == 0) return;

  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Gate gate(args.weights, &expert.gate, hidden, intermediate);
  const Up up(args.weights, &expert.up, hidden, intermediate);
  const uint output = at.group.y * Spec::outputs;

  Quarter<Spec, 2> quarter(at.simd);
  for (uint first = 0; first < hidden; first += Spec::depth) {
    stage_rows<Spec>(scratch.step.x, args, work, first, hidden, at.index);
    constexpr uint Half = Spec::threads / 2;
    if (at.index < Half) {
      stage_weights<Spec>(scratch.step.w[0], gate, output, first, at.index, Half);
    } else {
      stage_weights<Spec>(scratch.step.w[1], up, output, first, at.index - Half, Half);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply_add(quarter, scratch);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  store(quarter, scratch);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = at.index; i < work.rows * Spec::outputs; i += Spec::threads) {
    const uint r = i / Spec::outputs, o = i % Spec::outputs;
    if (output + o >= intermediate) continue;
    const float g = scratch.product[0][r * Spec::pitch + o] * gate.after(output + o);
    const float u = scratch.product[1][r * Spec::pitch + o] * up.after(output + o);
    args.h[ulong(work.first + r) * intermediate + output + o] = silu(g) * u;
  }
}

template <typename Spec, typename Weights>
METAL_FUNC void down(const Down args, threadgroup DownScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(DownScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  const Work work = args.work[at.group.x];
  if (work.rows == 0) return;

  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Weights weights(args.weights, &expert.down, intermediate, hidden);
  const uint output = at.group.y * Spec::outputs;

  Quarter<Spec, 1> quarter(at.simd);
  for (uint first = 0; first < intermediate; first += Spec::depth) {
    stage_rows<Spec>(scratch.step.x, args, work, first, intermediate, at.index);
    stage_weights<Spec>(scratch.step.w[0], weights, output, first, at.index, Spec::threads);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply_add(quarter, scratch);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  store(quarter, scratch);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = at.index; i < work.rows * Spec::outputs; i += Spec::threads) {
    const uint r = i / Spec::outputs, o = i % Spec::outputs;
    if (output + o >= hidden) continue;
    const float y = scratch.product[0][r * Spec::pitch + o] * weights.after(output + o);
    args.y[ulong(work.first + r) * hidden + output + o] = args.prob[work.first + r] * y;
  }
}
