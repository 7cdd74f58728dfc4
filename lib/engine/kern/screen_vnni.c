/* screen_vnni.c - int8 screening with AVX-512 VNNI. */
#include "lib/engine/kern/screen.h"

#include <immintrin.h>
#include <string.h>

#define TILE_R 8
#define TILE_C 3
#define SCREEN_NAME sae_screen_i8_8x3__vnni
#define INTERVAL_NAME sae_interval_i8__vnni
#define IVEC __m512i
#define FVEC __m512
#define LANES 16
#define HALVES 1
#define iv_set1 _mm512_set1_epi32
#define iv_load(p) _mm512_load_si512((const void *)(p))
#define iv_pin(v) __asm__("" : "+v"(v))
#define fv_set1 _mm512_set1_ps
#define fv_load _mm512_loadu_ps
#define fv_store _mm512_storeu_ps
#define fv_fma _mm512_fmadd_ps
#define fv_fnma _mm512_fnmadd_ps
#define fv_mul _mm512_mul_ps
#define fv_add _mm512_add_ps
#define fv_sub _mm512_sub_ps
#define fv_abs _mm512_abs_ps
#define fv_not_lt(v, w) (unsigned)_mm512_cmp_ps_mask(v, w, _CMP_NLT_UQ)
#define fv_from _mm512_cvtepi32_ps
#define fv_not_le(v, w) (unsigned)_mm512_cmp_ps_mask(v, w, _CMP_NLE_UQ)

/* One line of assembler: gcc 12's intrinsic copies and spills its accumulators. */
static inline __m512i iv_dot(__m512i acc, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
}

#include "lib/engine/kern/screen.inc"
