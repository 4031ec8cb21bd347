// A thread owns a column of a token's output.

template <typename Spec>
METAL_FUNC void begin(const Combine, const Position) {}

template <typename Spec>
void combine(const Combine args, const Position at) {
  static_assert(Spec::threads == Spec::columns, "a thread for each column");
  const uint hidden = args.shape.hidden, slots = args.shape.slots, token = at.group.y;
  const uint i = at.group.x * Spec::columns + at.index;
  device const uint* row = args.row + token * slots;

  // The rows of the first slots are older than y. Slots that there are not are like the last one, and not added.
  uint rows[8];
  #pragma unroll
  for (uint s = 0; s < 8; ++s) rows[s] = row[min(s, slots - 1)];
  later_launches(at.lane);
  earlier_launches(at.lane);
  if (i >= hidden) return;

  float y[8];
  #pragma unroll
  for (uint s = 0; s < 8; ++s) y[s] = args.y[ulong(rows[s]) * hidden + i];
  float sum = 0.0f;
  #pragma unroll
  for (uint s = 0; s < 8; ++s) sum = s < slots ? sum + y[s] : sum;
  for (uint s = 8; s < slots; ++s) sum += args.y[ulong(row[s]) * hidden + i];
  args.out[ulong(token) * hidden + i] = sum;
}
