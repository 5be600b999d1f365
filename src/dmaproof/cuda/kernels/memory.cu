// Kernels that write, read and check memory. Lengths are in units of the pointer's type.

extern "C" __global__ void dmaproof_fill(unsigned int *words, unsigned long long nwords, unsigned int seed)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < nwords; i += step)
        words[i] = pattern(i, seed);
}

// result[0]: how many words differ; result[1]: the lowest index that differs. The caller sets both before.
extern "C" __global__ void dmaproof_verify(const unsigned int *words, unsigned long long nwords, unsigned int seed,
                                           unsigned long long *result)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < nwords; i += step)
        if (words[i] != pattern(i, seed)) {
            atomicAdd(&result[0], 1ull);
            atomicMin(&result[1], i);
        }
}

extern "C" __global__ void dmaproof_increment(unsigned int *words, unsigned long long nwords)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < nwords; i += step)
        words[i] += 1u;
}

// Twelve loads are under way before the first store: one at a time would measure latency, not the link.
extern "C" __global__ void dmaproof_copy(uint4 *__restrict__ target, const uint4 *__restrict__ source,
                                         unsigned long long nchunks)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 11 * step < nchunks; i += 12 * step) {
        uint4 batch[12];
#pragma unroll
        for (int k = 0; k < 12; ++k)
            batch[k] = source[i + k * step];
#pragma unroll
        for (int k = 0; k < 12; ++k)
            target[i + k * step] = batch[k];
    }
    for (; i < nchunks; i += step)
        target[i] = source[i];
}
