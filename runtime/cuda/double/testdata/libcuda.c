/* A double of libcuda.so.1 for machines without a GPU. It is strict: what the
   driver leaves undefined, or forgives, is a complaint, and an error for the
   caller. Work in a stream is done as late as the driver may do it, memory of
   the device lies at addresses that the host cannot read, and kernels are run
   by whoever called double_set_runner. */
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef int result;
typedef uint64_t pointer;

enum {
	OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
	INVALID_PTX = 218, UNSUPPORTED_PTX = 222, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
	ILLEGAL_ADDRESS = 700, OUT_OF_RESOURCES = 701, CAPTURE_UNSUPPORTED = 900, CAPTURE_ISOLATION = 905,
	FUNCTION_NOT_LOADED = 913,
};

enum { MAX_PARAMS = 32, DEVICES = 2, SHARED = 49152, SHARED_OPTIN = 232448, THREADS = 1024 };

/* What a test has set. */
static long version, devices, init_result, free_memory, fail_launch, registers;

static long early_launches;

static int (*runner)(const void *);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- complaints */

static char complaints[1 << 16];

static result complain(result r, const char *format, ...) {
	size_t n = strlen(complaints);
	va_list args;
	va_start(args, format);
	vsnprintf(complaints + n, sizeof complaints - n - 1, format, args);
	va_end(args);
	n = strlen(complaints);
	if (n < sizeof complaints - 2) strcpy(complaints + n, "\n");
	return r;
}

/* ---- things: they are never freed, so that their use after that is found */

typedef enum { CONTEXT = 1, MEMORY, HOST, STREAM, EVENT, MODULE, FUNCTION, GRAPH, EXEC } kind;
static const char *kinds[] = {"nothing", "context", "memory", "host memory", "stream", "event", "module", "function", "graph", "executable graph"};

typedef struct context context;
typedef struct thing { kind kind; int live; context *owner; struct thing *next; } thing;
static thing *all;
static __thread context *current;

static void *make(kind k, size_t size) {
	thing *t = calloc(1, size);
	t->kind = k, t->live = 1, t->owner = k == CONTEXT ? NULL : current, t->next = all, all = t;
	return t;
}

/* find returns the live thing at an address, or complains. */
static void *find(kind k, void *p, const char *call) {
	for (thing *t = all; t; t = t->next)
		if (t == p) {
			if (t->kind == k && t->live && t->owner && t->owner != current) {
				complain(0, "%s: a %s of another context", call, kinds[k]);
				return NULL;
			}
			if (t->kind == k && t->live) return t;
			complain(0, "%s: a %s%s for a %s", call, t->live ? "" : "dead ", kinds[t->kind], kinds[k]);
			return NULL;
		}
	complain(0, "%s: %p is no %s", call, p, kinds[k]);
	return NULL;
}

/* ---- the context */

struct context { thing t; int device, references; result lost; };
static context *contexts[DEVICES];
static __thread struct stream *capturing; /* by this thread */

/* CALL begins every function that needs a context, and END ends it. */
#define CALL(name) \
	const char *call = #name; \
	result r = OK; \
	pthread_mutex_lock(&lock); \
	do { \
		if (!current || !current->t.live) { r = complain(INVALID_CONTEXT, "%s: no context is current", call); break; } \
		if (current->lost) { r = current->lost; break; }
#define END \
	} while (0); \
	pthread_mutex_unlock(&lock); \
	return r;
#define FAIL(code, ...) { r = complain(code, __VA_ARGS__); break; }
#define FIND(var, type, kind, p) type *var = find(kind, (void *)(p), call); if (!var) { r = INVALID_HANDLE; break; }
#define UNSAFE if (capturing) FAIL(CAPTURE_UNSUPPORTED, "%s while the thread captures", call)

result cuInit(unsigned flags) { return flags ? complain(INVALID_VALUE, "cuInit: flags %u", flags) : init_result; }
result cuDriverGetVersion(int *v) { *v = version; return OK; }
result cuDeviceGetCount(int *n) { *n = devices; return OK; }
result cuDeviceGet(int *d, int index) { if (index < 0 || index >= devices) return INVALID_DEVICE; *d = index; return OK; }
result cuDeviceGetName(char *name, int size, int d) { snprintf(name, size, "Double %d", d); return OK; }
result cuDeviceGetAttribute(int *v, int a, int d) {
	switch (a) {
	case 1: *v = THREADS; return OK;
	case 75: *v = 9; return OK;
	case 76: *v = 0; return OK;
	case 97: *v = SHARED_OPTIN; return OK;
	}
	return complain(INVALID_VALUE, "cuDeviceGetAttribute: the double does not know %d", a);
}

result cuDevicePrimaryCtxRetain(context **c, int d) {
	pthread_mutex_lock(&lock);
	if (!contexts[d] || !contexts[d]->t.live) contexts[d] = make(CONTEXT, sizeof(context)), contexts[d]->device = d;
	contexts[d]->references++;
	*c = contexts[d];
	pthread_mutex_unlock(&lock);
	return OK;
}

result cuDevicePrimaryCtxRelease_v2(int d) {
	pthread_mutex_lock(&lock);
	context *c = contexts[d];
	result r = OK;
	if (!c || !c->t.live) r = complain(INVALID_CONTEXT, "cuDevicePrimaryCtxRelease: more releases than retains");
	else if (!--c->references) {
		c->t.live = 0;
		for (thing *t = all; t && !c->lost; t = t->next)
			if (t->live && t->owner == c && t->kind != FUNCTION) complain(0, "a %s is left when the context ends", kinds[t->kind]), t->live = 0;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

result cuCtxSetCurrent(context *c) {
	pthread_mutex_lock(&lock);
	result r = c && !find(CONTEXT, c, "cuCtxSetCurrent") ? INVALID_CONTEXT : OK;
	if (!r) current = c;
	pthread_mutex_unlock(&lock);
	return r;
}

/* ---- streams */

typedef struct { thing t; char *bytes; size_t size; } memory;
typedef struct module { thing t; int n; struct function *functions; } module;
typedef struct function { thing t; char name[128]; int n; size_t offsets[MAX_PARAMS], sizes[MAX_PARAMS]; long dynamic, shared; int loaded, waits; } function;

typedef struct event { thing t; struct stream *s; uint64_t at; int recorded, passed; double ms; } event;

typedef enum { LAUNCH, UPLOAD, COPY, ROWS, FILL, MARK, WAIT } op_kind;
typedef struct op {
	op_kind kind;
	struct op *next;
	uint64_t at;
	function *f; unsigned grid[3], block[3], shared; char params[MAX_PARAMS][64];
	pointer to, from; const void *host; size_t size, count, to_pitch, from_pitch; int value;
	event *e;
} op;

typedef struct stream { thing t; op *first, **end; uint64_t put, done; struct graph *graph; } stream;
typedef struct graph { thing t; op *first, **end; } graph;

static void put(op **first, op ***end, op *o) {
	if (!*first) *end = first;
	o->next = NULL;
	**end = o;
	*end = &o->next;
}

static void enqueue(stream *s, const op *o) {
	op *copy = malloc(sizeof *copy);
	*copy = *o;
	copy->at = ++s->put;
	put(&s->first, &s->end, copy);
}

static void capture(stream *s, const op *o) {
	op *copy = malloc(sizeof *copy);
	*copy = *o;
	put(&s->graph->first, &s->graph->end, copy);
}

/* Memory of the device lies at the host's addresses and this. */
static const pointer away = 1ull << 60;

/* range returns the host's address of a range of the device's memory. */
static char *range(pointer p, size_t size, size_t *rest, const char *what) {
	for (thing *t = all; t; t = t->next) {
		memory *m = (memory *)t;
		if (t->kind != MEMORY || t->owner != current) continue;
		pointer base = (pointer)(uintptr_t)m->bytes + away;
		if (p < base || p > base + m->size) continue;
		if (!t->live) { complain(0, "%s: memory at %#llx was freed", what, (unsigned long long)p); return NULL; }
		if (size > m->size - (p - base)) { complain(0, "%s: %zu bytes at %llu of %zu", what, size, (unsigned long long)(p - base), m->size); return NULL; }
		if (rest) *rest = m->size - (p - base);
		return m->bytes + (p - base);
	}
	complain(0, "%s: %#llx is no address of the device", what, (unsigned long long)p);
	return NULL;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* What the runner is given. */
typedef struct { void *bytes; uint64_t size; } argument;
typedef struct { const char *name; uint32_t grid[3], block[3], shared, n; argument args[MAX_PARAMS]; } launch;

static result run(op *o) {
	launch l = {.name = o->f->name, .shared = o->shared, .n = o->f->n};
	memcpy(l.grid, o->grid, sizeof l.grid);
	memcpy(l.block, o->block, sizeof l.block);
	for (int i = 0; i < o->f->n; i++) {
		l.args[i].bytes = o->params[i], l.args[i].size = o->f->sizes[i];
		if (o->f->sizes[i] == 8) {
			pointer p;
			memcpy(&p, o->params[i], 8);
			size_t rest;
			if (!(l.args[i].bytes = range(p, 0, &rest, o->f->name))) return ILLEGAL_ADDRESS;
			l.args[i].size = rest;
		}
	}
	if (fail_launch && !--fail_launch) return ILLEGAL_ADDRESS;
	if (!runner) return complain(ILLEGAL_ADDRESS, "nothing runs %s", o->f->name);
	return runner(&l) ? ILLEGAL_ADDRESS : OK;
}

/* drain does what is in s up to an operation. */
static result drain(stream *s, uint64_t to) {
	while (s->first && s->first->at <= to) {
		op *o = s->first;
		s->first = o->next;
		s->done = o->at;
		char *to, *from;
		result r = OK;
		switch (o->kind) {
		case LAUNCH: r = run(o); break;
		case UPLOAD: if (!(to = range(o->to, o->size, NULL, "upload"))) r = ILLEGAL_ADDRESS; else memcpy(to, o->host, o->size); break;
		case COPY:
			to = range(o->to, o->size, NULL, "copy"), from = range(o->from, o->size, NULL, "copy");
			if (!to || !from) r = ILLEGAL_ADDRESS; else memcpy(to, from, o->size);
			break;
		case ROWS:
			for (size_t i = 0; i < o->count && !r; i++) {
				to = range(o->to + i * o->to_pitch, o->size, NULL, "copy"), from = range(o->from + i * o->from_pitch, o->size, NULL, "copy");
				if (!to || !from) r = ILLEGAL_ADDRESS; else memcpy(to, from, o->size);
			}
			break;
		case FILL: if (!(to = range(o->to, o->size, NULL, "fill"))) r = ILLEGAL_ADDRESS; else memset(to, o->value, o->size); break;
		case MARK: if (o->e->at == o->at) o->e->passed = 1, o->e->ms = now(); break;
		case WAIT: if (o->e->s != s) r = drain(o->e->s, o->size); break;
		}
		free(o);
		if (r) return s->t.owner->lost = r;
	}
	return OK;
}

static result drain_all(context *c) {
	for (thing *t = all; t; t = t->next) {
		stream *s = (stream *)t;
		result r;
		if (t->kind == STREAM && t->live && t->owner == c && !s->graph && (r = drain(s, UINT64_MAX))) return r;
	}
	return OK;
}

#define IDLE(s) if ((s)->graph) FAIL(CAPTURE_UNSUPPORTED, "%s on a stream that captures", call)

result cuStreamCreate(stream **out, unsigned flags) {
	CALL(cuStreamCreate) UNSAFE
	if (flags != 1) FAIL(INVALID_VALUE, "cuStreamCreate: flags %u: the stream would wait for others", flags)
	*out = make(STREAM, sizeof(stream));
	END
}

result cuStreamSynchronize(stream *p) {
	CALL(cuStreamSynchronize)
	FIND(s, stream, STREAM, p) IDLE(s)
	r = drain(s, UINT64_MAX);
	END
}

result cuStreamDestroy_v2(stream *p) {
	CALL(cuStreamDestroy)
	FIND(s, stream, STREAM, p) IDLE(s)
	if (s->first) complain(0, "cuStreamDestroy: the stream has work left");
	s->t.live = 0;
	END
}

result cuEventCreate(event **out, unsigned flags) {
	CALL(cuEventCreate) UNSAFE
	*out = make(EVENT, sizeof(event));
	END
}

result cuEventRecord(event *p, stream *q) {
	CALL(cuEventRecord)
	FIND(e, event, EVENT, p) FIND(s, stream, STREAM, q) IDLE(s)
	op o = {.kind = MARK, .e = e};
	enqueue(s, &o);
	e->s = s, e->at = s->put, e->recorded = 1, e->passed = 0;
	END
}

result cuStreamWaitEvent(stream *p, event *q, unsigned flags) {
	CALL(cuStreamWaitEvent)
	FIND(s, stream, STREAM, p) FIND(e, event, EVENT, q)
	if (s->graph) FAIL(CAPTURE_ISOLATION, "%s: from without what is captured", call)
	if (flags || !e->recorded) FAIL(INVALID_VALUE, "%s: flags %u, recorded %d", call, flags, e->recorded)
	op o = {.kind = WAIT, .e = e, .size = e->at};
	enqueue(s, &o);
	END
}

result cuEventElapsedTime(float *ms, event *p, event *q) {
	CALL(cuEventElapsedTime)
	FIND(a, event, EVENT, p) FIND(b, event, EVENT, q)
	if (!a->recorded || !b->recorded) FAIL(INVALID_HANDLE, "%s: an event was never recorded", call)
	if (!a->passed || !b->passed) FAIL(NOT_READY, "%s: an event has not passed", call)
	*ms = b->ms - a->ms;
	END
}

result cuEventDestroy_v2(event *p) {
	CALL(cuEventDestroy)
	FIND(e, event, EVENT, p)
	e->t.live = 0;
	END
}

/* ---- memory */

result cuMemAlloc_v2(pointer *out, size_t size) {
	CALL(cuMemAlloc) UNSAFE
	if (!size) FAIL(INVALID_VALUE, "cuMemAlloc of 0 bytes")
	if ((long)size > free_memory) { r = OUT_OF_MEMORY; break; }
	memory *m = make(MEMORY, sizeof(memory));
	m->size = size;
	m->bytes = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m->bytes, 0xa5, size);
	*out = (pointer)(uintptr_t)m->bytes + away;
	END
}

result cuMemFree_v2(pointer p) {
	CALL(cuMemFree) UNSAFE
	memory *m = NULL;
	for (thing *t = all; t && !m; t = t->next)
		if (t->kind == MEMORY && t->live && t->owner == current && (pointer)(uintptr_t)((memory *)t)->bytes + away == p) m = (memory *)t;
	if (!m) FAIL(INVALID_VALUE, "cuMemFree: %#llx was not allocated", (unsigned long long)p)
	r = drain_all(current);
	m->t.live = 0;
	/* No other memory gets its address. */
	mmap(m->bytes, m->size + 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	END
}

result cuMemHostAlloc(void **out, size_t size, unsigned flags) {
	CALL(cuMemHostAlloc) UNSAFE
	memory *m = make(HOST, sizeof(memory));
	m->size = size;
	*out = m->bytes = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
	END
}

static memory *host(const void *p) {
	for (thing *t = all; t; t = t->next) {
		memory *m = (memory *)t;
		if (t->kind == HOST && t->live && (char *)p >= m->bytes && (char *)p < m->bytes + m->size) return m;
	}
	return NULL;
}

result cuMemFreeHost(void *p) {
	CALL(cuMemFreeHost) UNSAFE
	memory *m = host(p);
	if (!m || m->bytes != p) FAIL(INVALID_VALUE, "cuMemFreeHost: %p was not allocated", p)
	r = drain_all(current);
	m->t.live = 0;
	END
}

result cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t size, stream *q) {
	CALL(cuMemcpyHtoDAsync)
	FIND(s, stream, STREAM, q) IDLE(s)
	char *bytes = range(to, size, NULL, call);
	if (!bytes || (size && !from)) { r = INVALID_VALUE; break; }
	memory *m = host(from);
	if (m) {
		if ((char *)from + size > m->bytes + m->size) FAIL(INVALID_VALUE, "%s: %zu bytes from the last of the host's", call, size)
		op o = {.kind = UPLOAD, .to = to, .host = from, .size = size};
		enqueue(s, &o);
	} else if (!(r = drain(s, UINT64_MAX)))
		memcpy(bytes, from, size);
	END
}

result cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t size, stream *q) {
	CALL(cuMemcpyDtoHAsync)
	FIND(s, stream, STREAM, q) IDLE(s)
	if (host(to)) FAIL(INVALID_VALUE, "%s: the double copies to pageable memory alone", call)
	char *bytes = range(from, size, NULL, call);
	if (!bytes || (size && !to)) { r = INVALID_VALUE; break; }
	if (!(r = drain(s, UINT64_MAX))) memcpy(to, bytes, size);
	END
}

result cuMemcpyDtoDAsync_v2(pointer to, pointer from, size_t size, stream *q) {
	CALL(cuMemcpyDtoDAsync)
	FIND(s, stream, STREAM, q) IDLE(s)
	op o = {.kind = COPY, .to = to, .from = from, .size = size};
	if (!range(to, size, NULL, call) || !range(from, size, NULL, call)) { r = INVALID_VALUE; break; }
	enqueue(s, &o);
	END
}

typedef struct { size_t x, y; int kind; void *host; pointer at; void *array; size_t pitch; } side;
typedef struct { side from, to; size_t size, count; } rows;

static int plain(const side *s, size_t size) { return !s->x && !s->y && s->kind == 2 && !s->host && !s->array && s->pitch >= size; }

result cuMemcpy2DAsync_v2(const rows *c, stream *q) {
	CALL(cuMemcpy2DAsync)
	FIND(s, stream, STREAM, q)
	if (!c->size || !c->count || !plain(&c->from, c->size) || !plain(&c->to, c->size)) FAIL(INVALID_VALUE, "%s: no plain rows of the device", call)
	op o = {.kind = ROWS, .to = c->to.at, .from = c->from.at, .size = c->size, .count = c->count, .to_pitch = c->to.pitch, .from_pitch = c->from.pitch};
	if (!range(o.to, (o.count - 1) * o.to_pitch + o.size, NULL, call) || !range(o.from, (o.count - 1) * o.from_pitch + o.size, NULL, call)) { r = INVALID_VALUE; break; }
	if (s->graph) capture(s, &o); else enqueue(s, &o);
	END
}

result cuMemsetD8Async(pointer to, unsigned char value, size_t size, stream *q) {
	CALL(cuMemsetD8Async)
	FIND(s, stream, STREAM, q) IDLE(s)
	op o = {.kind = FILL, .to = to, .size = size, .value = value};
	if (!range(to, size, NULL, call)) { r = INVALID_VALUE; break; }
	enqueue(s, &o);
	END
}

/* ---- modules: as much of PTX as a caller can see */

/* param reads a parameter of an entry at p: .param .align 4 .b8 name[28] */
static int param(const char *p, const char *end, size_t *size, size_t *align) {
	static const struct { const char *type; size_t size; } types[] = {{".u64", 8}, {".b64", 8}, {".s64", 8}, {".u32", 4}, {".b32", 4}, {".f32", 4}, {".b8", 1}, {".u8", 1}};
	*size = *align = 0;
	for (const char *q = p; q < end; q++) {
		if (sscanf(q, ".align %zu", align) == 1) continue;
		for (size_t i = 0; i < sizeof types / sizeof *types; i++)
			if (!*size && !strncmp(q, types[i].type, strlen(types[i].type)) && strchr(" \t", q[strlen(types[i].type)])) *size = types[i].size;
		size_t n;
		if (*q == '[' && sscanf(q, "[%zu]", &n) == 1) *size *= n;
	}
	if (!*align) *align = *size;
	return *size && *size <= 64;
}

static int entry(function *f, const char *name) {
	const char *open = strchr(name, '('), *close = open ? strchr(open, ')') : NULL;
	size_t at = 0;
	if (!close || sscanf(name, "%127[a-zA-Z0-9_$]", f->name) != 1) return 0;
	for (const char *p = strstr(open, ".param"); p && p < close;) {
		const char *next = strstr(p + 1, ".param"), *end = next && next < close ? next : close;
		size_t align;
		if (f->n == MAX_PARAMS || !param(p, end, &f->sizes[f->n], &align)) return 0;
		f->offsets[f->n] = (at + align - 1) / align * align;
		at = f->offsets[f->n] + f->sizes[f->n];
		f->n++;
		p = next;
	}
	return 1;
}

result cuModuleLoadDataEx(module **out, const char *image, unsigned n, const int *options, void **values) {
	CALL(cuModuleLoadDataEx) UNSAFE
	char *log = NULL;
	size_t room = 0;
	for (unsigned i = 0; i < n; i++) {
		if (options[i] == 5) log = values[i];
		if (options[i] == 6) room = (size_t)values[i];
	}
	int major, minor;
	const char *v = strstr(image, "\n.version");
	if (!v || sscanf(v, "\n.version %d.%d", &major, &minor) != 2 || !strstr(v, "\n.target")) {
		if (log) snprintf(log, room, "ptxas application ptx input, line 1; fatal   : Missing .version directive at start of file");
		r = INVALID_PTX;
		break;
	}
	/* CUDA 12.0 reads PTX 8.0, and so on. */
	if (major * 10 + minor > (version / 1000 - 4) * 10 + version % 1000 / 10) {
		if (log) snprintf(log, room, "ptxas application ptx input, line 1; fatal   : Unsupported .version %d.%d", major, minor);
		r = UNSUPPORTED_PTX;
		break;
	}
	module *m = make(MODULE, sizeof(module));
	for (const char *e = strstr(v, ".entry"); e; e = strstr(e + 1, ".entry")) {
		function *f = make(FUNCTION, sizeof(function));
		f->dynamic = SHARED;
		if (!entry(f, e + strspn(e + 6, " \t\n") + 6)) {
			if (log) snprintf(log, room, "the double cannot read: %.60s", e);
			r = INVALID_PTX;
			break;
		}
		const char *next = strstr(e + 1, ".entry"), *wait = strstr(e, "griddepcontrol.wait");
		f->waits = wait && (!next || wait < next);
		m->functions = realloc(m->functions, (m->n + 1) * sizeof f);
		((function **)m->functions)[m->n++] = f;
	}
	if (r) m->t.live = 0; else *out = m;
	END
}

#define FUNCTIONS(m) ((function **)(m)->functions)

result cuModuleUnload(module *p) {
	CALL(cuModuleUnload) UNSAFE
	FIND(m, module, MODULE, p)
	for (int i = 0; i < m->n; i++) {
		for (thing *t = all; t; t = t->next) {
			op *o = !t->live ? NULL : t->kind == STREAM ? ((stream *)t)->first : t->kind == EXEC ? ((graph *)t)->first : NULL;
			for (; o; o = o->next)
				if (o->f == FUNCTIONS(m)[i]) complain(0, "%s: a %s still has %s", call, kinds[t->kind], o->f->name);
		}
		FUNCTIONS(m)[i]->t.live = 0;
	}
	m->t.live = 0;
	END
}

result cuModuleGetFunction(function **out, module *p, const char *name) {
	CALL(cuModuleGetFunction)
	FIND(m, module, MODULE, p)
	r = NOT_FOUND;
	for (int i = 0; i < m->n; i++)
		if (!strcmp(FUNCTIONS(m)[i]->name, name)) *out = FUNCTIONS(m)[i], (*out)->loaded = 1, r = OK;
	END
}

#define LOADED(f) if (!(f)->loaded) FAIL(FUNCTION_NOT_LOADED, "%s: %s is not loaded", call, (f)->name)

#ifndef DRIVER_12_3
result cuModuleGetFunctionCount(unsigned *n, module *p) {
	CALL(cuModuleGetFunctionCount)
	FIND(m, module, MODULE, p)
	*n = m->n;
	END
}

result cuModuleEnumerateFunctions(function **out, unsigned n, module *p) {
	CALL(cuModuleEnumerateFunctions)
	FIND(m, module, MODULE, p)
	for (unsigned i = 0; i < n && (int)i < m->n; i++) out[i] = FUNCTIONS(m)[i];
	END
}

result cuFuncLoad(function *p) {
	CALL(cuFuncLoad) UNSAFE
	FIND(f, function, FUNCTION, p)
	f->loaded = 1;
	END
}

result cuFuncGetName(const char **name, function *p) {
	CALL(cuFuncGetName)
	FIND(f, function, FUNCTION, p)
	*name = f->name;
	END
}

result cuFuncGetParamInfo(function *p, size_t i, size_t *offset, size_t *size) {
	CALL(cuFuncGetParamInfo)
	FIND(f, function, FUNCTION, p)
	if (i >= (size_t)f->n) { r = INVALID_VALUE; break; }
	*offset = f->offsets[i], *size = f->sizes[i];
	END
}
#endif

result cuFuncGetAttribute(int *v, int a, function *p) {
	CALL(cuFuncGetAttribute)
	FIND(f, function, FUNCTION, p) LOADED(f)
	switch (a) {
	case 0: *v = registers * THREADS > 65536 ? 65536 / registers / 32 * 32 : THREADS; break;
	case 1: *v = f->shared; break;
	case 3: *v = 0; break;
	case 4: *v = registers; break;
	case 8: *v = f->dynamic; break;
	default: r = complain(INVALID_VALUE, "%s: the double does not know %d", call, a);
	}
	END
}

result cuFuncSetAttribute(function *p, int a, int v) {
	CALL(cuFuncSetAttribute)
	FIND(f, function, FUNCTION, p) LOADED(f)
	if (a != 8 || v < 0 || v + f->shared > SHARED_OPTIN) FAIL(INVALID_VALUE, "%s: %d = %d", call, a, v)
	f->dynamic = v;
	END
}

/* ---- launches and graphs */

typedef struct { unsigned id, pad, value[16]; } attribute;
typedef struct { unsigned grid[3], block[3], shared; stream *s; attribute *attributes; unsigned n; } config;

/* early reports whether a launch may begin before earlier ones have ended. */
static int early(const config *c) { return c->n == 1 && c->attributes[0].id == 6 && c->attributes[0].value[0] == 1; }

result cuLaunchKernelEx(const config *c, function *p, void **params, void **extra) {
	CALL(cuLaunchKernelEx)
	FIND(f, function, FUNCTION, p) FIND(s, stream, STREAM, c->s) LOADED(f)
	const unsigned *g = c->grid, *b = c->block;
	if (extra || !params) FAIL(INVALID_VALUE, "%s: extra options, or no parameters", call)
	if (c->n && !early(c)) FAIL(INVALID_VALUE, "%s: attributes that the double does not know", call)
	if (c->n && !f->waits) FAIL(INVALID_VALUE, "%s: %s does not wait for earlier launches", call, f->name)
	if (!g[0] || !g[1] || !g[2] || g[0] > 0x7fffffff || g[1] > 65535 || g[2] > 65535) FAIL(INVALID_VALUE, "%s: a grid of %u × %u × %u", call, g[0], g[1], g[2])
	if (!b[0] || !b[1] || !b[2] || b[2] > 64 || (uint64_t)b[0] * b[1] * b[2] > THREADS) FAIL(INVALID_VALUE, "%s: a block of %u × %u × %u", call, b[0], b[1], b[2])
	if (registers * b[0] * b[1] * b[2] > 65536) { r = OUT_OF_RESOURCES; break; }
	if (c->shared + f->shared > f->dynamic) FAIL(INVALID_VALUE, "%s: %u bytes of shared memory; the function has leave for %ld", call, c->shared, f->dynamic)
	op o = {.kind = LAUNCH, .f = f, .shared = c->shared};
	memcpy(o.grid, g, sizeof o.grid);
	memcpy(o.block, b, sizeof o.block);
	for (int i = 0; i < f->n; i++) {
		if (!params[i]) FAIL(INVALID_VALUE, "%s: parameter %d of %s has no address", call, i, f->name)
		memcpy(o.params[i], params[i], f->sizes[i]);
	}
	if (r) break;
	early_launches += c->n;
	if (s->graph) capture(s, &o); else enqueue(s, &o);
	END
}

result cuStreamBeginCapture_v2(stream *p, int mode) {
	CALL(cuStreamBeginCapture) UNSAFE
	FIND(s, stream, STREAM, p) IDLE(s)
	if (mode != 1) FAIL(INVALID_VALUE, "%s: mode %d, and other threads would have to know", call, mode)
	s->graph = make(GRAPH, sizeof(graph));
	capturing = s;
	END
}

result cuStreamEndCapture(stream *p, graph **out) {
	CALL(cuStreamEndCapture)
	FIND(s, stream, STREAM, p)
	if (!s->graph || capturing != s) FAIL(INVALID_VALUE, "%s: this thread does not capture the stream", call)
	*out = s->graph;
	s->graph = NULL, capturing = NULL;
	END
}

result cuGraphInstantiateWithFlags(graph **out, graph *p, unsigned long long flags) {
	CALL(cuGraphInstantiateWithFlags) UNSAFE
	FIND(g, graph, GRAPH, p)
	if (flags) FAIL(INVALID_VALUE, "%s: flags %llu", call, flags)
	graph *e = make(EXEC, sizeof(graph));
	for (op *o = g->first; o; o = o->next) {
		op *copy = malloc(sizeof *o);
		*copy = *o;
		put(&e->first, &e->end, copy);
	}
	*out = e;
	END
}

result cuGraphLaunch(graph *p, stream *q) {
	CALL(cuGraphLaunch)
	FIND(e, graph, EXEC, p) FIND(s, stream, STREAM, q) IDLE(s)
	for (op *o = e->first; o; o = o->next) enqueue(s, o);
	END
}

result cuGraphDestroy(graph *p) {
	CALL(cuGraphDestroy)
	FIND(g, graph, GRAPH, p)
	g->t.live = 0;
	END
}

result cuGraphExecDestroy(graph *p) {
	CALL(cuGraphExecDestroy)
	FIND(g, graph, EXEC, p)
	g->t.live = 0;
	END
}

/* ---- words */

static const struct { result code; const char *name, *words; } codes[] = {
	{INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	{OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
	{INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	{INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
	{UNSUPPORTED_PTX, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
	{INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
	{NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
	{NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
	{ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
	{CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
	{FUNCTION_NOT_LOADED, "CUDA_ERROR_FUNCTION_NOT_LOADED", "the function handle is not loaded when calling an API that requires a loaded function"},
	{CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
};

result cuGetErrorName(result code, const char **name) {
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (codes[i].code == code) { *name = codes[i].name; return OK; }
	return INVALID_VALUE;
}

#ifndef DRIVER_ANCIENT
result cuGetErrorString(result code, const char **words) {
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (codes[i].code == code) { *words = codes[i].words; return OK; }
	return INVALID_VALUE;
}
#endif

/* ---- what tests call */

/* double_reset forgets everything: the next context is a new one. */
void double_reset(void) {
	pthread_mutex_lock(&lock);
	for (thing *t = all; t; t = t->next) t->live = 0;
	version = 13000, devices = 1, init_result = OK, free_memory = 1l << 32, fail_launch = 0, registers = 40;
	complaints[0] = 0;
	pthread_mutex_unlock(&lock);
}

int double_set(const char *what, long value) {
	static const struct { const char *what; long *value; } settings[] = {
		{"version", &version}, {"devices", &devices}, {"init", &init_result}, {"memory", &free_memory},
		{"fail launch", &fail_launch}, {"registers", &registers},
	};
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		if (!strcmp(settings[i].what, what)) { *settings[i].value = value; return OK; }
	return INVALID_VALUE;
}

void double_set_runner(int (*f)(const void *)) { runner = f; }
const char *double_complaints(void) { return complaints; }
long double_early(void) { return early_launches; }

/* double_held returns how often contexts have been retained and not released. */
long double_held(void) {
	long n = 0;
	for (int i = 0; i < DEVICES; i++)
		if (contexts[i] && contexts[i]->t.live) n += contexts[i]->references;
	return n;
}

static void __attribute__((constructor)) start(void) {
	double_reset();
	const char *words = getenv("CUDA_DOUBLE"); /* of another process: "version=11000 devices=0" */
	char what[32];
	long value;
	for (int n; words && sscanf(words, " %31[a-z]=%ld%n", what, &value, &n) == 2; words += n) double_set(what, value);
}
