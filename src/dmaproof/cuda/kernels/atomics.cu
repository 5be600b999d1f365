// One block; thread i adds one to words[i], for the whole system to see, again and again until *stop is set. How often
// it did goes to counts[i]. It adds once at least.
extern "C" __global__ void dmaproof_add_until(unsigned int *words, volatile const unsigned int *stop,
                                              unsigned int *counts)
{
    unsigned int done = 0;
    do {
        atomicAdd_system(&words[threadIdx.x], 1u);
        ++done;
    } while (*stop == 0u);
    counts[threadIdx.x] = done;
    __threadfence_system();
}
