/* screen_vnni.c - int8 screening with AVX-512 VNNI. */
#include "lib/engine/kern/screen.h"

#include <immintrin.h>
#include <string.h>

#define TILE_R 8
#define TILE_C 3
#define SCREEN_NAME sae_screen_i8_8x3__vnni
#define INTERVAL_NAME sae_interval_i8__vnni

#include "lib/engine/kern/screen_512.inc"

/* One line of assembler: gcc 12's intrinsic copies and spills its accumulators. */
static inline __m512i iv_dot(__m512i acc, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
}

#include "lib/engine/kern/screen.inc"
