/* dense_avx2.c - the dense projection with AVX2 and FMA: two ymm a dot product, tiles of 2 x 3
 * (12 accumulators, 2 row operands and a weight: 15 of 16 registers); decode in tiles of 6 rows x 2
 * ymm of columns. */
#include "lib/engine/kern/dense.h"
#include "lib/engine/kern/fold.h"
#include "lib/engine/kern/widen_256.h"

#include <immintrin.h>
#include <string.h>

#define VEC __m256
#define VEC_FLOATS 8
#define VECS 2
#define TILE_R 2
#define TILE_C 3
#define DENSE_NAME sae_dense_f32_2x3__avx2
#define DECODE_R 6
#define DECODE_V 2
#define DECODE_NAME sae_decode_f32_6x2__avx2
#define PAIRS_NAME sae_pairs_f32__avx2

static inline __m256 vec_zero(void)
{
    return _mm256_setzero_ps();
}
static inline __m256 vec_all(float v)
{
    return _mm256_set1_ps(v);
}
static inline __m256 vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline __m256 vec_load_tail(const float *p, int n)
{
    float t[8] = {0};

    for (int i = 0; i < n && i < 8; i++)
        t[i] = p[i];
    return _mm256_loadu_ps(t);
}
static inline void vec_store(float *p, __m256 v)
{
    _mm256_storeu_ps(p, v);
}
static inline __m256 vec_fma(__m256 a, __m256 b, __m256 c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline __m256 half(const __m256 *v)
{
    return _mm256_add_ps(v[0], v[1]);
}
static inline void fold_tile(__m256 a[TILE_R * TILE_C][VECS], float *p, size_t ldp)
{
    __m256 z = _mm256_setzero_ps();
    __m256 y = fold8(half(a[0]), half(a[1]), half(a[2]), z, half(a[3]), half(a[4]), half(a[5]), z);
    __m128 row[TILE_R] = {_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1)};

    for (size_t r = 0; r < TILE_R; r++) {
        _mm_storel_pi((__m64 *)(p + r * ldp), row[r]);
        _mm_store_ss(p + r * ldp + 2, _mm_movehl_ps(row[r], row[r]));
    }
}
/* Keep a loaded operand in its register: gcc 12 would load it again for each use. */
#define vec_pin(v) __asm__("" : "+x"(v))

#include "lib/engine/kern/dense.inc"
#include "lib/engine/kern/decode.inc"
