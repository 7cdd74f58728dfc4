/* dense_avx512.c - the dense projection with AVX-512: one zmm a dot product, tiles of 4 x 6; decode
 * in tiles of 6 rows x 4 zmm of columns. */
#include "lib/engine/kern/dense.h"
#include "lib/engine/kern/fold.h"
#include "lib/engine/kern/widen_512.h"

#include <immintrin.h>
#include <string.h>

#define VEC __m512
#define VEC_FLOATS 16
#define VECS 1
#define TILE_R 4
#define TILE_C 6
#define DENSE_NAME sae_dense_f32_4x6__avx512
#define DECODE_R 6
#define DECODE_V 4
#define DECODE_NAME sae_decode_f32_6x4__avx512
#define PAIRS_NAME sae_pairs_f32__avx512

static inline __m512 vec_zero(void)
{
    return _mm512_setzero_ps();
}
static inline __m512 vec_all(float v)
{
    return _mm512_set1_ps(v);
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
/* The fold's levels for two vectors at once: distances 8, 4 (between lanes), 2, 1 (inside lanes).
 */
#define FOLD_LANES(u, v, low, high) \
    _mm512_add_ps(_mm512_shuffle_f32x4(u, v, low), _mm512_shuffle_f32x4(u, v, high))
#define FOLD_INSIDE(u, v, low, high) \
    _mm512_add_ps(_mm512_shuffle_ps(u, v, low), _mm512_shuffle_ps(u, v, high))

/* The chains of one feature and four rows -> their sums' last four addends, row r in lane r. */
static inline __m512 fold_rows(__m512 a, __m512 b, __m512 c, __m512 d)
{
    return FOLD_LANES(FOLD_LANES(a, b, 0x44, 0xee), FOLD_LANES(c, d, 0x44, 0xee), 0x88, 0xdd);
}

/* Lane r of the vectors is row r: features 0 .. 3 in `four`, 4 and 5 in `two`, twice. */
static inline void fold_tile(__m512 a[TILE_R * TILE_C][VECS], float *p, size_t ldp)
{
    __m512 f[TILE_C], four, two;

#pragma GCC unroll 6
    for (int c = 0; c < TILE_C; c++)
        f[c] = fold_rows(a[c][0], a[TILE_C + c][0], a[2 * TILE_C + c][0], a[3 * TILE_C + c][0]);
    four = FOLD_INSIDE(FOLD_INSIDE(f[0], f[1], 0x44, 0xee), FOLD_INSIDE(f[2], f[3], 0x44, 0xee),
                       0x88, 0xdd);
    two = FOLD_INSIDE(f[4], f[5], 0x44, 0xee);
    two = FOLD_INSIDE(two, two, 0x88, 0xdd);
#define STORE(r)                                                 \
    _mm_storeu_ps(p + (r)*ldp, _mm512_extractf32x4_ps(four, r)); \
    _mm_storel_pi((__m64 *)(p + (r)*ldp + 4), _mm512_extractf32x4_ps(two, r))
    STORE(0);
    STORE(1);
    STORE(2);
    STORE(3);
#undef STORE
}
/* Keep a loaded operand in its register: gcc 12 would load it again for each use. */
#define vec_pin(v) __asm__("" : "+v"(v))

#include "lib/engine/kern/dense.inc"
#include "lib/engine/kern/decode.inc"
