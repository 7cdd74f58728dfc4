/* widen_512.h - widen_256.h in zmm registers, with AVX-512 F, BW, DQ and VL. */
#ifndef SAE_KERN_WIDEN_512_H
#define SAE_KERN_WIDEN_512_H

#include "lib/matrix.h"

#include <immintrin.h>

static inline __attribute__((always_inline)) __m512 widened(__m256i h, const enum sae_dtype t)
{
    if (t == SAE_DTYPE_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Sixteen weights from p on. */
static inline __attribute__((always_inline)) __m512 weights(const void *p, const enum sae_dtype t)
{
    return t == SAE_DTYPE_F32 ? _mm512_loadu_ps(p) : widened(_mm256_loadu_si256(p), t);
}

/* The first n of them, 0 to 16; the rest is +0, and nothing of it is read. */
static inline __attribute__((always_inline)) __m512 weights_tail(const void *p, int n,
                                                                 const enum sae_dtype t)
{
    __mmask16 on = (__mmask16)((1u << n) - 1);

    return t == SAE_DTYPE_F32 ? _mm512_maskz_loadu_ps(on, p)
                              : widened(_mm256_maskz_loadu_epi16(on, p), t);
}

static inline __attribute__((always_inline)) void widen_as(const void *p, float *to, size_t n,
                                                           const enum sae_dtype t)
{
    const uint16_t *from = p;
    size_t k = 0;

    for (; k + 16 <= n; k += 16)
        _mm512_storeu_ps(to + k, weights(from + k, t));
    if (k < n)
        _mm512_mask_storeu_ps(to + k, (__mmask16)((1u << (n - k)) - 1),
                              weights_tail(from + k, (int)(n - k), t));
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
