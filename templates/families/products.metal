// Up to Spec::tile rows of an expert, by products of 16×16 weights and four rows of 16 inputs.
//
// A threadgroup owns Spec::outputs outputs. Its simdgroups stand in Spec::splits lines; those of a line own
// Spec::outputs / 16 / Across tiles of outputs each, and a group of 128 inputs at each step. Several lines are for a
// single row: a thread for each output adds them up at the end, in their order.
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

// Returns two floats as halves, the first in the lower bits. A template, as above.
template <typename T>
METAL_FUNC uint halves(T low, T high) { return as_type<uint>(half2(half(low), half(high))); }

template <typename Spec, uint N>
struct Plan {
  static constant constexpr uint Across = Spec::threads / 32 / Spec::splits;         // simdgroups of a line
  static constant constexpr uint Tiles = Spec::outputs / 16 / Across;                // of outputs, of a simdgroup
  static constant constexpr uint Products = (Spec::tile + 3) / 4;                    // for a tile of weights: four rows each
  static constant constexpr uint Pitch = 68;                                         // of 64 pairs: no two lanes meet in a bank
  static_assert(Spec::threads == 32 * Across * Spec::splits, "whole lines");
  static_assert(Spec::outputs == 16 * Tiles * Across, "whole tiles");
};

// A step's inputs: of each line, for each of N projections. An input is in two columns, its greater part first.
template <typename Spec, uint N>
struct alignas(16) Stage {
  uint x[Spec::steps][Spec::splits][N][2 * Spec::tile][Plan<Spec, N>::Pitch];
  float2 sum[Spec::steps][Spec::splits][N][Spec::tile];  // the unit of x, and middle · Σ x
};

template <typename Spec, uint N>
struct alignas(16) Scratch {
  static_assert(Spec::splits == 1, "lines are added up of a single row alone");
  Stage<Spec, N> stage[Spec::buffers];
};

// A single row's sums of each line. They have a place of their own, so that no simdgroup waits for others to have read their inputs.
template <typename Spec, uint N>
struct Partial {
  static_assert(Spec::threads >= Spec::outputs, "a thread for each output");
  float sums[Spec::splits][N][Spec::outputs];
};

template <typename Spec>
struct alignas(16) GateUpRow {
  Stage<Spec, 2> stage[Spec::buffers];
  Partial<Spec, 2> partial;
  Expert experts[Spec::experts];  // all of the layer, or the one of the entry
};

template <typename Spec>
struct alignas(16) DownRow {
  Stage<Spec, 1> stage[Spec::buffers];
  Partial<Spec, 1> partial;
};

template <typename Spec> using GateUpScratch = conditional_t<Spec::tile == 1, GateUpRow<Spec>, Scratch<Spec, 2>>;
template <typename Spec> using DownScratch = conditional_t<Spec::tile == 1, DownRow<Spec>, Scratch<Spec, 1>>;

// Returns v, which is to be loaded where this stands, not where it is used: that may be behind a branch. A template, as above.
template <typename T>
METAL_FUNC T loaded(T v) { return v; }

// A lane's inputs of a row and 128: four of them, two pairs, and their su. What there is not is like what there is, so
// that loads wait for nothing.
struct Inputs {
  float2 first, second;
  half2 first_su, second_su;

  template <typename Weights>
  void fetch_su(const Weights w, uint from, uint lane) {
    const uint i = at(w, from, lane);
    first_su = loaded(half2(w.su[i], w.su[i + 1]));
    second_su = loaded(half2(w.su[i + Weights::Distance], w.su[i + Weights::Distance + 1]));
  }

  template <typename Weights>
  void fetch_x(const Weights w, device const float* x, uint from, uint lane) {
    const uint i = at(w, from, lane);
    first = loaded(*(device const float2*)(x + i));
    second = loaded(*(device const float2*)(x + i + Weights::Distance));
  }

  template <typename Weights>
  static uint at(const Weights w, uint from, uint lane) {
    return min(from + lane / 4 * 16, w.inputs - 16) + Weights::pair_first(lane % 4 * 2);
  }
};

// 2^-n.
METAL_FUNC float reduction(uint n) { return as_type<float>((127 - n) << 23); }

// A lane's inputs, in the order of its pairs, times su, and the exponent of the greatest of all lanes.
struct Scaled {
  float4 v;
  uint exponent;
};

// Returns the inputs that the lanes have fetched from the given one on.
template <typename Weights>
METAL_FUNC Scaled scaled(const Weights w, const Inputs in, uint first, uint lane) {
  float4 v(in.first.x * float(in.first_su.x), in.second.x * float(in.second_su.x),
           in.first.y * float(in.first_su.y), in.second.y * float(in.second_su.y));
  v = as_type<float4>(as_type<uint4>(v) & (first + lane / 4 * 16 < w.inputs ? ~0u : 0u));  // no branch, which would wait
  const float most = max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
  return Scaled{v, max(simd_max(as_type<uint>(most)) >> 23, 28u)};
}

// Stages inputs.
template <typename Weights>
METAL_FUNC void stage(threadgroup uint* greater, threadgroup uint* lesser, threadgroup float2& sum, const Weights w,
                      const Scaled in, uint lane) {
  float4 v = in.v;
  const float total = simd_sum(v.x + v.y + v.z + v.w);

  float4 reductions(1.0f);
  #pragma unroll
  for (uint p = 0; p < 8; p += 2) {
    if (lane % 4 == p / 2) {
      reductions = float4(reduction(Weights::pair_low(p)), reduction(Weights::pair_high(p)),
                          reduction(Weights::pair_low(p + 1)), reduction(Weights::pair_high(p + 1)));
    }
  }
  v *= reductions * as_type<float>((268 - in.exponent) << 23);  // below 2^15
  const uint g0 = halves(v.x, v.y), g1 = halves(v.z, v.w);
  const half2 h0 = as_type<half2>(g0), h1 = as_type<half2>(g1);
  *(threadgroup uint2*)(greater + 2 * lane) = uint2(g0, g1);
  *(threadgroup uint2*)(lesser + 2 * lane) =
      uint2(halves(v.x - float(h0.x), v.y - float(h0.y)), halves(v.z - float(h1.x), v.w - float(h1.y)));
  if (lane == 0) sum = float2(as_type<float>((in.exponent - 14) << 23) * w.pair_unit(), w.middle() * total);
}

// Stages zeroes, of a row that there is not.
METAL_FUNC void stage_none(threadgroup uint* greater, threadgroup uint* lesser, threadgroup float2& sum, uint lane) {
  *(threadgroup uint2*)(greater + 2 * lane) = uint2(0);
  *(threadgroup uint2*)(lesser + 2 * lane) = uint2(0);
  if (lane == 0) sum = 0.0f;
}

// The weights of a group of inputs, fetched before they are needed.
template <typename Weights, uint Tiles>
struct Fetched {
  typename Weights::Rows rows[Tiles][2];
  half2 scale[Tiles];

  // What there is not is like what there is: its inputs are 0, or its outputs are not stored.
  void fetch(const Weights w, uint group, uint output, uint lane) {
    const uint tiles = w.inputs / 16, groups = (w.inputs + Weights::Group - 1) / Weights::Group;
    #pragma unroll
    for (uint i = 0; i < Tiles; ++i) {
      const uint o = min(output + 16 * i, w.outputs - 16) + lane / 4 * 2;
      device const uchar* row = w.row(o);
      #pragma unroll
      for (uint half_group = 0; half_group < 2; ++half_group) {
        rows[i][half_group] = w.rows(row + min(8 * group + 4 * half_group + lane % 4, tiles - 1) * w.tile_bytes());
      }
      const uint g = min(group, groups - 1);
      scale[i] = half2(w.scale(g, o), w.scale(g, o + 1));
    }
  }
};

// The factor of a thread's output, of a single row.
template <typename Weights>
struct RowAfter {
  ushort factor;  // a half, as it lies

  void fetch(const Weights w, uint output, uint) { factor = as_type<ushort>(w.sv[min(output, w.outputs - 1)]); }
  float of() const { return float(as_type<half>(factor)); }
};

// The factors of a lane's outputs.
template <typename Weights, uint Tiles>
struct After {
  ushort2 factor[Tiles];  // halves, as they lie

  void fetch(const Weights w, uint output, uint lane) {
    #pragma unroll
    for (uint i = 0; i < Tiles; ++i) {
      const uint o = min(output + 16 * i, w.outputs - 16) + lane / 4 * 2;
      factor[i] = ushort2(as_type<ushort>(w.sv[o]), as_type<ushort>(w.sv[o + 1]));
    }
  }

  float2 of(uint i) const { return float2(float(as_type<half>(factor[i].x)), float(as_type<half>(factor[i].y))); }
};

// Sums of a lane: of two outputs, of each row that is its own.
template <typename Spec, uint N>
struct Sums {
  float2 of[Plan<Spec, N>::Tiles][Plan<Spec, N>::Products];
};

// Adds the products of a group to the sums.
template <typename Spec, uint N, typename Weights>
METAL_FUNC void multiply(thread Sums<Spec, N>& sums, const Fetched<Weights, Plan<Spec, N>::Tiles> w,
                         threadgroup const uint (&x)[2 * Spec::tile][Plan<Spec, N>::Pitch],
                         threadgroup const float2 (&sum)[Spec::tile], uint rows, uint lane) {
  constexpr uint Tiles = Plan<Spec, N>::Tiles, Products = Plan<Spec, N>::Products;
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
        if (j > 0 && 4 * j >= rows) continue;
        const uint column = min(8 * j + lane / 4, 2 * Spec::tile - 1);  // what there is not is not stored
        const uint4 inputs = *(threadgroup const uint4*)(x[column] + 8 * (4 * half_group + lane % 4) + p);
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
    if (j > 0 && 4 * j >= rows) continue;
    const float2 unit = sum[min(4 * j + lane % 4, Spec::tile - 1)];
    #pragma unroll
    for (uint i = 0; i < Tiles; ++i) {
      const float4 s = products[i][j];
      const float2 scale(float(w.scale[i].x), float(w.scale[i].y));
      sums.of[i][j] += scale * 16777216.0f * (float2(s.x + s.y, s.z + s.w) * unit.x);
      sums.of[i][j] -= scale * unit.y;
    }
  }
}

// Leaves the sums of a single row in threadgroup memory.
template <typename Spec, uint N>
METAL_FUNC void leave(thread const Sums<Spec, N> (&sums)[N], threadgroup Partial<Spec, N>& partial, const Position at) {
  constexpr uint Across = Plan<Spec, N>::Across, Tiles = Plan<Spec, N>::Tiles;
  if (at.lane % 4 == 0) {  // the others have rows that there are not
    #pragma unroll
    for (uint n = 0; n < N; ++n) {
      #pragma unroll
      for (uint i = 0; i < Tiles; ++i) {
        const uint output = (at.simd % Across * Tiles + i) * 16 + at.lane / 4 * 2;
        *(threadgroup float2*)(partial.sums[at.simd / Across][n] + output) = sums[n].of[i][0];
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

// Returns the sum of a single row's output over all lines.
template <typename Spec, uint N>
METAL_FUNC float total(threadgroup const Partial<Spec, N>& partial, uint n, uint output) {
  float sum = partial.sums[0][n][output];
  #pragma unroll
  for (uint l = 1; l < Spec::splits; ++l) sum += partial.sums[l][n][output];
  return sum;
}

// Reports whether there is anything to do. For a single row, no part of the entry is read only if another is as it should
// be: all are asked for at once. Kernels for several rows would be slower for it.
template <typename Spec>
METAL_FUNC bool valid(const Work work, const Shape shape) {
  if (Spec::tile > 1) return work.rows > 0 && work.expert < shape.experts && work.first < shape.rows;
  return (uint(work.rows > 0) & uint(work.expert < shape.experts) & uint(work.first < shape.rows)) != 0;
}

METAL_FUNC device const float* input(const GateUp args, uint row) {
  return args.x + ulong(args.token[row]) * args.shape.hidden;
}
METAL_FUNC device const float* input(const Down args, uint row) {
  return args.h + ulong(row) * args.shape.intermediate;
}

// The steps over the inputs of an expert's pass, of N projections: those of gate and up, or of down twice.
template <typename Spec, uint N, typename First, typename Second, typename Args>
struct Steps {
  static constant constexpr uint Across = Plan<Spec, N>::Across, Tiles = Plan<Spec, N>::Tiles;

  // With a single row there is little to do meanwhile: what is waited for first is asked for first.
  static constant constexpr bool Single = Spec::tile == 1;

  // How many of the first steps a simdgroup stages for a projection, of a single row.
  static constant constexpr uint Turns = Single ? (Spec::steps + Across - 1) / Across : 1;

  First first;
  Second second;
  Work work;
  uint line, place, lane, output, steps;
  uint own;  // the output that a thread stores of a single row
  Fetched<First, Tiles> firsts;
  Fetched<Second, Tiles> seconds;
  conditional_t<Single, RowAfter<First>, After<First, Tiles>> first_after;
  conditional_t<Single, RowAfter<Second>, After<Second, Tiles>> second_after;
  Inputs first_turns[Turns], second_turns[Turns];

  Steps(const First f, const Second s, const Work w, const Position at)
      : first(f), second(s), work(w), line(at.simd / Across), place(at.simd % Across), lane(at.lane),
        output(at.group.y * Spec::outputs + at.simd % Across * Tiles * 16),
        steps((f.inputs + First::Group * Spec::splits - 1) / (First::Group * Spec::splits)),
        own(at.group.y * Spec::outputs + at.index) {
    if (Single) {
      fetch_su();
    } else {
      fetch(0);
    }
  }

  // Returns the step of a turn. The projections begin at either end, so that no simdgroup has more of both.
  uint turn(uint n, uint i) const { return i * Across + (n == 0 ? place : Across - 1 - place); }

  void fetch_su() {
    #pragma unroll
    for (uint i = 0; i < Turns; ++i) {
      first_turns[i].fetch_su(first, group(turn(0, i)) * First::Group, lane);
      if (N == 2) second_turns[i].fetch_su(second, group(turn(1, i)) * Second::Group, lane);
    }
  }

  // Fetches what put_turns stages.
  void fetch_turns(device const float* x) {
    #pragma unroll
    for (uint i = 0; i < Turns; ++i) {
      first_turns[i].fetch_x(first, x, group(turn(0, i)) * First::Group, lane);
      if (N == 2) second_turns[i].fetch_x(second, x, group(turn(1, i)) * Second::Group, lane);
    }
  }

  // Stages the inputs of the first steps, of a single row. All are waited for at once, before there is a branch.
  void put_turns(threadgroup Stage<Spec, N>& to) const {
    Scaled firsts_in[Turns], seconds_in[Turns];
    #pragma unroll
    for (uint i = 0; i < Turns; ++i) {
      firsts_in[i] = scaled(first, first_turns[i], group(turn(0, i)) * First::Group, lane);
      if (N == 2) seconds_in[i] = scaled(second, second_turns[i], group(turn(1, i)) * Second::Group, lane);
    }
    #pragma unroll
    for (uint i = 0; i < Turns; ++i) {
      const uint s = turn(0, i), t = turn(1, i);
      if (s < Spec::steps) put(to.x[s][line][0], to.sum[s][line][0], first, firsts_in[i], 0);
      if (N == 2 && t < Spec::steps) put(to.x[t][line][N - 1], to.sum[t][line][N - 1], second, seconds_in[i], 0);
    }
  }

  void fetch_after() {
    first_after.fetch(first, Single ? own : output, lane);
    if (N == 2) second_after.fetch(second, Single ? own : output, lane);
  }

  // Fetches the weights of a step.
  void fetch(uint step) {
    firsts.fetch(first, group(step), output, lane);
    if (N == 2) seconds.fetch(second, group(step), output, lane);
  }

  // A lane's inputs of a row and a step, as each projection takes them.
  struct Task {
    Inputs first, second;
  };

  uint group(uint step) const { return step * Spec::splits + line; }

  // Fetches a task: a row, and a step from the given one on.
  Task fetch_task(const Args args, uint task, uint step) const {
    const uint r = task / Spec::steps, g = group(step + task % Spec::steps);
    device const float* x = input(args, work.first + (Single ? 0 : min(r, work.rows - 1)));
    Task t;
    t.first.fetch_su(first, g * First::Group, lane);
    t.first.fetch_x(first, x, g * First::Group, lane);
    if (N == 2) {
      t.second.fetch_su(second, g * Second::Group, lane);
      t.second.fetch_x(second, x, g * Second::Group, lane);
    }
    return t;
  }

  // Stages the inputs of as many steps as fit, of whole products of rows.
  void put(threadgroup Stage<Spec, N>& to, const Args args, uint step) const {
    const uint tasks = Spec::steps * (Single ? 1 : min((work.rows + 3) / 4 * 4, Spec::tile));
    if (place >= tasks) return;
    Task next = fetch_task(args, place, step);
    #pragma unroll
    for (uint task = place; task < tasks; task += Across) {
      const Task t = next;
      if (task + Across < tasks) next = fetch_task(args, task + Across, step);
      const uint r = task / Spec::steps, s = task % Spec::steps, g = group(step + s);
      const bool there = Single || r < work.rows;
      put(to.x[s][line][0], to.sum[s][line][0], first, t.first, r, there, g);
      if (N == 2) put(to.x[s][line][N - 1], to.sum[s][line][N - 1], second, t.second, r, there, g);
    }
  }

  template <typename Weights>
  void put(threadgroup uint (&x)[2 * Spec::tile][Plan<Spec, N>::Pitch], threadgroup float2 (&sum)[Spec::tile], const Weights w,
           const Inputs in, uint r, bool there, uint group) const {
    if (there) {
      put(x, sum, w, scaled(w, in, group * Weights::Group, lane), r);
    } else {
      stage_none(x[2 * r], x[2 * r + 1], sum[r], lane);
    }
  }

  template <typename Weights>
  void put(threadgroup uint (&x)[2 * Spec::tile][Plan<Spec, N>::Pitch], threadgroup float2 (&sum)[Spec::tile], const Weights w,
           const Scaled in, uint r) const {
    stage(x[2 * r], x[2 * r + 1], sum[r], w, in, lane);
  }

  // What a line stages is read by that line alone.
  static void barrier() {
    if (Across == 1) {
      simdgroup_barrier(mem_flags::mem_threadgroup);
    } else {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }

  // Runs the steps, of a single row once its first inputs have been fetched.
  void run(thread Sums<Spec, N> (&sums)[N], threadgroup Stage<Spec, N> (&stage)[Spec::buffers], const Args args) {
    if (Single) {
      put_turns(stage[0]);
    } else {
      put(stage[0], args, 0);
    }
    for (uint from = 0; from < steps; from += Spec::steps) {
      threadgroup Stage<Spec, N>& staged = stage[from / Spec::steps % Spec::buffers];
      barrier();
      if (Single && N == 2) later_launches(lane);  // not earlier, when it delays loads
      #pragma unroll
      for (uint s = 0; s < min(Spec::steps, steps - from); ++s) {
        if (!Single && from + s + 1 == steps) fetch_after();
        one(sums, staged, s, from + s);
      }
      if (from + Spec::steps < steps) {
        if (Spec::buffers == 1) barrier();
        put(stage[(from / Spec::steps + 1) % Spec::buffers], args, from + Spec::steps);
      }
    }
  }

  // Runs a step, and fetches the next one's weights: before it if a lane holds two sets of them, or in their place.
  void one(thread Sums<Spec, N> (&sums)[N], threadgroup const Stage<Spec, N>& staged, uint s, uint step) {
    const Fetched<First, Tiles> f = firsts;
    const Fetched<Second, Tiles> g = seconds;
    if (Spec::sets == 2 && step + 1 < steps) fetch(step + 1);
    if (output < first.outputs) {
      multiply<Spec, N>(sums[0], f, staged.x[s][line][0], staged.sum[s][line][0], work.rows, lane);
      if (N == 2) multiply<Spec, N>(sums[N - 1], g, staged.x[s][line][N - 1], staged.sum[s][line][N - 1], work.rows, lane);
    }
    if (Spec::sets == 1 && step + 1 < steps) fetch(step + 1);
  }
};

// Stores the rows that lanes hold.
template <typename Spec, typename Steps>
METAL_FUNC void store(const GateUp args, thread const Steps& steps, thread const Sums<Spec, 2> (&sums)[2],
                      threadgroup Scratch<Spec, 2>&, const Position at) {
  const uint intermediate = args.shape.intermediate;
  #pragma unroll
  for (uint i = 0; i < Plan<Spec, 2>::Tiles; ++i) {
    const uint o = steps.output + 16 * i + at.lane / 4 * 2;
    if (o >= intermediate) continue;
    #pragma unroll
    for (uint j = 0; j < Plan<Spec, 2>::Products; ++j) {
      const uint r = 4 * j + at.lane % 4;
      const float2 g = sums[0].of[i][j] * steps.first_after.of(i), u = sums[1].of[i][j] * steps.second_after.of(i);
      if (r < steps.work.rows) {
        *(device float2*)(args.h + ulong(steps.work.first + r) * intermediate + o) = float2(silu(g.x) * u.x, silu(g.y) * u.y);
      }
    }
  }
}

// Stores a single row.
template <typename Spec, typename Steps>
METAL_FUNC void store(const GateUp args, thread const Steps& steps, thread const Sums<Spec, 2> (&sums)[2],
                      threadgroup GateUpRow<Spec>& scratch, const Position at) {
  leave<Spec, 2>(sums, scratch.partial, at);
  const uint intermediate = args.shape.intermediate;
  if (at.index >= Spec::outputs || steps.own >= intermediate) return;
  const float g = total<Spec, 2>(scratch.partial, 0, at.index) * steps.first_after.of();
  const float u = total<Spec, 2>(scratch.partial, 1, at.index) * steps.second_after.of();
  args.h[ulong(steps.work.first) * intermediate + steps.own] = silu(g) * u;
}

// Asks for a line of 128 bytes, of as many as there are.
METAL_FUNC void soon(device const void* p, uint bytes, uint line) {
  if (128 * line < bytes) soon((device const uchar*)p + 128 * line);
}

// How many threadgroups a GPU begins with, about. Later ones find what these have asked for.
constant constexpr uint FirstThreadgroups = 128;

// Copies up to Most experts to threadgroup memory.
template <typename Spec, uint Most>
METAL_FUNC void keep(threadgroup Expert (&to)[Spec::experts], device const Expert* from, uint experts, const Position at) {
  constexpr uint Words = sizeof(Expert) / sizeof(ulong), Turns = (Most * Words + Spec::threads - 1) / Spec::threads;
  const uint words = experts * Words;
  ulong v[Turns];
  #pragma unroll
  for (uint t = 0; t < Turns; ++t) v[t] = loaded(((device const ulong*)from)[min(at.index + t * Spec::threads, words - 1)]);
  #pragma unroll
  for (uint t = 0; t < Turns; ++t) {
    const uint i = at.index + t * Spec::threads;
    if (i < words) ((threadgroup ulong*)to)[i] = v[t];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

// Waits, and asks before for what is then read, each from memory after the other. Inputs are shared out among the
// threadgroups of an entry of the work list. The experts, which are as old as the layer, are copied by each of them, so that
// no load stands between the entry and its weights; where there is no room for all, the entry's expert is. Single is Spec:
// a body for several rows has no such scratch, and must not be asked for its size.
template <typename Spec, typename Single>
METAL_FUNC void begin(const GateUp args, threadgroup GateUpRow<Single>& scratch, const Position at) {
  const Shape shape = args.shape;
  if (at.simd == 0 && shape.items * at.group.y < FirstThreadgroups) {
    if (at.lane == 0) {
      soon((device const uchar*)(args.work + at.group.x));
      soon((device const uchar*)(args.token + min(at.group.x, shape.rows - 1)));
    }
    const uint groups = (shape.intermediate + Single::outputs - 1) / Single::outputs;
    soon(args.x, shape.tokens * shape.hidden * sizeof(float), at.group.y + groups * at.lane);
  }
  const bool all = shape.experts <= Single::experts;
  if (all) keep<Single, Single::experts>(scratch.experts, args.experts, shape.experts, at);
  earlier_launches(at.lane);
  if (all) return;
  const Work work = args.work[at.group.x];
  if (valid<Single>(work, shape)) keep<Single, 1>(scratch.experts, args.experts + work.expert, 1, at);
}

// Returns where an expert is, which begin has copied.
template <typename Spec, typename Single>
METAL_FUNC threadgroup const Expert* expert_at(const GateUp args, threadgroup const GateUpRow<Single>& scratch, uint i) {
  return scratch.experts + (args.shape.experts <= Single::experts ? i : 0);
}

template <typename Spec, typename Gate, typename Up>
METAL_FUNC void gate_up(const GateUp args, threadgroup GateUpScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(GateUpScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  const Work work = args.work[at.group.x];
  if (!valid<Spec>(work, args.shape)) return;
  // Of a single token, no row is read to find it.
  device const float* x = Spec::tile == 1 && args.shape.tokens == 1 ? args.x : input(args, work.first);
  const auto expert = expert_at<Spec>(args, scratch, work.expert);
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Gate gate(args.weights, &expert->gate, hidden, intermediate);
  const Up up(args.weights, &expert->up, hidden, intermediate);

  Steps<Spec, 2, Gate, Up, GateUp> steps(gate, up, work, at);
  if (steps.Single) {
    steps.fetch_turns(x);
    steps.fetch_after();
    steps.fetch(0);
  }
  Sums<Spec, 2> sums[2] = {};
  steps.run(sums, scratch.stage, args);
  store<Spec>(args, steps, sums, scratch, at);
}

template <typename Spec, typename Steps>
METAL_FUNC void store(const Down args, thread const Steps& steps, thread const Sums<Spec, 1> (&sums)[1],
                      threadgroup Scratch<Spec, 1>&, thread const float (&prob)[Plan<Spec, 1>::Products], const Position at) {
  const uint hidden = args.shape.hidden;
  #pragma unroll
  for (uint i = 0; i < Plan<Spec, 1>::Tiles; ++i) {
    const uint o = steps.output + 16 * i + at.lane / 4 * 2;
    if (o >= hidden) continue;
    #pragma unroll
    for (uint j = 0; j < Plan<Spec, 1>::Products; ++j) {
      const uint r = 4 * j + at.lane % 4;
      if (r < steps.work.rows) {
        *(device float2*)(args.y + ulong(steps.work.first + r) * hidden + o) = prob[j] * (sums[0].of[i][j] * steps.first_after.of(i));
      }
    }
  }
}

template <typename Spec, typename Steps>
METAL_FUNC void store(const Down args, thread const Steps& steps, thread const Sums<Spec, 1> (&sums)[1],
                      threadgroup DownRow<Spec>& scratch, thread const float (&prob)[Plan<Spec, 1>::Products], const Position at) {
  leave<Spec, 1>(sums, scratch.partial, at);
  const uint hidden = args.shape.hidden;
  if (at.index >= Spec::outputs || steps.own >= hidden) return;
  args.y[ulong(steps.work.first) * hidden + steps.own] = prob[0] * (total<Spec, 1>(scratch.partial, 0, at.index) * steps.first_after.of());
}

template <typename Spec>
METAL_FUNC void begin(const Down, const Position) {}

template <typename Spec, typename Weights>
METAL_FUNC void down(const Down args, threadgroup DownScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(DownScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  const Work work = args.work[at.group.x];
  if (!valid<Spec>(work, args.shape)) return earlier_launches(at.lane);
  device const Expert& expert = args.experts[work.expert];
  const uint hidden = args.shape.hidden, intermediate = args.shape.intermediate;
  const Weights w(args.weights, &expert.down, intermediate, hidden);

  Steps<Spec, 1, Weights, Weights, Down> steps(w, w, work, at);
  if (steps.Single) {
    steps.fetch_after();
    steps.fetch(0);
  }
  float prob[Plan<Spec, 1>::Products];
  #pragma unroll
  for (uint j = 0; j < Plan<Spec, 1>::Products; ++j) {
    prob[j] = args.prob[work.first + (steps.Single ? 0 : min(4 * j + at.lane % 4, work.rows - 1))];
  }
  earlier_launches(at.lane);  // h is theirs; all else is older, and gate_up has waited for it
  later_launches(at.lane);
  if (steps.Single) steps.fetch_turns(input(args, work.first));
  Sums<Spec, 1> sums[1] = {};
  steps.run(sums, scratch.stage, args);
  store<Spec>(args, steps, sums, scratch, prob, at);
}
