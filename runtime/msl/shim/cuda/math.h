// Functions that clang has no code for on NVIDIA's GPUs: there is no C library. A kernel that uses another one
// does not compile.
#pragma once

// 2^n · 2^(r / ln 2), where x = n · ln 2 + r, to three units in the last place.
MSL_FN float __msl_exp(float x) {
  const float log2e = 1.44269504088896340736f;
  x = x > 200.0f ? 200.0f : x < -200.0f ? -200.0f : x;  // already infinite, or 0; NaN stays
  const float n = __builtin_rintf(x * log2e);
  const float r = __builtin_fmaf(n, -1.42860677e-6f, __builtin_fmaf(n, -0.693145752f, x));
  const float half_n = __builtin_truncf(n * 0.5f);
  return __nvvm_ex2_approx_f(r * log2e) * __nvvm_ex2_approx_f(half_n) * __nvvm_ex2_approx_f(n - half_n);
}
