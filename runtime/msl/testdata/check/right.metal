// What is right: nothing is found here.
#include <metal_stdlib>
#include <metal_simdgroup>
#include <metal_simdgroup_matrix>
using namespace metal;

constant constexpr uint Width = 4;
constant float Numbers[3] = {0.25, 1e-3, 2.};

enum class Mode : uint { One, Two };

struct Params {
  uint n;
  packed_float3 origin;
  float4x4 m;
};

template <typename T, uint N>
struct Tile {
  T at[N];
  T sum() const {
    T s = T(0);
    for (uint i = 0; i < N; ++i) s += at[i];
    return s;
  }
};

template <typename T>
inline T apply(device const T* x, constant Params& p, thread T (&local)[Width]) {
  for (uint i = 0; i < min(p.n, Width); ++i) local[i] = x[i];
  return local[0];
}

inline float pick(device const float4* x, threadgroup const float4* y, uint i) { return (i == 0 ? x[i] : y[i]).x; }

[[max_total_threads_per_threadgroup(64)]] kernel void right(
    device const float4* x [[buffer(0)]], device float* out [[buffer(1)]], constant Params& p [[buffer(2)]],
    device atomic_uint* count [[buffer(3)]], uint3 group [[threadgroup_position_in_grid]],
    ushort t [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float4 shared[64];
  threadgroup Tile<half, 8> tile;
  shared[t] = x[t];
  shared[t].xy += shared[t].zw;
  if (t < 8) tile.at[t] = half(t) * 1.5h;
  threadgroup_barrier(mem_flags::mem_threadgroup);

  float4 v = shared[63 - t];
  v.zyx = float3(v.x, 1.0, -2.5e-1f) + p.origin[0];
  const float4 w = fma(v, v.wwww, select(v, 2.0f * v, v < 1.0f));
  const uint4 bits = (as_type<uint4>(w) >> 3) & 0x7u;
  const half4 h = half4(w) * half4(0.5h);
  float local[Width];
  float s = dot(float4(h), w) + float(any(bits == 0)) + apply((device const float*)x, p, local);
  s += simd_sum(s) + simd_shuffle_xor(s, 1) + simd_prefix_exclusive_sum(s) + float(simd_max(lane));
  s += pick(x, shared, lane) + float(tile.sum()) + Numbers[lane % 3] + (p.m * v).x;
  s += float(popcount(lane) + clz(lane) + ctz(lane)) + exp(-abs(s)) / (1.0 + fast::exp(s)) + precise::sqrt(s);
  s += float(extract_bits(lane, 3, 2)) + round(s) + clamp(s, 0.0f, 1.0f) + rsqrt(max(s, 1.0f));

  simdgroup_float8x8 a = make_filled_simdgroup_matrix<float, 8, 8>(1.0f), b, c(0.0f);
  simdgroup_load(b, (threadgroup const float*)shared, 8);
  simdgroup_multiply_accumulate(c, a, b, c);
  simdgroup_store(c, out, 8, ulong2(0, 1), true);
  if (simd_is_first()) atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);
  switch (Mode(p.n)) {
    case Mode::One: out[t] = s; break;
    case Mode::Two: out[t] = INFINITY; break;
  }
}

template <typename T, uint N>
[[kernel]] void instance(device T* out [[buffer(0)]], uint t [[thread_position_in_grid]]) {
  out[t] = T(N);
}
template [[host_name("instance_float_2")]] [[kernel]] decltype(instance<float, 2>) instance<float, 2>;
template [[host_name("instance_half_3")]] [[kernel]] void instance<half, 3>(device half*, uint);
