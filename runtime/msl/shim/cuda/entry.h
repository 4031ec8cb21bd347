// What the entry points of PTX need: the types of arguments, positions, threadgroup memory.
#pragma once

// As much as a launch asks for. The language has no way to say it.
__asm__(".extern .shared .align 16 .b8 __msl_threadgroup[];");
MSL_FN ulong __msl_threadgroup_memory() {
  ulong address;
  __asm__("mov.u64 %0, __msl_threadgroup;" : "=l"(address));
  return address;
}

namespace msl {

template <class T>
struct argument;
template <class T>
struct argument<T*> {  // an address in the device's memory
  typedef __global uchar* type;
  static MSL_FN T* pass(type p) { return (T*)(__generic uchar*)p; }
};
template <class T>
struct argument<T&> {  // a constant, by value
  typedef metal::_bare<T> type;
  static MSL_FN T& pass(const __private type& v) { return v; }
};

// The members that are not used cost nothing.
MSL_FN Context context() {
  Context c;
  const Index in = {uint(__nvvm_read_ptx_sreg_tid_x()), 0, 0};  // blocks have one dimension
  const Index size = {uint(__nvvm_read_ptx_sreg_ntid_x()), 1, 1};
  const Index group = {uint(__nvvm_read_ptx_sreg_ctaid_x()), uint(__nvvm_read_ptx_sreg_ctaid_y()),
                       uint(__nvvm_read_ptx_sreg_ctaid_z())};
  const Index groups = {uint(__nvvm_read_ptx_sreg_nctaid_x()), uint(__nvvm_read_ptx_sreg_nctaid_y()),
                        uint(__nvvm_read_ptx_sreg_nctaid_z())};
  const uint threads = size.x, at = in.x;
  c.thread_position_in_grid = {group.x * size.x + in.x, group.y * size.y + in.y, group.z * size.z + in.z};
  c.thread_position_in_threadgroup = in;
  c.threadgroup_position_in_grid = group;
  c.threads_per_threadgroup = c.dispatch_threads_per_threadgroup = size;
  c.threadgroups_per_grid = groups;
  c.threads_per_grid = {groups.x * size.x, groups.y * size.y, groups.z * size.z};
  c.thread_index_in_threadgroup = at;
  c.thread_index_in_simdgroup = at % 32;
  c.simdgroup_index_in_threadgroup = at / 32;
  c.threads_per_simdgroup = c.thread_execution_width = 32;
  c.simdgroups_per_threadgroup = c.dispatch_simdgroups_per_threadgroup = (threads + 31) / 32;
  c.quadgroup_index_in_threadgroup = at / 4;
  c.thread_index_in_quadgroup = at % 4;
  c.quadgroups_per_threadgroup = (threads + 3) / 4;
  return c;
}

}  // namespace msl
