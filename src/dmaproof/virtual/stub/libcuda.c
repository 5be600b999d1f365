/* libcuda.so.1 as a stub: the unmodified CUDA bindings load it, ask it for every function by name, and get functions
 * that run in this process's Python (dmaproof.virtual.driver). Besides that it holds what must not wait for Python:
 * the page faults of managed memory, which a CPU thread takes anywhere, with the interpreter lock or without. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { CUDA_SUCCESS = 0, CUDA_ERROR_DEINITIALIZED = 4, CUDA_ERROR_NOT_FOUND = 500, SYMBOL_FOUND = 0, SYMBOL_NOT_FOUND = 1 };

/* Of the interpreter that this library is loaded into; weak, because a program without one may load it too. */
extern int PyGILState_Ensure(void) __attribute__((weak));
extern void PyGILState_Release(int) __attribute__((weak));
extern int PyRun_SimpleString(const char *) __attribute__((weak));
extern int Py_IsInitialized(void) __attribute__((weak));
extern void PyErr_Fetch(void **type, void **value, void **traceback) __attribute__((weak));
extern void PyErr_Restore(void *type, void *value, void *traceback) __attribute__((weak));

typedef void *(*resolver_fn)(const char *name, int version, unsigned long long flags);
static _Atomic(resolver_fn) resolver;
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

EXPORT void dmaproof_set_resolver(resolver_fn fn)
{
    atomic_store(&resolver, fn);
}

static void load_driver(void)
{
    if (PyGILState_Ensure == NULL || PyRun_SimpleString == NULL) {
        fprintf(stderr, "dmaproof: the simulated libcuda.so.1 works only inside a Python process\n");
        return;
    }
    int state = PyGILState_Ensure();
    /* PyRun_SimpleString prints the traceback of a failed import to stderr itself. */
    if (PyRun_SimpleString("import dmaproof.virtual.driver.install as _dmaproof_install; _dmaproof_install.install()\n"
                           "del _dmaproof_install\n") != 0)
        fprintf(stderr, "dmaproof: the simulated CUDA driver could not be loaded; every CUDA call will be missing\n");
    PyGILState_Release(state);
}

/* Programs keep the functions they are given, and C++ destructors call them when the interpreter is gone. So each is
 * handed out behind a slot, which by then answers as a driver that is shutting down does. All parameters of the driver
 * API are integers or pointers, twelve at the most; a slot passes on twelve words, whatever the function takes. */
#define PARAMETERS                                                                                                     \
    uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f, uintptr_t g, uintptr_t h,            \
        uintptr_t i, uintptr_t j, uintptr_t k, uintptr_t l
#define SLOT(n)                                                                                                        \
    static int slot_##n(PARAMETERS)                                                                                    \
    {                                                                                                                  \
        return enter(targets[0x##n], a, b, c, d, e, f, g, h, i, j, k, l);                                              \
    }
#define NAME(n) slot_##n,
#define SIXTEEN(X, n)                                                                                                  \
    X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7)                                                    \
    X(n##8) X(n##9) X(n##a) X(n##b) X(n##c) X(n##d) X(n##e) X(n##f)
#define ALL(X)                                                                                                         \
    SIXTEEN(X, 0) SIXTEEN(X, 1) SIXTEEN(X, 2) SIXTEEN(X, 3) SIXTEEN(X, 4) SIXTEEN(X, 5) SIXTEEN(X, 6) SIXTEEN(X, 7)    \
    SIXTEEN(X, 8) SIXTEEN(X, 9) SIXTEEN(X, a) SIXTEEN(X, b) SIXTEEN(X, c) SIXTEEN(X, d) SIXTEEN(X, e) SIXTEEN(X, f)

typedef int (*driver_fn)(PARAMETERS);
static driver_fn targets[256];

/* Destructors call the driver while the exception that they are run for is still to be raised: it is none of the
 * driver's, and put aside meanwhile. */
static int enter(driver_fn function, PARAMETERS)
{
    void *type, *value, *traceback;
    if (!Py_IsInitialized())
        return CUDA_ERROR_DEINITIALIZED;
    int state = PyGILState_Ensure();
    PyErr_Fetch(&type, &value, &traceback);
    int result = function(a, b, c, d, e, f, g, h, i, j, k, l);
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(state);
    return result;
}
ALL(SLOT)
static const driver_fn slots[256] = {ALL(NAME)};
static int nslots;
static pthread_mutex_t handing_out = PTHREAD_MUTEX_INITIALIZER;

/* The slot in front of `function`, or NULL when there are no more. */
static void *behind_slot(driver_fn function)
{
    int n = 0;
    pthread_mutex_lock(&handing_out);
    while (n < nslots && targets[n] != function)
        ++n;
    if (n == nslots && n < (int)(sizeof slots / sizeof *slots))
        targets[nslots++] = function;
    pthread_mutex_unlock(&handing_out);
    if (n == (int)(sizeof slots / sizeof *slots)) {
        fprintf(stderr, "dmaproof: the simulated driver has more calls than libcuda.so.1 has slots\n");
        return NULL;
    }
    return (void *)slots[n];
}

EXPORT int cuGetProcAddress_v2(const char *name, void **pfn, int version, unsigned long long flags, int *status)
{
    pthread_once(&loaded, load_driver);
    resolver_fn resolve = atomic_load(&resolver);
    void *found = resolve == NULL ? NULL : resolve(name, version, flags);
    if (found != NULL)
        found = behind_slot((driver_fn)found);
    if (pfn != NULL)
        *pfn = found;
    if (status != NULL)
        *status = found == NULL ? SYMBOL_NOT_FOUND : SYMBOL_FOUND;
    return found == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

EXPORT int cuGetProcAddress(const char *name, void **pfn, int version, unsigned long long flags)
{
    return cuGetProcAddress_v2(name, pfn, version, flags, NULL);
}

/* ---- Managed memory as the CPU sees it ------------------------------------------------------------------------
 * A region is one managed allocation. Where a page is, is one word: bit 0 the CPU, bit n + 1 GPU n, no bit nowhere
 * yet; several bits are copies of a read-mostly page. A page without bit 0 is not accessible to the CPU: a touch
 * traps, as it would into nvidia-uvm's fault handler, and brings the page back. */
#define CPU_BIT 1ull
#define MAX_REGIONS 8192

struct region {
    uintptr_t base; /* 0: a free entry */
    uint64_t npages, page_nbytes;
    uint64_t *where;
    const uint8_t *read_mostly; /* a flag a page */
    uint64_t faults;
};

static struct region regions[MAX_REGIONS];
static int nregions;
static atomic_flag busy = ATOMIC_FLAG_INIT;
static struct sigaction previous;

/* A spin lock, because a signal handler takes it. No holder touches managed memory, so no holder can trap here. */
static void lock(void)
{
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        sched_yield();
}

static void unlock(void)
{
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

static int protection(uint64_t where)
{
    if (!(where & CPU_BIT))
        return PROT_NONE;
    return where == CPU_BIT ? PROT_READ | PROT_WRITE : PROT_READ;
}

static void protect(const struct region *region, uint64_t first, uint64_t npages)
{
    mprotect((void *)(region->base + first * region->page_nbytes), npages * region->page_nbytes,
             protection(region->where[first]));
}

static struct region *holding(uintptr_t address)
{
    for (int i = 0; i < nregions; ++i)
        if (regions[i].base != 0 && address - regions[i].base < regions[i].npages * regions[i].page_nbytes)
            return &regions[i];
    return NULL;
}

/* Whether `address` is managed memory; then the CPU has its page now. */
static int serve(uintptr_t address)
{
    lock();
    struct region *region = holding(address);
    if (region != NULL) {
        uint64_t page = (address - region->base) / region->page_nbytes, where = region->where[page];
        if (where != CPU_BIT) { /* else another thread was served in between */
            int copy = !(where & CPU_BIT) && where != 0 && region->read_mostly[page];
            region->where[page] = copy ? where | CPU_BIT : CPU_BIT;
            region->faults += 1;
        }
        protect(region, page, 1);
    }
    unlock();
    return region != NULL;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int kept = errno, served = info->si_code == SEGV_ACCERR && serve((uintptr_t)info->si_addr);
    errno = kept;
    if (served)
        return;
    if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction != NULL) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else { /* the access is repeated and meets the default action */
        signal(SIGSEGV, SIG_DFL);
    }
}

/* Installed anew for every region that is the only one: a program may have set its own handler since. */
static void take_faults(void)
{
    struct sigaction current, own = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGSEGV, NULL, &current);
    if (current.sa_flags & SA_SIGINFO && current.sa_sigaction == on_fault)
        return;
    previous = current;
    sigemptyset(&own.sa_mask);
    sigaction(SIGSEGV, &own, NULL);
}

/* The number of a new region, all of it nowhere yet and inaccessible, or -1 where there is no room for one. */
EXPORT int dmaproof_region_add(uintptr_t base, uint64_t npages, uint64_t page_nbytes, uint64_t *where,
                               const uint8_t *read_mostly)
{
    int number = 0;
    lock();
    while (number < nregions && regions[number].base != 0)
        ++number;
    if (number < MAX_REGIONS) {
        regions[number] = (struct region){base, npages, page_nbytes, where, read_mostly, 0};
        if (number == nregions)
            ++nregions;
        mprotect((void *)base, npages * page_nbytes, PROT_NONE);
    }
    unlock();
    if (number == MAX_REGIONS)
        return -1;
    take_faults();
    return number;
}

EXPORT void dmaproof_region_remove(int number)
{
    lock();
    regions[number].base = 0;
    unlock();
}

/* Each page's word becomes (word & keep) | set, and the CPU's access follows. */
EXPORT void dmaproof_region_move(int number, uint64_t first, uint64_t npages, uint64_t keep, uint64_t set)
{
    lock();
    struct region *region = &regions[number];
    uint64_t start = first;
    for (uint64_t page = first; page < first + npages; ++page) {
        region->where[page] = (region->where[page] & keep) | set;
        if (protection(region->where[page]) != protection(region->where[start])) {
            protect(region, start, page - start);
            start = page;
        }
    }
    if (npages != 0)
        protect(region, start, first + npages - start);
    unlock();
}

EXPORT uint64_t dmaproof_region_faults(int number)
{
    return regions[number].faults;
}

/* A GPU's system-scope atomic add to memory that the CPU may be adding to as well. */
EXPORT void dmaproof_add(uint32_t *words, uint64_t nwords, uint32_t value)
{
    for (uint64_t i = 0; i < nwords; ++i)
        __atomic_fetch_add(&words[i], value, __ATOMIC_SEQ_CST);
}

/* ---- A call into the kernel that does not return -----------------------------------------------------------------
 * The thread waits as one does behind a lock of the kernel driver: in the kernel, state D, no signal is delivered
 * (kernel/fork.c, wait_for_vfork_done). It waits for a child that never runs on; the child is killed when the thread
 * ends, which a SIGKILL of the process still brings about. Of a real one not even that is certain: at least no lesser
 * signal ends the process. Returns only where no child can be made. */
static const int lesser[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
#define NLESSER (sizeof lesser / sizeof *lesser)

EXPORT void dmaproof_wait_in_kernel(void)
{
    sigset_t all, before;
    struct sigaction kept[NLESSER], ignore = {.sa_handler = SIG_IGN};
    pid_t parent = getpid();
    for (size_t i = 0; i < NLESSER; ++i)
        sigaction(lesser[i], &ignore, &kept[i]);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the child shares our memory: it must run no handler of ours */
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* killed before it could ask for the signal */
            _exit(0);
        for (;;)
            pause();
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (size_t i = 0; i < NLESSER; ++i)
        sigaction(lesser[i], &kept[i], NULL);
}
