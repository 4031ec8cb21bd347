// The execution of one launch: a threadgroup is a set of fibers on one thread of the host, and a simdgroup 32
// of them in a row. A fiber runs until it blocks at a barrier or at an operation of its simdgroup.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../abi.h"

namespace msl {

constexpr unsigned Buffers = 31;  // arguments that a kernel can have
constexpr unsigned Lanes = 32;    // of a simdgroup

// A binary operation on the values of a simdgroup. metal/simd.h has the same list.
enum Reduction : unsigned {
  Sum,
  Product,
  Min,
  Max,
  And,
  Or,
  Xor,
  InclusiveSum,
  ExclusiveSum,
  InclusiveProduct,
  ExclusiveProduct
};

// An element type. metal/simd.h has the same list.
enum Element : unsigned { Float, Half, Bfloat, Int, Uint, Short, Ushort, Char, Uchar, Long, Ulong };

enum MemFlags : unsigned { MemDevice = 1, MemThreadgroup = 2 };

enum class Order { Forward, Reverse, Random };

// An argument that lies in memory.
struct Argument {
  uint8_t* data = nullptr;
  uint64_t size = 0;
  bool writable = false;
  uint64_t buffer = 0;  // that it lies in, at
  uint64_t offset = 0;
};

struct Launch {
  void (*entry)(Context*) = nullptr;
  Argument argument[Buffers];
  unsigned groups[3] = {1, 1, 1};
  unsigned threads = 1;  // per threadgroup
  unsigned workers = 1;  // threads of the host
  Order order = Order::Forward;
  uint64_t seed = 0;
  bool check = false;
  bool flush = false;  // denormals to zero
};

// Memory that the checker keeps books on. A shadow says who touched a byte last.
struct Shadow {
  uint64_t write_pc, read_pc;
  uint32_t writer, write_epoch, write_simd_epoch;  // a thread's number in the grid, from 1; 0 for none
  uint32_t reader, read_epoch, read_simd_epoch;
  uint8_t write_atomic, read_atomic;
  uint8_t readers;  // see Readers
};

struct Region {
  uint64_t begin, end;
  bool threadgroup;
  bool writable;
  Shadow* shadow;  // of each byte; null if nobody can write
  int argument;    // or
  const char* variable;
};

enum class State : uint8_t { Runnable, AtSimdOperation, AtBarrier, Done };

// What the lanes of a simdgroup do together.
enum class Operation : uint8_t { Shuffle, Ballot, Reduce, Multiply, Barrier };

struct Fiber {
  void* stack_pointer;
  uint64_t stack_begin, stack_end;
  Context context;
  State state;
  unsigned thread, lane, simd;
  uint32_t number;  // of the thread in the grid, from 1

  // The operation at which it is blocked.
  Operation operation;
  unsigned parameter;  // reduction, lane to read, or memory flags
  unsigned types;      // of elements
  unsigned size;       // of the value, in bytes or elements
  void* site;
  const void *a, *b, *c;
  void* result;

  unsigned active;  // lanes that took part in the last operation
};

struct Simdgroup {
  unsigned lanes, alive, arrived, mask;
  uint32_t epoch[2];  // barriers so far, for device and threadgroup memory
};

struct Variable {
  unsigned site;
  void* data;
};

struct Grid;  // a launch that is running

// A thread of the host.
struct Worker {
  Grid* grid;
  void* main;  // stack pointer
  std::vector<Fiber*> fibers;
  std::vector<Simdgroup> simdgroups;
  std::vector<unsigned> queue;  // runnable fibers, a ring
  size_t head, tail;
  unsigned threads, alive, at_barrier, barrier_flags;
  uint32_t epoch[2];
  unsigned group[3];
  uint32_t group_number;
  uint8_t* memory;  // of the threadgroup
  size_t used;
  std::vector<Variable> variables;
  std::vector<Region> device, threadgroup;
  Region* last;
  uint64_t random;
  bool aborted;
};

struct Grid {
  const Launch* launch;
  uint64_t groups;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::atomic<unsigned> reports{0};
  std::vector<uint32_t> permutation;  // of the threadgroups
};

extern thread_local Worker* worker;
extern thread_local Fiber* fiber;

// Runs a launch; reports whether it ended without a violation.
bool run(const Launch&);

// Sends a violation found at pc, and at the earlier other if it has two places. Text tells the rest.
void report(const char* kind, uint64_t pc, uint64_t other, const char* format, ...)
    __attribute__((format(printf, 4, 5)));

// Ends the launch from within a fiber.
[[noreturn]] void abandon();

// Returns the address of a program counter in the file of its library, or 0.
uint64_t file_address(uint64_t pc);

// Writes to the socket that the runner was started with.
void send_message(const char* text, size_t size);

// Lets faults of this thread be handled on a stack of their own.
void use_signal_stack();

// Adds or drops what the checker knows of memory.
void check_arguments(Worker&);
void check_variable(Worker&, void* data, size_t size, const char* name);
void forget_variables(Worker&);
void forget_arguments();

}  // namespace msl
