// Copies by the tensor memory accelerator: bulk copies between global and shared memory that one thread starts and
// that go on without it (PTX ISA, cp.async.bulk; sm_90 and later). Only one thread of a block works.

#define TILE 8192u
#define SLOTS 5u
#define AHEAD 3u

__device__ __forceinline__ unsigned int shared_address(const void *pointer)
{
    return (unsigned int)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ void barrier_init(unsigned int barrier)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}

// Barriers are set up by this thread, and then used by the accelerator.
__device__ __forceinline__ void barriers_ready()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void load(unsigned int slot, const void *source, unsigned int nbytes, unsigned int barrier)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(nbytes) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(slot),
                 "l"(__cvta_generic_to_global(source)), "r"(nbytes), "r"(barrier)
                 : "memory");
}

__device__ __forceinline__ void await(unsigned int barrier, unsigned int parity)
{
    unsigned int done = 0;
    while (!done)
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}\n"
                     : "=r"(done)
                     : "r"(barrier), "r"(parity)
                     : "memory");
}

__device__ __forceinline__ void store(void *target, unsigned int slot, unsigned int nbytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(target)),
                 "r"(slot), "r"(nbytes)
                 : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

__device__ __forceinline__ unsigned int tile_nbytes(unsigned long long nbytes, unsigned long long at)
{
    return nbytes - at < TILE ? (unsigned int)(nbytes - at) : TILE;
}

// `nbytes` and both addresses are multiples of 16. Tile after tile through five slots: three loads are always under way,
// and a slot is loaded anew once the store out of it, the last but one, has read it.
extern "C" __global__ void dmaproof_tma_copy(unsigned char *target, const unsigned char *source,
                                             unsigned long long nbytes, unsigned int rounds)
{
    __shared__ alignas(128) unsigned char slots[SLOTS][TILE];
    __shared__ alignas(8) unsigned long long full[SLOTS];
    if (threadIdx.x != 0)
        return;
    for (unsigned int slot = 0; slot < SLOTS; ++slot)
        barrier_init(shared_address(&full[slot]));
    barriers_ready();

    unsigned long long ntiles = (nbytes + TILE - 1) / TILE;
    unsigned long long mine = ntiles > blockIdx.x ? (ntiles - blockIdx.x - 1) / gridDim.x + 1 : 0;
    unsigned long long total = mine * rounds;
    for (unsigned long long n = 0; n < total + AHEAD; ++n) {
        if (n < total) {
            if (n >= SLOTS)
                asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
            unsigned long long at = (blockIdx.x + n % mine * gridDim.x) * TILE;
            load(shared_address(slots[n % SLOTS]), source + at, tile_nbytes(nbytes, at), shared_address(&full[n % SLOTS]));
        }
        if (n >= AHEAD) {
            unsigned long long done = n - AHEAD;
            unsigned long long at = (blockIdx.x + done % mine * gridDim.x) * TILE;
            await(shared_address(&full[done % SLOTS]), (unsigned int)(done / SLOTS) & 1);
            store(target + at, shared_address(slots[done % SLOTS]), tile_nbytes(nbytes, at));
        }
    }
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// As dmaproof_chase_on; each pointer comes by a bulk copy of 16 bytes, the smallest there is.
extern "C" __global__ void dmaproof_tma_chase(const unsigned long long *start, unsigned long long steps,
                                              unsigned long long *end, unsigned int block)
{
    __shared__ alignas(16) unsigned long long words[2];
    __shared__ alignas(8) unsigned long long full;
    if (blockIdx.x != block || threadIdx.x != 0)
        return;
    barrier_init(shared_address(&full));
    barriers_ready();
    const unsigned long long *at = start;
    for (unsigned long long i = 0; i < steps; ++i) {
        load(shared_address(words), at, 16, shared_address(&full));
        await(shared_address(&full), (unsigned int)i & 1);
        at = (const unsigned long long *)*(volatile unsigned long long *)words;
    }
    *end = (unsigned long long)at;
}
