/* fold.h - the fold of canonical chains (lib/dict/ref.h), eight dot products at once, for the
 * vector kernels of dense.inc; compiled for the instruction set of the file that includes it. */
#ifndef SAE_KERN_FOLD_H
#define SAE_KERN_FOLD_H

#include <immintrin.h>

/* 8 vectors of 8 half-folded chains -> their 8 sums in order. */
static inline __attribute__((always_inline)) __m256 fold8(__m256 a, __m256 b, __m256 c, __m256 d,
                                                          __m256 e, __m256 f, __m256 g, __m256 h)
{
#define FOLD4(u, v) \
    _mm256_add_ps(_mm256_permute2f128_ps(u, v, 0x20), _mm256_permute2f128_ps(u, v, 0x31))
#define FOLD2(u, v) _mm256_add_ps(_mm256_shuffle_ps(u, v, 0x44), _mm256_shuffle_ps(u, v, 0xee))
#define FOLD1(u, v) _mm256_add_ps(_mm256_shuffle_ps(u, v, 0x88), _mm256_shuffle_ps(u, v, 0xdd))
    return FOLD1(FOLD2(FOLD4(a, e), FOLD4(b, f)), FOLD2(FOLD4(c, g), FOLD4(d, h)));
#undef FOLD4
#undef FOLD2
#undef FOLD1
}

#endif
