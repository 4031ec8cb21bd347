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

  Trellis(device const uchar* weights, device const Projection& at, uint in, uint out)
      : indices(weights + at.indices),
        scales((device const half*)(weights + at.scales)),
        su((device const half*)(weights + at.su)),
        sv((device const half*)(weights + at.sv)),
        inputs(in),
        outputs(out),
        bits(at.bits) {}

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
  ulong2 packed(uint tile, uint output) const {
    const uint row = (output / Side * (inputs / Side) + tile) * Side + output % Side;
    device const uchar* p = indices + row * 2 * width();
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
};
