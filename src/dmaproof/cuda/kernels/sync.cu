// Kernels of one thread: latency, holding a stream until all work is queued, and talking to the CPU.

// Follows `steps` pointers from `start` and stores where it ended, so that no load can be left out.
extern "C" __global__ void dmaproof_chase(const unsigned long long *start, unsigned long long steps,
                                          unsigned long long *end)
{
    const unsigned long long *at = start;
    for (unsigned long long i = 0; i < steps; ++i)
        at = (const unsigned long long *)*(volatile const unsigned long long *)at;
    *end = (unsigned long long)at;
}

// Holds its stream until flag[0] is set. After timeout_ns it gives up and says so in flag[1]: the sample behind
// it is then worthless, and whoever took it must be able to know.
extern "C" __global__ void dmaproof_hold(volatile unsigned int *flag, unsigned long long timeout_ns)
{
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    while (flag[0] == 0u) {
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
        if (now - begin > timeout_ns) {
            flag[1] = 1u;
            __threadfence_system();
            return;
        }
    }
}

// Answers the CPU `rounds` times: waits for 2*round+1 in *flag, then writes 2*round+2.
extern "C" __global__ void dmaproof_pingpong(volatile unsigned int *flag, unsigned int rounds)
{
    for (unsigned int round = 0; round < rounds; ++round) {
        while (*flag != 2u * round + 1u) {
        }
        __threadfence_system();
        *flag = 2u * round + 2u;
        __threadfence_system();
    }
}
