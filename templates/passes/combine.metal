// A thread owns a column of a token's output.

template <typename Spec>
void combine(const Combine args, const Position at) {
  static_assert(Spec::threads == Spec::columns, "a thread for each column");
  const uint hidden = args.shape.hidden, slots = args.shape.slots, token = at.group.y;
  const uint i = at.group.x * Spec::columns + at.index;
  if (i >= hidden) return;

  float sum = 0.0f;
  for (uint s = 0; s < slots; ++s) sum += args.y[ulong(args.row[token * slots + s]) * hidden + i];
  args.out[ulong(token) * hidden + i] = sum;
}
