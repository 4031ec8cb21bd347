// Threadgroup memory.
#include <metal_stdlib>
using namespace metal;

template <uint N>
struct Scratch {
  float a[N];
};

kernel void just(device float* out [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float a[4096];
  threadgroup Scratch<4096> b;
  a[t] = b.a[t] = 0.0f;
  out[t] = a[t] + b.a[t];
}

kernel void more(device float* out [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float a[4096];
  threadgroup Scratch<4097> b;  // want "more than 32768 bytes"
  a[t] = b.a[t] = 0.0f;
  out[t] = a[t] + b.a[t];
}

kernel void initial(device float* out [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float a = 1.0f;  // want "no initial value"
  out[t] = a;
}

// One after another, scopes share their memory.
kernel void scopes(device float* out [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
  {
    threadgroup float a[8192];
    a[t] = 0.0f;
    out[t] = a[t];
  }
  {
    threadgroup float b[8192], c;  // want "more than 32768 bytes"
    b[t] = c;
    out[t] = b[t];
  }
}
