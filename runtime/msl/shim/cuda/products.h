// The products that templates/families/products.metal spells out, by tensor cores.

MSL_FN void multiply_add_16x8x16(__private float4& sum, uint4 w, uint2 x, uint) {
  __asm__("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(sum.x), "+f"(sum.y), "+f"(sum.z), "+f"(sum.w)
          : "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w), "r"(x.x), "r"(x.y));
}
