// Kernels that write to another GPU's memory in the ways that the wide copies do not: to any address, by atomics, and in
// an order that the other GPU relies on.

// Any length, from and to any address: one byte a store.
extern "C" __global__ void dmaproof_copy_bytes(unsigned char *target, const unsigned char *source,
                                               unsigned long long nbytes)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < nbytes; i += step)
        target[i] = source[i];
}

// Adds one to each word, `rounds` times, for the whole system to see. Nothing is returned: RED in the instruction set,
// a posted write on a link.
extern "C" __global__ void dmaproof_red(unsigned int *words, unsigned long long nwords, unsigned int rounds)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned int round = 0; round < rounds; ++round)
        for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < nwords; i += step)
            asm volatile("red.relaxed.sys.add.u32 [%0], %1;" : : "l"(words + i), "r"(1u) : "memory");
}

// The same, with the old value fetched: ATOM, a request and its answer. last[i] is the last old value of words[i].
extern "C" __global__ void dmaproof_atom(unsigned int *words, unsigned long long nwords, unsigned int rounds,
                                         unsigned int *last)
{
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < nwords; i += step) {
        unsigned int old = 0;
        for (unsigned int round = 0; round < rounds; ++round)
            asm volatile("atom.relaxed.sys.add.u32 %0, [%1], %2;"
                         : "=r"(old)
                         : "l"(words + i), "r"(1u)
                         : "memory");
        last[i] = old;
    }
}

__device__ __forceinline__ void release(unsigned int *flag, unsigned int value)
{
    asm volatile("st.release.sys.u32 [%0], %1;" : : "l"(flag), "r"(value) : "memory");
}

__device__ __forceinline__ unsigned int acquire(const unsigned int *flag)
{
    unsigned int value;
    asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
}

// Whether *flag came to be `value` before the time was up.
__device__ __forceinline__ bool came(const unsigned int *flag, unsigned int value, unsigned long long timeout_ns)
{
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    while (acquire(flag) != value) {
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
        if (now - begin > timeout_ns)
            return false;
    }
    return true;
}

// One block. Round after round: all threads write data, then one says so in *flag, then waits for the answer in *ack.
// result[0]: rounds whose data was written; result[1]: rounds that were answered. The PTX memory model orders the data
// of all threads before the flag: the barrier for the block, the release for the system.
extern "C" __global__ void dmaproof_send(unsigned int *data, unsigned long long nwords, unsigned int *flag,
                                         const unsigned int *ack, unsigned int rounds, unsigned long long timeout_ns,
                                         unsigned long long *result)
{
    __shared__ bool answered;
    for (unsigned int round = 1; round <= rounds; ++round) {
        for (unsigned long long i = threadIdx.x; i < nwords; i += blockDim.x)
            data[i] = pattern(i, round);
        __syncthreads();
        if (threadIdx.x == 0) {
            result[0] = round;
            release(flag, round);
            answered = came(ack, round, timeout_ns);
            result[1] = answered ? round : round - 1;
        }
        __syncthreads();
        if (!answered)
            return;
    }
}

// One block of the GPU that owns the data. result[0]: rounds whose flag came; result[1]: words that were not there when
// it did; result[2]: the first round with such a word (the caller sets it to all ones, and the others to 0).
extern "C" __global__ void dmaproof_receive(const unsigned int *data, unsigned long long nwords,
                                            const unsigned int *flag, unsigned int *ack, unsigned int rounds,
                                            unsigned long long timeout_ns, unsigned long long *result)
{
    __shared__ bool flagged;
    for (unsigned int round = 1; round <= rounds; ++round) {
        if (threadIdx.x == 0) {
            flagged = came(flag, round, timeout_ns);
            result[0] = flagged ? round : round - 1;
        }
        __syncthreads();
        if (!flagged)
            return;
        for (unsigned long long i = threadIdx.x; i < nwords; i += blockDim.x)
            if (((volatile const unsigned int *)data)[i] != pattern(i, round)) {
                atomicAdd(&result[1], 1ull);
                atomicMin(&result[2], (unsigned long long)round);
            }
        __syncthreads();
        if (threadIdx.x == 0)
            release(ack, round);
    }
}
