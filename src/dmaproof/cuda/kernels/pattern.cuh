// The word that belongs at index `i` of a buffer filled with `seed`: every word differs from its neighbours,
// and no shift of the buffer, no zero page and no stale fill with another seed can pass for it.
__device__ __forceinline__ unsigned int pattern(unsigned long long i, unsigned int seed)
{
    unsigned int x = (unsigned int)i * 2654435761u + (unsigned int)(i >> 32) + seed;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    return x;
}
