// W[o, i] = (idx − M/2) · scale · su[i] · sv[o], M = 2^width − 1: indices in tiles of 16×16, a scale for
// each output and 128 inputs.
//
// An index becomes a float without a conversion: put into the mantissa of 1, it makes the level
// 1 + idx / 2^width. So W = (level − center) · step · su · sv, where center = 1 + M / 2^(width + 1) and
// step = 2^width · scale. Levels and center are exact, and so is their difference.
//
// Bits is the width; Trellis<0> has the width of its projection.
template <uint Bits>
struct Trellis {
  static_assert(Bits == 0 || (2 <= Bits && Bits <= 8), "widths are 2 to 8");

  static constant constexpr uint Side = 16;    // of a tile
  static constant constexpr uint Group = 128;  // inputs that share a scale

  // The widest type that the rows of a tile, 2 · width bytes each, are aligned for.
  typedef conditional_t<Bits == 0 || Bits % 2 == 1, ushort, conditional_t<Bits % 4 == 2, uint, ulong>> Piece;

  device const uchar* indices;
  device const half* scales;
  device const half* su;
  device const half* sv;
  uint inputs;
  uint outputs;
  uint bits;

  // at points to a Projection, in device or in threadgroup memory.
  template <typename Pointer>
  Trellis(device const uchar* weights, const Pointer at, uint in, uint out)
      : indices(weights + at->indices),
        scales((device const half*)(weights + at->scales)),
        su((device const half*)(weights + at->su)),
        sv((device const half*)(weights + at->sv)),
        inputs(in),
        outputs(out),
        bits(at->bits) {}

  // The factors of an input, of four, and of an output. The sums and weights below are without them.
  float before(uint input) const { return float(su[input]); }
  float4 before4(uint input) const {
    return float4(su[input], su[input + 1], su[input + 2], su[input + 3]);
  }
  float after(uint output) const { return float(sv[output]); }

  // Returns Σ W·x over the inputs of a tile; sum is Σ x.
  float dot(uint tile, uint output, threadgroup const float4* x, float sum) const {
    const ulong2 row = packed(tile, output);
    float4 s = 0.0f;
    #pragma unroll
    for (uint q = 0; q < 4; ++q) s += levels(row, q) * x[q];
    return (s.x + s.y + s.z + s.w - center() * sum) * step(tile, output);
  }

  // Sets w to W over the inputs of a tile.
  void decode(uint tile, uint output, thread float4 (&w)[4]) const {
    const ulong2 row = packed(tile, output);
    #pragma unroll
    for (uint q = 0; q < 4; ++q) w[q] = (levels(row, q) - center()) * step(tile, output);
  }

  uint width() const { return Bits == 0 ? bits : Bits; }
  float center() const { return 1.5f - 0.5f / float(1u << width()); }
  float step(uint tile, uint output) const {
    return float(scales[tile / (Group / Side) * outputs + output]) * float(1u << width());
  }

  // Returns an output's row of a tile: 16 indices, the first in the lowest bits.
  ulong2 packed(uint tile, uint output) const { return packed(row(output) + tile * tile_bytes()); }

  // Returns where an output's row of the first tile is; the next tile is tile_bytes() on.
  device const uchar* row(uint output) const {
    return indices + (output / Side * (inputs / Side) * Side + output % Side) * 2 * width();
  }
  uint tile_bytes() const { return 2 * Side * width(); }

  ulong2 packed(device const uchar* p) const {
    ulong low = 0, high = 0;
    #pragma unroll
    for (uint i = 0; i < 8; i += sizeof(Piece)) {
      if (i < 2 * width()) low |= ulong(*(device const Piece*)(p + i)) << (8 * i);
      if (i + 8 < 2 * width()) high |= ulong(*(device const Piece*)(p + i + 8)) << (8 * i);
    }
    return ulong2(low, high);
  }

  // Returns 1 + idx / 2^width for four indices of a row, from 4q on.
  float4 levels(ulong2 row, uint q) const {
    const uint at = 4 * q * width();
    const ulong four = at == 0   ? row.x
                       : at < 64 ? (row.x >> at) | (row.y << (64 - at))
                                 : row.y >> (at - 64);
    const uint4 index = (uint4(uint(four)) >> (uint4(0, 1, 2, 3) * width())) & ((1u << width()) - 1);
    return as_type<float4>((index << (23 - width())) | 0x3f800000u);
  }

  // Two indices of a row, Distance apart, are multiplied at once as they lie: masked out of a word whose halves
  // they share, they are mantissas, of halves that are so small that those have no other part. Eight pairs make
  // a row. Pair p starts with input pair_first(p); its two halves are indices times 2^(pair_low(p) − 24) and
  // 2^(pair_high(p) − 24), divided by pair_unit(). Where the width is not known before, indices are moved to the
  // upper end of a mantissa: tensor cores round sums by the exponents of halves, which here are all the same.
  static constant constexpr uint Distance = Bits == 0 || Bits == 2 ? 8 : Bits <= 5 ? 4 : 2;

  static constexpr uint pair_first(uint p) { return p / Distance * 2 * Distance + p % Distance; }
  static constexpr uint pair_low(uint p) { return Bits == 0 ? 0 : uint(int(pair_first(p) * Bits) - pair_shift(p)); }
  static constexpr uint pair_high(uint p) {
    return Bits == 0 ? 0 : uint(int((pair_first(p) + Distance) * Bits) - pair_shift(p) - 16);
  }

  // Returns by how many bits a row is shifted for pair p: as for the pair before it, if that will do.
  static constexpr int pair_shift(uint p) {
    int shift = -32;
    for (uint q = 0; q <= p; ++q) {
      const int first = int(pair_first(q) * Bits), second = first + int(Distance * Bits), width = int(Bits);
      const int least = first > second - 16 ? first - 11 + width : second - 27 + width;
      const int most = first < second - 16 ? first : second - 16;
      if (shift < least || shift > most) shift = most;
    }
    return shift;
  }

  float pair_unit() const { return Bits == 0 ? as_type<float>((117 + width()) << 23) : 1.0f; }

  // Two rows of a tile.
  struct Rows {
    uint words[Bits == 0 ? 16 : Bits];
  };

  // Returns the row at p and the one after it; the first is of an even output.
  Rows rows(device const uchar* p) const {
    Rows r;
    if (Bits == 0) {
      #pragma unroll
      for (uint i = 0; i < 2; ++i) {
        const ulong2 row = packed(p + i * 2 * width());
        #pragma unroll
        for (uint p = 0; p < 8; ++p) r.words[8 * i + p] = (index(row, p) | index(row, p + 8) << 16) << (10 - width());
      }
      return r;
    }
    #pragma unroll
    for (uint i = 0; i < Bits; ++i) {
      if (Bits % 2 == 1) {
        r.words[i] = *(device const uint*)(p + 4 * i);
      } else if (i % 2 == 0) {
        const uint2 two = *(device const uint2*)(p + 4 * i);
        r.words[i] = two.x;
        r.words[i + 1] = two.y;
      }
    }
    return r;
  }

  // Returns an index of a row.
  uint index(ulong2 row, uint i) const {
    const uint at = i * width();
    const ulong from = at == 0 ? row.x : at < 64 ? (row.x >> at) | (row.y << (64 - at)) : row.y >> (at - 64);
    return uint(from) & ((1u << width()) - 1);
  }

  // Returns pair p of one of two rows, two halves.
  static uint pair(const Rows r, uint row, uint p) {
    if (Bits == 0) return r.words[8 * row + p];
    const int shift = int(16 * row * Bits) + pair_shift(p), by = shift & 31, word = (shift - by) / 32;
    const uint low = word >= 0 ? r.words[word] : 0, high = word + 1 < int(Bits) ? r.words[word + 1] : 0;
    const uint mask = ((1u << Bits) - 1) << pair_low(p) | ((1u << Bits) - 1) << (16 + pair_high(p));
    return (by == 0 ? low : (low >> by) | (high << (32 - by))) & mask;
  }

  // The mean of the indices, which weights are relative to.
  float middle() const { return 0.5f * float((1u << width()) - 1); }
  // The scale of a group of inputs.
  half scale(uint group, uint output) const { return scales[group * outputs + output]; }
};
