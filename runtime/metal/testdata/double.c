// A double of libobjc, Foundation and Metal in one shared object, for Linux.
//
// objc_msgSend jumps to methods that have their real C signatures, with all
// registers and the stack as they came: an argument in the wrong place, a struct
// passed in the wrong way or a result of the wrong kind gives wrong values here
// as it would on macOS. What is wrong is a complaint; see double_complaints.
//
//   cc -O1 -shared -fPIC -o double.so double.c
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t NSUInteger;
typedef struct { NSUInteger width, height, depth; } MTLSize;
typedef const char *SEL;
typedef struct object *id;

enum { maxHeld = 256, maxBound = 31, maxDispatches = 256 };

typedef struct {
  id pipeline;
  MTLSize groups, threads;
  id buffer[maxBound];
  NSUInteger offset[maxBound];
  uint8_t bytes[maxBound][64];
} Dispatch;

struct object {
  const char *class;
  int references;
  char *text;           // NSString, NSError, MTLFunction, MTLComputePipelineState
  void *memory;         // MTLBuffer, dispatch_data
  NSUInteger length;
  int owned;            // memory is Metal's
  id held[maxHeld];     // NSArray, and what must live as long
  int count;
  NSUInteger value;     // language version, or status
  Dispatch next;        // of a MTLComputeCommandEncoder
  Dispatch *dispatches; // of a MTLCommandBuffer
  int dispatched, open;
};

static char complaints[4096];
static int live;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void complain(const char *format, ...) {
  pthread_mutex_lock(&lock);
  size_t n = strlen(complaints);
  va_list args;
  va_start(args, format);
  vsnprintf(complaints + n, sizeof complaints - n - 1, format, args);
  va_end(args);
  strcat(complaints, "\n");
  pthread_mutex_unlock(&lock);
}

const char *double_complaints(void) { return complaints; }
void double_forget(void) { complaints[0] = 0; }
int double_live(void) { return __atomic_load_n(&live, __ATOMIC_SEQ_CST); }

static id new(const char *class) {
  id o = calloc(1, sizeof *o);
  o->class = class;
  o->references = 1;
  __atomic_add_fetch(&live, 1, __ATOMIC_SEQ_CST);
  return o;
}

static id hold(id o) {
  __atomic_add_fetch(&o->references, 1, __ATOMIC_SEQ_CST);
  return o;
}

// Objects that were released stay in memory, so that messages to them are seen.
static void drop(id o) {
  int left = __atomic_sub_fetch(&o->references, 1, __ATOMIC_SEQ_CST);
  if (left < 0) complain("%s released once too often", o->class);
  if (left != 0) return;
  __atomic_sub_fetch(&live, 1, __ATOMIC_SEQ_CST);
  if (o->open) complain("%s released with an encoder that was not ended", o->class);
  if (o->owned) free(o->memory);
  for (int i = 0; i < o->count; i++) drop(o->held[i]);
  free(o->dispatches);
}

static void keep(id o, id other) {
  if (o->count == maxHeld) abort();
  o->held[o->count++] = other;
}

static id string(const char *text, size_t n) {
  id o = new("NSString");
  o->text = strndup(text, n);
  return o;
}

// Autorelease pools, of each thread.
static __thread id pool[65536];
static __thread intptr_t pooled;
void *objc_autoreleasePoolPush(void) { return (void *)(pooled + 1); }
void objc_autoreleasePoolPop(void *token) {
  intptr_t to = (intptr_t)token - 1;
  if (to < 0 || to > pooled) complain("a pool was popped that is not of this thread");
  while (pooled > to) drop(pool[--pooled]);
}
static id autorelease(id o) { return pool[pooled++] = o; }

static id error(id *to, const char *words) {
  if (!to) { complain("no NSError **"); return 0; }
  *to = autorelease(new("NSError"));
  (*to)->text = strdup(words);
  return 0;
}

// Selectors are their names, once each. Classes are objects whose name has a +.
static const char *names[512];
static int nameCount;
SEL sel_registerName(const char *name) {
  pthread_mutex_lock(&lock);
  int i = 0;
  while (i < nameCount && strcmp(names[i], name)) i++;
  if (i == nameCount) names[nameCount++] = strdup(name);
  pthread_mutex_unlock(&lock);
  return names[i];
}
const char *double_selector(int i) { return i < nameCount ? names[i] : ""; }

static struct object classes[] = {{"+NSString"}, {"+NSProcessInfo"}, {"+MTLCompileOptions"}, {"+MTLResidencySetDescriptor"}};
id objc_getClass(const char *name) {
  for (unsigned i = 0; i < sizeof classes / sizeof *classes; i++)
    if (!strcmp(classes[i].class + 1, name)) { classes[i].references = 1 << 30; return &classes[i]; }
  complain("no class %s", name);
  return 0;
}

// Methods. BOOLs have rubbish above their byte, as they may.
#define METHOD(name, result, ...) static result name(id self, SEL _cmd, ##__VA_ARGS__)
enum { yes = 0x7701, no = 0x7700 };

METHOD(release, void) { drop(self); }
METHOD(alloc, id) { return new(self->class + 1); }
METHOD(itself, id) { return self; }
METHOD(ignore, void) {}
METHOD(ignoreArgument, void, id argument) { if (argument && !argument->class) complain("an argument of %s is no object", _cmd); }
METHOD(respondsToSelector, NSUInteger, SEL s) { return !strcmp(s, "newResidencySetWithDescriptor:error:") || !strcmp(s, "setMathMode:") ? yes : no; }

METHOD(initWithCString, id, const char *text, NSUInteger encoding) {
  if (encoding != 4) complain("encoding %lu", encoding);
  self->text = strdup(text);
  return self;
}
METHOD(text, const char *) { return self->text; }
METHOD(textLength, NSUInteger, NSUInteger encoding) { return strlen(self->text); }
METHOD(count, NSUInteger) { return self->count; }
METHOD(objectAtIndex, id, NSUInteger i) { return self->held[i]; }
METHOD(description, id) { return autorelease(string(self->text, strlen(self->text))); }
METHOD(domain, id) { return autorelease(string("DoubleErrorDomain", 17)); }
METHOD(code, int64_t) { return -7; }
METHOD(processInfo, id) { return autorelease(new("NSProcessInfo")); }
METHOD(systemVersion, id) { return autorelease(string("Version 1 (of double)", 21)); }

METHOD(deviceName, id) { return autorelease(string("double", 6)); }
METHOD(supportsFamily, NSUInteger, int64_t family) { return family <= 1009 || family == 5001 ? yes : no; }
METHOD(maxBufferLength, NSUInteger) { return 1ull << 30; }
METHOD(maxThreadgroupMemory, NSUInteger) { return 32768; }
METHOD(newCommandQueue, id) { return new("MTLCommandQueue"); }

METHOD(newBuffer, id, NSUInteger length, NSUInteger options) {
  if (!length || options) complain("newBufferWithLength: %lu options: %lu", length, options);
  id b = new("MTLBuffer");
  b->memory = calloc(1, length);
  b->length = length;
  b->owned = 1;
  return b;
}
METHOD(newBufferNoCopy, id, void *memory, NSUInteger length, NSUInteger options, void *deallocator) {
  if ((uintptr_t)memory % 4096 || !length || length % 4096 || options || deallocator)
    complain("newBufferWithBytesNoCopy: %p length: %lu options: %lu deallocator: %p", memory, length, options, deallocator);
  id b = new("MTLBuffer");
  b->memory = memory;
  b->length = length;
  return b;
}
METHOD(contents, void *) { return self->memory; }

METHOD(setLanguageVersion, void, NSUInteger version) { self->value = version; }
METHOD(setMathMode, void, int64_t mode) { if (mode) complain("math mode %ld", mode); }
METHOD(setMathFunctions, void, int64_t functions) { if (functions != 1) complain("math functions %ld", functions); }
METHOD(newLibraryWithSource, id, id source, id options, id *failure) {
  if (strcmp(source->class, "NSString") || strcmp(options->class, "MTLCompileOptions") || options->value != (3 << 16 | 1))
    complain("newLibraryWithSource: a %s options: a %s of language version %#lx", source->class, options->class, options->value);
  if (strstr(source->text, "#error")) return error(failure, "program_source:1:2: error: refused, Ümläute and all");
  id library = new("MTLLibrary");
  for (char *p = source->text; (p = strstr(p, "kernel void "));) {
    p += 12;
    keep(library, string(p, strcspn(p, "(")));
  }
  return library;
}
METHOD(newLibraryWithData, id, id data, id *failure) {
  if (strcmp(data->class, "dispatch_data")) complain("newLibraryWithData: a %s", data->class);
  if (data->length < 5 || memcmp(data->memory, "MTLB\n", 5)) return error(failure, "Invalid library file");
  id library = new("MTLLibrary");
  for (char *p = (char *)data->memory + 5, *end = (char *)data->memory + data->length; p < end;) {
    char *stop = memchr(p, '\n', end - p);
    if (!stop) stop = end;
    keep(library, string(p, stop - p));
    p = stop + 1;
  }
  return library;
}
METHOD(functionNames, id) {
  id array = new("NSArray");
  for (int i = 0; i < self->count; i++) keep(array, hold(self->held[i]));
  return autorelease(array);
}
METHOD(newFunction, id, id name) {
  for (int i = 0; i < self->count; i++)
    if (!strcmp(self->held[i]->text, name->text)) {
      id f = new("MTLFunction");
      f->text = strdup(name->text);
      return f;
    }
  return 0;
}
METHOD(newPipeline, id, id function, id *failure) {
  if (!failure) complain("no NSError **");
  id p = new("MTLComputePipelineState");
  p->text = strdup(function->text);
  return p;
}
METHOD(maxThreads, NSUInteger) { return 1024; }
METHOD(simdgroup, NSUInteger) { return 32; }
METHOD(threadgroupMemory, NSUInteger) { return 0; }
METHOD(newResidencySet, id, id descriptor, id *failure) {
  if (!failure || strcmp(descriptor->class, "MTLResidencySetDescriptor")) complain("newResidencySetWithDescriptor: a %s", descriptor->class);
  return new("MTLResidencySet");
}

METHOD(commandBuffer, id) {
  id c = new("MTLCommandBuffer");
  c->dispatches = calloc(maxDispatches, sizeof(Dispatch));
  return autorelease(c);
}
METHOD(newEncoder, id, NSUInteger type) {
  if (type != 1) complain("dispatch type %lu", type);
  id e = new("MTLComputeCommandEncoder");
  keep(e, hold(self));
  self->open = e->open = 1;
  return autorelease(e);
}
METHOD(setPipeline, void, id pipeline) { self->next.pipeline = pipeline; }
METHOD(setBuffer, void, id buffer, NSUInteger offset, NSUInteger index) {
  if (strcmp(buffer->class, "MTLBuffer") || index >= maxBound || offset >= buffer->length) {
    complain("setBuffer: a %s offset: %lu atIndex: %lu", buffer->class, offset, index);
    return;
  }
  self->next.buffer[index] = buffer;
  self->next.offset[index] = offset;
}
METHOD(setBytes, void, const void *bytes, NSUInteger length, NSUInteger index) {
  if (!bytes || length > 64 || index >= maxBound) {
    complain("setBytes: %p length: %lu atIndex: %lu", bytes, length, index);
    return;
  }
  memcpy(self->next.bytes[index], bytes, length);
}
METHOD(barrier, void, NSUInteger scope) { if (scope != 1) complain("memoryBarrierWithScope: %lu", scope); }
METHOD(dispatch, void, MTLSize groups, MTLSize threads) {
  if (!self->next.pipeline || groups.width - 1 >= 1 << 16 || groups.height - 1 >= 1 << 16 || groups.depth - 1 >= 1 << 16 ||
      threads.width - 1 >= 1024 || threads.height - 1 >= 1024 || threads.depth - 1 >= 1024) {
    complain("MTLSizes came as %lu, %lu, %lu and %lu, %lu, %lu", groups.width, groups.height, groups.depth, threads.width, threads.height, threads.depth);
    return;
  }
  id c = self->held[0];
  if (c->dispatched == maxDispatches) abort();
  self->next.groups = groups;
  self->next.threads = threads;
  c->dispatches[c->dispatched++] = self->next;
}
METHOD(endEncoding, void) { self->open = self->held[0]->open = 0; }
METHOD(commit, void) {
  if (self->open || self->value) complain("commit of a command buffer with an encoder that was not ended, or again");
  self->value = 2;
}

// The kernels of grouping, as many groups of as many threads as they were
// dispatched with. See specs/passes.yaml.
typedef struct { uint32_t tokens, slots, experts, hidden, intermediate, rows, items; } Shape;

static void *argument(const Dispatch *d, int i) { return (char *)d->buffer[i]->memory + d->offset[i]; }

static void run(const Dispatch *d) {
  Shape s;
  memcpy(&s, d->bytes[0], sizeof s);
  const char *name = d->pipeline->text;
  uint32_t blocks = (s.rows + 255) / 256;
  int is_count = !strcmp(name, "moe_count"), is_scatter = !strcmp(name, "moe_scatter");
  if (is_count || is_scatter) {
    uint32_t *chosen = argument(d, 1);
    for (uint32_t b = 0; b < d->groups.width && b < blocks; b++) {
      uint32_t *counts = calloc(s.experts, 4);
      for (uint32_t t = 0, i = 256 * b; t < d->threads.width && i < s.rows; t++, i++) {
        uint32_t expert = chosen[i], before = counts[expert]++;
        if (is_count) continue;
        uint32_t row = ((uint32_t *)argument(d, 3))[b * s.experts + expert] + before;
        ((uint32_t *)argument(d, 4))[row] = i / s.slots;
        ((float *)argument(d, 5))[row] = ((float *)argument(d, 2))[i];
        ((uint32_t *)argument(d, 6))[i] = row;
      }
      if (is_count) memcpy((uint32_t *)argument(d, 2) + b * s.experts, counts, 4 * s.experts);
      free(counts);
    }
  } else if (!strcmp(name, "moe_prefix")) {
    uint32_t *counts = argument(d, 1), *base = argument(d, 2), *offsets = argument(d, 3), sum = 0;
    for (uint32_t e = 0; e < s.experts; e++) {
      offsets[e] = sum;
      for (uint32_t b = 0; b < blocks; b++) {
        base[b * s.experts + e] = sum;
        sum += counts[b * s.experts + e];
      }
    }
    offsets[s.experts] = sum;
  } else if (!strcmp(name, "moe_combine")) {
    uint32_t *row = argument(d, 1);
    float *y = argument(d, 2), *out = argument(d, 3);
    for (uint32_t token = 0; token < d->groups.height; token++)
      for (uint32_t group = 0; group < d->groups.width; group++)
        for (uint32_t i = 128 * group, t = 0; t < d->threads.width && i < s.hidden; t++, i++) {
          float sum = 0;
          for (uint32_t slot = 0; slot < s.slots; slot++) sum += y[(uint64_t)row[token * s.slots + slot] * s.hidden + i];
          out[(uint64_t)token * s.hidden + i] = sum;
        }
  } else {
    complain("the double has no kernel %s", name);
  }
}

METHOD(waitUntilCompleted, void) {
  if (self->value != 2) complain("waitUntilCompleted with status %lu", self->value);
  for (int i = 0; i < self->dispatched; i++) run(&self->dispatches[i]);
  self->value = 4;
}
METHOD(status, NSUInteger) { return self->value; }
METHOD(noError, id) { return 0; }
METHOD(gpuStart, double) { return 10.25; }
METHOD(gpuEnd, double) { return 10.75; }

static const struct { const char *class, *selector; void *method; } methods[] = {
  {0, "release", release}, {0, "alloc", alloc}, {0, "init", itself}, {0, "respondsToSelector:", respondsToSelector},
  {"NSString", "initWithCString:encoding:", initWithCString}, {"NSString", "UTF8String", text},
  {"NSString", "lengthOfBytesUsingEncoding:", textLength}, {"NSArray", "count", count}, {"NSArray", "objectAtIndex:", objectAtIndex},
  {"NSError", "localizedDescription", description}, {"NSError", "domain", domain}, {"NSError", "code", code},
  {"+NSProcessInfo", "processInfo", processInfo}, {"NSProcessInfo", "operatingSystemVersionString", systemVersion},
  {"MTLDevice", "name", deviceName}, {"MTLDevice", "supportsFamily:", supportsFamily}, {"MTLDevice", "maxBufferLength", maxBufferLength},
  {"MTLDevice", "maxThreadgroupMemoryLength", maxThreadgroupMemory}, {"MTLDevice", "newCommandQueue", newCommandQueue},
  {"MTLDevice", "newBufferWithLength:options:", newBuffer},
  {"MTLDevice", "newBufferWithBytesNoCopy:length:options:deallocator:", newBufferNoCopy}, {"MTLBuffer", "contents", contents},
  {"MTLCompileOptions", "setLanguageVersion:", setLanguageVersion}, {"MTLCompileOptions", "setMathMode:", setMathMode},
  {"MTLCompileOptions", "setMathFloatingPointFunctions:", setMathFunctions},
  {"MTLDevice", "newLibraryWithSource:options:error:", newLibraryWithSource}, {"MTLDevice", "newLibraryWithData:error:", newLibraryWithData},
  {"MTLLibrary", "functionNames", functionNames}, {"MTLLibrary", "newFunctionWithName:", newFunction},
  {"MTLDevice", "newComputePipelineStateWithFunction:error:", newPipeline},
  {"MTLComputePipelineState", "maxTotalThreadsPerThreadgroup", maxThreads}, {"MTLComputePipelineState", "threadExecutionWidth", simdgroup},
  {"MTLComputePipelineState", "staticThreadgroupMemoryLength", threadgroupMemory},
  {"MTLDevice", "newResidencySetWithDescriptor:error:", newResidencySet}, {"MTLResidencySet", "addAllocation:", ignoreArgument},
  {"MTLResidencySet", "removeAllocation:", ignoreArgument}, {"MTLResidencySet", "commit", ignore},
  {"MTLResidencySet", "requestResidency", ignore}, {"MTLResidencySet", "endResidency", ignore},
  {"MTLCommandQueue", "addResidencySet:", ignoreArgument}, {"MTLCommandQueue", "removeResidencySet:", ignoreArgument},
  {"MTLCommandQueue", "commandBuffer", commandBuffer}, {"MTLCommandBuffer", "computeCommandEncoderWithDispatchType:", newEncoder},
  {"MTLComputeCommandEncoder", "setComputePipelineState:", setPipeline}, {"MTLComputeCommandEncoder", "setBuffer:offset:atIndex:", setBuffer},
  {"MTLComputeCommandEncoder", "setBytes:length:atIndex:", setBytes}, {"MTLComputeCommandEncoder", "memoryBarrierWithScope:", barrier},
  {"MTLComputeCommandEncoder", "dispatchThreadgroups:threadsPerThreadgroup:", dispatch},
  {"MTLComputeCommandEncoder", "endEncoding", endEncoding}, {"MTLCommandBuffer", "commit", commit},
  {"MTLCommandBuffer", "waitUntilCompleted", waitUntilCompleted}, {"MTLCommandBuffer", "status", status},
  {"MTLCommandBuffer", "error", noError}, {"MTLCommandBuffer", "GPUStartTime", gpuStart}, {"MTLCommandBuffer", "GPUEndTime", gpuEnd},
};

static NSUInteger nothing(void) { return 0; }

// lookup returns the method for a message. objc_msgSend calls it.
__attribute__((visibility("hidden"), used)) void *lookup(id self, SEL selector) {
  if (!self) { complain("%s sent to nil", selector); return nothing; }
  if (self->references <= 0) complain("%s sent to a released %s", selector, self->class);
  for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++)
    if (!strcmp(methods[i].selector, selector) && (!methods[i].class || !strcmp(methods[i].class, self->class))) return methods[i].method;
  complain("-[%s %s]: unrecognized selector", self->class, selector);
  return nothing;
}

id dispatch_data_create(const void *bytes, size_t n, void *queue, void *destructor) {
  if (queue || destructor) complain("dispatch_data_create with a queue or a destructor");
  id data = new("dispatch_data");
  data->memory = memcpy(malloc(n), bytes, n);
  data->length = n;
  data->owned = 1;
  return data;
}
void dispatch_release(id data) { drop(data); }
id MTLCreateSystemDefaultDevice(void) { return new("MTLDevice"); }

#if defined __x86_64__
__asm__(".globl objc_msgSend\n.type objc_msgSend,@function\nobjc_msgSend:\n"
        " push %rbp\n mov %rsp,%rbp\n push %rdi\n push %rsi\n push %rdx\n push %rcx\n push %r8\n push %r9\n"
        " call lookup\n"
        " pop %r9\n pop %r8\n pop %rcx\n pop %rdx\n pop %rsi\n pop %rdi\n pop %rbp\n jmp *%rax\n");
#elif defined __aarch64__
__asm__(".globl objc_msgSend\n.type objc_msgSend,%function\nobjc_msgSend:\n"
        " stp x29,x30,[sp,#-96]!\n mov x29,sp\n stp x0,x1,[sp,#16]\n stp x2,x3,[sp,#32]\n stp x4,x5,[sp,#48]\n stp x6,x7,[sp,#64]\n str x8,[sp,#80]\n"
        " bl lookup\n mov x16,x0\n"
        " ldp x0,x1,[sp,#16]\n ldp x2,x3,[sp,#32]\n ldp x4,x5,[sp,#48]\n ldp x6,x7,[sp,#64]\n ldr x8,[sp,#80]\n ldp x29,x30,[sp],#96\n br x16\n");
#endif
