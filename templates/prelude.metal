#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
inline float silu(float x) { return x / (1.0f + exp(-x)); }

// Comes before the first read of what the launch before writes, for devices that begin a launch before earlier ones
// have ended: what is older may be read above it. On all others there is nothing to wait for. A template, so that the
// function of this name that a library has is preferred.
template <typename Lane>
METAL_FUNC void earlier_launches(Lane) {}

// Comes where the next launch may begin, on such devices. That may read, before it waits, what is older than this
// launch: so this one has waited, or the next is held back by what the launches before this one write. A template, as above.
template <typename Lane>
METAL_FUNC void later_launches(Lane) {}

// Asks for what will be read soon. It reads nothing, so earlier launches may still write it. A template, as above.
template <typename Byte>
METAL_FUNC void soon(device const Byte*) {}

// Comes before anything is read. A pass whose kernels wait for earlier launches themselves has its own.
template <typename Spec, typename Args, typename At>
METAL_FUNC void begin(const Args, const At at) {
  earlier_launches(at.lane);
  later_launches(at.lane);
}

template <typename Spec, typename Args, typename Scratch, typename At>
METAL_FUNC void begin(const Args args, threadgroup Scratch&, const At at) {
  begin<Spec>(args, at);
}

// Returns where the expert of the given index is. A pass whose kernels have copied experts in begin has its own.
template <typename Spec, typename Args>
METAL_FUNC auto expert_at(const Args args, uint i) {
  return args.experts + i;
}

template <typename Spec, typename Args, typename Scratch>
METAL_FUNC auto expert_at(const Args args, threadgroup const Scratch&, uint i) {
  return expert_at<Spec>(args, i);
}

// Writes NaN to the outputs that a threadgroup owns. A fairway kernel does so for an expert whose widths
// it has no arm for: a mistake in planning, and it must show.
template <typename Spec, typename Args, typename At>
void poison(device float* out, uint columns, const Args args, const At at) {
  const uint first = args.work[at.group.x].first;
  const uint rows = args.work[at.group.x].rows;
  for (uint i = at.index; i < rows * Spec::outputs; i += Spec::threads) {
    const uint column = at.group.y * Spec::outputs + i % Spec::outputs;
    const ulong row = first + i / Spec::outputs;
    if (column < columns) out[row * columns + column] = as_type<float>(0x7fc00000u);
  }
}

template <typename Spec, typename Args, typename At>
void poison_gate_up(const Args args, const At at) {
  poison<Spec>(args.h, args.shape.intermediate, args, at);
}

template <typename Spec, typename Args, typename At>
void poison_down(const Args args, const At at) {
  poison<Spec>(args.y, args.shape.hidden, args, at);
}
