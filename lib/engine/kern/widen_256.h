/* widen_256.h - weights as f32 in ymm registers, of whatever form they are kept in; with AVX2 and
 * F16C, for the files that are compiled for them. Exact: a bf16 is the upper half of an f32, and
 * vcvtph2ps takes subnormals whatever MXCSR says. `t` is a constant wherever these are inlined. */
#ifndef SAE_KERN_WIDEN_256_H
#define SAE_KERN_WIDEN_256_H

#include "lib/matrix.h"

#include <immintrin.h>
#include <string.h>

/* Eight weights from p on. */
static inline __attribute__((always_inline)) __m256 weights(const void *p, const enum sae_dtype t)
{
    if (t == SAE_DTYPE_F32)
        return _mm256_loadu_ps(p);
    if (t == SAE_DTYPE_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

/* The first n of them, n may be 0 or fewer; the rest is +0, and nothing of it is read. */
static inline __attribute__((always_inline)) __m256 weights_tail(const void *p, int n,
                                                                 const enum sae_dtype t)
{
    size_t item = t == SAE_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    unsigned char some[32] = {0};

    if (n > 0)
        memcpy(some, p, (size_t)(n < 8 ? n : 8) * item);
    return weights(some, t);
}

static inline __attribute__((always_inline)) void widen_as(const void *p, float *to, size_t n,
                                                           const enum sae_dtype t)
{
    const uint16_t *from = p;
    size_t k = 0;

    for (; k + 8 <= n; k += 8)
        _mm256_storeu_ps(to + k, weights(from + k, t));
    if (k < n) {
        float some[8];

        _mm256_storeu_ps(some, weights_tail(from + k, (int)(n - k), t));
        memcpy(to + k, some, (n - k) * sizeof *to);
    }
}

/* n weights of 16 bits from p on, as f32. */
static inline void widen(const void *p, float *to, size_t n, enum sae_dtype t)
{
    if (t == SAE_DTYPE_F16)
        widen_as(p, to, n, SAE_DTYPE_F16);
    else
        widen_as(p, to, n, SAE_DTYPE_BF16);
}

#endif
