// The runner: a process that runs the launches that come through its socket, file descriptor 3. A message is
// text; the first word says what for.
//
//   map ID SIZE SKIP r|rw      a buffer; its file descriptor comes along, its data begins after SKIP bytes
//   unmap ID
//   run LIBRARY ENTRY x y z THREADS WORKERS ORDER SEED check|- flush|-  ARGUMENT...
//
// where an argument is "b INDEX ID OFFSET r|rw" or "c INDEX HEX". To run it answers "violation …" any number
// of times, then "done", "bad" or "error …"; after a fault it is dead.
#include <dlfcn.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <thread>

#include "runtime.h"

namespace msl {

namespace {

constexpr int Socket = 3;
constexpr size_t PageBytes = 4096;
constexpr size_t GuardBytes = 16 * PageBytes;  // on either side of a buffer

struct Mapping {
  uint8_t* base;  // of the reservation
  size_t reserved;
  uint8_t* data;
  size_t size;
};

std::map<uint64_t, Mapping> mappings;  // by buffer
Launch launch;                         // that runs

struct Module {
  uint64_t begin, end, base;
};
std::vector<Module> modules;

std::map<std::string, void*> libraries;

// Rounds up to whole pages.
size_t pages(size_t n) { return (n + PageBytes - 1) / PageBytes * PageBytes; }

void unmap(uint64_t id) {
  const auto found = mappings.find(id);
  if (found == mappings.end()) return;
  munmap(found->second.base, found->second.reserved);
  mappings.erase(found);
}

// Maps a buffer between two guards. Its end touches the second one, but for what aligns its beginning.
void map(std::istream& in, int descriptor) {
  uint64_t id;
  size_t size, skip;
  std::string mode;
  in >> id >> size >> skip >> mode;
  unmap(id);
  const size_t length = pages(skip + size);
  Mapping m;
  m.reserved = length + 2 * GuardBytes;
  m.base = (uint8_t*)mmap(nullptr, m.reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  m.data = m.base + GuardBytes + skip;
  m.size = size;
  if (m.base == MAP_FAILED) abort();
  if (length > 0) {
    const int protection = mode == "rw" ? PROT_READ | PROT_WRITE : PROT_READ;
    if (mmap(m.base + GuardBytes, length, protection, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED)
      abort();
  }
  mappings[id] = m;
}

// Maps the bytes of a constant as if they were a small buffer.
Mapping constant(const std::string& hex) {
  const size_t size = hex.size() / 2;
  Mapping m;
  m.reserved = PageBytes + 2 * GuardBytes;
  m.base = (uint8_t*)mmap(nullptr, m.reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m.base == MAP_FAILED || size > PageBytes) abort();
  uint8_t* page = m.base + GuardBytes;
  mprotect(page, PageBytes, PROT_READ | PROT_WRITE);
  m.data = page + PageBytes - (size + 15) / 16 * 16;
  m.size = size;
  for (size_t i = 0; i < size; ++i) m.data[i] = std::stoi(hex.substr(2 * i, 2), nullptr, 16);
  mprotect(page, PageBytes, PROT_READ);
  return m;
}

int add_module(dl_phdr_info* info, size_t, void* name) {
  if (strcmp(info->dlpi_name, (const char*)name) != 0) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& h = info->dlpi_phdr[i];
    if (h.p_type != PT_LOAD) continue;
    const uint64_t begin = info->dlpi_addr + h.p_vaddr;
    modules.push_back({begin, begin + h.p_memsz, info->dlpi_addr});
  }
  return 1;
}

void run_message(std::istream& in) {
  std::string library, entry, order, check, flush, kind;
  launch = Launch();
  in >> library >> entry >> launch.groups[0] >> launch.groups[1] >> launch.groups[2] >> launch.threads >>
      launch.workers >> order >> launch.seed >> check >> flush;
  launch.order = order == "reverse" ? Order::Reverse : order == "random" ? Order::Random : Order::Forward;
  launch.check = check == "check";
  launch.flush = flush == "flush";
  std::vector<Mapping> constants;
  while (in >> kind) {
    unsigned index;
    in >> index;
    Argument& a = launch.argument[index % Buffers];
    if (kind == "c") {
      std::string hex;
      in >> hex;
      constants.push_back(constant(hex));
      a.data = constants.back().data;
      a.size = constants.back().size;
      a.buffer = ~uint64_t(index);
      continue;
    }
    std::string mode;
    in >> a.buffer >> a.offset >> mode;
    const Mapping& m = mappings[a.buffer];
    a.data = m.data + a.offset;
    a.size = m.size - a.offset;
    a.writable = mode == "rw";
  }

  void*& handle = libraries[library];
  if (!handle) handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  launch.entry = handle ? (void (*)(Context*))dlsym(handle, entry.c_str()) : nullptr;
  std::string answer = "done";
  if (!launch.entry) {
    answer = std::string("error ") + dlerror();
  } else {
    modules.clear();
    dl_iterate_phdr(add_module, (void*)library.c_str());
    if (!run(launch)) answer = "bad";
  }
  for (const Mapping& m : constants) munmap(m.base, m.reserved);
  send_message(answer.data(), answer.size());
}

// Returns the instruction of the kernel that a fault is about: a function of the C library may have been
// called.
uint64_t culprit(const ucontext_t* context) {
  const uint64_t pc = context->uc_mcontext.gregs[REG_RIP];
  const auto* stack = (const uint64_t*)context->uc_mcontext.gregs[REG_RSP];
  if (file_address(pc) != 0 || !fiber) return pc + 1;
  for (int i = 0; i < 256 && (uint64_t)(stack + i) < fiber->stack_end; ++i) {
    if ((uint64_t)stack >= fiber->stack_begin && file_address(stack[i]) != 0) return stack[i];
  }
  return 0;
}

// Reports a fault and ends the process.
void on_fault(int signal, siginfo_t* info, void* context) {
  const auto* at = (uint8_t*)info->si_addr;
  char text[256];
  const char* kind = "fault";
  int n = snprintf(text, sizeof text, "signal %d at address %p", signal, at);
  if (signal == SIGILL || signal == SIGTRAP) {
    kind = "undefined";
    n = snprintf(text, sizeof text, "an instruction that traps");
  } else if (signal == SIGFPE) {
    kind = "undefined";
    n = snprintf(text, sizeof text, "division by zero");
  } else if (fiber && (uint64_t)at < fiber->stack_begin && (uint64_t)at >= fiber->stack_begin - PageBytes) {
    n = snprintf(text, sizeof text, "the stack of the thread is full");
  } else {
    for (unsigned i = 0; i < Buffers; ++i) {
      const Argument& a = launch.argument[i];
      if (!a.data || at < a.data - a.offset - GuardBytes || at >= a.data + a.size + GuardBytes) continue;
      const bool within = at >= a.data && at < a.data + a.size;
      kind = within ? "access" : "bounds";
      n = snprintf(text, sizeof text, "access to {argument %u} at byte %lld of %llu", i,
                   (long long)(at - a.data), (unsigned long long)a.size);
      break;
    }
  }
  // A place after the instruction, as if it were a return address.
  if (worker) report(kind, culprit((const ucontext_t*)context), 0, "%.*s", n, text);
  _exit(3);
}

// Ends the process when the other side of the socket is gone, whatever runs.
void watch() {
  for (;;) {
    pollfd p = {Socket, 0, 0};
    if (poll(&p, 1, -1) > 0 && p.revents & (POLLHUP | POLLERR)) _exit(0);
  }
}

// Receives a message and the file descriptor that comes along, if any.
bool receive(std::string& text, int& descriptor) {
  static char buffer[64 << 10];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec vector = {buffer, sizeof buffer};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(Socket, &message, MSG_CMSG_CLOEXEC);
  if (n <= 0) return false;
  text.assign(buffer, n);
  descriptor = -1;
  if (const cmsghdr* c = CMSG_FIRSTHDR(&message); c && c->cmsg_type == SCM_RIGHTS)
    memcpy(&descriptor, CMSG_DATA(c), sizeof descriptor);
  return true;
}

}  // namespace

uint64_t file_address(uint64_t pc) {
  for (const Module& m : modules) {
    if (pc >= m.begin && pc < m.end) return pc - m.base;
  }
  return 0;
}

void use_signal_stack() {
  thread_local char stack[32 << 10];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
}

void send_message(const char* text, size_t size) { (void)!send(Socket, text, size, MSG_NOSIGNAL); }

}  // namespace msl

int main() {
  using namespace msl;
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigaction(signal, &action, nullptr);
  std::thread(watch).detach();

  std::string text;
  int descriptor;
  while (receive(text, descriptor)) {
    std::istringstream in(text);
    std::string what;
    in >> what;
    if (what == "map") map(in, descriptor);
    if (what == "run") run_message(in);
    if (what == "unmap") {
      uint64_t id;
      in >> id;
      unmap(id);
    }
    if (descriptor >= 0) close(descriptor);
  }
}
