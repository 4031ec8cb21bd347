// Up to Spec::tile rows of an expert, by products of 16×16 weights and four rows of 16 inputs.
//
// A threadgroup owns Spec::outputs outputs. Its simdgroups stand in Spec::splits lines; those of a line own
// Spec::outputs / 16 / Across tiles of outputs each, and a group of 128 inputs at each step. The lines are added
// up at the end, in their order.
//
// Weights are multiplied as the indices that they are, the rest follows from sums: with x' = x · su,
//   Σ W·x = Σ over groups of scale · (Σ idx·x' − middle · Σ x'), times sv.
// The indices are exact in half. An input is the sum of two halves, of a common power of two for its row and
// group: 22 bits of it, and 2^-38 of the group's greatest are kept.

// sum += w · xᵀ for a simdgroup: w is 16×16, x is 8×16, halves; sum is 16×8. Lane 4g + t has of
//   w    rows g and g + 8 at columns 2t, 2t + 1, then both at 2t + 8, 2t + 9,
//   x    row g at columns 2t, 2t + 1, and at 2t + 8, 2t + 9,
//   sum  row g at columns 2t, 2t + 1, and row g + 8 at both.
// A template, so that the function of this name that a library has is preferred.
template <typename Lane>
METAL_FUNC void multiply_add_16x8x16(thread float4& sum, uint4 w, uint2 x, Lane lane) {
  #pragma unroll
  for (uint t = 0; t < 4; ++t) {
    const uint4 ws = simd_shuffle(w, ushort(lane / 4 * 4 + t));
    const uint2 left = simd_shuffle(x, ushort(lane % 4 * 8 + t)), right = simd_shuffle(x, ushort(lane % 4 * 8 + 4 + t));
    #pragma unroll
    for (uint i = 0; i < 2; ++i) {
      const float2 above(as_type<half2>(ws[2 * i])), below(as_type<half2>(ws[2 * i + 1]));
      const float2 first(as_type<half2>(left[i])), second(as_type<half2>(right[i]));
      sum.x += above.x * first.x + above.y * first.y;
      sum.y += above.x * second.x + above.y * second.y;
      sum.z += below.x * first.x + below.y * first.y;
      sum.w += below.x * second.x + below.y * second.y;
    }
  }
}

template <typename Spec>
struct Plan {
  static constant constexpr uint Across = Spec::threads / 32 / Spec::splits;  // simdgroups of a line
  static constant constexpr uint Tiles = Spec::outputs / 16 / Across;         // of outputs, of a simdgroup
  static constant constexpr uint Products = (Spec::tile + 3) / 4;             // for a tile of weights: four rows each
  static constant constexpr uint Pitch = 68;                                  // of 64 pairs: no two lanes meet in a bank
  static_assert(Spec::threads == 32 * Across * Spec::splits, "whole lines");
  static_assert(Spec::outputs == 16 * Tiles * Across, "whole tiles");
};

// A step's inputs: of each line, for each of N projections. An input is in two columns, its greater part first.
template <typename Spec, uint N>
struct alignas(16) Stage {
  uint x[Spec::splits][N][2 * Spec::tile][Plan<Spec>::Pitch];
  float2 sum[Spec::splits][N][Spec::tile];  // the unit of x, and middle · Σ x
};

template <typename Spec, uint N>
union alignas(16) Scratch {
  Stage<Spec, N> stage[Spec::stages];
  float2 partial[max(Spec::splits, 2u) - 1][Plan<Spec>::Across][N][Plan<Spec>::Tiles][Plan<Spec>::Products][32];
};

template <typename Spec> using GateUpScratch = Scratch<Spec, 2>;
template <typename Spec> using DownScratch = Scratch<Spec, 1>;

// What a lane knows of a projection: the factors of the inputs that it stages, and where it is.
template <typename Spec, typename Weights>
struct Projected {
  Weights weights;
  float4 factors;

  Projected(const Weights w, uint lane) : weights(w), factors(0.0f) {
    #pragma unroll
    for (uint p = 0; p < 8; p += 2) {
      if (lane % 4 == p / 2) {
        factors = float4(power(Weights::pair_low(p)), power(Weights::pair_high(p)),
                         power(Weights::pair_low(p + 1)), power(Weights::pair_high(p + 1)));
      }
    }
  }

  static float power(uint n) { return as_type<float>((127 - n) << 23); }  // 2^-n
};

// Stages 128 inputs of a row, or 0 if there is no row. The lane has four of them.
template <typename Spec, typename Weights>
METAL_FUNC void stage(threadgroup uint* greater, threadgroup uint* lesser, threadgroup float2& sum,
                      const Projected<Spec, Weights> of, device const float* x, bool there, uint first, uint lane) {
  const uint at = first + lane / 4 * 16 + Weights::pair_first(lane % 4 * 2);
  float4 v = 0.0f;
  if (there && first + lane / 4 * 16 < of.weights.inputs) {
    const float2 a = *(device const float2*)(x + at), b = *(device const float2*)(x + at + Weights::Distance);
    v = float4(a.x * of.weights.before(at), b.x * of.weights.before(at + Weights::Distance),
               a.y * of.weights.before(at + 1), b.y * of.weights.before(at + Weights::Distance + 1));
  }
  const float most = max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
  const uint exponent = max(simd_max(as_type<uint>(most)) >> 23, 28u);
  const float total = simd_sum(v.x + v.y + v.z + v.w);
  v *= of.factors * as_type<float>((268 - exponent) << 23);  // below 2^15
  const half2 g0(half(v.x), half(v.y)), g1(half(v.z), half(v.w));
  const half2 l0(half(v.x - float(g0.x)), half(v.y - float(g0.y))), l1(half(v.z - float(g1.x)), half(v.w - float(g1.y)));
  *(threadgroup uint2*)(greater + 2 * lane) = uint2(as_type<uint>(g0), as_type<uint>(g1));
  *(threadgroup uint2*)(lesser + 2 * lane) = uint2(as_type<uint>(l0), as_type<uint>(l1));
  if (lane == 0) sum = float2(as_type<float>((exponent - 14) << 23), of.weights.middle() * total);
}

// The weights of a group of inputs, fetched before they are needed.
template <typename Spec, typename Weights>
struct Fetched {
  typename Weights::Rows rows[Plan<Spec>::Tiles][2];
  float2 scale[Plan<Spec>::Tiles];

  void fetch(const Weights w, uint group, uint output, uint lane) thread {
    #pragma unroll
    for (uint i = 0; i < Plan<Spec>::Tiles; ++i) {
      const uint o = output + 16 * i + lane / 4 * 2;
      #pragma unroll
      for (uint half_group = 0; half_group < 2; ++half_group) {
        const uint tile = 8 * group + 4 * half_group + lane % 4;
        rows[i][half_group] = typename Weights::Rows{};
        if (tile < w.inputs / 16 && o < w.outputs) rows[i][half_group] = w.rows(tile, o);
      }
      scale[i] = 0.0f;
      if (group * Weights::Group < w.inputs && o < w.outputs) scale[i] = float2(w.scale(group, o), w.scale(group, o + 1));
    }
  }
};

// Sums of a lane: of two outputs, of each row that is its own.
template <typename Spec>
struct Sums {
  float2 of[Plan<Spec>::Tiles][Plan<Spec>::Products];
};

// Adds the products of a group to the sums.
template <typename Spec, typename Weights>
METAL_FUNC void multiply(thread Sums<Spec>& sums, const Fetched<Spec, Weights> w,
                         threadgroup const uint (&x)[2 * Spec::tile][Plan<Spec>::Pitch],
                         threadgroup const float2 (&sum)[Spec::tile], uint lane) {
  constexpr uint Tiles = Plan<Spec>::Tiles, Products = Plan<Spec>::Products;
  float4 products[Tiles][Products] = {};
  #pragma unroll
  for (uint half_group = 0; half_group < 2; ++half_group) {
    #pragma unroll
    for (uint p = 0; p < 8; p += 4) {
      uint4 weights[Tiles][2];
      #pragma unroll
      for (uint i = 0; i < Tiles; ++i) {
        #pragma unroll
        for (uint q = 0; q < 2; ++q) {
          const typename Weights::Rows rows = w.rows[i][half_group];
          weights[i][q] = uint4(Weights::pair(rows, 0, p + 2 * q), Weights::pair(rows, 1, p + 2 * q),
                                Weights::pair(rows, 0, p + 2 * q + 1), Weights::pair(rows, 1, p + 2 * q + 1));
        }
      }
      #pragma unroll
      for (uint j = 0; j < Products; ++j) {
        uint4 inputs = 0;
        if (8 * j + lane / 4 < 2 * Spec::tile) {
          inputs = *(threadgroup const uint4*)(x[8 * j + lane / 4] + 8 * (4 * half_group + lane % 4) + p);
        }
        #pragma unroll
        for (uint i = 0; i < Tiles; ++i) {
          multiply_add_16x8x16(products[i][j], weights[i][0], uint2(inputs.x, inputs.y), lane);
          multiply_add_16x8x16(products[i][j], weights[i][1], uint2(inputs.z, inputs.w), lane);
        }
      }
    }
  }
  #pragma unroll
  for (uint j = 0; j < Products; ++j) {
    const float2 unit = 4 * j + lane % 4 < Spec::tile ? sum[4 * j + lane % 4] : float2(0.0f);
    #pragma unroll
    for (uint i = 0; i < Tiles; ++i) {
      const float4 s = products[i][j];
      sums.of[i][j] += w.scale[i] * 16777216.0f * (float2(s.x + s.y, s.z + s.w) * unit.x);
      sums.of[i][j] -= w.scale[i] * unit.y;
    }
  }
}

// Adds the sums of all lines to those of the first.
template <typename Spec, uint N>
METAL_FUNC void add_lines(thread Sums<Spec> (&sums)[N], threadgroup Scratch<Spec, N>& scratch, const Position at) {
  if (Spec::splits == 1) return;
  constexpr uint Across = Plan<Spec>::Across, Tiles = Plan<Spec>::Tiles, Products = Plan<Spec>::Products;
  const uint line = at.simd / Across, place = at.simd % Across;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  #pragma unroll
  for (uint n = 0; n < N; ++n) {
    #pragma unroll
    for (uint i = 0; i < Tiles; ++i) {
      #pragma unroll
      for (uint j = 0; j < Products; ++j) {
        if (line > 0) scratch.partial[line - 1][place][n][i][j][at.lane] = sums[n].of[i][j];
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (line > 0) return;
  #pragma unroll
  for (uint n = 0; n < N; ++n) {
    #pragma unroll
    for (uint i = 0; i < Tiles; ++i) {
      #pragma unroll
      for (uint j = 0; j < Products; ++j) {
        #pragma unroll
        for (uint l = 1; l < Spec::splits; ++l) sums[n].of[i][j] += scratch.partial[l - 1][place][n][i][j][at.lane];
      }
    }
  }
}

// What a line stages is read by that line alone.
template <typename Spec>
METAL_FUNC void line_barrier() {
  if (Plan<Spec>::Across == 1) {
    simdgroup_barrier(mem_flags::mem_threadgroup);
  } else {
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

template <typename Spec, typename Gate, typename Up>
METAL_FUNC void gate_up(const GateUp args, threadgroup GateUpScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(GateUpScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  constexpr uint Across = Plan<Spec>::Across, Tiles = Plan<Spec>::Tiles;
  const Work work = args.work[at.group.x];
  if (work.rows == 0) return;
  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Projected<Spec, Gate> gate(Gate(args.weights, expert.gate, hidden, intermediate), at.lane);
  const Projected<Spec, Up> up(Up(args.weights, expert.up, hidden, intermediate), at.lane);
  const uint line = at.simd / Across, place = at.simd % Across;
  const uint output = at.group.y * Spec::outputs + place * Tiles * 16;
  const uint steps = (hidden + Gate::Group * Spec::splits - 1) / (Gate::Group * Spec::splits);

  Fetched<Spec, Gate> gates;
  Fetched<Spec, Up> ups;
  Sums<Spec> sums[2] = {};
  gates.fetch(gate.weights, line, output, at.lane);
  ups.fetch(up.weights, line, output, at.lane);
  for (uint step = 0; step < steps; ++step) {
    const uint group = step * Spec::splits + line;
    threadgroup Stage<Spec, 2>& staged = scratch.stage[step % Spec::stages];
    if (Spec::stages == 1 && step > 0) line_barrier<Spec>();
    for (uint r = place; r < Spec::tile; r += Across) {
      device const float* x = args.x + ulong(args.token[work.first + min(r, work.rows - 1)]) * hidden;
      const uint first = group * Gate::Group;
      stage(staged.x[line][0][2 * r], staged.x[line][0][2 * r + 1], staged.sum[line][0][r], gate, x, r < work.rows, first, at.lane);
      stage(staged.x[line][1][2 * r], staged.x[line][1][2 * r + 1], staged.sum[line][1][r], up, x, r < work.rows, first, at.lane);
    }
    line_barrier<Spec>();
    const Fetched<Spec, Gate> g = gates;
    const Fetched<Spec, Up> u = ups;
    if (step + 1 < steps) {
      gates.fetch(gate.weights, group + Spec::splits, output, at.lane);
      ups.fetch(up.weights, group + Spec::splits, output, at.lane);
    }
    multiply(sums[0], g, staged.x[line][0], staged.sum[line][0], at.lane);
    multiply(sums[1], u, staged.x[line][1], staged.sum[line][1], at.lane);
  }

  add_lines<Spec, 2>(sums, scratch, at);
  if (line > 0) return;
  #pragma unroll
  for (uint i = 0; i < Tiles; ++i) {
    const uint o = output + 16 * i + at.lane / 4 * 2;
    if (o >= intermediate) continue;
    const float2 gate_after(gate.weights.after(o), gate.weights.after(o + 1));
    const float2 up_after(up.weights.after(o), up.weights.after(o + 1));
    #pragma unroll
    for (uint j = 0; j < Plan<Spec>::Products; ++j) {
      const uint r = 4 * j + at.lane % 4;
      const float2 g = sums[0].of[i][j] * gate_after, u = sums[1].of[i][j] * up_after;
      if (r < work.rows) {
        *(device float2*)(args.h + ulong(work.first + r) * intermediate + o) = float2(silu(g.x) * u.x, silu(g.y) * u.y);
      }
    }
  }
}

template <typename Spec, typename Weights>
METAL_FUNC void down(const Down args, threadgroup DownScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(DownScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  constexpr uint Across = Plan<Spec>::Across, Tiles = Plan<Spec>::Tiles;
  const Work work = args.work[at.group.x];
  if (work.rows == 0) return;
  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Projected<Spec, Weights> of(Weights(args.weights, expert.down, intermediate, hidden), at.lane);
  const uint line = at.simd / Across, place = at.simd % Across;
  const uint output = at.group.y * Spec::outputs + place * Tiles * 16;
  const uint steps = (intermediate + Weights::Group * Spec::splits - 1) / (Weights::Group * Spec::splits);

  Fetched<Spec, Weights> fetched;
  Sums<Spec> sums[1] = {};
  fetched.fetch(of.weights, line, output, at.lane);
  for (uint step = 0; step < steps; ++step) {
    const uint group = step * Spec::splits + line;
    threadgroup Stage<Spec, 1>& staged = scratch.stage[step % Spec::stages];
    if (Spec::stages == 1 && step > 0) line_barrier<Spec>();
    for (uint r = place; r < Spec::tile; r += Across) {
      device const float* h = args.h + ulong(work.first + min(r, work.rows - 1)) * intermediate;
      stage(staged.x[line][0][2 * r], staged.x[line][0][2 * r + 1], staged.sum[line][0][r], of, h, r < work.rows,
            group * Weights::Group, at.lane);
    }
    line_barrier<Spec>();
    const Fetched<Spec, Weights> w = fetched;
    if (step + 1 < steps) fetched.fetch(of.weights, group + Spec::splits, output, at.lane);
    multiply(sums[0], w, staged.x[line][0], staged.sum[line][0], at.lane);
  }

  add_lines<Spec, 1>(sums, scratch, at);
  if (line > 0) return;
  #pragma unroll
  for (uint i = 0; i < Tiles; ++i) {
    const uint o = output + 16 * i + at.lane / 4 * 2;
    if (o >= hidden) continue;
    const float2 after(of.weights.after(o), of.weights.after(o + 1));
    #pragma unroll
    for (uint j = 0; j < Plan<Spec>::Products; ++j) {
      const uint r = 4 * j + at.lane % 4;
      if (r < work.rows) {
        *(device float2*)(args.y + ulong(work.first + r) * hidden + o) = args.prob[work.first + r] * (sums[0].of[i][j] * after);
      }
    }
  }
}
