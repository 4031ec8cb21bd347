// The swizzles of vectors, as properties without storage: v.zx is read by a call and assigned by another.
// MSL_SWIZZLES_n holds those of n components, of which a swizzle takes two to four; r, g, b, a are other
// names of x, y, z, w.
#pragma once

// clang-format off
#define MSL_GET(k, name, ...) constexpr vec<T, k> _get_##name() const { return vec<T, k>(__VA_ARGS__); }
#define MSL_PUT(name, k, ...)                                                                              \
  constexpr void _put_##name(vec<T, k> v) {                                                                \
    static_assert(sizeof(T) != 0 && _distinct(#name), "a component stands twice in what is assigned to");  \
    __VA_ARGS__;                                                                                           \
  }
#define MSL_NAMES(k, name, other)                                             \
  __declspec(property(get = _get_##name, put = _put_##name)) vec<T, k> name;  \
  __declspec(property(get = _get_##name, put = _put_##name)) vec<T, k> other;

constexpr bool _distinct(const __constant char *name) {
  for (int i = 0; name[i]; ++i) {
    for (int j = 0; j < i; ++j) {
      if (name[i] == name[j]) return false;
    }
  }
  return true;
}

#define MSL_ONE(a, A)                                   \
  constexpr T _get_##A() const { return a; }            \
  constexpr void _put_##A(T v) { a = v; }               \
  __declspec(property(get = _get_##A, put = _put_##A)) T A;
#define MSL_TWO(a, A, b, B) MSL_GET(2, a##b, a, b) MSL_PUT(a##b, 2, a = v.x, b = v.y) MSL_NAMES(2, a##b, A##B)
#define MSL_THREE(a, A, b, B, c, C) \
  MSL_GET(3, a##b##c, a, b, c) MSL_PUT(a##b##c, 3, a = v.x, b = v.y, c = v.z) MSL_NAMES(3, a##b##c, A##B##C)
#define MSL_FOUR(a, A, b, B, c, C, d, D)     \
  MSL_GET(4, a##b##c##d, a, b, c, d)         \
  MSL_PUT(a##b##c##d, 4, a = v.x, b = v.y, c = v.z, d = v.w) MSL_NAMES(4, a##b##c##d, A##B##C##D)

// Each component in the first place of a swizzle, in the second, and so on: a macro cannot expand in itself.
#define MSL_PLACE1_2(f) f(x, r) f(y, g)
#define MSL_PLACE2_2(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g)
#define MSL_PLACE3_2(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g)
#define MSL_PLACE4_2(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g)
#define MSL_TWOS_2(...) MSL_PLACE2_2(MSL_TWO, __VA_ARGS__)
#define MSL_THREES_2(...) MSL_PLACE2_2(MSL_THREES2_2, __VA_ARGS__)
#define MSL_THREES2_2(...) MSL_PLACE3_2(MSL_THREE, __VA_ARGS__)
#define MSL_FOURS_2(...) MSL_PLACE2_2(MSL_FOURS2_2, __VA_ARGS__)
#define MSL_FOURS2_2(...) MSL_PLACE3_2(MSL_FOURS3_2, __VA_ARGS__)
#define MSL_FOURS3_2(...) MSL_PLACE4_2(MSL_FOUR, __VA_ARGS__)
#define MSL_SWIZZLES_2 MSL_PLACE1_2(MSL_ONE) MSL_PLACE1_2(MSL_TWOS_2) MSL_PLACE1_2(MSL_THREES_2) MSL_PLACE1_2(MSL_FOURS_2)

#define MSL_PLACE1_3(f) f(x, r) f(y, g) f(z, b)
#define MSL_PLACE2_3(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g) f(__VA_ARGS__, z, b)
#define MSL_PLACE3_3(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g) f(__VA_ARGS__, z, b)
#define MSL_PLACE4_3(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g) f(__VA_ARGS__, z, b)
#define MSL_TWOS_3(...) MSL_PLACE2_3(MSL_TWO, __VA_ARGS__)
#define MSL_THREES_3(...) MSL_PLACE2_3(MSL_THREES2_3, __VA_ARGS__)
#define MSL_THREES2_3(...) MSL_PLACE3_3(MSL_THREE, __VA_ARGS__)
#define MSL_FOURS_3(...) MSL_PLACE2_3(MSL_FOURS2_3, __VA_ARGS__)
#define MSL_FOURS2_3(...) MSL_PLACE3_3(MSL_FOURS3_3, __VA_ARGS__)
#define MSL_FOURS3_3(...) MSL_PLACE4_3(MSL_FOUR, __VA_ARGS__)
#define MSL_SWIZZLES_3 MSL_PLACE1_3(MSL_ONE) MSL_PLACE1_3(MSL_TWOS_3) MSL_PLACE1_3(MSL_THREES_3) MSL_PLACE1_3(MSL_FOURS_3)

#define MSL_PLACE1_4(f) f(x, r) f(y, g) f(z, b) f(w, a)
#define MSL_PLACE2_4(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g) f(__VA_ARGS__, z, b) f(__VA_ARGS__, w, a)
#define MSL_PLACE3_4(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g) f(__VA_ARGS__, z, b) f(__VA_ARGS__, w, a)
#define MSL_PLACE4_4(f, ...) f(__VA_ARGS__, x, r) f(__VA_ARGS__, y, g) f(__VA_ARGS__, z, b) f(__VA_ARGS__, w, a)
#define MSL_TWOS_4(...) MSL_PLACE2_4(MSL_TWO, __VA_ARGS__)
#define MSL_THREES_4(...) MSL_PLACE2_4(MSL_THREES2_4, __VA_ARGS__)
#define MSL_THREES2_4(...) MSL_PLACE3_4(MSL_THREE, __VA_ARGS__)
#define MSL_FOURS_4(...) MSL_PLACE2_4(MSL_FOURS2_4, __VA_ARGS__)
#define MSL_FOURS2_4(...) MSL_PLACE3_4(MSL_FOURS3_4, __VA_ARGS__)
#define MSL_FOURS3_4(...) MSL_PLACE4_4(MSL_FOUR, __VA_ARGS__)
#define MSL_SWIZZLES_4 MSL_PLACE1_4(MSL_ONE) MSL_PLACE1_4(MSL_TWOS_4) MSL_PLACE1_4(MSL_THREES_4) MSL_PLACE1_4(MSL_FOURS_4)
// clang-format on
