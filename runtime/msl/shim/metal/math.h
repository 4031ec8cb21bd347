// Mathematical, common, relational, integer and geometric functions. Those of half compute in float and
// round; there are none of bfloat, as in Metal.
#pragma once

#ifdef __NVPTX__
#include "../cuda/math.h"
#else
MSL_FN float __msl_exp(float x) { return __builtin_expf(x); }
#endif

extern "C" half __msl_fma_half(float a, float b, float c);

namespace metal {

// Functions of the elements of vectors, by those of scalars.
#define MSL_MAP1(name)                       \
  template <class T, int N>                  \
  MSL_FN vec<T, N> name(vec<T, N> a) {       \
    vec<T, N> r;                             \
    MSL_EACH(i, N) r.set(i, name(a.get(i))); \
    return r;                                \
  }
#define MSL_MAP2(name)                                           \
  template <class T, int N>                                      \
  MSL_FN vec<T, N> name(vec<T, N> a, _identity_t<vec<T, N>> b) { \
    vec<T, N> r;                                                 \
    MSL_EACH(i, N) r.set(i, name(a.get(i), b.get(i)));           \
    return r;                                                    \
  }
#define MSL_MAP2_SCALAR(name)                                                      \
  template <class T, int N, class S, class = enable_if_t<is_arithmetic<S>::value>> \
  MSL_FN vec<T, N> name(S a, vec<T, N> b) {                                        \
    return name(vec<T, N>(T(a)), b);                                               \
  }
#define MSL_MAP3(name)                                                                     \
  template <class T, int N>                                                                \
  MSL_FN vec<T, N> name(vec<T, N> a, _identity_t<vec<T, N>> b, _identity_t<vec<T, N>> c) { \
    vec<T, N> r;                                                                           \
    MSL_EACH(i, N) r.set(i, name(a.get(i), b.get(i), c.get(i)));                           \
    return r;                                                                              \
  }
#define MSL_MAP_BOOL(name)                   \
  template <class T, int N>                  \
  MSL_FN vec<bool, N> name(vec<T, N> a) {    \
    vec<bool, N> r;                          \
    MSL_EACH(i, N) r.set(i, name(a.get(i))); \
    return r;                                \
  }

#define MSL_FLOAT1(name, ...)                        \
  MSL_FN float name(float x) { return __VA_ARGS__; } \
  MSL_FN half name(half h) {                         \
    const float x = h;                               \
    return half(__VA_ARGS__);                        \
  }                                                  \
  MSL_MAP1(name)
#define MSL_FLOAT2(name, ...)                                 \
  MSL_FN float name(float x, float y) { return __VA_ARGS__; } \
  MSL_FN half name(half a, half b) {                          \
    const float x = a, y = b;                                 \
    return half(__VA_ARGS__);                                 \
  }                                                           \
  MSL_MAP2(name) MSL_MAP2_SCALAR(name)
#define MSL_FLOAT_BOOL(name, ...)                   \
  MSL_FN bool name(float x) { return __VA_ARGS__; } \
  MSL_FN bool name(half h) {                        \
    const float x = h;                              \
    return __VA_ARGS__;                             \
  }                                                 \
  MSL_MAP_BOOL(name)

// Those that come in a fast and a precise version, too.
#define MSL_MATH                                                              \
  MSL_FLOAT1(acos, __builtin_acosf(x))                                        \
  MSL_FLOAT1(acosh, __builtin_acoshf(x))                                      \
  MSL_FLOAT1(asin, __builtin_asinf(x))                                        \
  MSL_FLOAT1(asinh, __builtin_asinhf(x))                                      \
  MSL_FLOAT1(atan, __builtin_atanf(x))                                        \
  MSL_FLOAT2(atan2, __builtin_atan2f(x, y))                                   \
  MSL_FLOAT1(atanh, __builtin_atanhf(x))                                      \
  MSL_FLOAT1(ceil, __builtin_ceilf(x))                                        \
  MSL_FLOAT1(cos, __builtin_cosf(x))                                          \
  MSL_FLOAT1(cosh, __builtin_coshf(x))                                        \
  MSL_FLOAT1(exp, __msl_exp(x))                                               \
  MSL_FLOAT1(exp2, __builtin_exp2f(x))                                        \
  MSL_FLOAT1(exp10, __builtin_powf(10.0f, x))                                 \
  MSL_FLOAT1(fabs, __builtin_fabsf(x))                                        \
  MSL_FLOAT1(floor, __builtin_floorf(x))                                      \
  MSL_FLOAT2(fmax, __builtin_fmaxf(x, y))                                     \
  MSL_FLOAT2(fmin, __builtin_fminf(x, y))                                     \
  MSL_FLOAT2(fmod, __builtin_fmodf(x, y))                                     \
  MSL_FLOAT1(fract, __builtin_fminf(x - __builtin_floorf(x), 0x1.fffffep-1f)) \
  MSL_FLOAT1(log, __builtin_logf(x))                                          \
  MSL_FLOAT1(log2, __builtin_log2f(x))                                        \
  MSL_FLOAT1(log10, __builtin_log10f(x))                                      \
  MSL_FLOAT2(pow, __builtin_powf(x, y))                                       \
  MSL_FLOAT2(powr, __builtin_powf(x, y))                                      \
  MSL_FLOAT1(rint, __builtin_rintf(x))                                        \
  MSL_FLOAT1(round, __builtin_roundf(x))                                      \
  MSL_FLOAT1(rsqrt, 1.0f / __builtin_sqrtf(x))                                \
  MSL_FLOAT1(sin, __builtin_sinf(x))                                          \
  MSL_FLOAT1(sinh, __builtin_sinhf(x))                                        \
  MSL_FLOAT1(sqrt, __builtin_sqrtf(x))                                        \
  MSL_FLOAT1(tan, __builtin_tanf(x))                                          \
  MSL_FLOAT1(tanh, __builtin_tanhf(x))                                        \
  MSL_FLOAT1(trunc, __builtin_truncf(x))
MSL_MATH

MSL_FLOAT2(copysign, __builtin_copysignf(x, y))
MSL_FLOAT2(fdim, x > y ? x - y : 0.0f)
MSL_FLOAT1(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f)
MSL_FLOAT_BOOL(isnan, __builtin_isnan(x))
MSL_FLOAT_BOOL(isinf, __builtin_isinf(x))
MSL_FLOAT_BOOL(isfinite, __builtin_isfinite(x))
MSL_FLOAT_BOOL(isnormal, __builtin_isnormal(x))
MSL_FLOAT_BOOL(signbit, __builtin_signbitf(x) != 0)
MSL_FN float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
MSL_FN half fma(half a, half b, half c) { return __msl_fma_half(a, b, c); }
MSL_MAP3(fma)
MSL_FN float ldexp(float x, int k) { return __builtin_ldexpf(x, k); }
MSL_FN half ldexp(half x, int k) { return half(__builtin_ldexpf(x, k)); }

// Common functions.

#define MSL_COMMON_INTEGER(t)                                            \
  MSL_CFN t min(t a, t b) { return b < a ? b : a; }                      \
  MSL_CFN t max(t a, t b) { return a < b ? b : a; }                      \
  MSL_CFN t clamp(t x, t low, t high) { return min(max(x, low), high); } \
  MSL_CFN t select(t a, t b, bool c) { return c ? b : a; }
#define MSL_INTEGERS(f) f(char) f(uchar) f(short) f(ushort) f(int) f(uint) f(long) f(ulong)
MSL_INTEGERS(MSL_COMMON_INTEGER)
#define MSL_COMMON_FLOAT(t)                                               \
  MSL_FN t min(t a, t b) { return fmin(a, b); }                           \
  MSL_FN t max(t a, t b) { return fmax(a, b); }                           \
  MSL_FN t clamp(t x, t low, t high) { return fmin(fmax(x, low), high); } \
  MSL_FN t saturate(t x) { return clamp(x, t(0), t(1)); }                 \
  MSL_FN t mix(t x, t y, t a) { return x + (y - x) * a; }                 \
  MSL_FN t step(t edge, t x) { return x < edge ? t(0) : t(1); }           \
  MSL_FN t smoothstep(t from, t to, t x) {                                \
    const t u = saturate((x - from) / (to - from));                       \
    return u * u * (t(3) - t(2) * u);                                     \
  }                                                                       \
  MSL_FN t select(t a, t b, bool c) { return c ? b : a; }                 \
  MSL_FN t abs(t x) { return fabs(x); }
MSL_COMMON_FLOAT(float)
MSL_COMMON_FLOAT(half)
MSL_MAP2(min)
MSL_MAP2(max)
MSL_MAP2_SCALAR(min)
MSL_MAP2_SCALAR(max)
MSL_MAP2(step)
MSL_MAP3(clamp)
MSL_MAP3(mix)
MSL_MAP3(smoothstep)
MSL_MAP1(saturate)
template <class T, int N>
MSL_FN vec<T, N> select(vec<T, N> a, _identity_t<vec<T, N>> b, vec<bool, N> c) {
  vec<T, N> r;
  MSL_EACH(i, N) r.set(i, c.get(i) ? b.get(i) : a.get(i));
  return r;
}
template <class T>
MSL_FN T min3(T a, T b, T c) {
  return min(a, min(b, c));
}
template <class T>
MSL_FN T max3(T a, T b, T c) {
  return max(a, max(b, c));
}

// Relational functions.

template <int N>
MSL_FN bool all(vec<bool, N> v) {
  bool r = true;
  MSL_EACH(i, N) r = r && v.get(i);
  return r;
}
template <int N>
MSL_FN bool any(vec<bool, N> v) {
  bool r = false;
  MSL_EACH(i, N) r = r || v.get(i);
  return r;
}

// Integer functions.

#define MSL_INTEGER(t)                                                                                      \
  MSL_CFN t popcount(t x) { return t(__builtin_popcountl(ulong(make_unsigned_t<t>(x)))); }                  \
  MSL_CFN t clz(t x) {                                                                                      \
    return t(x == 0 ? 8 * sizeof(t) : __builtin_clzl(ulong(make_unsigned_t<t>(x))) - (64 - 8 * sizeof(t))); \
  }                                                                                                         \
  MSL_CFN t ctz(t x) { return t(x == 0 ? 8 * sizeof(t) : __builtin_ctzl(ulong(make_unsigned_t<t>(x)))); }   \
  MSL_CFN t rotate(t x, t by) {                                                                             \
    const uint n = uint(by) & (8 * sizeof(t) - 1);                                                          \
    const make_unsigned_t<t> u = x;                                                                         \
    return n == 0 ? x : t(u << n | u >> (8 * sizeof(t) - n));                                               \
  }                                                                                                         \
  MSL_FN t reverse_bits(t x) {                                                                              \
    make_unsigned_t<t> r = 0;                                                                               \
    for (uint i = 0; i < 8 * sizeof(t); ++i) r = r << 1 | (x >> i & 1);                                     \
    return t(r);                                                                                            \
  }                                                                                                         \
  MSL_FN t extract_bits(t x, uint offset, uint bits) {                                                      \
    const uint all = 8 * sizeof(t);                                                                         \
    return bits == 0     ? t(0)                                                                             \
           : bits >= all ? x                                                                                \
                         : t(t(make_unsigned_t<t>(x) << (all - bits - offset)) >> (all - bits));            \
  }                                                                                                         \
  MSL_FN t insert_bits(t base, t v, uint offset, uint bits) {                                               \
    typedef make_unsigned_t<t> U;                                                                           \
    const U mask = bits >= 8 * sizeof(t) ? U(~U(0)) : U(((U(1) << bits) - 1) << offset);                    \
    return t((U(base) & ~mask) | ((U(v) << offset) & mask));                                                \
  }
MSL_INTEGERS(MSL_INTEGER)
MSL_MAP1(popcount)
MSL_MAP1(clz)
MSL_MAP1(ctz)
MSL_CFN char abs(char x) { return x < 0 ? -x : x; }
MSL_CFN short abs(short x) { return x < 0 ? -x : x; }
MSL_CFN int abs(int x) { return x < 0 ? -x : x; }
MSL_CFN long abs(long x) { return x < 0 ? -x : x; }
MSL_MAP1(abs)
MSL_CFN uint mulhi(uint a, uint b) { return uint((ulong(a) * b) >> 32); }
MSL_CFN int mulhi(int a, int b) { return int((long(a) * b) >> 32); }
MSL_CFN ulong mulhi(ulong a, ulong b) { return ulong(((unsigned __int128)a * b) >> 64); }
MSL_CFN uint mul24(uint a, uint b) { return (a & 0xffffff) * (b & 0xffffff); }

// Geometric functions.

template <class T, int N>
MSL_FN T dot(vec<T, N> a, _identity_t<vec<T, N>> b) {
  T r = a.get(0) * b.get(0);
  for (int i = 1; i < N; ++i) r += a.get(i) * b.get(i);
  return r;
}
template <class T, int N>
MSL_FN T length_squared(vec<T, N> a) {
  return dot(a, a);
}
template <class T, int N>
MSL_FN T length(vec<T, N> a) {
  return sqrt(dot(a, a));
}
template <class T, int N>
MSL_FN T distance(vec<T, N> a, _identity_t<vec<T, N>> b) {
  return length(a - b);
}
template <class T, int N>
MSL_FN vec<T, N> normalize(vec<T, N> a) {
  return a * vec<T, N>(rsqrt(dot(a, a)));
}

namespace fast {
MSL_MATH
MSL_FN float divide(float a, float b) { return a / b; }
}  // namespace fast
namespace precise {
MSL_MATH
MSL_FN float divide(float a, float b) { return a / b; }
}  // namespace precise

}  // namespace metal
