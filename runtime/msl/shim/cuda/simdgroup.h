// What barriers and simdgroups are on NVIDIA's GPUs: a threadgroup is a block, a simdgroup a warp.
#pragma once

#define MSL_ALL_LANES 0xffffffffu

MSL_FN uint __msl_lane() { return __nvvm_read_ptx_sreg_laneid(); }
MSL_FN void __msl_threadgroup_barrier(uint) { __syncthreads(); }  // it orders memory of the device, too
MSL_FN void __msl_simdgroup_barrier(uint) { __nvvm_bar_warp_sync(MSL_ALL_LANES); }

MSL_FN uint __msl_shuffle_word(uint word, uint lane) {
  return uint(__nvvm_shfl_sync_idx_i32(MSL_ALL_LANES, int(word), int(lane), 31));
}
MSL_FN void __msl_shuffle(void* value, uint size, uint lane) {
#pragma unroll
  for (uint i = 0; i < size; i += 4) {
    const uint n = size - i < 4 ? size - i : 4;
    uint word = 0;
    __builtin_memcpy(&word, (const char*)value + i, n);
    word = __msl_shuffle_word(word, lane);
    __builtin_memcpy((char*)value + i, &word, n);
  }
}
MSL_FN uint __msl_ballot(bool vote, uint* active) {
  *active = __nvvm_activemask();
  return __nvvm_vote_ballot_sync(*active, vote);
}

MSL_FN uint __msl_shuffle_xor(uint word, uint mask) {
  return uint(__nvvm_shfl_sync_bfly_i32(MSL_ALL_LANES, int(word), int(mask), 31));
}

namespace msl {

// The numbers are those of simd.h.
template <class T>
MSL_FN T combined(uint op, T a, T b) {
  switch (op) {
    case 0: case 7: case 8: return a + b;
    case 1: case 9: case 10: return a * b;
    case 2: return b < a ? b : a;
    case 3: return a < b ? b : a;
  }
  if constexpr (T(0.5f) == T(0)) {  // an integer
    return op == 4 ? a & b : op == 5 ? a | b : a ^ b;
  }
  return a;
}

template <class T>
MSL_FN T shuffled(T value, uint lane) {
  __msl_shuffle(&value, sizeof(T), lane);
  return value;
}

template <class T>
MSL_FN uint word_of(T v) {
  uint word = 0;
  __builtin_memcpy(&word, &v, sizeof(T) < 4 ? sizeof(T) : 4);
  return word;
}
template <class T>
MSL_FN T of_word(uint word) {
  T v;
  __builtin_memcpy(&v, &word, sizeof(T) < 4 ? sizeof(T) : 4);
  return v;
}

template <class T>
MSL_FN void reduce(uint op, uint n, void* values) {
  const uint lane = __msl_lane();
#pragma unroll
  for (uint i = 0; i < n; ++i) {
    T v = ((T*)values)[i];
    if (op < 7) {
#pragma unroll
      for (uint d = 16; d > 0; d /= 2) {
        if (sizeof(T) == 4) {
          v = combined(op, v, of_word<T>(__msl_shuffle_xor(word_of(v), d)));
        } else {
          v = combined(op, v, shuffled(v, lane ^ d));
        }
      }
    } else {
#pragma unroll
      for (uint d = 1; d < 32; d *= 2) {
        const T before = shuffled(v, lane >= d ? lane - d : lane);
        v = lane >= d ? combined(op, before, v) : v;
      }
      if (op == 8 || op == 10) {
        const T before = shuffled(v, lane > 0 ? lane - 1 : lane);
        v = lane > 0 ? before : T(op == 8 ? 0 : 1);
      }
    }
    ((T*)values)[i] = v;
  }
}

MSL_FN float element(uint type, const void* elements, uint i) {
  switch (type) {
    case 0: return ((const float*)elements)[i];
    case 1: return ((const half*)elements)[i];
  }
  return float(((const bfloat*)elements)[i]);
}

}  // namespace msl

MSL_FN void __msl_reduce(uint op, uint type, uint n, void* values) {
  switch (type) {
    case 0: return msl::reduce<float>(op, n, values);
    case 1: return msl::reduce<half>(op, n, values);
    case 3: return msl::reduce<int>(op, n, values);
    case 4:
      if (n == 1 && op == 2) return void(*(uint*)values = __nvvm_redux_sync_umin(*(uint*)values, MSL_ALL_LANES));
      if (n == 1 && op == 3) return void(*(uint*)values = __nvvm_redux_sync_umax(*(uint*)values, MSL_ALL_LANES));
      return msl::reduce<uint>(op, n, values);
    case 5: return msl::reduce<short>(op, n, values);
    case 6: return msl::reduce<ushort>(op, n, values);
    case 7: return msl::reduce<char>(op, n, values);
    case 8: return msl::reduce<uchar>(op, n, values);
    case 9: return msl::reduce<long>(op, n, values);
    case 10: return msl::reduce<ulong>(op, n, values);
  }
}

// d = a·b + c, matrices of 8 by 8. By shuffles: text that is to be fast here multiplies by the prelude's
// products instead.
MSL_FN void __msl_multiply(uint types, const void* a, const void* b, const void* c, void* d) {
  const uint lane = __msl_lane();
  const uint row = (lane / 4 & 4) + lane / 2 % 4, column = (lane / 4 & 2) * 2 + lane % 2 * 2;
  float2 left = {msl::element(types & 0xff, a, 0), msl::element(types & 0xff, a, 1)};
  float2 right = {msl::element(types >> 8 & 0xff, b, 0), msl::element(types >> 8 & 0xff, b, 1)};
  float2 sum = {msl::element(types >> 16, c, 0), msl::element(types >> 16, c, 1)};
#pragma unroll
  for (uint k = 0; k < 8; ++k) {
    const uint from = (row & 4) * 4 + (k & 4) * 2 + row % 4 * 2 + k % 4 / 2;
    const uint with = (k & 4) * 4 + (column & 4) * 2 + k % 4 * 2 + column % 4 / 2;
    const float l = msl::shuffled(k % 2 == 0 ? left.x : left.y, from);
    sum = {__builtin_fmaf(l, msl::shuffled(right.x, with), sum.x), __builtin_fmaf(l, msl::shuffled(right.y, with), sum.y)};
  }
  switch (types >> 16) {
    case 0: ((float*)d)[0] = sum.x, ((float*)d)[1] = sum.y; break;
    case 1: ((half*)d)[0] = half(sum.x), ((half*)d)[1] = half(sum.y); break;
    default: ((bfloat*)d)[0] = bfloat(sum.x), ((bfloat*)d)[1] = bfloat(sum.y);
  }
}
