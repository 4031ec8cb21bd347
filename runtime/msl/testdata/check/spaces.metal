// Address spaces are types.
#include <metal_stdlib>
using namespace metal;

struct Params {
  uint n;
};

inline float sum(threadgroup const float* x) { return x[0] + x[1]; }
inline float first(device const float* x) { return x[0]; }
inline float loose(const float* x) { return x[0]; }  // want "x is a pointer or reference without an address space"
inline float loose_reference(const Params& p) { return float(p.n); }  // want "p is a pointer or reference without an address space"

kernel void spaces(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                   constant Params& p [[buffer(2)]], uint t [[thread_position_in_grid]]) {
  threadgroup float shared[32];
  float mine[2] = {0.0f, 1.0f};
  out[0] = sum(in);  // want "no matching function for call to 'sum'"
  out[1] = sum(mine);  // want "no matching function for call to 'sum'"
  out[2] = sum((threadgroup const float*)in);  // want "C-style cast"
  out[3] = first(shared);  // want "no matching function for call to 'first'"
  in[0] = 1.0f;  // want "not assignable|read-only"
  p.n = 1;  // want "not assignable|const-qualified"
  device float* q = shared;  // want "cannot initialize a variable of type 'device float"
  thread float* r = mine;
  out[4] = *r + loose(mine) + loose_reference(p);
}
