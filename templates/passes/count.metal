// A threadgroup owns a block of assignments; a thread counts one expert's, or several's in turn.

template <typename Spec>
struct CountScratch {
  uint expert[Spec::block];
};

template <typename Spec>
void count(const Count args, threadgroup CountScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(CountScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  static_assert(Spec::threads == Spec::block, "a thread for each assignment");
  const uint first = at.group.x * Spec::block, experts = args.shape.experts;
  const uint size = min(uint(Spec::block), args.shape.rows - first);

  if (at.index < size) scratch.expert[at.index] = args.chosen[first + at.index];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint e = at.index; e < experts; e += Spec::threads) {
    uint n = 0;
    for (uint i = 0; i < size; ++i) n += scratch.expert[i] == e ? 1 : 0;
    args.counts[ulong(at.group.x) * experts + e] = n;
  }
}
