// What the library lacks is an error, as in Metal.
#include <metal_stdlib>
using namespace metal;

kernel void library(device float* out [[buffer(0)]], device bfloat* b [[buffer(1)]], uint t [[thread_position_in_grid]]) {
  out[t] = erf(out[t]);  // want "erf"
  out[t] = simd_average(out[t]);  // want "simd_average"
  out[t] = simd_sum(out[t], 1);  // want "no matching function for call to 'simd_sum'"
  out[t] = float(simd_sum(b[t]));  // want "no matching function for call to 'simd_sum'"
  float4 v = half4(0.0h);  // want "no viable conversion"
  v.xx = float2(0.0f);  // want "a component stands twice"
  out[t] = v.q;  // want "no member named 'q'"
}
