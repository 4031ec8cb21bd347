// The checker: the hooks of clang's thread sanitizer, with the rules of a GPU behind them. It knows of every
// byte who wrote and who read it last, and how many barriers for its kind of memory have passed since.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "runtime.h"

namespace msl {

namespace {

// Who else has read a byte besides its reader, since its last write: nobody, lanes of the reader's simdgroup,
// other simdgroups, or other threadgroups.
enum Readers : uint8_t { One, Lanes2, Simdgroups, Threadgroups };

// A buffer's shadow, which its arguments share.
struct Book {
  Shadow* shadow;
  size_t bytes;
};
std::map<uint64_t, Book> books;  // by buffer

bool inside(uint64_t at, uint64_t n, uint64_t begin, uint64_t end) { return at >= begin && at + n <= end; }

Region* find(uint64_t at, uint64_t n, bool write) {
  Worker& w = *worker;
  if (w.last && inside(at, n, w.last->begin, w.last->end) && (!write || w.last->writable)) return w.last;
  for (Region& r : w.threadgroup) {
    if (inside(at, n, r.begin, r.end)) return &r;
  }
  Region* found = nullptr;
  for (Region& r : w.device) {
    if (!inside(at, n, r.begin, r.end)) continue;
    found = &r;
    if (r.writable == write) break;  // of two arguments in one buffer
  }
  return w.last = found;
}

// A place in memory, in words: "argument 3 at 128" or "variable scratch at 16".
struct Place {
  char text[96];
  Place(const Region& r, int64_t offset) {
    if (r.threadgroup) {
      snprintf(text, sizeof text, "{variable %s} at byte %lld", r.variable, (long long)offset);
    } else {
      snprintf(text, sizeof text, "{argument %d} at byte %lld", r.argument, (long long)offset);
    }
  }
};

[[noreturn]] void outside(uint64_t at, uint64_t n, bool write, uint64_t pc) {
  Worker& w = *worker;
  const Region* nearest = nullptr;
  uint64_t distance = 1 << 20;
  for (const auto* regions : {&w.threadgroup, &w.device}) {
    for (const Region& r : *regions) {
      const uint64_t d = at >= r.begin ? (at + n > r.end ? at + n - r.end : 0) : r.begin - at;
      if (d < distance) {
        distance = d;
        nearest = &r;
      }
    }
  }
  const char* what = write ? "write" : "read";
  if (nearest) {
    report("bounds", pc, 0, "%s of %llu bytes out of bounds, near %s of %llu", what, (unsigned long long)n,
           Place(*nearest, int64_t(at - nearest->begin)).text,
           (unsigned long long)(nearest->end - nearest->begin));
  } else {
    report("bounds", pc, 0, "%s of %llu bytes outside all arguments and variables", what,
           (unsigned long long)n);
  }
  abandon();
}

unsigned thread_of(uint32_t number) { return (number - 1) % worker->threads; }
unsigned group_of(uint32_t number) { return (number - 1) / worker->threads; }

// Reports whether an access by the thread of the given number is unordered with one now.
bool unordered(bool threadgroup, uint32_t number, uint32_t epoch, uint32_t simd_epoch) {
  const Worker& w = *worker;
  if (group_of(number) != w.group_number) return true;
  if (number == fiber->number || epoch < w.epoch[threadgroup]) return false;
  return thread_of(number) / Lanes != fiber->simd ||
         simd_epoch >= w.simdgroups[fiber->simd].epoch[threadgroup];
}

[[noreturn]] void race(const Region& r, uint64_t offset, uint64_t pc, const char* what, bool atomic,
                       uint64_t other_pc, const char* other, bool other_atomic, uint32_t number) {
  const unsigned group = group_of(number), *groups = worker->grid->launch->groups;
  report("race", pc, other_pc,
         "%s%s of %s and %s%s by thread %u of threadgroup %u,%u,%u, with no barrier for it between",
         atomic ? "atomic " : "", what, Place(r, offset).text, other_atomic ? "atomic " : "", other,
         thread_of(number), group % groups[0], group / groups[0] % groups[1], group / groups[0] / groups[1]);
  abandon();
}

void check_write(const Region& r, Shadow& s, uint64_t offset, bool atomic, uint64_t pc) {
  const Worker& w = *worker;
  const uint32_t epoch = w.epoch[r.threadgroup], simd_epoch = w.simdgroups[fiber->simd].epoch[r.threadgroup];
  if (s.reader && !(atomic && s.read_atomic)) {
    const bool recent = group_of(s.reader) == w.group_number && s.read_epoch >= epoch;
    const bool same_simd = thread_of(s.reader) / Lanes == fiber->simd;
    if (unordered(r.threadgroup, s.reader, s.read_epoch, s.read_simd_epoch) || s.readers == Threadgroups ||
        (s.readers == Simdgroups && recent) ||
        (s.readers == Lanes2 && recent && same_simd && s.read_simd_epoch >= simd_epoch)) {
      race(r, offset, pc, "write", atomic, s.read_pc, "read", s.read_atomic, s.reader);
    }
  }
  s.writer = fiber->number;
  s.write_epoch = epoch;
  s.write_simd_epoch = simd_epoch;
  s.write_pc = pc;
  s.write_atomic = atomic;
  s.reader = 0;
  s.readers = One;
}

void check_read(const Region& r, Shadow& s, bool atomic, uint64_t pc) {
  const Worker& w = *worker;
  const uint32_t epoch = w.epoch[r.threadgroup], simd_epoch = w.simdgroups[fiber->simd].epoch[r.threadgroup];
  if (s.reader && group_of(s.reader) != w.group_number) {
    s.readers = Threadgroups;
  } else if (s.readers != Threadgroups) {
    if (!s.reader || s.read_epoch < epoch) {
      s.readers = One;
    } else if (s.reader != fiber->number) {
      if (thread_of(s.reader) / Lanes != fiber->simd) {
        s.readers = Simdgroups;
      } else if (s.read_simd_epoch >= simd_epoch) {
        s.readers = std::max(s.readers, uint8_t(Lanes2));
      } else if (s.readers == Lanes2) {
        s.readers = One;
      }
    }
  }
  s.read_atomic = atomic && (!s.reader || s.read_atomic);
  s.reader = fiber->number;
  s.read_epoch = epoch;
  s.read_simd_epoch = simd_epoch;
  s.read_pc = pc;
}

void check(uint64_t at, uint64_t n, bool write, bool atomic, uint64_t pc) {
  if (!worker || !fiber || !worker->grid->launch->check ||
      inside(at, n, fiber->stack_begin, fiber->stack_end))
    return;
  const Region* r = find(at, n, write);
  if (!r) {
    if (inside(at, n, (uint64_t)&fiber->context, (uint64_t)(&fiber->context + 1))) return;
    if (file_address(at) && !write) return;  // a constant of the program
    outside(at, n, write, pc);
  }
  const uint64_t offset = at - r->begin;
  if (write && !r->writable) {
    report("access", pc, 0, "write to %s, which the kernel is to read", Place(*r, offset).text);
    abandon();
  }
  if (!r->shadow) return;
  for (uint64_t i = 0; i < n; ++i) {
    Shadow& s = r->shadow[offset + i];
    if (s.writer && !(atomic && s.write_atomic) &&
        unordered(r->threadgroup, s.writer, s.write_epoch, s.write_simd_epoch)) {
      race(*r, offset + i, pc, write ? "write" : "read", atomic, s.write_pc, "write", s.write_atomic,
           s.writer);
    }
    if (!write && r->threadgroup && !s.writer) {
      report("uninitialised", pc, 0, "read of %s, which nobody has written", Place(*r, offset + i).text);
      abandon();
    }
    if (write) {
      check_write(*r, s, offset + i, atomic, pc);
    } else {
      check_read(*r, s, atomic, pc);
    }
  }
}

}  // namespace

void check_arguments(Worker& w) {
  const Launch& l = *w.grid->launch;
  for (unsigned i = 0; i < Buffers; ++i) {
    const Argument& a = l.argument[i];
    if (!a.data) continue;
    // Nobody keeps books on a buffer that is only read.
    const bool written = std::any_of(l.argument, l.argument + Buffers, [&](const Argument& b) {
      return b.data && b.buffer == a.buffer && b.writable;
    });
    Shadow* shadow = nullptr;
    if (written) {
      Book& book = books[a.buffer];
      if (!book.shadow) {
        book.bytes = (a.offset + a.size) * sizeof(Shadow);
        book.shadow = (Shadow*)mmap(nullptr, book.bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (book.shadow == MAP_FAILED) abort();
      }
      shadow = book.shadow + a.offset;
    }
    w.device.push_back(
        {(uint64_t)a.data, (uint64_t)a.data + a.size, false, a.writable, shadow, int(i), nullptr});
  }
}

void forget_arguments() {
  for (auto& [buffer, book] : books) munmap(book.shadow, book.bytes);
  books.clear();
}

void check_variable(Worker& w, void* data, size_t size, const char* name) {
  auto* shadow = (Shadow*)calloc(size, sizeof(Shadow));
  w.threadgroup.push_back({(uint64_t)data, (uint64_t)data + size, true, true, shadow, -1, name});
  w.last = nullptr;  // it may point into what push_back moved
}

void forget_variables(Worker& w) {
  for (Region& r : w.threadgroup) free(r.shadow);
  w.threadgroup.clear();
  w.last = nullptr;
}

}  // namespace msl

using namespace msl;

#define PC ((uint64_t)__builtin_return_address(0))

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

#define ACCESS(n)                                                                     \
  void __tsan_read##n(void* p) { check((uint64_t)p, n, false, false, PC); }           \
  void __tsan_write##n(void* p) { check((uint64_t)p, n, true, false, PC); }           \
  void __tsan_unaligned_read##n(void* p) { check((uint64_t)p, n, false, false, PC); } \
  void __tsan_unaligned_write##n(void* p) { check((uint64_t)p, n, true, false, PC); } \
  void __tsan_volatile_read##n(void* p) { check((uint64_t)p, n, false, false, PC); }  \
  void __tsan_volatile_write##n(void* p) { check((uint64_t)p, n, true, false, PC); }  \
  void __tsan_read_write##n(void* p) {                                                \
    check((uint64_t)p, n, false, false, PC);                                          \
    check((uint64_t)p, n, true, false, PC);                                           \
  }                                                                                   \
  void __tsan_unaligned_read_write##n(void* p) {                                      \
    check((uint64_t)p, n, false, false, PC);                                          \
    check((uint64_t)p, n, true, false, PC);                                           \
  }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void* __tsan_memcpy(void* to, const void* from, uint64_t n) {
  check((uint64_t)from, n, false, false, PC);
  check((uint64_t)to, n, true, false, PC);
  return memcpy(to, from, n);
}

void* __tsan_memmove(void* to, const void* from, uint64_t n) {
  check((uint64_t)from, n, false, false, PC);
  check((uint64_t)to, n, true, false, PC);
  return memmove(to, from, n);
}

void* __tsan_memset(void* to, int value, uint64_t n) {
  check((uint64_t)to, n, true, false, PC);
  return memset(to, value, n);
}

#define FETCH(bits, T, op)                                      \
  T __tsan_atomic##bits##_fetch_##op(volatile T* p, T v, int) { \
    check((uint64_t)p, bits / 8, true, true, PC);               \
    return __atomic_fetch_##op(p, v, __ATOMIC_SEQ_CST);         \
  }
#define COMPARE_EXCHANGE(bits, T, name)                                                       \
  int __tsan_atomic##bits##_compare_exchange_##name(volatile T* p, T* old, T v, int, int) {   \
    check((uint64_t)p, bits / 8, true, true, PC);                                             \
    return __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define ATOMIC(bits, T)                                                                 \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                              \
    check((uint64_t)p, bits / 8, false, true, PC);                                      \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                        \
  }                                                                                     \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                           \
    check((uint64_t)p, bits / 8, true, true, PC);                                       \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                           \
  }                                                                                     \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {                           \
    check((uint64_t)p, bits / 8, true, true, PC);                                       \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                 \
  }                                                                                     \
  T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T old, T v, int, int) {   \
    check((uint64_t)p, bits / 8, true, true, PC);                                       \
    __atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    return old;                                                                         \
  }                                                                                     \
  FETCH(bits, T, add)                                                                   \
  FETCH(bits, T, sub)                                                                   \
  FETCH(bits, T, and)                                                                   \
  FETCH(bits, T, or)                                                                    \
  FETCH(bits, T, xor)                                                                   \
  COMPARE_EXCHANGE(bits, T, strong)                                                     \
  COMPARE_EXCHANGE(bits, T, weak)
ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

// What clang calls where it finds undefined behaviour.
#define UNDEFINED(name, words)                   \
  void __ubsan_handle_##name##_minimal_abort() { \
    report("undefined", PC, 0, words);           \
    abandon();                                   \
  }
UNDEFINED(builtin_unreachable, "code that cannot be reached is reached")
UNDEFINED(divrem_overflow, "division by zero")
UNDEFINED(float_cast_overflow, "a float out of the range of the integer that it becomes")
UNDEFINED(out_of_bounds, "an index out of the bounds of its array")
UNDEFINED(type_mismatch, "access to an address that is not aligned for its type")
}
