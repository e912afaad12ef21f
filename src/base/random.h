/* Counter-based random numbers: no state, so that any item can be drawn on any thread in any order. */
#ifndef BF_RANDOM_H
#define BF_RANDOM_H

#include <math.h>
#include <stdint.h>

/* 64 well mixed bits of (key, counter): the finalizer of SplitMix64 (Steele, Lea & Flood 2014) applied twice. */
static inline uint64_t bf_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline uint64_t bf_random(uint64_t key, uint64_t counter)
{
    return bf_mix64(bf_mix64(key + 0x9E3779B97F4A7C15u) + (counter + 1) * 0x9E3779B97F4A7C15u);
}
/* A key for a sub-stream. */
static inline uint64_t bf_random_key(uint64_t key, uint64_t stream) { return bf_random(key ^ 0x5851F42D4C957F2Du, stream); }
/* Uniform in [0, 1), 53 bits. */
static inline double bf_random_uniform(uint64_t key, uint64_t counter) { return (double)(bf_random(key, counter) >> 11) * 0x1p-53; }
/* Uniform integer in [0, n), n > 0. */
static inline uint64_t bf_random_below(uint64_t key, uint64_t counter, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)bf_random(key, counter) * n) >> 64);
}
/* Standard normal (Box-Muller on the pair of draws 2*counter, 2*counter + 1). */
static inline double bf_random_normal(uint64_t key, uint64_t counter)
{
    const double u = 1.0 - bf_random_uniform(key, 2 * counter), v = bf_random_uniform(key, 2 * counter + 1);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
