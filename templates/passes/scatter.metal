// A threadgroup owns a block of assignments, a thread one of them. Its row is the first one of its expert in
// the block, and as many on as the block has earlier assignments of that expert.

template <typename Spec>
struct ScatterScratch {
  uint expert[Spec::block];
};

template <typename Spec>
void scatter(const Scatter args, threadgroup ScatterScratch<Spec>& scratch, const Position at) {
  static_assert(sizeof(ScatterScratch<Spec>) == Spec::threadgroup_bytes, "threadgroup_bytes of the spec");
  static_assert(Spec::threads == Spec::block, "a thread for each assignment");
  const uint i = at.group.x * Spec::block + at.index;
  const bool mine = i < args.shape.rows;

  if (mine) scratch.expert[at.index] = args.chosen[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (!mine) return;

  const uint expert = scratch.expert[at.index];
  uint row = args.base[ulong(at.group.x) * args.shape.experts + expert];
  for (uint j = 0; j < at.index; ++j) row += scratch.expert[j] == expert ? 1 : 0;
  args.token[row] = i / args.shape.slots;
  args.prob[row] = args.chosen_prob[i];
  args.row[i] = row;
}
