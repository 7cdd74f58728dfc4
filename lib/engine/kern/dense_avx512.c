/* dense_avx512.c - the dense projection with AVX-512: one zmm a dot product, tiles of 4 x 6. */
#include "lib/engine/kern/dense.h"

#include <immintrin.h>
#include <string.h>

#define VEC __m512
#define VEC_FLOATS 16
#define VECS 1
#define TILE_R 4
#define TILE_C 6
#define DENSE_NAME sae_dense_f32_4x6__avx512
#define PAIRS_NAME sae_pairs_f32__avx512

static inline __m512 vec_zero(void)
{
    return _mm512_setzero_ps();
}
static inline __m512 vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline __m512 vec_load_tail(const float *p, int n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void vec_store(float *p, __m512 v)
{
    _mm512_storeu_ps(p, v);
}
static inline __m512 vec_fma(__m512 a, __m512 b, __m512 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline __m256 half(const __m512 *v)
{
    return _mm256_add_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1));
}
/* Keep a loaded operand in its register: gcc 12 would load it again for each use. */
#define vec_pin(v) __asm__("" : "+v"(v))

#include "lib/engine/kern/dense.inc"
