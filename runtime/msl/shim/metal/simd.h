// Barriers, atomics, and what the threads of a simdgroup do together.
#pragma once

// The place of a call says which operation it is, so calls are not merged.
#define MSL_OPERATION __attribute__((nomerge))

#ifdef __NVPTX__
#include "../cuda/simdgroup.h"
#else
extern "C" {
uint __msl_lane();
MSL_OPERATION void __msl_threadgroup_barrier(uint flags);
MSL_OPERATION void __msl_simdgroup_barrier(uint flags);
MSL_OPERATION void __msl_shuffle(void* value, uint size, uint lane);
MSL_OPERATION uint __msl_ballot(bool vote, uint* active);
MSL_OPERATION void __msl_reduce(uint op, uint element, uint n, void* value);
MSL_OPERATION void __msl_multiply(uint types, const void* a, const void* b, const void* c, void* d);
void* __msl_threadgroup_variable(uint site, ulong size, ulong align, const __constant char* name);
}
#endif

namespace metal {

// Barriers.

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
MSL_CFN mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
MSL_FN void threadgroup_barrier(mem_flags flags) { __msl_threadgroup_barrier(uint(flags)); }
MSL_FN void simdgroup_barrier(mem_flags flags) { __msl_simdgroup_barrier(uint(flags)); }

// Atomics. Whatever the order asked for, the runner's threads see one order.

enum memory_order {
  memory_order_relaxed,
  memory_order_acquire,
  memory_order_release,
  memory_order_acq_rel,
  memory_order_seq_cst
};
enum thread_scope {
  thread_scope_thread,
  thread_scope_simdgroup,
  thread_scope_threadgroup,
  thread_scope_device
};
MSL_FN void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

template <class T>
struct _atomic {
  T __value;
};
template <class T>
using atomic = _atomic<T>;
typedef _atomic<int> _msl_atomic_int;
typedef _atomic<uint> _msl_atomic_uint;
typedef _atomic<bool> _msl_atomic_bool;
typedef _atomic<float> _msl_atomic_float;
typedef _atomic<ulong> _msl_atomic_ulong;

template <uint Bytes>
struct _bits;
template <>
struct _bits<1> {
  typedef uchar type;
};
template <>
struct _bits<4> {
  typedef uint type;
};
template <>
struct _bits<8> {
  typedef ulong type;
};

#define MSL_ATOMIC_OP(space, op)                                                                   \
  template <class T, class = enable_if_t<is_integral<T>::value>>                                   \
  MSL_FN T atomic_fetch_##op##_explicit(volatile space _atomic<T>* object, _identity_t<T> operand, \
                                        memory_order) {                                            \
    return __atomic_fetch_##op(&object->__value, operand, __ATOMIC_RELAXED);                       \
  }
#define MSL_ATOMIC(space)                                                                                  \
  template <class T>                                                                                       \
  MSL_FN T atomic_load_explicit(const volatile space _atomic<T>* object, memory_order) {                   \
    typedef typename _bits<sizeof(T)>::type Bits;                                                          \
    return as_type<T>(__atomic_load_n((const volatile space Bits*)&object->__value, __ATOMIC_RELAXED));    \
  }                                                                                                        \
  template <class T>                                                                                       \
  MSL_FN void atomic_store_explicit(volatile space _atomic<T>* object, _identity_t<T> desired,             \
                                    memory_order) {                                                        \
    typedef typename _bits<sizeof(T)>::type Bits;                                                          \
    __atomic_store_n((volatile space Bits*)&object->__value, as_type<Bits>(desired), __ATOMIC_RELAXED);    \
  }                                                                                                        \
  template <class T>                                                                                       \
  MSL_FN T atomic_exchange_explicit(volatile space _atomic<T>* object, _identity_t<T> desired,             \
                                    memory_order) {                                                        \
    typedef typename _bits<sizeof(T)>::type Bits;                                                          \
    return as_type<T>(__atomic_exchange_n((volatile space Bits*)&object->__value, as_type<Bits>(desired),  \
                                          __ATOMIC_RELAXED));                                              \
  }                                                                                                        \
  template <class T>                                                                                       \
  MSL_FN bool atomic_compare_exchange_weak_explicit(volatile space _atomic<T>* object,                     \
                                                    __private _identity_t<T>* expected,                    \
                                                    _identity_t<T> desired, memory_order, memory_order) {  \
    typedef typename _bits<sizeof(T)>::type Bits;                                                          \
    const Bits want = as_type<Bits>(*expected);                                                            \
    const Bits have =                                                                                      \
        __sync_val_compare_and_swap((volatile space Bits*)&object->__value, want, as_type<Bits>(desired)); \
    *expected = as_type<T>(have);                                                                          \
    return have == want;                                                                                   \
  }                                                                                                        \
  MSL_ATOMIC_OP(space, add)                                                                                \
  MSL_ATOMIC_OP(space, sub)                                                                                \
  MSL_ATOMIC_OP(space, and)                                                                                \
  MSL_ATOMIC_OP(space, or)                                                                                 \
  MSL_ATOMIC_OP(space, xor)                                                                                \
  MSL_ATOMIC_OP(space, min)                                                                                \
  MSL_ATOMIC_OP(space, max)
MSL_ATOMIC(MSL_DEVICE)
MSL_ATOMIC(__local)
MSL_FN float atomic_fetch_add_explicit(volatile MSL_DEVICE _atomic<float>* object, float operand,
                                       memory_order) {
  return __atomic_fetch_add(&object->__value, operand, __ATOMIC_RELAXED);
}
MSL_FN float atomic_fetch_sub_explicit(volatile MSL_DEVICE _atomic<float>* object, float operand,
                                       memory_order) {
  return __atomic_fetch_add(&object->__value, -operand, __ATOMIC_RELAXED);
}

// Simdgroups. The numbers of operations and elements are the runner's.

enum : uint {
  _Sum,
  _Product,
  _Min,
  _Max,
  _And,
  _Or,
  _Xor,
  _InclusiveSum,
  _ExclusiveSum,
  _InclusiveProduct,
  _ExclusiveProduct
};

template <class T>
struct _type;
#define MSL_TYPE(t, n)      \
  template <>               \
  struct _type<t> {         \
    MSL_STATIC uint id = n; \
  };
MSL_TYPE(float, 0)
MSL_TYPE(half, 1)
MSL_TYPE(int, 3)
MSL_TYPE(uint, 4)
MSL_TYPE(short, 5)
MSL_TYPE(ushort, 6)
MSL_TYPE(char, 7)
MSL_TYPE(uchar, 8)
MSL_TYPE(long, 9)
MSL_TYPE(ulong, 10)
#undef MSL_TYPE

// Types that simdgroup functions take: vectors too, but not bfloat and not bool.
template <class T>
using _simd_t = enable_if_t<_type<_element_t<T>>::id != 2, T>;

template <class T>
MSL_FN T _shuffle(T value, uint lane) {
  __msl_shuffle(&value, sizeof(T), lane);
  return value;
}
template <class T>
MSL_FN T _reduce(T value, uint op) {
  __msl_reduce(op, _type<_element_t<T>>::id, _element<T>::size, &value);
  return value;
}

#define MSL_SIMD                         \
  template <class T, class = _simd_t<T>> \
  MSL_FN T
MSL_SIMD simd_sum(T v) { return _reduce(v, _Sum); }
MSL_SIMD simd_product(T v) { return _reduce(v, _Product); }
MSL_SIMD simd_min(T v) { return _reduce(v, _Min); }
MSL_SIMD simd_max(T v) { return _reduce(v, _Max); }
#define MSL_SIMD_INTEGER                                                     \
  template <class T, class = enable_if_t<is_integral<_element_t<T>>::value>> \
  MSL_FN T
MSL_SIMD_INTEGER simd_and(T v) { return _reduce(v, _And); }
MSL_SIMD_INTEGER simd_or(T v) { return _reduce(v, _Or); }
MSL_SIMD_INTEGER simd_xor(T v) { return _reduce(v, _Xor); }
MSL_SIMD simd_prefix_inclusive_sum(T v) { return _reduce(v, _InclusiveSum); }
MSL_SIMD simd_prefix_exclusive_sum(T v) { return _reduce(v, _ExclusiveSum); }
MSL_SIMD simd_prefix_inclusive_product(T v) { return _reduce(v, _InclusiveProduct); }
MSL_SIMD simd_prefix_exclusive_product(T v) { return _reduce(v, _ExclusiveProduct); }

MSL_SIMD simd_shuffle(T v, ushort lane) { return _shuffle(v, lane); }
MSL_SIMD simd_broadcast(T v, ushort lane) { return _shuffle(v, lane); }
#ifdef __NVPTX__
MSL_SIMD simd_shuffle_xor(T v, ushort mask) {
  return sizeof(T) == 4 ? msl::of_word<T>(__msl_shuffle_xor(msl::word_of(v), mask)) : _shuffle(v, __msl_lane() ^ mask);
}
#else
MSL_SIMD simd_shuffle_xor(T v, ushort mask) { return _shuffle(v, __msl_lane() ^ mask); }
#endif
MSL_SIMD simd_shuffle_up(T v, ushort delta) {
  const uint lane = __msl_lane();
  return _shuffle(v, lane >= delta ? lane - delta : lane);
}
MSL_SIMD simd_shuffle_down(T v, ushort delta) {
  const uint lane = __msl_lane();
  return _shuffle(v, lane + delta < 32 ? lane + delta : lane);
}
MSL_SIMD simd_shuffle_rotate_up(T v, ushort delta) { return _shuffle(v, (__msl_lane() - delta) & 31); }
MSL_SIMD simd_shuffle_rotate_down(T v, ushort delta) { return _shuffle(v, (__msl_lane() + delta) & 31); }

MSL_SIMD quad_shuffle(T v, ushort lane) { return _shuffle(v, (__msl_lane() & ~3u) | (lane & 3u)); }
MSL_SIMD quad_broadcast(T v, ushort lane) { return quad_shuffle(v, lane); }
MSL_SIMD quad_shuffle_xor(T v, ushort mask) { return _shuffle(v, __msl_lane() ^ (mask & 3u)); }
MSL_SIMD quad_sum(T v) {
  v = v + quad_shuffle_xor(v, 1);
  return v + quad_shuffle_xor(v, 2);
}
MSL_SIMD quad_max(T v) {
  v = max(v, quad_shuffle_xor(v, 1));
  return max(v, quad_shuffle_xor(v, 2));
}
MSL_SIMD quad_min(T v) {
  v = min(v, quad_shuffle_xor(v, 1));
  return min(v, quad_shuffle_xor(v, 2));
}

struct simd_vote {
  typedef ulong vote_t;
  vote_t _votes;
  explicit MSL_CFN simd_vote(vote_t votes) : _votes(votes) {}
  explicit MSL_CFN operator vote_t() const { return _votes; }
  MSL_CFN bool all() const { return _votes == 0xffffffffu; }
  MSL_CFN bool any() const { return _votes != 0; }
};
MSL_FN uint _ballot(bool vote, __private uint& active) { return __msl_ballot(vote, &active); }
MSL_FN uint _active() {
  uint active;
  _ballot(false, active);
  return active;
}
MSL_FN bool simd_all(bool vote) {
  uint active;
  const uint votes = _ballot(vote, active);
  return votes == active;
}
MSL_FN bool simd_any(bool vote) {
  uint active;
  return _ballot(vote, active) != 0;
}
MSL_FN simd_vote simd_ballot(bool vote) {
  uint active;
  return simd_vote(_ballot(vote, active));
}
MSL_FN simd_vote simd_active_threads_mask() { return simd_vote(_active()); }
MSL_FN bool simd_is_first() { return __msl_lane() == uint(__builtin_ctz(_active())); }
MSL_SIMD simd_broadcast_first(T v) { return _shuffle(v, __builtin_ctz(_active())); }

// Matrices of a simdgroup. Each lane holds two elements of a row, as on Apple's GPUs.

template <>
struct _type<bfloat> {
  MSL_STATIC uint id = 2;
};

template <class T, int Columns = 8, int Rows = 8>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "simdgroup matrices are 8 by 8");
  typedef vec<T, 2> storage_type;
  storage_type _elements;
  simdgroup_matrix() = default;
  explicit MSL_FN simdgroup_matrix(T diagonal) {
    _elements.x = _row() == _column() ? diagonal : T(0);
    _elements.y = _row() == _column() + 1 ? diagonal : T(0);
  }
  static MSL_FN uint _row() { return (__msl_lane() / 4 & 4) + __msl_lane() / 2 % 4; }
  static MSL_FN uint _column() { return (__msl_lane() / 4 & 2) * 2 + __msl_lane() % 2 * 2; }
  MSL_FN __private storage_type& thread_elements() __private { return _elements; }
};
typedef simdgroup_matrix<half> simdgroup_half8x8;
typedef simdgroup_matrix<float> simdgroup_float8x8;
typedef simdgroup_matrix<bfloat> simdgroup_bfloat8x8;

template <class T, int Columns = 8, int Rows = 8>
MSL_FN simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(_identity_t<T> v) {
  simdgroup_matrix<T, Columns, Rows> m;
  m._elements = vec<T, 2>(v);
  return m;
}

#define MSL_MATRIX_LOAD(space)                                                                    \
  template <class T>                                                                              \
  MSL_FN void simdgroup_load(__private simdgroup_matrix<T>& m, const space T* p, ulong pitch = 8, \
                             ulong2 origin = ulong2(0), bool transpose = false) {                 \
    const ulong r = m._row(), c = m._column();                                                    \
    p += origin.y * pitch + origin.x;                                                             \
    m._elements.x = transpose ? p[c * pitch + r] : p[r * pitch + c];                              \
    m._elements.y = transpose ? p[(c + 1) * pitch + r] : p[r * pitch + c + 1];                    \
  }
#define MSL_MATRIX_STORE(space)                                                                              \
  template <class T>                                                                                         \
  MSL_FN void simdgroup_store(simdgroup_matrix<T> m, space T* p, ulong pitch = 8, ulong2 origin = ulong2(0), \
                              bool transpose = false) {                                                      \
    const ulong r = m._row(), c = m._column();                                                               \
    p += origin.y * pitch + origin.x;                                                                        \
    p[transpose ? c * pitch + r : r * pitch + c] = m._elements.x;                                            \
    p[transpose ? (c + 1) * pitch + r : r * pitch + c + 1] = m._elements.y;                                  \
  }
MSL_MATRIX_LOAD(MSL_DEVICE)
MSL_MATRIX_LOAD(__local)
MSL_MATRIX_LOAD(__global)
MSL_MATRIX_STORE(MSL_DEVICE)
MSL_MATRIX_STORE(__local)

template <class D, class A, class B, class C>
MSL_FN void simdgroup_multiply_accumulate(__private simdgroup_matrix<D>& d, simdgroup_matrix<A> a,
                                          simdgroup_matrix<B> b, simdgroup_matrix<C> c) {
  static_assert(__is_same(D, C), "the sum and what it is added to are of one type");
  __msl_multiply(_type<A>::id | _type<B>::id << 8 | _type<C>::id << 16, &a._elements, &b._elements,
                 &c._elements, &d._elements);
}
template <class D, class A, class B>
MSL_FN void simdgroup_multiply(__private simdgroup_matrix<D>& d, simdgroup_matrix<A> a,
                               simdgroup_matrix<B> b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0)));
}
template <class T>
MSL_FN simdgroup_matrix<T> operator*(simdgroup_matrix<T> a, simdgroup_matrix<T> b) {
  simdgroup_matrix<T> d;
  simdgroup_multiply(d, a, b);
  return d;
}

#ifdef __NVPTX__
#include "../cuda/products.h"
#endif

}  // namespace metal

using metal::_msl_atomic_bool;
using metal::_msl_atomic_float;
using metal::_msl_atomic_int;
using metal::_msl_atomic_uint;
using metal::_msl_atomic_ulong;
