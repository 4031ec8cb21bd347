// What an entry point of a compiled library receives. Both sides include it: the kernels, which are C++ for
// OpenCL, and the runner, which is C++.
#pragma once

namespace msl {

struct Index {
  unsigned int x, y, z;
};

// The position of a thread and the arguments of its launch. The members bear the names of Metal's attributes.
struct Context {
  void* buffer[31];
  Index thread_position_in_grid;
  Index thread_position_in_threadgroup;
  Index threadgroup_position_in_grid;
  Index threads_per_threadgroup;
  Index dispatch_threads_per_threadgroup;
  Index threadgroups_per_grid;
  Index threads_per_grid;
  unsigned int thread_index_in_threadgroup;
  unsigned int thread_index_in_simdgroup;
  unsigned int simdgroup_index_in_threadgroup;
  unsigned int threads_per_simdgroup;
  unsigned int thread_execution_width;
  unsigned int simdgroups_per_threadgroup;
  unsigned int dispatch_simdgroups_per_threadgroup;
  unsigned int quadgroup_index_in_threadgroup;
  unsigned int thread_index_in_quadgroup;
  unsigned int quadgroups_per_threadgroup;
};

}  // namespace msl
