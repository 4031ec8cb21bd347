// The experts of a token, and their weights.
//
// A threadgroup owns a token. Its simdgroups share the routed experts, a score each; then the first simdgroup
// chooses. Choices have an order without ties: the greater first, of equals the lower index. So the next
// choice is the first one that comes after the last, and nothing need be marked or sorted.

constant constexpr float Greatest = 3.4e38f;  // of choices

struct Choice {
  float value;
  uint index;
};

// Reports whether a comes before b.
inline bool before(const Choice a, const Choice b) {
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

// Returns the first of the choices of a simdgroup.
inline Choice simd_first(const Choice c) {
  const float value = simd_max(c.value);
  return Choice{value, simd_min(c.value == value ? c.index : 0xffffffffu)};
}

template <typename Spec>
void route(const Route args, const Position at) {
  const uint hidden = args.shape.hidden, slots = args.shape.slots, token = at.group.x;
  const uint top_k = args.routing.top_k, groups = args.routing.groups;
  const uint experts = args.shape.experts - (slots - top_k);
  const uint group = experts / groups;
  device const float4* x = (device const float4*)(args.x + ulong(token) * hidden);
  device float* scores = args.scores + ulong(token) * (experts + groups);
  device float* group_scores = scores + experts;
  device uint* chosen = args.chosen + ulong(token) * slots;
  device float* prob = args.chosen_prob + ulong(token) * slots;

  for (uint e = at.simd; e < experts; e += Spec::simdgroups) {
    device const float4* w = (device const float4*)(args.router + ulong(e) * hidden);
    float4 s = 0.0f;
    for (uint i = at.lane; i < hidden / 4; i += 32) s += w[i] * x[i];
    const float logit = simd_sum(s.x + s.y + s.z + s.w);
    if (at.lane == 0) scores[e] = sigmoid(logit);
  }
  threadgroup_barrier(mem_flags::mem_device);
  if (at.simd != 0) return;

  // A group's score is the sum of its two best choices; last_group is the last group that is kept.
  Choice last_group{-Greatest, experts};
  if (groups > 1) {
    for (uint g = at.lane; g < groups; g += 32) {
      float first = -Greatest, second = -Greatest;
      for (uint e = g * group; e < (g + 1) * group; ++e) {
        const float choice = scores[e] + args.bias[e];
        second = max(second, min(first, choice));
        first = max(first, choice);
      }
      group_scores[g] = first + (group > 1 ? second : 0.0f);
    }
    simdgroup_barrier(mem_flags::mem_device);
    last_group = Choice{Greatest, 0};
    for (uint k = 0; k < args.routing.top_k_groups; ++k) {
      Choice best{-Greatest, groups};
      for (uint g = at.lane; g < groups; g += 32) {
        const Choice c{group_scores[g], g};
        if (before(last_group, c) && before(c, best)) best = c;
      }
      last_group = simd_first(best);
    }
  }

  float sum = 0.0f;
  Choice last{Greatest, 0};
  for (uint k = 0; k < top_k; ++k) {
    Choice best{-Greatest, experts};
    for (uint e = at.lane; e < experts; e += 32) {
      if (groups > 1 && before(last_group, Choice{group_scores[e / group], e / group})) continue;
      const Choice c{scores[e] + args.bias[e], e};
      if (before(last, c) && before(c, best)) best = c;
    }
    last = simd_first(best);
    const uint expert = min(last.index, experts - 1);  // whatever the scores: NaN is no choice
    sum += scores[expert];
    if (at.lane == 0) {
      chosen[k] = expert;
      prob[k] = scores[expert];
    }
  }

  if (at.lane == 0) {
    const float factor = args.routing.scale / (args.routing.normalize ? sum + 1e-20f : 1.0f);
    for (uint k = 0; k < top_k; ++k) prob[k] *= factor;
    for (uint k = top_k; k < slots; ++k) {  // the shared expert
      chosen[k] = experts + k - top_k;
      prob[k] = 1.0f;
    }
  }
}
