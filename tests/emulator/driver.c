/* A stand-in for libcuda.so.1: what the driver promises about memory, streams, capture and errors, on a machine
 * without a GPU. Kernels are run by Python (`machine.py`), which hands in four callbacks.
 *
 * Device memory is a range of addresses that the host may not touch, as on a GPU without managed memory; its bytes lie
 * DELTA further up. Work is queued in the order of the calls and runs when the host waits, so that a result which the
 * host reads too early is not there. Faults are sticky. What is not implemented is a stub that
 * returns CUDA_ERROR_NOT_SUPPORTED (`build.py` writes them), and says its name where EMULATOR_DEBUG is set. */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_DEVICES = 8, MAX_PARAMS = 1024, ALIGNMENT = 512, GUARD = 512, MULTIPROCESSORS = 132 };
enum { OUT_OF_BOUNDS = 1, MISALIGNED = 2 };
static const uint64_t SHARED_WINDOW = 0x100000000000, LOCAL_WINDOW = 0x200000000000, WINDOW = 0x10000000000;
static const size_t SHARED_LIMIT = 232448, STATIC_SHARED_LIMIT = 49152;

typedef struct { /* as in machine.py */
    uint64_t id;
    uint32_t count, size, shared, local;
    uint32_t offsets[MAX_PARAMS], sizes[MAX_PARAMS];
} Description;

typedef struct CUkern_st { Description about; CUlibrary library; int dynamic_shared; char *name; } Kernel;
struct CUctx_st { CUdevice device; int retained; CUresult fault; };
struct CUlib_st { int loaded; };
struct CUmemPoolHandle_st { CUdevice device; cuuint64_t threshold; };
typedef enum { COPY, STAGED_COPY, FILL, LAUNCH, HOST_FUNCTION, FREE, NOTHING } Kind;
typedef struct CUgraphNode_st Op;
struct CUgraphNode_st {
    Kind kind;
    CUcontext context;
    Kernel *kernel;
    unsigned dims[6], shared, element, value;
    uint8_t *bytes; /* parameters, or a staged copy */
    uint64_t to, from;
    size_t size;
    CUhostFn function;
    void *data;
    Op *next;
};
struct CUuserObject_st { void *data; CUhostFn destroy; long count; };
struct CUgraph_st { Op *first, *last; size_t count; CUuserObject *kept; size_t kept_count; };
struct CUgraphExec_st { struct CUgraph_st ops; };
typedef struct Capture {
    CUgraph graph;
    CUstream origin;
    CUstreamCaptureMode mode;
    pthread_t thread;
    int invalid;
    cuuint64_t id;
    struct Capture *next;
} Capture;
struct CUstream_st { CUcontext context; unsigned flags; int priority; Capture *capture; };
struct CUevent_st { CUcontext context; unsigned flags; int recorded; Capture *capture; struct timespec time; };
typedef struct { uint64_t start, size; int host; CUdevice device; CUmemoryPool pool; } Allocation;

static struct {
    int initialised, devices, debug;
    size_t limit, used[MAX_DEVICES];
    uint64_t base, delta;
    Allocation *allocations;
    size_t count, room;
    struct CUctx_st contexts[MAX_DEVICES];
    struct CUmemPoolHandle_st pools[MAX_DEVICES];
    CUmemoryPool current_pools[MAX_DEVICES];
    struct CUgraph_st pending;
    Capture *captures;
    cuuint64_t capture_count;
    struct CUstream_st legacy, per_thread;
    int (*load)(uint64_t, const void *);
    int (*find)(uint64_t, const char *, Description *);
    int (*global)(uint64_t, const char *, uint64_t *, uint64_t *);
    int (*launch)(uint64_t, const unsigned *, unsigned, const void *, unsigned);
} self;
static _Thread_local struct { CUcontext stack[64]; int depth; CUstreamCaptureMode mode; } thread;
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static int enter(void) { pthread_mutex_lock(&mutex); return 0; }
static void leave(int *guard) { (void)guard; pthread_mutex_unlock(&mutex); }
static CUcontext current(void) { return thread.depth ? thread.stack[thread.depth - 1] : NULL; }

#define LOCK __attribute__((unused)) __attribute__((cleanup(leave))) int guard = enter()
#define TRY(call) do { CUresult tried = (call); if (tried != CUDA_SUCCESS) return tried; } while (0)
#define WANT(condition) do { if (!(condition)) return CUDA_ERROR_INVALID_VALUE; } while (0)
#define INITIALISED LOCK; if (!self.initialised) return CUDA_ERROR_NOT_INITIALIZED
#define ON_DEVICE INITIALISED; TRY(usable())
/* What must not be called while a stream captures: it is refused, and spoils the capture. */
#define NOT_IN_CAPTURE ON_DEVICE; TRY(uncaptured())

static CUresult usable(void) { return current() ? current()->fault : CUDA_ERROR_INVALID_CONTEXT; }

static CUresult uncaptured(void) {
    CUresult result = CUDA_SUCCESS;
    for (Capture *each = self.captures; each; each = each->next) {
        int mine = pthread_equal(each->thread, pthread_self());
        int bound = mine ? each->mode != CU_STREAM_CAPTURE_MODE_RELAXED
                         : each->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread.mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (bound && thread.mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
            each->invalid = 1;
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return result;
}

/* memory ----------------------------------------------------------------------------------------------------------- */

static size_t place_of(uint64_t address) { /* of the first allocation that begins behind it */
    size_t low = 0, high = self.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self.allocations[middle].start <= address) low = middle + 1; else high = middle;
    }
    return low;
}

static Allocation *allocation_at(uint64_t address) {
    size_t place = place_of(address);
    if (!place) return NULL;
    Allocation *found = &self.allocations[place - 1];
    return address < found->start + found->size ? found : NULL;
}

static void insert(Allocation allocation) {
    if (self.count == self.room) {
        self.room = self.room ? 2 * self.room : 256;
        self.allocations = realloc(self.allocations, self.room * sizeof *self.allocations);
    }
    size_t place = place_of(allocation.start);
    memmove(&self.allocations[place + 1], &self.allocations[place], (self.count - place) * sizeof *self.allocations);
    self.allocations[place] = allocation;
    self.count++;
}

static int on_device(uint64_t address) { return address >= self.base && address < self.base + self.delta; }
static uint8_t *bytes_of(uint64_t address) { return (uint8_t *)(address + (on_device(address) ? self.delta : 0)); }

static CUresult drain(void);

static CUresult allocate(uint64_t *address, size_t size, CUmemoryPool pool) {
    CUdevice device = current()->device;
    WANT(size > 0);
    if (self.used[device] + size > self.limit) TRY(drain()); /* frees what was freed on a stream */
    if (self.used[device] + size > self.limit) return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t start = self.base; /* first fit, with a gap behind each allocation, so that overruns are seen */
    for (size_t k = 0; k < self.count; k++) {
        Allocation *each = &self.allocations[k];
        if (each->host) continue;
        if (start + size + GUARD <= each->start) break;
        start = (each->start + each->size + GUARD + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    if (start + size + GUARD > self.base + self.delta) return CUDA_ERROR_OUT_OF_MEMORY;
    insert((Allocation){start, size, 0, device, pool});
    self.used[device] += size;
    memset(bytes_of(start), 0xFF, size < (64 << 20) ? size : (64 << 20)); /* NaN, -1: not what anyone expects */
    *address = start;
    return CUDA_SUCCESS;
}

static CUresult release(uint64_t address, int host) {
    Allocation *found = allocation_at(address);
    WANT(found && found->start == address && found->host == host);
    if (host) free((void *)address);
    else {
        self.used[found->device] -= found->size;
        if (found->size > (1 << 20)) {
            uint64_t start = ((uint64_t)bytes_of(address) + 4095) & ~4095ul, end = (uint64_t)bytes_of(address) + found->size;
            madvise((void *)start, (end - start) & ~4095ul, MADV_DONTNEED);
        }
    }
    size_t place = found - self.allocations;
    memmove(found, found + 1, (self.count - place - 1) * sizeof *found);
    self.count--;
    return CUDA_SUCCESS;
}

static CUresult within(uint64_t address, size_t size) {
    Allocation *found = allocation_at(address);
    WANT(size == 0 || (found && address + size <= found->start + found->size));
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) { NOT_IN_CAPTURE; return allocate((uint64_t *)address, size, NULL); }
CUresult cuMemFree(CUdeviceptr address) {
    NOT_IN_CAPTURE;
    if (!address) return CUDA_SUCCESS;
    TRY(drain());
    return release(address, 0);
}
CUresult cuMemGetInfo(size_t *available, size_t *total) {
    ON_DEVICE;
    *total = self.limit;
    *available = self.limit - self.used[current()->device];
    return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange(CUdeviceptr *start, size_t *size, CUdeviceptr address) {
    ON_DEVICE;
    Allocation *found = allocation_at(address);
    if (!found) return CUDA_ERROR_NOT_FOUND;
    if (start) *start = found->start;
    if (size) *size = found->size;
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    (void)flags;
    NOT_IN_CAPTURE;
    WANT(size > 0);
    if (posix_memalign(address, 4096, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(*address, 0xFF, size);
    insert((Allocation){(uint64_t)*address, size, 1, current()->device, NULL});
    return CUDA_SUCCESS;
}
CUresult cuMemAllocHost(void **address, size_t size) { return cuMemHostAlloc(address, size, 0); }
CUresult cuMemAllocManaged(CUdeviceptr *address, size_t size, unsigned flags) {
    (void)flags;
    return cuMemHostAlloc((void **)address, size, 0);
}
CUresult cuMemFreeHost(void *address) {
    NOT_IN_CAPTURE;
    if (!address) return CUDA_SUCCESS;
    TRY(drain());
    return release((uint64_t)address, 1);
}
CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned flags) {
    ON_DEVICE;
    WANT(!flags && allocation_at((uint64_t)host));
    *address = (CUdeviceptr)host;
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    INITIALISED;
    Allocation *found = allocation_at(address);
    WANT(found);
    switch ((int)attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext *)value = &self.contexts[found->device]; break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: *(unsigned *)value = found->host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE; break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(CUdeviceptr *)value = address; break;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: WANT(found->host); *(void **)value = (void *)address; break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: *(unsigned *)value = 0; break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)value = found->device; break;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: *(CUdeviceptr *)value = found->start; break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: *(size_t *)value = found->size; break;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: *(unsigned long long *)value = found->start / ALIGNMENT; break;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: *(CUmemoryPool *)value = found->pool; break;
    default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}
CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **values, CUdeviceptr address) {
    INITIALISED;
    if (!allocation_at(address)) { /* memory of the host: the kind is 0, which no kind has */
        for (unsigned k = 0; k < count; k++)
            memset(values[k], 0, attributes[k] == CU_POINTER_ATTRIBUTE_CONTEXT ? sizeof(void *) : sizeof(int));
        return CUDA_SUCCESS;
    }
    for (unsigned k = 0; k < count; k++) TRY(cuPointerGetAttribute(values[k], attributes[k], address));
    return CUDA_SUCCESS;
}

/* work ------------------------------------------------------------------------------------------------------------- */

static void append(CUgraph graph, Op *op) {
    op->next = NULL;
    if (graph->last) graph->last->next = op; else graph->first = op;
    graph->last = op;
    graph->count++;
}

static Op *copy_of(const Op *op) {
    Op *copy = malloc(sizeof *copy);
    *copy = *op;
    size_t size = op->kind == LAUNCH ? op->kernel->about.size : op->kind == STAGED_COPY ? op->size : 0;
    if (op->bytes) copy->bytes = memcpy(malloc(size + 1), op->bytes, size);
    return copy;
}

static void clear(CUgraph graph) {
    for (Op *op = graph->first, *next; op; op = next) {
        next = op->next;
        free(op->bytes);
        free(op);
    }
    for (size_t k = 0; k < graph->kept_count; k++) cuUserObjectRelease(graph->kept[k], 1);
    free(graph->kept);
    *graph = (struct CUgraph_st){0};
}

static void keep(CUgraph graph, CUuserObject object) {
    graph->kept = realloc(graph->kept, (graph->kept_count + 1) * sizeof object);
    graph->kept[graph->kept_count++] = object;
}

static CUresult run(const Op *op) {
    uint8_t *to = bytes_of(op->to);
    switch (op->kind) {
    case COPY:
        if (within(op->to, on_device(op->to) ? op->size : 0) || within(op->from, on_device(op->from) ? op->size : 0))
            return CUDA_ERROR_ILLEGAL_ADDRESS; /* freed meanwhile */
        memmove(to, bytes_of(op->from), op->size);
        break;
    case STAGED_COPY:
        if (within(op->to, op->size)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        memcpy(to, op->bytes, op->size);
        break;
    case FILL:
        if (within(op->to, op->size * op->element)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        for (size_t k = 0; k < op->size; k++) memcpy(to + k * op->element, &op->value, op->element);
        break;
    case LAUNCH:
        thread.stack[thread.depth++] = op->context;
        CUresult result = self.launch(op->kernel->about.id, op->dims, op->shared, op->bytes, op->kernel->about.size);
        thread.depth--;
        return result;
    case HOST_FUNCTION:
        thread.stack[thread.depth++] = op->context;
        op->function(op->data);
        thread.depth--;
        break;
    case FREE: release(op->to, 0); break;
    case NOTHING: break;
    }
    return CUDA_SUCCESS;
}

static CUresult drain(void) {
    static int busy;
    if (busy) return CUDA_SUCCESS; /* a host function waits */
    busy = 1;
    for (Op *op; (op = self.pending.first);) {
        CUresult *fault = &op->context->fault;
        CUresult result = *fault ? *fault : run(op);
        if (result) *fault = result;
        self.pending.first = op->next;
        if (!op->next) self.pending.last = NULL;
        free(op->bytes);
        free(op);
    }
    busy = 0;
    return current() ? current()->fault : CUDA_SUCCESS;
}

static CUstream actual(CUstream stream) {
    if (stream == NULL || stream == CU_STREAM_LEGACY) return &self.legacy;
    return stream == CU_STREAM_PER_THREAD ? &self.per_thread : stream;
}

/* The legacy stream waits for those that do not refuse, which a capture cannot record. */
static CUresult implicit(CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    for (Capture *each = self.captures; each && stream == &self.legacy; each = each->next)
        if (!(each->origin->flags & CU_STREAM_NON_BLOCKING)) {
            each->invalid = 1;
            result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    return result;
}

static CUresult submit(CUstream stream, Op op) {
    stream = actual(stream);
    TRY(implicit(stream));
    op.context = stream->context ? stream->context : current();
    if (stream->capture) {
        if (stream->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        append(stream->capture->graph, copy_of(&op));
    } else append(&self.pending, copy_of(&op));
    return CUDA_SUCCESS;
}

static CUresult copy(uint64_t to, uint64_t from, size_t size, CUstream stream, int asynchronous) {
    if (on_device(to)) TRY(within(to, size));
    if (on_device(from)) TRY(within(from, size));
    if (!size) return CUDA_SUCCESS;
    if (!asynchronous) {
        TRY(implicit(&self.legacy));
        TRY(uncaptured());
    }
    int captured = actual(stream)->capture != NULL;
    Op op = {.kind = COPY, .to = to, .from = from, .size = size};
    if (asynchronous && !captured && !allocation_at(from)) { /* pageable memory is read before the call returns */
        op.kind = STAGED_COPY;
        op.bytes = (uint8_t *)from;
    }
    TRY(submit(stream, op));
    int waits = !asynchronous || (!captured && !allocation_at(to)); /* pageable memory is written before it returns */
    return waits ? drain() : CUDA_SUCCESS;
}

#define D(address) ((uint64_t)(address))
#define TO_DEVICE WANT(!size || allocation_at(D(to))); WANT(!on_device(D(from)))
#define FROM_DEVICE WANT(!size || allocation_at(D(from))); WANT(!on_device(D(to)))
#define BOTH WANT(!size || (allocation_at(D(to)) && allocation_at(D(from))))
#define COPIES(name, TO, FROM, check) \
    CUresult name(TO to, FROM from, size_t size) { ON_DEVICE; check; return copy(D(to), D(from), size, NULL, 0); }
#define COPIES_ASYNC(name, TO, FROM, check) \
    CUresult name(TO to, FROM from, size_t size, CUstream stream) { \
        ON_DEVICE; check; return copy(D(to), D(from), size, stream, 1); }
COPIES(cuMemcpyHtoD, CUdeviceptr, const void *, TO_DEVICE)
COPIES(cuMemcpyDtoH, void *, CUdeviceptr, FROM_DEVICE)
COPIES(cuMemcpyDtoD, CUdeviceptr, CUdeviceptr, BOTH)
COPIES(cuMemcpy, CUdeviceptr, CUdeviceptr, )
COPIES_ASYNC(cuMemcpyHtoDAsync, CUdeviceptr, const void *, TO_DEVICE)
COPIES_ASYNC(cuMemcpyDtoHAsync, void *, CUdeviceptr, FROM_DEVICE)
COPIES_ASYNC(cuMemcpyDtoDAsync, CUdeviceptr, CUdeviceptr, BOTH)
COPIES_ASYNC(cuMemcpyAsync, CUdeviceptr, CUdeviceptr, )

static CUresult fill(uint64_t to, unsigned value, unsigned element, size_t size, CUstream stream) {
    WANT(to % element == 0);
    TRY(within(to, size * element));
    return submit(stream, (Op){.kind = FILL, .to = to, .value = value, .element = element, .size = size});
}
#define FILLS(bits, type) \
    CUresult cuMemsetD##bits##_v2(CUdeviceptr to, type value, size_t size) { \
        ON_DEVICE; return fill(to, value, bits / 8, size, NULL); } \
    CUresult cuMemsetD##bits##Async(CUdeviceptr to, type value, size_t size, CUstream stream) { \
        ON_DEVICE; return fill(to, value, bits / 8, size, stream); }
FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned int)

/* memory of pools, in the order of a stream ------------------------------------------------------------------------ */

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t size, CUmemoryPool pool, CUstream stream) {
    ON_DEVICE;
    WANT(pool);
    TRY(implicit(actual(stream)));
    return allocate((uint64_t *)address, size, pool);
}
CUresult cuMemAllocAsync(CUdeviceptr *address, size_t size, CUstream stream) {
    ON_DEVICE;
    return cuMemAllocFromPoolAsync(address, size, self.current_pools[current()->device], stream);
}
CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    ON_DEVICE;
    if (!address) return CUDA_SUCCESS;
    WANT(allocation_at(address) && allocation_at(address)->start == address);
    /* A graph's memory stays the graph's. */
    return submit(stream, (Op){.kind = actual(stream)->capture ? NOTHING : FREE, .to = address});
}
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
    INITIALISED;
    WANT(device < self.devices);
    *pool = &self.pools[device];
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) {
    INITIALISED;
    WANT(device < self.devices);
    *pool = self.current_pools[device];
    return CUDA_SUCCESS;
}
CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
    INITIALISED;
    WANT(device < self.devices);
    self.current_pools[device] = pool;
    return CUDA_SUCCESS;
}
CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties) {
    INITIALISED;
    *pool = calloc(1, sizeof **pool);
    (*pool)->device = properties->location.id;
    return CUDA_SUCCESS;
}
CUresult cuMemPoolDestroy(CUmemoryPool pool) { INITIALISED; WANT(pool); return CUDA_SUCCESS; }
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) { (void)keep; INITIALISED; WANT(pool); return CUDA_SUCCESS; }
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *list, size_t count) {
    (void)list, (void)count;
    INITIALISED;
    WANT(pool);
    return CUDA_SUCCESS;
}
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    INITIALISED;
    if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) pool->threshold = *(cuuint64_t *)value;
    return CUDA_SUCCESS;
}
CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    INITIALISED;
    cuuint64_t used = 0;
    for (size_t k = 0; k < self.count; k++) used += self.allocations[k].pool == pool ? self.allocations[k].size : 0;
    if (attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) *(int *)value = 1;
    else *(cuuint64_t *)value = attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD ? pool->threshold : used;
    return CUDA_SUCCESS;
}

/* devices and contexts --------------------------------------------------------------------------------------------- */

static size_t from_environment(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

CUresult cuInit(unsigned flags) {
    LOCK;
    WANT(!flags);
    if (self.initialised) return CUDA_SUCCESS;
    self.devices = (int)from_environment("EMULATOR_DEVICES", 1);
    self.limit = from_environment("EMULATOR_MEMORY", 2ul << 30);
    self.debug = getenv("EMULATOR_DEBUG") != NULL;
    if (self.devices > MAX_DEVICES) self.devices = MAX_DEVICES;
    if (self.devices < 1) return CUDA_ERROR_NO_DEVICE;
    self.delta = ((4 * self.limit * self.devices + (64ul << 20)) >> 21) << 21; /* addresses are more than memory */
    void *range = mmap(NULL, 2 * self.delta, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    self.base = ((uint64_t)range + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    mprotect((void *)(self.base + self.delta), self.delta, PROT_READ | PROT_WRITE);
    for (int k = 0; k < self.devices; k++) {
        self.contexts[k].device = self.pools[k].device = k;
        self.current_pools[k] = &self.pools[k];
    }
    self.initialised = 1;
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { INITIALISED; *count = self.devices; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    INITIALISED;
    if (ordinal < 0 || ordinal >= self.devices) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    INITIALISED;
    snprintf(name, size, "Emulated GPU %d", device);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    INITIALISED;
    memset(uuid, device + 1, sizeof *uuid);
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *size, CUdevice device) { (void)device; INITIALISED; *size = self.limit; return CUDA_SUCCESS; }

static const int attributes[][2] = {
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9}, {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
    {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, MULTIPROCESSORS}, {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024}, {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024}, {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647}, {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535}, {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
    {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048}, {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536}, {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
    {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536}, {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000}, {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 2619000},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120}, {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1}, {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
    {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 3}, {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
    {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1}, {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_PITCH, 2147483647}, {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
};
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    INITIALISED;
    if (device < 0 || device >= self.devices) return CUDA_ERROR_INVALID_DEVICE;
    *value = attribute == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID ? device + 1 : 0;
    for (size_t k = 0; k < sizeof attributes / sizeof *attributes; k++)
        if (attributes[k][0] == (int)attribute) *value = attributes[k][1];
    return CUDA_SUCCESS;
}
CUresult cuDeviceCanAccessPeer(int *can, CUdevice one, CUdevice other) { (void)one, (void)other; *can = 0; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    INITIALISED;
    if (device < 0 || device >= self.devices) return CUDA_ERROR_INVALID_DEVICE;
    *context = &self.contexts[device];
    (*context)->retained++;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { INITIALISED; self.contexts[device].retained--; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxReset(CUdevice device) {
    INITIALISED;
    drain();
    self.contexts[device].fault = CUDA_SUCCESS;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    INITIALISED;
    *flags = 0;
    *active = self.contexts[device].retained > 0;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) { INITIALISED; *context = current(); return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) {
    INITIALISED;
    if (thread.depth) thread.depth--;
    if (context) thread.stack[thread.depth++] = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext context) {
    INITIALISED;
    WANT(context && thread.depth < 60);
    thread.stack[thread.depth++] = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext *context) {
    INITIALISED;
    if (!thread.depth) return CUDA_ERROR_INVALID_CONTEXT;
    thread.depth--;
    if (context) *context = thread.stack[thread.depth];
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    INITIALISED;
    if (!current()) return CUDA_ERROR_INVALID_CONTEXT;
    *device = current()->device;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context) { *device = context->device; return CUDA_SUCCESS; }
CUresult cuCtxGetId(CUcontext context, unsigned long long *id) { *id = (context ? context : current())->device + 1; return CUDA_SUCCESS; }
CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return CUDA_SUCCESS; }
CUresult cuCtxSynchronize(void) { NOT_IN_CAPTURE; return drain(); }
extern const char *emulator_error(int code);
CUresult cuGetErrorName(CUresult error, const char **text) {
    *text = emulator_error(error);
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

/* streams, events, capture ----------------------------------------------------------------------------------------- */

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
    NOT_IN_CAPTURE;
    *stream = calloc(1, sizeof **stream);
    **stream = (struct CUstream_st){.context = current(), .flags = flags, .priority = priority};
    return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream *stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
CUresult cuStreamDestroy(CUstream stream) { INITIALISED; WANT(actual(stream) == stream); free(stream); return CUDA_SUCCESS; }
CUresult cuStreamGetFlags(CUstream stream, unsigned *flags) { INITIALISED; *flags = actual(stream)->flags; return CUDA_SUCCESS; }
CUresult cuStreamGetPriority(CUstream stream, int *priority) { INITIALISED; *priority = actual(stream)->priority; return CUDA_SUCCESS; }
CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
    ON_DEVICE;
    *context = actual(stream)->context ? actual(stream)->context : current();
    return CUDA_SUCCESS;
}
CUresult cuStreamGetDevice(CUstream stream, CUdevice *device) {
    ON_DEVICE;
    *device = actual(stream)->context ? actual(stream)->context->device : current()->device;
    return CUDA_SUCCESS;
}
static CUresult wait_for(CUstream stream) {
    stream = actual(stream);
    TRY(implicit(stream));
    if (stream->capture) {
        stream->capture->invalid = 1;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return drain();
}
CUresult cuStreamSynchronize(CUstream stream) { ON_DEVICE; return wait_for(stream); }
CUresult cuStreamQuery(CUstream stream) { ON_DEVICE; return wait_for(stream); }
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
    ON_DEVICE;
    return submit(stream, (Op){.kind = HOST_FUNCTION, .function = function, .data = data});
}
CUresult cuEventCreate(CUevent *event, unsigned flags) {
    ON_DEVICE;
    *event = calloc(1, sizeof **event);
    **event = (struct CUevent_st){.context = current(), .flags = flags};
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) { INITIALISED; free(event); return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) {
    ON_DEVICE;
    stream = actual(stream);
    TRY(implicit(stream));
    event->capture = stream->capture;
    event->recorded = 1;
    if (!stream->capture && !(event->flags & CU_EVENT_DISABLE_TIMING)) {
        TRY(drain());
        clock_gettime(CLOCK_MONOTONIC, &event->time);
    }
    return CUDA_SUCCESS;
}
static CUresult event_done(CUevent event) {
    if (event->capture) {
        event->capture->invalid = 1;
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    return drain();
}
CUresult cuEventSynchronize(CUevent event) { NOT_IN_CAPTURE; return event_done(event); }
CUresult cuEventQuery(CUevent event) { NOT_IN_CAPTURE; return event_done(event); }
CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
    ON_DEVICE;
    if (!start->recorded || !end->recorded) return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = (end->time.tv_sec - start->time.tv_sec) * 1e3f + (end->time.tv_nsec - start->time.tv_nsec) * 1e-6f;
    return CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
    (void)flags;
    ON_DEVICE;
    if (event->capture) actual(stream)->capture = event->capture; /* the stream joins */
    return CUDA_SUCCESS;
}
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
    CUstreamCaptureMode before = thread.mode;
    thread.mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    ON_DEVICE;
    if (actual(stream) == &self.legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    stream = actual(stream);
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    Capture *capture = calloc(1, sizeof *capture);
    *capture = (Capture){calloc(1, sizeof(struct CUgraph_st)), stream, mode, pthread_self(), 0, ++self.capture_count, self.captures};
    self.captures = stream->capture = capture;
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    ON_DEVICE;
    Capture *capture = actual(stream)->capture;
    *graph = NULL;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != actual(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(capture->thread, pthread_self()))
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    for (Capture **link = &self.captures; *link; link = &(*link)->next)
        if (*link == capture) { *link = capture->next; break; }
    actual(stream)->capture = NULL; /* streams that joined keep the spent capture until they wait for another event */
    if (capture->invalid) { clear(capture->graph); return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED; }
    *graph = capture->graph;
    return CUDA_SUCCESS;
}
static CUstreamCaptureStatus status_of(CUstream stream) {
    Capture *capture = actual(stream)->capture;
    if (!capture) return CU_STREAM_CAPTURE_STATUS_NONE;
    return capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    ON_DEVICE;
    TRY(implicit(actual(stream)));
    *status = status_of(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **nodes, const CUgraphEdgeData **edges, size_t *count) {
    ON_DEVICE;
    TRY(implicit(actual(stream)));
    Capture *capture = actual(stream)->capture;
    *status = status_of(stream);
    if (id) *id = capture ? capture->id : 0;
    if (graph) *graph = capture ? capture->graph : NULL;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return CUDA_SUCCESS;
}

/* graphs ----------------------------------------------------------------------------------------------------------- */

static void add_all(CUgraph to, CUgraph from) {
    for (Op *op = from->first; op; op = op->next) append(to, copy_of(op));
    for (size_t k = 0; k < from->kept_count; k++) {
        from->kept[k]->count++;
        keep(to, from->kept[k]);
    }
}
CUresult cuUserObjectCreate(CUuserObject *object, void *data, CUhostFn destroy, unsigned count, unsigned flags) {
    (void)flags;
    INITIALISED;
    *object = malloc(sizeof **object);
    **object = (struct CUuserObject_st){data, destroy, count};
    return CUDA_SUCCESS;
}
CUresult cuUserObjectRetain(CUuserObject object, unsigned count) { INITIALISED; object->count += count; return CUDA_SUCCESS; }
CUresult cuUserObjectRelease(CUuserObject object, unsigned count) {
    INITIALISED;
    WANT(object->count >= count);
    if ((object->count -= count)) return CUDA_SUCCESS;
    object->destroy(object->data);
    free(object);
    return CUDA_SUCCESS;
}
CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned count, unsigned flags) {
    INITIALISED;
    if (!(flags & CU_GRAPH_USER_OBJECT_MOVE)) object->count += count;
    while (count--) keep(graph, object);
    return CUDA_SUCCESS;
}
CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned count) {
    INITIALISED;
    for (size_t k = graph->kept_count; k-- > 0 && count;)
        if (graph->kept[k] == object) {
            graph->kept[k] = graph->kept[--graph->kept_count];
            cuUserObjectRelease(object, 1);
            count--;
        }
    WANT(!count);
    return CUDA_SUCCESS;
}
CUresult cuGraphCreate(CUgraph *graph, unsigned flags) { INITIALISED; WANT(!flags); *graph = calloc(1, sizeof **graph); return CUDA_SUCCESS; }
CUresult cuGraphDestroy(CUgraph graph) { INITIALISED; clear(graph); free(graph); return CUDA_SUCCESS; }
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
    INITIALISED;
    size_t place = 0;
    for (Op *op = graph->first; op && nodes && place < *count; op = op->next) nodes[place++] = op;
    *count = nodes ? place : graph->count;
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    (void)flags;
    ON_DEVICE;
    *exec = calloc(1, sizeof **exec);
    add_all(&(*exec)->ops, graph);
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
    params->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
    return cuGraphInstantiateWithFlags(exec, graph, params->flags);
}
CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info) {
    ON_DEVICE;
    info->result = graph->count == exec->ops.count ? CU_GRAPH_EXEC_UPDATE_SUCCESS : CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    if (info->result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    clear(&exec->ops);
    add_all(&exec->ops, graph);
    return CUDA_SUCCESS;
}
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) { (void)exec, (void)stream; ON_DEVICE; return CUDA_SUCCESS; }
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ON_DEVICE;
    for (Op *op = exec->ops.first; op; op = op->next) TRY(submit(stream, *op));
    return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) { INITIALISED; clear(&exec->ops); free(exec); return CUDA_SUCCESS; }

/* code ------------------------------------------------------------------------------------------------------------- */

CUresult cuLibraryLoadData(CUlibrary *library, const void *image, CUjit_option *options, void **values, unsigned count,
                           CUlibraryOption *library_options, void **library_values, unsigned library_count) {
    (void)options, (void)values, (void)count, (void)library_options, (void)library_values, (void)library_count;
    NOT_IN_CAPTURE;
    *library = calloc(1, sizeof **library);
    return self.load((uint64_t)*library, image);
}
CUresult cuLibraryUnload(CUlibrary library) { INITIALISED; WANT(library); drain(); return CUDA_SUCCESS; }
CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
    INITIALISED;
    Kernel *found = calloc(1, sizeof *found);
    found->library = library;
    found->name = strdup(name);
    TRY(self.find((uint64_t)library, name, &found->about));
    *kernel = found;
    return CUDA_SUCCESS;
}
CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *size, CUlibrary library, const char *name) {
    ON_DEVICE;
    uint64_t start, length;
    TRY(self.global((uint64_t)library, name, &start, &length));
    if (address) *address = start;
    if (size) *size = length;
    return CUDA_SUCCESS;
}
CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library) { INITIALISED; *module = (CUmodule)library; return CUDA_SUCCESS; }
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options, void **values) {
    return cuLibraryLoadData((CUlibrary *)module, image, options, values, count, NULL, NULL, 0);
}
CUresult cuModuleLoadData(CUmodule *module, const void *image) { return cuModuleLoadDataEx(module, image, 0, NULL, NULL); }
CUresult cuModuleUnload(CUmodule module) { return cuLibraryUnload((CUlibrary)module); }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    return cuLibraryGetKernel((CUkernel *)function, (CUlibrary)module, name);
}
CUresult cuModuleGetGlobal(CUdeviceptr *address, size_t *size, CUmodule module, const char *name) {
    return cuLibraryGetGlobal(address, size, (CUlibrary)module, name);
}
CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) { *mode = CU_MODULE_LAZY_LOADING; return CUDA_SUCCESS; }
CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) { *function = (CUfunction)kernel; return CUDA_SUCCESS; }
CUresult cuKernelGetLibrary(CUlibrary *library, CUkernel kernel) { *library = ((Kernel *)kernel)->library; return CUDA_SUCCESS; }
CUresult cuKernelGetName(const char **name, CUkernel kernel) { *name = ((Kernel *)kernel)->name; return CUDA_SUCCESS; }
CUresult cuKernelGetParamInfo(CUkernel kernel, size_t place, size_t *offset, size_t *size) {
    Kernel *found = kernel;
    WANT(place < found->about.count);
    *offset = found->about.offsets[place];
    if (size) *size = found->about.sizes[place];
    return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    Kernel *kernel = (Kernel *)function;
    switch ((int)attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = kernel->about.shared; break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = kernel->about.local; break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION: case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 90; break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = kernel->dynamic_shared; break;
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}
CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
    (void)device;
    return cuFuncGetAttribute(value, attribute, (CUfunction)kernel);
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) ((Kernel *)function)->dynamic_shared = value;
    return CUDA_SUCCESS;
}
CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
    (void)device;
    return cuFuncSetAttribute((CUfunction)kernel, attribute, value);
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int threads, size_t shared, unsigned flags) {
    (void)flags;
    size_t each = ((Kernel *)function)->about.shared + shared + 1024;
    WANT(threads > 0);
    *blocks = 2048 / threads < 32 ? 2048 / threads : 32;
    if (233472 / each < (size_t)*blocks) *blocks = 233472 / each;
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params, void **extra) {
    ON_DEVICE;
    Kernel *kernel = (Kernel *)function;
    const unsigned *grid = &config->gridDimX, *block = &config->blockDimX;
    WANT(kernel && !extra);
    for (int k = 0; k < 3; k++) WANT(grid[k] > 0 && block[k] > 0 && (k == 0 || grid[k] < 65536) && grid[k] < 1u << 31);
    WANT((uint64_t)block[0] * block[1] * block[2] <= 1024 && block[2] <= 64);
    WANT(kernel->about.shared + config->sharedMemBytes <= SHARED_LIMIT);
    WANT(config->sharedMemBytes <= STATIC_SHARED_LIMIT || (int)config->sharedMemBytes <= kernel->dynamic_shared);
    uint8_t bytes[32768];
    for (unsigned k = 0; k < kernel->about.count; k++)
        memcpy(bytes + kernel->about.offsets[k], params[k], kernel->about.sizes[k]);
    Op op = {.kind = LAUNCH, .kernel = kernel, .shared = config->sharedMemBytes, .bytes = bytes};
    memcpy(op.dims, grid, 3 * sizeof *grid);
    memcpy(op.dims + 3, block, 3 * sizeof *block);
    return submit(config->hStream, op);
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **params, void **extra) {
    return cuLaunchKernelEx(&(CUlaunchConfig){gx, gy, gz, bx, by, bz, shared, stream, NULL, 0}, function, params, extra);
}

/* how functions are found ------------------------------------------------------------------------------------------ */

extern const char *const emulator_names[]; /* pairs: as asked for, and with the version */
int emulator_missing(const char *name) {
    if (getenv("EMULATOR_DEBUG")) fprintf(stderr, "emulator: %s is not implemented\n", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult cuGetProcAddress(const char *name, void **function, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status) {
    (void)version, (void)flags;
    *function = NULL;
    for (const char *const *each = emulator_names; *each; each += 2)
        if (!strcmp(each[0], name)) *function = dlsym(RTLD_DEFAULT, each[1]);
    if (status) *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* what the machine that runs kernels asks for ---------------------------------------------------------------------- */

void emulator_connect(void *load, void *find, void *global, void *launch) {
    self.load = load;
    self.find = find;
    self.global = global;
    self.launch = launch;
}
int emulator_allocate(uint64_t *address, uint64_t size) { LOCK; return allocate(address, size, NULL); }
uint64_t emulator_bytes(uint64_t address, uint64_t size) { LOCK; return within(address, size) ? 0 : (uint64_t)bytes_of(address); }
void emulator_fault(int code) { LOCK; current()->fault = code; }

typedef struct { uint8_t *shared, *local; uint64_t shared_size, local_size, threads; } Launch; /* as in machine.py */

/* Load (or store) `width` bytes for each lane; returns how many lanes went well, and why the next one did not. */
long emulator_access(const Launch *launch, int store, uint64_t width, uint64_t alignment, long lanes,
                     const uint64_t *addresses, const int64_t *numbers, uint8_t *values, int *why) {
    LOCK;
    Allocation *last = NULL;
    for (long k = 0; k < lanes; k++, values += width) {
        uint64_t address = addresses[k];
        uint8_t *bytes;
        *why = MISALIGNED;
        if (address & (alignment - 1)) return k;
        *why = OUT_OF_BOUNDS;
        if (address - SHARED_WINDOW < WINDOW) {
            if (address - SHARED_WINDOW + width > launch->shared_size) return k;
            bytes = launch->shared + numbers[k] / launch->threads * launch->shared_size + (address - SHARED_WINDOW);
        } else if (address - LOCAL_WINDOW < WINDOW) {
            if (address - LOCAL_WINDOW + width > launch->local_size) return k;
            bytes = launch->local + numbers[k] * launch->local_size + (address - LOCAL_WINDOW);
        } else {
            if (!last || address - last->start >= last->size) last = allocation_at(address);
            if (!last || address + width > last->start + last->size) return k;
            bytes = bytes_of(address);
        }
        if (store) memcpy(bytes, values, width); else memcpy(values, bytes, width);
    }
    return lanes;
}

/* a * b + c, rounded once. */
void emulator_fma32(long count, const float *a, const float *b, const float *c, float *out) {
    for (long k = 0; k < count; k++) out[k] = fmaf(a[k], b[k], c[k]);
}
void emulator_fma64(long count, const double *a, const double *b, const double *c, double *out) {
    for (long k = 0; k < count; k++) out[k] = fma(a[k], b[k], c[k]);
}
