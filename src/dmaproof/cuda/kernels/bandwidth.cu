// Kernels that move the same bytes `rounds` times in one launch: what one launch costs is then none of the figure.
// Lengths are in 16-byte chunks. No pointer is restrict: a compiler that may think so could leave rounds out.

#define FIRST ((unsigned long long)blockIdx.x * blockDim.x + threadIdx.x)
#define STEP ((unsigned long long)gridDim.x * blockDim.x)
#define DEPTH 12

// Twelve loads are under way before the first store: one at a time would measure latency, not the link.
extern "C" __global__ void dmaproof_copy_rounds(uint4 *target, const uint4 *source, unsigned long long nchunks,
                                                unsigned int rounds)
{
    for (unsigned int round = 0; round < rounds; ++round) {
        unsigned long long i = FIRST;
        for (; i + (DEPTH - 1) * STEP < nchunks; i += DEPTH * STEP) {
            uint4 batch[DEPTH];
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                batch[k] = source[i + k * STEP];
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                target[i + k * STEP] = batch[k];
        }
        for (; i < nchunks; i += STEP)
            target[i] = source[i];
    }
}

// Both ways at once: of every two warps the first copies from `there` to `here`, the second from `here` to `there`,
// 512 bytes each. The number of warps must be even, so that a warp keeps its way.
extern "C" __global__ void dmaproof_exchange_rounds(uint4 *here, uint4 *there, unsigned long long nchunks,
                                                    unsigned int rounds)
{
    bool out = (FIRST / warpSize) & 1;
    uint4 *target = out ? there : here;
    const uint4 *source = out ? here : there;
    for (unsigned int round = 0; round < rounds; ++round) {
        unsigned long long i = FIRST;
        for (; i + (DEPTH - 1) * STEP < nchunks; i += DEPTH * STEP) {
            uint4 batch[DEPTH];
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                batch[k] = __ldcg(&source[i + k * STEP]);
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                __stcg(&target[i + k * STEP], batch[k]);
        }
        for (; i < nchunks; i += STEP)
            __stcg(&target[i], __ldcg(&source[i]));
    }
}

// Adds the sum of all words to *sum, once for each round: no load can be left out, and who knows the words can tell
// whether they were read.
extern "C" __global__ void dmaproof_read_rounds(const uint4 *source, unsigned long long nchunks, unsigned int rounds,
                                                unsigned int *sum)
{
    unsigned int mine = 0;
    for (unsigned int round = 0; round < rounds; ++round) {
        unsigned long long i = FIRST;
        for (; i + (DEPTH - 1) * STEP < nchunks; i += DEPTH * STEP) {
            uint4 batch[DEPTH];
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                batch[k] = __ldcg(&source[i + k * STEP]);
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                mine += batch[k].x + batch[k].y + batch[k].z + batch[k].w;
        }
        for (; i < nchunks; i += STEP) {
            uint4 one = __ldcg(&source[i]);
            mine += one.x + one.y + one.z + one.w;
        }
    }
    atomicAdd(sum, mine);
}

extern "C" __global__ void dmaproof_write_rounds(uint4 *target, unsigned long long nchunks, unsigned int rounds,
                                                 unsigned int value)
{
    uint4 words = make_uint4(value, value, value, value);
    for (unsigned int round = 0; round < rounds; ++round)
        for (unsigned long long i = FIRST; i < nchunks; i += STEP)
            __stcg(&target[i], words);
}

// Follows `steps` pointers from `start`, in block `block` of the grid alone: with a block a multiprocessor, each of
// them can be asked for its own latency. Stores where it ended, so that no load can be left out.
extern "C" __global__ void dmaproof_chase_on(const unsigned long long *start, unsigned long long steps,
                                             unsigned long long *end, unsigned int block)
{
    if (blockIdx.x != block || threadIdx.x != 0)
        return;
    const unsigned long long *at = start;
    for (unsigned long long i = 0; i < steps; ++i)
        at = (const unsigned long long *)*(volatile const unsigned long long *)at;
    *end = (unsigned long long)at;
}
