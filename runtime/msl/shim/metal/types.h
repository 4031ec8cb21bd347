// Scalars, type traits, vectors and matrices.
#pragma once

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef unsigned long uintptr_t;
typedef long intptr_t;
typedef __bf16 bfloat;

// device is an address space of the target: distinct from every other one, convertible only to the generic
// one, and number 0 when code is generated.
#define MSL_DEVICE __attribute__((address_space(0)))

#define MSL_FN inline __attribute__((always_inline))
#define MSL_CFN constexpr inline __attribute__((always_inline))
#define MSL_STATIC static constexpr const __global

namespace metal {

// Type traits.

template <class T, T V>
struct integral_constant {
  MSL_STATIC T value = V;
  constexpr operator T() const { return V; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  typedef T type;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;

template <bool B, class T, class U>
struct conditional {
  typedef T type;
};
template <class T, class U>
struct conditional<false, T, U> {
  typedef U type;
};
template <bool B, class T, class U>
using conditional_t = typename conditional<B, T, U>::type;

template <class T>
struct _identity {
  typedef T type;
};
template <class T>
using _identity_t = typename _identity<T>::type;  // not deduced

// clang-format off
#define MSL_REMOVE(name, from) template <class T> struct name<from> { typedef T type; };
template <class T> struct _remove_space : _identity<T> {};
MSL_REMOVE(_remove_space, __private T)
MSL_REMOVE(_remove_space, __global T)
MSL_REMOVE(_remove_space, __local T)
MSL_REMOVE(_remove_space, __generic T)
MSL_REMOVE(_remove_space, MSL_DEVICE T)
template <class T> struct remove_const : _identity<T> {};
MSL_REMOVE(remove_const, const T)
template <class T> struct remove_volatile : _identity<T> {};
MSL_REMOVE(remove_volatile, volatile T)
template <class T> struct remove_reference : _identity<T> {};
MSL_REMOVE(remove_reference, T &)
template <class T> struct remove_cv : _identity<typename remove_volatile<typename remove_const<typename _remove_space<T>::type>::type>::type> {};
#undef MSL_REMOVE
template <class T> using remove_const_t = typename remove_const<T>::type;
template <class T> using remove_cv_t = typename remove_cv<T>::type;
template <class T> using remove_reference_t = typename remove_reference<T>::type;
template <class T> using _bare = remove_cv_t<remove_reference_t<T>>;

#define MSL_TRAIT(name, ...)                                   \
  template <class T> struct name : bool_constant<__VA_ARGS__> {}; \
  template <class T> inline constexpr const __global bool name##_v = name<T>::value;
MSL_TRAIT(is_integral, __is_integral(T))
MSL_TRAIT(is_floating_point, __is_same(T, float) || __is_same(T, half) || __is_same(T, bfloat))
MSL_TRAIT(is_arithmetic, is_integral<T>::value || is_floating_point<T>::value)
MSL_TRAIT(is_signed, __is_signed(T))
MSL_TRAIT(is_unsigned, __is_unsigned(T))
MSL_TRAIT(is_pointer, __is_pointer(T))
#undef MSL_TRAIT
template <class T, class U> struct is_same : bool_constant<__is_same(T, U)> {};
template <class T, class U> inline constexpr const __global bool is_same_v = __is_same(T, U);
template <class T, class U> struct is_convertible : bool_constant<__is_convertible(T, U)> {};
template <class T, class U> inline constexpr const __global bool is_convertible_v = __is_convertible(T, U);
template <class T> struct make_unsigned { typedef __make_unsigned(T) type; };
template <class T> struct make_signed { typedef __make_signed(T) type; };
template <class T> using make_unsigned_t = typename make_unsigned<T>::type;
template <class T> using make_signed_t = typename make_signed<T>::type;
// clang-format on

// Vectors. They are classes: a vector converts to the value of another address space, as clang's do not.

template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;

template <class T>
struct _element {
  typedef T type;
  MSL_STATIC int size = 1;
};
template <class T, int N>
struct _element<vec<T, N>> {
  typedef T type;
  MSL_STATIC int size = N;
};
template <class T>
using _element_t = typename _element<T>::type;

#include "swizzle.h"

#define MSL_EACH(i, n) for (int i = 0; i < n; ++i)

#define MSL_BINARY(op)                                                       \
  friend MSL_CFN vec operator op(vec a, vec b) {                             \
    vec r{};                                                                 \
    MSL_EACH(i, N) r.set(i, T(a.get(i) op b.get(i)));                        \
    return r;                                                                \
  }                                                                          \
  friend MSL_CFN vec& operator op##=(vec & a, vec b) {                       \
    a = a op b;                                                              \
    return a;                                                                \
  }                                                                          \
  friend MSL_CFN MSL_DEVICE vec& operator op##=(MSL_DEVICE vec & a, vec b) { \
    a = vec(a) op b;                                                         \
    return a;                                                                \
  }                                                                          \
  friend MSL_CFN __local vec& operator op##=(__local vec & a, vec b) {       \
    a = vec(a) op b;                                                         \
    return a;                                                                \
  }

#define MSL_COMPARISON(op)                                \
  friend MSL_CFN vec<bool, N> operator op(vec a, vec b) { \
    vec<bool, N> r{};                                     \
    MSL_EACH(i, N) r.set(i, a.get(i) op b.get(i));        \
    return r;                                             \
  }

#define MSL_UNARY(R, op)                        \
  friend MSL_CFN vec<R, N> operator op(vec a) { \
    vec<R, N> r{};                              \
    MSL_EACH(i, N) r.set(i, R(op a.get(i)));    \
    return r;                                   \
  }

// clang-format off
#define MSL_VECTOR                                                                       \
  MSL_BINARY(+) MSL_BINARY(-) MSL_BINARY(*) MSL_BINARY(/) MSL_BINARY(%)                  \
  MSL_BINARY(&) MSL_BINARY(|) MSL_BINARY(^) MSL_BINARY(<<) MSL_BINARY(>>)                \
  MSL_COMPARISON(==) MSL_COMPARISON(!=) MSL_COMPARISON(<) MSL_COMPARISON(>)              \
  MSL_COMPARISON(<=) MSL_COMPARISON(>=) MSL_COMPARISON(&&) MSL_COMPARISON(||)            \
  MSL_UNARY(T, +) MSL_UNARY(T, -) MSL_UNARY(T, ~) MSL_UNARY(bool, !)                     \
  MSL_CFN vec &operator++() { return *this = *this + vec(T(1)); }                        \
  MSL_CFN vec &operator--() { return *this = *this - vec(T(1)); }                        \
  MSL_CFN vec operator++(int) { vec old = *this; ++*this; return old; }                  \
  MSL_CFN vec operator--(int) { vec old = *this; --*this; return old; }                  \
  MSL_FN T &operator[](uint i) { return (&x)[i]; }                                       \
  MSL_FN const T &operator[](uint i) const { return (&x)[i]; }
// clang-format on

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  MSL_STATIC int N = 2;
  T x, y;
  vec() = default;
  MSL_CFN vec(T a) : x(a), y(a) {}
  MSL_CFN vec(T a, T b) : x(a), y(b) {}
  template <class U>
  explicit MSL_CFN vec(const vec<U, 2>& a) : x(T(a.x)), y(T(a.y)) {}
  template <class U>
  explicit MSL_FN vec(const packed_vec<U, 2>& a) : vec(vec<U, 2>(a)) {}
  MSL_CFN T get(uint i) const { return i == 0 ? x : y; }
  MSL_CFN void set(uint i, T v) { (i == 0 ? x : y) = v; }
  MSL_VECTOR
  MSL_SWIZZLES_2
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  MSL_STATIC int N = 3;
  T x, y, z;
  vec() = default;
  MSL_CFN vec(T a) : x(a), y(a), z(a) {}
  MSL_CFN vec(T a, T b, T c) : x(a), y(b), z(c) {}
  MSL_CFN vec(vec<T, 2> a, T c) : x(a.x), y(a.y), z(c) {}
  MSL_CFN vec(T a, vec<T, 2> b) : x(a), y(b.x), z(b.y) {}
  template <class U>
  explicit MSL_CFN vec(const vec<U, 3>& a) : x(T(a.x)), y(T(a.y)), z(T(a.z)) {}
  template <class U>
  explicit MSL_FN vec(const packed_vec<U, 3>& a) : vec(vec<U, 3>(a)) {}
  MSL_CFN T get(uint i) const { return i == 0 ? x : i == 1 ? y : z; }
  MSL_CFN void set(uint i, T v) { (i == 0 ? x : i == 1 ? y : z) = v; }
  MSL_VECTOR
  MSL_SWIZZLES_3
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  MSL_STATIC int N = 4;
  T x, y, z, w;
  vec() = default;
  MSL_CFN vec(T a) : x(a), y(a), z(a), w(a) {}
  MSL_CFN vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  MSL_CFN vec(vec<T, 2> a, vec<T, 2> b) : x(a.x), y(a.y), z(b.x), w(b.y) {}
  MSL_CFN vec(vec<T, 2> a, T c, T d) : x(a.x), y(a.y), z(c), w(d) {}
  MSL_CFN vec(T a, vec<T, 2> b, T d) : x(a), y(b.x), z(b.y), w(d) {}
  MSL_CFN vec(T a, T b, vec<T, 2> c) : x(a), y(b), z(c.x), w(c.y) {}
  MSL_CFN vec(vec<T, 3> a, T d) : x(a.x), y(a.y), z(a.z), w(d) {}
  MSL_CFN vec(T a, vec<T, 3> b) : x(a), y(b.x), z(b.y), w(b.z) {}
  template <class U>
  explicit MSL_CFN vec(const vec<U, 4>& a) : x(T(a.x)), y(T(a.y)), z(T(a.z)), w(T(a.w)) {}
  template <class U>
  explicit MSL_FN vec(const packed_vec<U, 4>& a) : vec(vec<U, 4>(a)) {}
  MSL_CFN T get(uint i) const { return i == 0 ? x : i == 1 ? y : i == 2 ? z : w; }
  MSL_CFN void set(uint i, T v) { (i == 0 ? x : i == 1 ? y : i == 2 ? z : w) = v; }
  MSL_VECTOR
  MSL_SWIZZLES_4
};

template <class T, int N>
struct packed_vec {
  T v[N];
  packed_vec() = default;
  MSL_FN packed_vec(vec<T, N> a) { MSL_EACH(i, N) v[i] = a.get(i); }
  template <class... A, class = enable_if_t<sizeof...(A) == N>>
  MSL_FN packed_vec(A... a) : v{T(a)...} {}
  MSL_FN operator vec<T, N>() const {
    vec<T, N> r;
    MSL_EACH(i, N) r.set(i, v[i]);
    return r;
  }
  MSL_FN T& operator[](uint i) { return v[i]; }
  MSL_FN const T& operator[](uint i) const { return v[i]; }
};

#define MSL_SCALARS(f) \
  f(bool) f(char) f(uchar) f(short) f(ushort) f(int) f(uint) f(long) f(ulong) f(half) f(float) f(bfloat)
#define MSL_VECTORS(t)                    \
  typedef vec<t, 2> t##2;                 \
  typedef vec<t, 3> t##3;                 \
  typedef vec<t, 4> t##4;                 \
  typedef packed_vec<t, 2> packed_##t##2; \
  typedef packed_vec<t, 3> packed_##t##3; \
  typedef packed_vec<t, 4> packed_##t##4;
MSL_SCALARS(MSL_VECTORS)
#undef MSL_VECTORS

// Matrices, by columns.
template <class T, int C, int R>
struct matrix {
  vec<T, R> columns[C];
  matrix() = default;
  explicit MSL_FN matrix(T d) {
    MSL_EACH(i, C) {
      columns[i] = vec<T, R>(T(0));
      if (i < R) columns[i][i] = d;
    }
  }
  template <class... A, class = enable_if_t<sizeof...(A) == C && (C > 1)>>
  MSL_FN matrix(A... a) : columns{vec<T, R>(a)...} {}
  template <class U>
  explicit MSL_FN matrix(const matrix<U, C, R>& m) {
    MSL_EACH(i, C) columns[i] = vec<T, R>(m.columns[i]);
  }
  MSL_FN vec<T, R>& operator[](uint i) { return columns[i]; }
  MSL_FN const vec<T, R>& operator[](uint i) const { return columns[i]; }
  friend MSL_FN matrix operator+(matrix a, matrix b) {
    MSL_EACH(i, C) a.columns[i] += b.columns[i];
    return a;
  }
  friend MSL_FN matrix operator-(matrix a, matrix b) {
    MSL_EACH(i, C) a.columns[i] -= b.columns[i];
    return a;
  }
  friend MSL_FN matrix operator*(matrix a, T s) {
    MSL_EACH(i, C) a.columns[i] *= vec<T, R>(s);
    return a;
  }
  friend MSL_FN matrix operator*(T s, matrix a) { return a * s; }
  friend MSL_FN vec<T, R> operator*(matrix a, vec<T, C> v) {
    vec<T, R> r(T(0));
    MSL_EACH(i, C) r += a.columns[i] * vec<T, R>(v.get(i));
    return r;
  }
};
// clang-format off
#define MSL_MATRICES(t)                                                                           \
  typedef matrix<t, 2, 2> t##2x2; typedef matrix<t, 2, 3> t##2x3; typedef matrix<t, 2, 4> t##2x4; \
  typedef matrix<t, 3, 2> t##3x2; typedef matrix<t, 3, 3> t##3x3; typedef matrix<t, 3, 4> t##3x4; \
  typedef matrix<t, 4, 2> t##4x2; typedef matrix<t, 4, 3> t##4x3; typedef matrix<t, 4, 4> t##4x4;
MSL_MATRICES(half)
MSL_MATRICES(float)
#undef MSL_MATRICES
// clang-format on

template <class T, size_t N>
struct array {
  T __elements[N];
  MSL_CFN T& operator[](size_t i) { return __elements[i]; }
  MSL_CFN const T& operator[](size_t i) const { return __elements[i]; }
  MSL_CFN size_t size() const { return N; }
};

template <class To, class From>
MSL_FN To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: the sizes differ");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

// Numeric limits.
template <class T>
struct numeric_limits;
#define MSL_LIMITS_OF(integer, is_signed_, lo, hi, low, digits_) \
  MSL_STATIC bool is_specialized = true, is_integer = integer;   \
  MSL_STATIC bool is_signed = is_signed_;                        \
  MSL_STATIC int digits = digits_;                               \
  static MSL_CFN T max() { return T(hi); }                       \
  static MSL_CFN T min() { return T(lo); }                       \
  static MSL_CFN T lowest() { return T(low); }
#define MSL_INTEGER_LIMITS(t, lo, hi, digits)          \
  template <>                                          \
  struct numeric_limits<t> {                           \
    typedef t T;                                       \
    MSL_LIMITS_OF(true, (lo) != 0, lo, hi, lo, digits) \
  };
#define MSL_FLOAT_LIMITS(t, lo, hi, digits, step)                  \
  template <>                                                      \
  struct numeric_limits<t> {                                       \
    typedef t T;                                                   \
    MSL_LIMITS_OF(false, true, lo, hi, -hi, digits)                \
    static MSL_CFN T epsilon() { return T(step); }                 \
    static MSL_CFN T infinity() { return T(__builtin_inff()); }    \
    static MSL_CFN T quiet_NaN() { return T(__builtin_nanf("")); } \
  };
MSL_INTEGER_LIMITS(bool, 0, 1, 1)
MSL_INTEGER_LIMITS(char, -128, 127, 7)
MSL_INTEGER_LIMITS(uchar, 0, 255, 8)
MSL_INTEGER_LIMITS(short, -32768, 32767, 15)
MSL_INTEGER_LIMITS(ushort, 0, 65535, 16)
MSL_INTEGER_LIMITS(int, -2147483647 - 1, 2147483647, 31)
MSL_INTEGER_LIMITS(uint, 0, 4294967295u, 32)
MSL_INTEGER_LIMITS(long, -9223372036854775807L - 1, 9223372036854775807L, 63)
MSL_INTEGER_LIMITS(ulong, 0, 18446744073709551615uL, 64)
MSL_FLOAT_LIMITS(float, 1.175494351e-38f, 3.402823466e+38f, 24, 1.1920928955e-7f)
MSL_FLOAT_LIMITS(half, 6.103515625e-5f, 65504.0f, 11, 9.765625e-4f)
MSL_FLOAT_LIMITS(bfloat, 1.175494351e-38f, 3.38953139e38f, 8, 7.8125e-3f)

}  // namespace metal

// The names of scalars and vectors are known everywhere.
#define MSL_GLOBAL(t)         \
  using metal::t##2;          \
  using metal::t##3;          \
  using metal::t##4;          \
  using metal::packed_##t##2; \
  using metal::packed_##t##3; \
  using metal::packed_##t##4;
MSL_SCALARS(MSL_GLOBAL)
#undef MSL_GLOBAL
using metal::as_type;
