/* screen_avxvnni.c - int8 screening with AVX-VNNI, 256 bits in VEX encoding. */
#include "lib/engine/kern/screen.h"

#include <immintrin.h>
#include <string.h>

#define TILE_R 6
#define TILE_C 1
#define SCREEN_NAME sae_screen_i8_6x1__avxvnni
#define INTERVAL_NAME sae_interval_i8__avxvnni

#include "lib/engine/kern/screen_256.inc"

static inline __m256i iv_dot(__m256i acc, __m256i w, __m256i x)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(x));
    return acc;
}

#include "lib/engine/kern/screen.inc"
