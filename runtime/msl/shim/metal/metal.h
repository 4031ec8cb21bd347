// Metal's language and library for clang's C++ for OpenCL. Address spaces are those of that language, so that
// mixing them is an error, and on the host all are the same flat memory. Every translation unit begins with
// this file; <metal_stdlib> adds only macros.
#pragma once
#pragma clang system_header
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable

#include "types.h"
// After the types.
#include "math.h"
#include "simd.h"
// After the functions.
#include "../abi.h"

// What the entry points need, which are appended to a library: each passes the members of the context on to a
// kernel, in its types.
namespace msl {

template <class T>
MSL_CFN metal::_bare<T> rvalue(const T& x) {
  return x;
}

template <int I, class F>
struct parameter;
template <int I, class R, class T, class... Rest>
struct parameter<I, R(T, Rest...)> : parameter<I - 1, R(Rest...)> {};
template <class R, class T, class... Rest>
struct parameter<0, R(T, Rest...)> {
  typedef T type;
};
template <int I, class F>
using parameter_t = typename parameter<I, F>::type;

template <class T>
struct buffer;
template <class T>
struct buffer<T*> {
  static MSL_FN T* at(void* p) { return (T*)(ulong)p; }
};
template <class T>
struct buffer<T&> {
  static MSL_FN T& at(void* p) { return *(T*)(ulong)p; }
};

template <class T>
struct index {
  static MSL_FN T of(Index v) { return T(v.x); }
  static MSL_FN T of(uint v) { return T(v); }
};
template <class T>
struct index<metal::vec<T, 2>> {
  static MSL_FN metal::vec<T, 2> of(Index v) { return metal::vec<T, 2>(T(v.x), T(v.y)); }
};
template <class T>
struct index<metal::vec<T, 3>> {
  static MSL_FN metal::vec<T, 3> of(Index v) { return metal::vec<T, 3>(T(v.x), T(v.y), T(v.z)); }
};

}  // namespace msl

#ifdef __NVPTX__
#include "../cuda/entry.h"
#endif

#ifndef MSL_THREADGROUP_BYTES
#define MSL_THREADGROUP_BYTES 32768
#endif

// A threadgroup variable is a reference to memory of the runner. Its offset is known, to add up their sizes.
#define MSL_ALIGNMENT(T) (alignof(T) < 16 ? 16 : alignof(T))
#define MSL_OFFSET(before, T) \
  ((uint)(((before) + MSL_ALIGNMENT(T) - 1) / MSL_ALIGNMENT(T) * MSL_ALIGNMENT(T)))
#ifdef __NVPTX__
#define MSL_VARIABLE(T, site, offset, name) (*(__local T*)(__msl_threadgroup_memory() + (offset)))
#else
#define MSL_VARIABLE(T, site, offset, name) \
  (*(__local T*)(ulong)__msl_threadgroup_variable(site, sizeof(T), alignof(T), name))
#endif

// Metal's keywords, at the end.
#define device MSL_DEVICE
#ifdef __NVPTX__
#define MSL_ARGUMENT const __private  // a constant that is an argument: it is passed by value
#else
#define MSL_ARGUMENT const __global
#endif
#define constant const __global
#define threadgroup __local
#define thread __private
#undef kernel
#define kernel static
#define atomic_int _msl_atomic_int
#define atomic_uint _msl_atomic_uint
#define atomic_float _msl_atomic_float
#define atomic_bool _msl_atomic_bool
#define atomic_ulong _msl_atomic_ulong

// OpenCL's keywords are ordinary names in Metal.
#define local _msl_local
#define global _msl_global
#define generic _msl_generic
#define pipe _msl_pipe
#define read_only _msl_read_only
#define write_only _msl_write_only
#define read_write _msl_read_write
#define vec_step _msl_vec_step
