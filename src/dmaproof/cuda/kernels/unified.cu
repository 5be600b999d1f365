// Kernels that use memory while the CPU uses it, or takes it away: they go on until *stop is set.

// One block. After each pass over all words told[1] is their sum, and told[0] then how many passes there were. It makes
// one pass at least. Each thread has its own word of whether there is another: the first may be there, and have asked
// anew, before the last has left this one.
extern "C" __global__ void dmaproof_read_until(const volatile unsigned int *words, unsigned long long nwords,
                                               const volatile unsigned int *stop, volatile unsigned int *told)
{
    __shared__ unsigned int sum, stopped;
    unsigned int passes = 0;
    bool again;
    do {
        if (threadIdx.x == 0) {
            sum = 0u;
            stopped = *stop;
        }
        __syncthreads();
        again = stopped == 0u;
        unsigned int mine = 0;
        for (unsigned long long i = threadIdx.x; i < nwords; i += blockDim.x)
            mine += words[i];
        atomicAdd(&sum, mine);
        __syncthreads();
        if (threadIdx.x == 0) {
            told[1] = sum;
            __threadfence_system();
            told[0] = ++passes;
        }
    } while (again);
}

// One block; thread i stores how often it has done so to words[i], by a plain store each time, and in the end to
// counts[i]. It stores once at least.
extern "C" __global__ void dmaproof_count_until(volatile unsigned int *words, const volatile unsigned int *stop,
                                                unsigned int *counts)
{
    unsigned int done = 0, stopped;
    do {
        stopped = *stop;
        words[threadIdx.x] = ++done;
    } while (stopped == 0u);
    counts[threadIdx.x] = done;
    __threadfence_system();
}
