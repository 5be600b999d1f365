/* libcuda.so.1 as a stub: the unmodified CUDA bindings load it, ask it for every function by name, and get functions
 * that run in this process's Python (dmaproof.virtual.driver). Besides that it holds what must not wait for Python:
 * the page faults of managed memory, which a CPU thread takes anywhere, with the interpreter lock or without. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))

enum { CUDA_SUCCESS = 0, CUDA_ERROR_NOT_FOUND = 500, SYMBOL_FOUND = 0, SYMBOL_NOT_FOUND = 1 };

/* Of the interpreter that this library is loaded into; weak, because a program without one may load it too. */
extern int PyGILState_Ensure(void) __attribute__((weak));
extern void PyGILState_Release(int) __attribute__((weak));
extern int PyRun_SimpleString(const char *) __attribute__((weak));

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

EXPORT int cuGetProcAddress_v2(const char *name, void **pfn, int version, unsigned long long flags, int *status)
{
    pthread_once(&loaded, load_driver);
    resolver_fn resolve = atomic_load(&resolver);
    void *found = resolve == NULL ? NULL : resolve(name, version, flags);
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
