// Fibers, barriers and the order in which things happen.
#include <immintrin.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "collective.h"

// switch_stack saves the registers that a call preserves and goes on where load was saved.
extern "C" void msl_switch_stack(void** save, void* load);
asm(R"(
.text
.globl msl_switch_stack
.type msl_switch_stack, @function
msl_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size msl_switch_stack, . - msl_switch_stack
)");

namespace msl {

thread_local Worker* worker;
thread_local Fiber* fiber;

namespace {

constexpr size_t StackBytes = 256 << 10;
constexpr size_t PageBytes = 4096;
constexpr size_t ThreadgroupBytes = 256 << 10;  // of an arena: 227 KiB and what separates variables

uint64_t next_random(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

// The queue of runnable fibers.

void push(unsigned thread) {
  Worker& w = *worker;
  w.queue[w.tail] = thread;
  w.tail = (w.tail + 1) % w.queue.size();
}

Fiber* pop() {
  Worker& w = *worker;
  if (w.grid->launch->order == Order::Random) {
    const size_t n = (w.tail + w.queue.size() - w.head) % w.queue.size();
    const size_t at = (w.head + next_random(w.random) % n) % w.queue.size();
    std::swap(w.queue[at], w.queue[w.head]);
  }
  Fiber* f = w.fibers[w.queue[w.head]];
  w.head = (w.head + 1) % w.queue.size();
  return f;
}

// Calls f for the threads from first on, in the order of the launch.
template <typename F>
void in_order(unsigned first, unsigned n, F f) {
  if (worker->grid->launch->order == Order::Reverse) {
    for (unsigned i = n; i-- > 0;) f(first + i);
  } else {
    for (unsigned i = 0; i < n; ++i) f(first + i);
  }
}

[[noreturn]] void leave() {
  void* nowhere;
  msl_switch_stack(&nowhere, worker->main);
  __builtin_unreachable();
}

// Reports where the threads of a threadgroup wait for each other in vain.
void report_deadlock() {
  Worker& w = *worker;
  Fiber* first = nullptr;
  char text[512];
  size_t n = 0;
  for (unsigned s = 0; s < w.simdgroups.size(); ++s) {
    unsigned at_simd = 0, at_barrier = 0, done = 0;
    for (unsigned i = s * Lanes; i < std::min(w.threads, (s + 1) * Lanes); ++i) {
      Fiber* f = w.fibers[i];
      if (f->state == State::Done) {
        ++done;
        continue;
      }
      (f->state == State::AtBarrier ? at_barrier : at_simd)++;
      if (!first || (first->state == State::AtBarrier && f->state != State::AtBarrier)) first = f;
    }
    if (at_simd + at_barrier > 0 && n < sizeof text - 160) {
      n += snprintf(text + n, sizeof text - n,
                    "%sin simdgroup %u, %u lanes wait at a simdgroup operation, %u at a threadgroup barrier, "
                    "%u have returned",
                    n ? "; " : "", s, at_simd, at_barrier, done);
    }
  }
  uint64_t other = 0;  // a place where others wait
  for (unsigned i = 0; i < w.threads && first; ++i) {
    if (w.fibers[i]->state != State::Done && w.fibers[i]->site != first->site)
      other = (uint64_t)w.fibers[i]->site;
  }
  fiber = first;
  report("divergence", first ? (uint64_t)first->site : 0, other, "%.*s", (int)n, text);
}

void report_barrier(void* site) {
  Worker& w = *worker;
  report("barrier", (uint64_t)site, 0,
         "%u of %u threads reach the threadgroup barrier; the others have returned", w.at_barrier, w.threads);
  abandon();
}

// Reports threads that wait for each other at different barriers.
void check_same_barrier() {
  Worker& w = *worker;
  for (unsigned i = 1; i < w.threads; ++i) {
    if (w.fibers[i]->site == w.fibers[0]->site) continue;
    fiber = w.fibers[i];
    report("barrier", (uint64_t)w.fibers[i]->site, (uint64_t)w.fibers[0]->site,
           "threads %u and 0 are at different threadgroup barriers", i);
    abandon();
  }
}

void release_barrier() {
  Worker& w = *worker;
  for (unsigned memory = 0; memory < 2; ++memory) {
    if (!(w.barrier_flags >> memory & 1)) continue;
    ++w.epoch[memory];
    for (Simdgroup& s : w.simdgroups) ++s.epoch[memory];
  }
  w.at_barrier = w.barrier_flags = 0;
  in_order(0, w.threads, [&](unsigned i) { wake(w.fibers[i], State::AtBarrier); });
}

// What a fiber does: one thread of a threadgroup, again and again.
void live() {
  for (;;) {
    worker->grid->launch->entry(&fiber->context);
    Worker& w = *worker;
    Simdgroup& s = w.simdgroups[fiber->simd];
    fiber->state = State::Done;
    --w.alive;
    --s.alive;
    if (w.alive == 0) {
      msl_switch_stack(&fiber->stack_pointer, w.main);
      continue;
    }
    if (s.arrived > 0 && s.arrived == s.alive) complete(s, fiber->simd);  // the lanes that are left
    if (w.at_barrier > 0 && w.at_barrier == w.alive) {
      for (Fiber* f : w.fibers) {
        if (f->thread < w.threads && f->state == State::AtBarrier) {
          fiber = f;
          report_barrier(f->site);
        }
      }
    }
    block();
  }
}

void reset(Fiber* f) {
  uint64_t* top = (uint64_t*)f->stack_end - 2;
  *--top = 0;
  *--top = (uint64_t)live;
  for (int i = 0; i < 6; ++i) *--top = 0;
  f->stack_pointer = top;
}

// Returns memory between two pages that fault.
uint8_t* reserve(size_t bytes) {
  void* p =
      mmap(nullptr, bytes + 2 * PageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  auto* memory = (uint8_t*)p + PageBytes;
  mprotect(memory, bytes, PROT_READ | PROT_WRITE);
  return memory;
}

Fiber* new_fiber() {
  Fiber* f = new Fiber();
  f->stack_begin = (uint64_t)reserve(StackBytes);
  f->stack_end = f->stack_begin + StackBytes;
  return f;
}

std::mutex pool_mutex;
std::vector<Fiber*> pool;

void take_fibers(Worker& w, unsigned n) {
  std::lock_guard<std::mutex> lock(pool_mutex);
  while (w.fibers.size() < n) {
    Fiber* f = nullptr;
    if (pool.empty()) {
      f = new_fiber();
    } else {
      f = pool.back();
      pool.pop_back();
    }
    reset(f);
    w.fibers.push_back(f);
  }
}

void place(Fiber* f, unsigned thread) {
  Worker& w = *worker;
  const Launch& l = *w.grid->launch;
  f->thread = thread;
  f->lane = thread % Lanes;
  f->simd = thread / Lanes;
  f->state = State::Runnable;
  f->number = w.group_number * w.threads + thread + 1;

  const unsigned simdgroups = w.simdgroups.size();
  Context& c = f->context;
  for (unsigned i = 0; i < Buffers; ++i) c.buffer[i] = l.argument[i].data;
  c.thread_position_in_grid = {w.group[0] * w.threads + thread, w.group[1], w.group[2]};
  c.thread_position_in_threadgroup = {thread, 0, 0};
  c.threadgroup_position_in_grid = {w.group[0], w.group[1], w.group[2]};
  c.threads_per_threadgroup = c.dispatch_threads_per_threadgroup = {w.threads, 1, 1};
  c.threadgroups_per_grid = {l.groups[0], l.groups[1], l.groups[2]};
  c.threads_per_grid = {l.groups[0] * w.threads, l.groups[1], l.groups[2]};
  c.thread_index_in_threadgroup = thread;
  c.thread_index_in_simdgroup = f->lane;
  c.simdgroup_index_in_threadgroup = f->simd;
  c.threads_per_simdgroup = c.thread_execution_width = Lanes;
  c.simdgroups_per_threadgroup = c.dispatch_simdgroups_per_threadgroup = simdgroups;
  c.quadgroup_index_in_threadgroup = thread / 4;
  c.thread_index_in_quadgroup = thread % 4;
  c.quadgroups_per_threadgroup = (w.threads + 3) / 4;
}

void run_group(uint64_t number) {
  Worker& w = *worker;
  const Launch& l = *w.grid->launch;
  w.group_number = number;
  w.group[0] = number % l.groups[0];
  w.group[1] = number / l.groups[0] % l.groups[1];
  w.group[2] = number / l.groups[0] / l.groups[1];
  w.alive = w.threads;
  w.at_barrier = w.barrier_flags = 0;
  w.head = w.tail = 0;
  w.epoch[0] = w.epoch[1] = 0;
  w.used = 0;
  w.variables.clear();
  forget_variables(w);
  for (unsigned i = 0; i < w.simdgroups.size(); ++i) {
    Simdgroup& s = w.simdgroups[i];
    s.lanes = s.alive = std::min(Lanes, w.threads - i * Lanes);
    s.arrived = s.mask = 0;
    s.epoch[0] = s.epoch[1] = 0;
  }
  for (unsigned i = 0; i < w.threads; ++i) place(w.fibers[i], i);
  in_order(0, w.threads, push);
  fiber = pop();
  msl_switch_stack(&w.main, fiber->stack_pointer);
  fiber = nullptr;
  if (w.aborted) std::for_each(w.fibers.begin(), w.fibers.end(), reset);
}

void work(Grid& grid, unsigned index) {
  const Launch& l = *grid.launch;
  use_signal_stack();
  Worker w{};
  worker = &w;
  w.grid = &grid;
  w.threads = l.threads;
  w.queue.resize(l.threads + 2);
  w.simdgroups.resize((l.threads + Lanes - 1) / Lanes);
  w.random = l.seed * 2654435761u + index;
  w.memory = reserve(ThreadgroupBytes);
  take_fibers(w, l.threads);
  if (l.check) check_arguments(w);
  if (l.flush) _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ and DAZ

  while (!grid.stop) {
    const uint64_t i = grid.next++;
    if (i >= grid.groups) break;
    const bool reverse = l.order == Order::Reverse;
    run_group(!grid.permutation.empty() ? grid.permutation[i] : reverse ? grid.groups - 1 - i : i);
  }

  if (l.flush) _mm_setcsr(_mm_getcsr() & ~0x8040);
  forget_variables(w);
  std::lock_guard<std::mutex> lock(pool_mutex);
  pool.insert(pool.end(), w.fibers.begin(), w.fibers.end());
  munmap(w.memory - PageBytes, ThreadgroupBytes + 2 * PageBytes);
  worker = nullptr;
}

}  // namespace

bool run(const Launch& l) {
  Grid grid;
  grid.launch = &l;
  grid.groups = uint64_t(l.groups[0]) * l.groups[1] * l.groups[2];
  if (l.order == Order::Random) {
    uint64_t random = l.seed + 1;
    grid.permutation.resize(grid.groups);
    for (uint64_t i = 0; i < grid.groups; ++i) {
      const uint64_t j = next_random(random) % (i + 1);
      grid.permutation[i] = grid.permutation[j];
      grid.permutation[j] = i;
    }
  }
  const unsigned n = l.check ? 1 : std::min<uint64_t>(l.workers, grid.groups);  // the books are not for two
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < n; ++i) threads.emplace_back(work, std::ref(grid), i);
  work(grid, 0);
  for (std::thread& t : threads) t.join();
  if (l.check) forget_arguments();
  return grid.reports == 0;
}

void report(const char* kind, uint64_t pc, uint64_t other, const char* format, ...) {
  constexpr unsigned Most = 8;  // of one launch
  Worker& w = *worker;
  if (w.grid->reports++ >= Most) return;
  char text[1024];
  // A return address lies after the call; the line is that of the call.
  size_t n = snprintf(text, sizeof text, "violation %s %llx %llx %u %u %u %u ", kind,
                      (unsigned long long)(pc ? file_address(pc - 1) : 0),
                      (unsigned long long)(other ? file_address(other - 1) : 0), w.group[0], w.group[1],
                      w.group[2], fiber ? fiber->thread : 0);
  va_list args;
  va_start(args, format);
  n += vsnprintf(text + n, sizeof text - n, format, args);
  va_end(args);
  send_message(text, std::min(n, sizeof text - 1));
}

void abandon() {
  worker->grid->stop = worker->aborted = true;
  leave();
}

void block() {
  Worker& w = *worker;
  if (w.head == w.tail) {
    report_deadlock();
    abandon();
  }
  Fiber* from = fiber;
  fiber = pop();
  if (fiber != from) msl_switch_stack(&from->stack_pointer, fiber->stack_pointer);
}

void wake(Fiber* f, State from) {
  if (f->state != from) return;
  f->state = State::Runnable;
  push(f->thread);
}

void wake_lanes(Simdgroup& s, unsigned simd, unsigned mask) {
  in_order(simd * Lanes, s.lanes, [&](unsigned i) {
    Fiber* f = worker->fibers[i];
    if (mask >> f->lane & 1) {
      f->active = mask;
      f->state = State::Runnable;
      push(i);
    }
  });
}

}  // namespace msl

using namespace msl;

extern "C" {

unsigned __msl_lane() { return fiber->lane; }

void __msl_threadgroup_barrier(unsigned flags) {
  Worker& w = *worker;
  fiber->state = State::AtBarrier;
  fiber->site = __builtin_return_address(0);
  w.barrier_flags |= flags;
  if (++w.at_barrier == w.alive) {
    if (w.alive != w.threads) report_barrier(fiber->site);
    check_same_barrier();
    release_barrier();
  }
  block();
}

// Returns a threadgroup variable: the same for all threads of a threadgroup.
void* __msl_threadgroup_variable(unsigned site, uint64_t size, uint64_t align, const char* name) {
  Worker& w = *worker;
  for (const Variable& v : w.variables) {
    if (v.site == site) return v.data;
  }
  const size_t gap = w.grid->launch->check ? 64 : 0;  // so that an overrun meets no other variable
  align = std::max<uint64_t>(align, 16);
  const size_t at = (w.used + gap + align - 1) / align * align;
  if (at + size > ThreadgroupBytes) {
    report("memory", (uint64_t)__builtin_return_address(0), 0,
           "threadgroup variables of more than 232448 bytes");
    abandon();
  }
  uint8_t* data = w.memory + at;
  w.used = at + size;
  w.variables.push_back({site, data});
  memset(data, 0xff, size);  // floats that are no numbers, integers that are no indices
  if (w.grid->launch->check) check_variable(w, data, size, name);
  return data;
}
}
