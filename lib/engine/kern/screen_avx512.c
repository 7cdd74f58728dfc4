/* screen_avx512.c - int8 screening with AVX-512BW (maddubs: |q_x| <= 63 keeps its int16 sums from
 * saturating). */
#include "lib/engine/kern/screen.h"

#include <immintrin.h>
#include <string.h>

#define TILE_R 8
#define TILE_C 2
#define SCREEN_NAME sae_screen_i8_8x2__avx512
#define INTERVAL_NAME sae_interval_i8__avx512

#include "lib/engine/kern/screen_512.inc"

static inline __m512i iv_dot(__m512i acc, __m512i w, __m512i x)
{
    return _mm512_add_epi32(acc,
                            _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)));
}

#include "lib/engine/kern/screen.inc"
