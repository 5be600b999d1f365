/* A libnvidia-ml.so.1 for tests: two GPUs, of which NVML_STUB_MODE decides how they behave, and events that are lines
 * "GPU TYPE DATA GI CI" (or "error CODE") in the file NVML_STUB_EVENTS. Error counters are lines "GPU COUNTER VALUE"
 * in the file NVML_STUB_COUNTERS, with COUNTER replay, corrected, uncorrected or LINK.KIND; without it the library has
 * none. Layouts: nvml.h. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_SUPPORTED = 3, NO_PERMISSION = 4, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, LOST = 15, INVALID = 2 };
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { void *device; unsigned long long type, data; unsigned gi, ci; } Event;
typedef struct { unsigned version, value; } Addressing;

static int gpus[2] = {0, 1};
static FILE *events;

static int mode(const char *name) { const char *value = getenv("NVML_STUB_MODE"); return value && !strcmp(value, name); }
static int index_of(void *device) { return *(int *)device; }
static int answer(void *device) { return mode("lost") && index_of(device) == 1 ? LOST : 0; }

int nvmlInitWithFlags(unsigned flags) {
    printf("words that are no JSON\n");
    fflush(stdout);
    if (mode("hang")) for (;;) pause();
    if (mode("stuck")) fgetc(fopen(getenv("NVML_STUB_EVENTS"), "r"));
    if (mode("crash")) raise(SIGSEGV);
    if (mode("no-driver")) return DRIVER_NOT_LOADED;
    return mode("no-permission") ? NO_PERMISSION : 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "595.45"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &gpus[index]; return 0; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    snprintf(text, size, "GPU-%d", index_of(device));
    return answer(device);
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) { snprintf(text, size, "Stub"); return answer(device); }
int nvmlDeviceGetPciInfo_v3(void *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", 0x1a + index_of(device));
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) { memory->total = 80ull << 30; return answer(device); }
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned *value) { *value = 4; return 0; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned *value) { *value = 5; return 0; }
int nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned *value) { *value = 8; return 0; }
int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned *value) { *value = 16; return 0; }
int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *active) {
    *active = link != 2;
    return index_of(device) ? NOT_SUPPORTED : link < 18 ? 0 : INVALID;
}
int nvmlDeviceGetAddressingMode(void *device, Addressing *mode) { mode->value = index_of(device) ? 1 : 2; return 0; }
int nvmlDeviceGetP2PStatus(void *a, void *b, unsigned what, unsigned *status) {
    *status = what == 0 ? 0 : index_of(a) ? 1 : 99; /* reads: OK; writes: a known and an unknown refusal */
    return 0;
}
int nvmlDeviceGetTopologyCommonAncestor(void *a, void *b, unsigned *level) { *level = 30; return 0; }

static int counter(void *device, const char *name, unsigned long long *value) {
    const char *path = getenv("NVML_STUB_COUNTERS");
    FILE *file = path ? fopen(path, "r") : NULL;
    char found[32];
    int gpu, status = NOT_SUPPORTED;
    unsigned long long read;
    while (file && fscanf(file, "%d %31s %llu", &gpu, found, &read) == 3)
        if (gpu == index_of(device) && !strcmp(found, name)) *value = read, status = 0;
    if (file) fclose(file);
    return status;
}
int nvmlDeviceGetPcieReplayCounter(void *device, unsigned *value) {
    unsigned long long read = 0;
    int status = counter(device, "replay", &read);
    *value = read;
    return status;
}
int nvmlDeviceGetTotalEccErrors(void *device, unsigned type, unsigned volatile_or_aggregate, unsigned long long *value) {
    return volatile_or_aggregate ? INVALID : counter(device, type ? "uncorrected" : "corrected", value);
}
int nvmlDeviceGetNvLinkErrorCounter(void *device, unsigned link, unsigned kind, unsigned long long *value) {
    char name[32];
    snprintf(name, sizeof name, "%u.%u", link, kind);
    return counter(device, name, value);
}
int nvmlDeviceGetRemappedRows(void *device, unsigned *fixed, unsigned *lost, unsigned *pending, unsigned *failed) {
    *fixed = *lost = 1;
    *pending = 1;
    *failed = 0;
    return index_of(device) ? NOT_SUPPORTED : 0;
}

int nvmlEventSetCreate(void **set) { *set = gpus; return 0; }
int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types) { *types = 0xfb9f; return answer(device); }
int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) { return types == 0xfb9f ? 0 : INVALID; }
int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout_ms) {
    const char *path = getenv("NVML_STUB_EVENTS");
    int gpu, code;
    char line[128];
    if (mode("die")) _exit(7);
    if (!events && path) events = fopen(path, "r");
    if (events) clearerr(events);
    if (!events || !fgets(line, sizeof line, events)) {
        usleep(timeout_ms * 100);
        return TIMEOUT;
    }
    if (sscanf(line, "error %d", &code) == 1) return code;
    sscanf(line, "%d %llx %llu %u %u", &gpu, &event->type, &event->data, &event->gi, &event->ci);
    event->device = &gpus[gpu];
    return 0;
}
