// The operations of a simdgroup. Each lane leaves its operands and blocks; the last one does the work of all.
#include "collective.h"

#include <math.h>
#include <string.h>

#include <type_traits>

namespace msl {

namespace {

template <typename F>
void for_lanes(unsigned simd, unsigned mask, F f) {
  for (unsigned lane = 0; lane < Lanes; ++lane) {
    if (mask >> lane & 1) f(*worker->fibers[simd * Lanes + lane]);
  }
}

void shuffle(unsigned simd, unsigned mask) {
  alignas(16) uint8_t value[Lanes][64];
  for_lanes(simd, mask, [&](Fiber& f) { memcpy(value[f.lane], f.a, f.size); });
  for_lanes(simd, mask, [&](Fiber& f) {
    if (f.parameter >= Lanes || !(mask >> f.parameter & 1)) {
      fiber = &f;
      report("divergence", (uint64_t)f.site, 0, "lane %u reads lane %u, which takes no part", f.lane,
             f.parameter);
      abandon();
    }
    memcpy(f.result, value[f.parameter], f.size);
  });
}

void ballot(unsigned simd, unsigned mask) {
  unsigned votes = 0;
  for_lanes(simd, mask, [&](Fiber& f) { votes |= f.parameter << f.lane; });
  for_lanes(simd, mask, [&](Fiber& f) { memcpy(f.result, &votes, sizeof votes); });
}

template <typename T>
T apply(unsigned op, T a, T b) {
  switch (op) {
    case Sum:
    case InclusiveSum:
    case ExclusiveSum:
      return T(a + b);
    case Product:
    case InclusiveProduct:
    case ExclusiveProduct:
      return T(a * b);
    case Min:
      if constexpr (!std::is_integral_v<T>) return T(fminf(a, b));
      return b < a ? b : a;
    case Max:
      if constexpr (!std::is_integral_v<T>) return T(fmaxf(a, b));
      return a < b ? b : a;
  }
  if constexpr (std::is_integral_v<T>) {
    switch (op) {
      case And:
        return a & b;
      case Or:
        return a | b;
      case Xor:
        return a ^ b;
    }
  }
  return a;
}

// Reduces the element at index of the lanes' values: a prefix from the first lane on, all else as a tree.
template <typename T>
void reduce_element(unsigned simd, unsigned mask, unsigned op, unsigned index) {
  T value[Lanes];
  bool there[Lanes];
  for (unsigned i = 0; i < Lanes; ++i) {
    there[i] = mask >> i & 1;
    if (there[i]) memcpy(&value[i], (const T*)worker->fibers[simd * Lanes + i]->a + index, sizeof(T));
  }
  if (op >= InclusiveSum) {
    const bool inclusive = op == InclusiveSum || op == InclusiveProduct;
    T before = T(op == InclusiveProduct || op == ExclusiveProduct ? 1 : 0);
    for_lanes(simd, mask, [&](Fiber& f) {
      const T after = apply<T>(op, before, value[f.lane]);
      memcpy((T*)f.result + index, inclusive ? &after : &before, sizeof(T));
      before = after;
    });
    return;
  }
  for (unsigned step = Lanes / 2; step > 0; step /= 2) {
    for (unsigned i = 0; i < step; ++i) {
      if (!there[i + step]) continue;
      value[i] = there[i] ? apply<T>(op, value[i], value[i + step]) : value[i + step];
      there[i] = true;
    }
  }
  for_lanes(simd, mask, [&](Fiber& f) { memcpy((T*)f.result + index, &value[0], sizeof(T)); });
}

template <typename T>
void reduce_as(unsigned simd, unsigned mask, unsigned op, unsigned n) {
  for (unsigned i = 0; i < n; ++i) reduce_element<T>(simd, mask, op, i);
}

void reduce(unsigned simd, unsigned mask, unsigned op, unsigned element, unsigned n) {
  switch (element) {
    case Float:
      return reduce_as<float>(simd, mask, op, n);
    case Half:
      return reduce_as<_Float16>(simd, mask, op, n);
    case Bfloat:
      return reduce_as<__bf16>(simd, mask, op, n);
    case Int:
      return reduce_as<int32_t>(simd, mask, op, n);
    case Uint:
      return reduce_as<uint32_t>(simd, mask, op, n);
    case Short:
      return reduce_as<int16_t>(simd, mask, op, n);
    case Ushort:
      return reduce_as<uint16_t>(simd, mask, op, n);
    case Char:
      return reduce_as<int8_t>(simd, mask, op, n);
    case Uchar:
      return reduce_as<uint8_t>(simd, mask, op, n);
    case Long:
      return reduce_as<int64_t>(simd, mask, op, n);
    case Ulong:
      return reduce_as<uint64_t>(simd, mask, op, n);
  }
}

float load(unsigned element, const void* p, unsigned i) {
  switch (element) {
    case Half:
      return float(((const _Float16*)p)[i]);
    case Bfloat:
      return float(((const __bf16*)p)[i]);
  }
  return ((const float*)p)[i];
}

void store(unsigned element, void* p, unsigned i, float v) {
  switch (element) {
    case Half:
      ((_Float16*)p)[i] = _Float16(v);
      return;
    case Bfloat:
      ((__bf16*)p)[i] = __bf16(v);
      return;
  }
  ((float*)p)[i] = v;
}

// d = a·b + c for matrices of 8×8. Each lane holds two elements of a row, as on Apple's GPUs.
void multiply(unsigned simd, unsigned types) {
  const unsigned a_type = types & 255, b_type = types >> 8 & 255, c_type = types >> 16 & 255;
  float a[8][8], b[8][8], c[8][8];
  const auto row = [](unsigned lane) { return (lane / 4 & 4) + lane / 2 % 4; };
  const auto column = [](unsigned lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2; };
  for_lanes(simd, ~0u, [&](Fiber& f) {
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned r = row(f.lane), k = column(f.lane) + i;
      a[r][k] = load(a_type, f.a, i);
      b[r][k] = load(b_type, f.b, i);
      c[r][k] = load(c_type, f.c, i);
    }
  });
  for (unsigned r = 0; r < 8; ++r) {
    for (unsigned i = 0; i < 8; ++i) {
      for (unsigned k = 0; k < 8; ++k) c[r][k] = fmaf(a[r][i], b[i][k], c[r][k]);
    }
  }
  for_lanes(simd, ~0u, [&](Fiber& f) {
    for (unsigned i = 0; i < 2; ++i) store(c_type, f.result, i, c[row(f.lane)][column(f.lane) + i]);
  });
}

// Blocks the fiber at its operation until all lanes have arrived there.
void together(Operation operation, void* site) {
  Fiber& self = *fiber;
  Simdgroup& s = worker->simdgroups[self.simd];
  self.operation = operation;
  self.site = site;
  for (unsigned i = 0; i < s.lanes && s.arrived > 0; ++i) {
    if (!(s.mask >> i & 1)) continue;
    const Fiber& first = *worker->fibers[self.simd * Lanes + i];
    if (first.site == site) break;
    report("divergence", (uint64_t)site, (uint64_t)first.site,
           "lanes %u and %u of simdgroup %u are at different simdgroup operations", self.lane, first.lane,
           self.simd);
    abandon();
  }
  self.state = State::AtSimdOperation;
  s.mask |= 1u << self.lane;
  if (++s.arrived == s.alive) complete(s, self.simd);
  block();
}

}  // namespace

void complete(Simdgroup& s, unsigned simd) {
  Worker& w = *worker;
  const unsigned mask = s.mask;
  s.arrived = s.mask = 0;
  const Fiber& first = *w.fibers[simd * Lanes + __builtin_ctz(mask)];
  switch (first.operation) {
    case Operation::Shuffle:
      shuffle(simd, mask);
      break;
    case Operation::Ballot:
      ballot(simd, mask);
      break;
    case Operation::Reduce:
      reduce(simd, mask, first.parameter, first.types, first.size);
      break;
    case Operation::Multiply:
      if (mask != ~0u) {
        fiber = w.fibers[simd * Lanes + __builtin_ctz(mask)];
        report("divergence", (uint64_t)first.site, 0,
               "an operation on matrices with the lanes %08x of a simdgroup", mask);
        abandon();
      }
      multiply(simd, first.types);
      break;
    case Operation::Barrier:
      for (unsigned memory = 0; memory < 2; ++memory) s.epoch[memory] += first.parameter >> memory & 1;
      break;
  }
  wake_lanes(s, simd, mask);
}

}  // namespace msl

using namespace msl;

#define SITE __builtin_return_address(0)

extern "C" {

void __msl_simdgroup_barrier(unsigned flags) {
  fiber->parameter = flags;
  together(Operation::Barrier, SITE);
}

// Replaces value by that of a lane.
void __msl_shuffle(void* value, unsigned size, unsigned lane) {
  fiber->a = fiber->result = value;
  fiber->size = size;
  fiber->parameter = lane;
  together(Operation::Shuffle, SITE);
}

// Returns the lanes that vote true, and sets *active to those that take part.
unsigned __msl_ballot(bool vote, unsigned* active) {
  unsigned votes = 0;
  fiber->parameter = vote;
  fiber->result = &votes;
  together(Operation::Ballot, SITE);
  *active = fiber->active;
  return votes;
}

// Replaces the n elements at value by what they come to.
void __msl_reduce(unsigned op, unsigned element, unsigned n, void* value) {
  fiber->a = fiber->result = value;
  fiber->parameter = op;
  fiber->types = element;
  fiber->size = n;
  together(Operation::Reduce, SITE);
}

void __msl_multiply(unsigned types, const void* a, const void* b, const void* c, void* d) {
  fiber->a = a;
  fiber->b = b;
  fiber->c = c;
  fiber->result = d;
  fiber->types = types;
  together(Operation::Multiply, SITE);
}

// Returns a·b + c, rounded once. The product is exact in double; the sum is rounded to odd there, so that the
// second rounding does no harm.
_Float16 __msl_fma_half(float a, float b, float c) {
  const double product = double(a) * double(b), sum = product + double(c);
  const double rest =
      fabs(product) > fabs(double(c)) ? double(c) - (sum - product) : product - (sum - double(c));
  uint64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  if (rest != 0 && isfinite(sum) && (bits & 1) == 0) bits += (rest > 0) == (sum > 0) ? 1 : -1;
  double odd;
  memcpy(&odd, &bits, sizeof odd);
  return _Float16(odd);
}
// Rounds to bfloat, to nearest even. Clang calls it where the host has no instruction for it.
__attribute__((weak)) __bf16 __truncsfbf2(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  const uint16_t half = nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  __bf16 r;
  memcpy(&r, &half, sizeof r);
  return r;
}
}
