/* screen.h - int8 screening of a group of features, one kernel per instruction set.
 *
 * The plane holds quantised encoder rows as u8 (q + 128) in panels of 16 features x 4 dims:
 * plane[panel][dq / 4][16][4]. A quantised row x is s8 [dq]. For each row and feature of the group:
 *
 *     I = q_x . q_j (exact int32)
 *     v = fma(A, a_j, fma(B, b_j, float(I))), then for each split dim o: v = fma(x_o, col_o[j], v)
 *     bit = NOT( fma(-C, t_j, v) <= -2^-30 )        NaN gives a 1
 *
 * A 0 proves that the feature is off (the bound is in lib/engine/native/plane.h). For top_k a 0
 * also proves that the value lies below the row's floor:
 *
 *     bit = bit AND NOT( fma(-floor, u_j, fma(C, z_j, v)) < -2^-30 )
 *
 * and v is wanted for what is left. Kernels with maddubs need |q_x| <= 63; the others take 127.
 *
 * Pure functions, any thread. The plane is 64-byte aligned. */
#ifndef SAE_KERN_SCREEN_H
#define SAE_KERN_SCREEN_H

#include <stddef.h>
#include <stdint.h>

#define SAE_SCREEN_PANEL 16  /* features of a panel */
#define SAE_SCREEN_PANELS 3  /* neighbouring panels of a group, at most */
#define SAE_SCREEN_STREAMS 4 /* panels of a group that lie apart */
#define SAE_SCREEN_SPLIT 8   /* split dims of a row, at most */

/* One quantised row. `init` is -128 * sum(q): it turns u8 plane products into q_x . q_j. */
struct sae_screen_row {
    const int8_t *q;
    int32_t init;
    float A, B, C;
    float s; /* s_x */
    int n_split;
    float xo[SAE_SCREEN_SPLIT];
    const float *col[SAE_SCREEN_SPLIT]; /* [Fp]: w_jo / s_j */
};

/* The features of one group: f0 is a multiple of 16; a, b, t point at the plane's whole arrays. */
struct sae_screen_group {
    const uint8_t *plane; /* at panel f0 / 16 */
    size_t dq;            /* multiple of 4 */
    const float *a, *b, *t;
    const float *u, *z; /* intervals only: [Fp], the value's line */
    size_t f0;
    size_t n_panels;   /* 1..SAE_SCREEN_STREAMS; of intervals 1..SAE_SCREEN_PANELS */
    size_t step;       /* from one panel of the group to its next, in panels; 0 is 1: neighbours */
    const char *ahead; /* the next group's first panel, to prefetch as many meanwhile; or NULL */
    /* Weight rows of 16 * dq >> fetch_log2 bytes to bring near meanwhile, 1 << fetch_log2 of them a
     * register tile, as far as the tiles reach. They are the candidates of the group before. */
    const char *const *fetch;
    size_t n_fetch;
    unsigned fetch_log2;
};

/* masks[r][panel]: candidate bits of the panel's 16 features. */
typedef void sae_screen_fn(const struct sae_screen_row *rows, size_t n,
                           const struct sae_screen_group *g, uint16_t (*masks)[SAE_SCREEN_STREAMS]);

sae_screen_fn sae_screen_i8__scalar, sae_screen_i8_4x1__avx2, sae_screen_i8_6x1__avxvnni,
    sae_screen_i8_8x2__avx512, sae_screen_i8_8x3__vnni;

/* Features of a group. */
#define SAE_SCREEN_GROUP (SAE_SCREEN_PANEL * SAE_SCREEN_PANELS)
/* masks as above; v[r][16 * panel + i]. floor: [n] in the bound's units, -infinity: none yet. */
typedef void sae_interval_fn(const struct sae_screen_row *rows, size_t n,
                             const struct sae_screen_group *g, const float *floor,
                             uint16_t (*masks)[SAE_SCREEN_STREAMS], float (*v)[SAE_SCREEN_GROUP]);

sae_interval_fn sae_interval_i8__scalar, sae_interval_i8__avx2, sae_interval_i8__avxvnni,
    sae_interval_i8__avx512, sae_interval_i8__vnni;

#endif
