/* screen_avx2.c - int8 screening with AVX2 (maddubs: |q_x| <= 63 keeps its int16 sums from
 * saturating). */
#include "lib/engine/kern/screen.h"

#include <immintrin.h>
#include <string.h>

#define TILE_R 4
#define TILE_C 1
#define SCREEN_NAME sae_screen_i8_4x1__avx2
#define INTERVAL_NAME sae_interval_i8__avx2
#define IVEC __m256i
#define FVEC __m256
#define LANES 8
#define HALVES 2
#define iv_set1 _mm256_set1_epi32
#define iv_load(p) _mm256_load_si256((const __m256i *)(const void *)(p))
#define iv_pin(v) __asm__("" : "+x"(v))
#define fv_set1 _mm256_set1_ps
#define fv_load _mm256_loadu_ps
#define fv_store _mm256_storeu_ps
#define fv_fma _mm256_fmadd_ps
#define fv_fnma _mm256_fnmadd_ps
#define fv_mul _mm256_mul_ps
#define fv_add _mm256_add_ps
#define fv_sub _mm256_sub_ps
#define fv_abs(v) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)
#define fv_not_lt(v, w) (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, w, _CMP_NLT_UQ))
#define fv_from _mm256_cvtepi32_ps
#define fv_not_le(v, w) (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, w, _CMP_NLE_UQ))

static inline __m256i iv_dot(__m256i acc, __m256i w, __m256i x)
{
    return _mm256_add_epi32(acc,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}

#include "lib/engine/kern/screen.inc"
