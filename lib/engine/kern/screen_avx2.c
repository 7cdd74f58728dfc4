/* screen_avx2.c - int8 screening with AVX2 (maddubs: |q_x| <= 63 keeps its int16 sums from
 * saturating). */
#include "lib/engine/kern/screen.h"

#include <immintrin.h>
#include <string.h>

#define TILE_R 4
#define TILE_C 1
#define SCREEN_NAME sae_screen_i8_4x1__avx2
#define INTERVAL_NAME sae_interval_i8__avx2

#include "lib/engine/kern/screen_256.inc"

static inline __m256i iv_dot(__m256i acc, __m256i w, __m256i x)
{
    return _mm256_add_epi32(acc,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}

#include "lib/engine/kern/screen.inc"
