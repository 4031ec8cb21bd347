// One threadgroup; a thread owns an expert, or several in turn. Before the first row of an expert come the
// rows of the experts before: those of earlier turns, of earlier simdgroups, of earlier lanes.

template <typename Spec>
struct PrefixScratch {
  uint rows[Spec::threads / 32];  // of each simdgroup's experts
};

template <typename Spec>
void prefix(const Prefix args, threadgroup PrefixScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(PrefixScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  const uint experts = args.shape.experts;
  const uint blocks = (args.shape.rows + Spec::block - 1) / Spec::block;

  uint next = 0;
  for (uint first = 0; first < experts; first += Spec::threads) {
    const uint e = first + at.index;
    uint rows = 0;
    if (e < experts) {
      for (uint b = 0; b < blocks; ++b) rows += args.counts[ulong(b) * experts + e];
    }
    uint row = next + simd_prefix_exclusive_sum(rows);
    const uint together = simd_sum(rows);
    if (at.lane == 0) scratch.rows[at.simd] = together;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint s = 0; s < Spec::threads / 32; ++s) {
      if (s < at.simd) row += scratch.rows[s];
      next += scratch.rows[s];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (e < experts) {
      args.offsets[e] = row;
      for (uint b = 0; b < blocks; ++b) {
        args.base[ulong(b) * experts + e] = row;
        row += args.counts[ulong(b) * experts + e];
      }
    }
  }
  if (at.index == 0) args.offsets[experts] = next;
}
