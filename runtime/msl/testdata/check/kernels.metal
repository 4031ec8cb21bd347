// Parameters of kernels and their attributes.
#include <metal_stdlib>
using namespace metal;

kernel void twice(device const float* x [[buffer(0)]],
                  device float* y [[buffer(0)]]) {  // want "buffer index 0 is that of x and of y"
  y[0] = x[0];
}

kernel void far(device float* y [[buffer(31)]]) { y[0] = 1.0f; }  // want "buffer index 31 is above 30"

kernel void by_value(float x [[buffer(0)]], device float* y [[buffer(1)]]) { y[0] = x; }  // want "is for a pointer or reference"

kernel void wrong_position(device float* y [[buffer(0)]],
                           float t [[thread_position_in_grid]]) {  // want "is for uint or ushort"
  y[0] = t;
}

kernel void vector_index(device float* y [[buffer(0)]],
                         uint2 t [[thread_index_in_simdgroup]]) {  // want "is for uint or ushort, and t is"
  y[t.x] = 0.0f;
}

kernel void no_attribute(device float* y [[buffer(0)]],
                         uint n) {  // want "parameter n has no attribute"
  y[n] = 0.0f;
}

kernel void misspelt(device float* y [[buffer(0)]],
                     uint t [[thread_position_in_gird]]) {  // want "unknown attribute"
  y[t] = 0.0f;
}

kernel float returns(device float* y [[buffer(0)]]) { return y[0]; }  // want "kernels return void"

template <typename T>
[[kernel]] void any(device T* y [[buffer(0)]], uint t [[thread_position_in_grid]]) {
  y[t] = T(0);
}
template [[host_name("any_float")]] [[kernel]] decltype(any<float>) any<float>;
template [[host_name("any_float")]] [[kernel]] decltype(any<half>) any<half>;  // want "there is another kernel any_float"
