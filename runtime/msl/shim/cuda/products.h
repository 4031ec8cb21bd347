// Functions that templates/families/products.metal has for every GPU, as single instructions of these.

MSL_FN void multiply_add_16x8x16(__private float4& sum, uint4 w, uint2 x, uint) {
  __asm__("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(sum.x), "+f"(sum.y), "+f"(sum.z), "+f"(sum.w)
          : "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w), "r"(x.x), "r"(x.y));
}

MSL_FN uint halves(float low, float high) {
  uint two;
  __asm__("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
  return two;
}

// The compiler loads what it is told to use, and takes no other value for it.
MSL_FN ulong loaded(ulong v) {
  __asm__ volatile("" : "+l"(v));
  return v;
}
MSL_FN float2 loaded(float2 v) { return as_type<float2>(loaded(as_type<ulong>(v))); }
MSL_FN half2 loaded(half2 v) {
  uint bits = as_type<uint>(v);
  __asm__ volatile("" : "+r"(bits));
  return as_type<half2>(bits);
}

MSL_FN void earlier_launches(uint) { __asm__ volatile("griddepcontrol.wait;" ::: "memory"); }
MSL_FN void later_launches(uint) { __asm__ volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// Into the second-level cache, which the memory's writers share.
MSL_FN void soon(const MSL_DEVICE uchar* p) { __asm__ volatile("prefetch.global.L2 [%0];" : : "l"(p)); }
