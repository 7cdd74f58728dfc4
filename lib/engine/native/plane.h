/* plane.h - the quantised plane of an encoder and of a batch's rows: which features may be active?
 *
 * A feature is off when its projection p (the canonical dot product, lib/dict/ref.h) is at or below
 * a threshold. The plane answers "proved off" or "candidate" from int8 products alone; candidates
 * are computed exactly from the weights themselves, so answers have the same bits as a dense
 * encode.
 *
 * THE BOUND. Let Q be an orthogonal matrix (signs, then Hadamard matrices). Split the row's few
 * outlier dimensions off, x = x_O + x_R, and quantise  Q x_R = s_x q_x + e_x,  Q w_j = s_j q_j +
 * e_j. Then  w.x = w.x_O + s_x s_j q_x.q_j + (Q w).e_x + e_j.(s_x q_x),  and by Cauchy-Schwarz, in
 * units of s_x s_j,
 *
 *     w.x <= q_x.q_j + sum_o (x_o/s_x)(w_jo/s_j) + (|w|/s_j)(|e_x|/s_x) + (|e_j|/s_j) |q_x|.
 *
 * The canonical f32 dot differs from w.x by at most g |w||x|, g = n u/(1 - n u), u = 2^-24,
 * n = d/16 + 5 (16 chains and the fold), and evaluating the right side in f32 costs at most 16 u of
 * each term (conversion of the integer, quotients, at most 8 split dims and 4 fma). All of it is
 * folded into the stored numbers, rounded outward:
 *
 *     A   >= (|e_x| + (g + 16u)|x_O|)/s_x      B   >= |q_x|       C = fl(1/s_x)
 *     a_j >= (1 + g + 16u)|w_j|/s_j            b_j >= (1 + 16u)|e_j|/s_j + g|w_j|/s_j + 16u|q_j|
 *     t_j <= tau - 16u|tau|,                   tau = theta_j / s_j
 *     off <=> fl(fma(-C, t_j, v)) <= -2^-30,   v = fma(A, a_j, fma(B, b_j, float(I))) + split dims
 *
 * where p <= theta_j means off.
 *
 * RANGES. Nothing here overflows, and what underflows is covered, because of what is not screened:
 * encoders whose largest weight L is not within 1e-30 .. 1e30, and rows that are not finite or
 * reach 1e30, with |x| max|w| gain >= 1e36, s_x < 2^-100 or s_x min_j s_j < 2^-100. Then, for
 * d <= 2^16,
 *   - s_j >= max|Q w_j|/127 and >= L 2^-30, so |w_j|/s_j, a_j and all |w_jo|/s_j are below 2^16,
 *     and b_j below 2^8; t_j may be infinite or the largest float, rounded towards "candidate";
 *   - a dimension is split off only beside a rest that is more than 2^-30 of it (else nothing is
 *     split: a rotated row of a few entries quantises well). So s_x >= max|x_R|/(32 * 127) puts
 *     x_o/s_x below 2^43, and x_o being above the rest, at 1 or more;
 *   - A < 2^33, B < 2^16, |I| < 2^32, and |v| < 8 * 2^43 * 2^16 + 2^49 + 2^32 + 2^24 < 2^63;
 *   - 2^-99 < C < 2^101, and C t_j comes in by an fma: exact, or beyond every v.
 * Underflow: that of the canonical dot, at most (d + 16) 2^-150 <= 2^-133, is below 2^-33 in units
 * of s_x s_j; that of w_jo/s_j at most 8 * 2^43 * 2^-150; both are within the 2^-30. A, B, a_j, b_j
 * and t_j are rounded outward as floats, denormal or not.
 *
 * TOP-K asks for more: may the value reach a floor, the k-th best that the row has for certain? The
 * value of a feature that is on is the line c1 p + c0 up to the roundings of the class's formula,
 * at most 2 u of the value and 2 u of |terms of c0| (kern/kern.h). With v as above,
 *
 *     below the floor <=> fl(fma(-T, u_j, fma(C, z_j, v))) < -2^-30
 *     u_j = fl(1/(c1 s_j))      z_j >= (c0 + 2^-20 |terms of c0| + 2^-126)/(c1 s_j) + 2^-20 |same|
 *     T <= floor/s_x - 32u |floor/s_x|
 *
 * where 32 u leaves room for the three roundings in T u_j, two in the fma, and those of the value,
 * and 2^-126 for the underflow of r p. Where |z_j|, u_j, C or |T| would be above 1e18, u_j = 0 and
 * z_j = infinity, or T = -infinity, keep everything; so C z_j and T u_j are at most 1e36, and their
 * sums with v are finite. Of what is left sae_plane_interval gives the ends: v is the upper one,
 * the lower lies two half-widths below. As rounding to a multiple of s loses no more than what was
 * there, s_x s_j times v and the two widths is at most 16 |x||w_j| < 1e38.
 *
 * COLUMNS w_jo/s_j of split dimensions are kept for rows to come, SAE_PLANE_COLUMNS of them. When
 * all are taken, a dimension gets the place of the one that is used least, once it has been asked
 * for SAE_PLANE_DEMAND times and twice as often as that one; until then its rows are not screened.
 * A column that a row holds (sae_plane_row) stays until it is released.
 *
 * A plane is immutable after create but for the columns, which are guarded by its lock; what a row
 * holds is read without it. */
#ifndef SAE_PLANE_H
#define SAE_PLANE_H

#include "lib/base.h"
#include "lib/dict/unit.h"
#include "lib/engine/kern/quant.h"
#include "lib/engine/kern/screen.h"
#include "lib/matrix.h"

#include <math.h>
#include <pthread.h>

#define SAE_PLANE_COLUMNS 32 /* columns of outlier dimensions kept a dictionary */
#define SAE_PLANE_DEMAND 16  /* rows that ask in vain before another column makes way */
#define SAE_PLANE_AGE 8192   /* askings after which all counts are halved: old use is forgotten */

/* The encoder's column of an outlier dimension. Guarded by the plane's lock; values are made once
 * and immutable while there are holders. */
struct sae_plane_column {
    float *values;    /* [Fp]: w_jk / s_j; NULL: the place is free */
    size_t k;         /* the dimension */
    uint32_t holders; /* rows of batches that read it */
};

struct sae_plane {
    size_t d, F;
    size_t dq, Fp; /* d rounded up to 16; F rounded up to a panel of 16 */
    const struct sae_quant *quant;
    int xmax;             /* rows are quantised to -xmax..xmax */
    uint8_t *q;           /* [Fp / 16][dq / 4][16][4], q + 128 */
    float *a, *b, *t, *s; /* [Fp]; padding features are never candidates */
    double max_norm;      /* max |w_j| */
    double gain;          /* 1, or what values are multiplied by at most, if that is more */
    float min_s;
    struct sae_matrix w;  /* the encoder [F][d], whose values are borrowed */
    pthread_mutex_t lock; /* guards what follows; in create, what ranges have in common */
    struct sae_plane_column columns[SAE_PLANE_COLUMNS];
    uint32_t *asked;  /* [d]: how often a row wanted to split the dimension off, lately */
    uint32_t n_asked; /* since counts were last halved */
};

/* What the plane of such an encoder takes in memory, but for the columns that rows make it keep. */
uint64_t sae_plane_bytes(uint64_t F, uint64_t d);
/* Quantise an encoder of F rows, whose values are borrowed until free. theta[j]: p <= theta[j]
 * proves feature j off (may be infinite). SAE_E_NOMEM. NULL in *out with SAE_OK: this encoder
 * cannot be screened (width, value range). */
enum sae_status sae_plane_create(struct sae_plane **out, const struct sae_matrix *w, size_t F,
                                 const double *theta, int xmax, const struct sae_quant *quant,
                                 struct sae_team *team, struct sae_err *err) SAE_MUST_USE;
void sae_plane_free(struct sae_plane *p);

/* Doubles of scratch that sae_plane_row needs. */
size_t sae_plane_row_scratch(const struct sae_plane *p);
/* Quantise a row (centred, [d]) into q [dq] and *row (whose q is then `q`). The row holds the
 * columns that it reads until sae_plane_release. False: this row cannot be screened; compute it
 * densely. It holds nothing. */
bool sae_plane_row(struct sae_plane *p, const float *x, int8_t *q, struct sae_screen_row *row,
                   double *scratch);
/* The n rows hold no columns any more; rows that hold none are passed over. */
void sae_plane_release(struct sae_plane *p, struct sae_screen_row *rows, size_t n);

/* The numbers of a feature's line for the interval kernels. The row's floor for them; -infinity:
 * none. */
void sae_plane_line(const struct sae_plane *p, size_t j, struct sae_line line, float *u, float *z);
float sae_plane_floor(const struct sae_screen_row *row, float floor);

/* low <= p <= up for the projection of feature j, from the kernel's v. 2^-20 of the magnitudes
 * covers the roundings made here and in v, 2^-30 the underflow in v, 1e-37 that of what is made
 * here. */
static inline void sae_plane_interval(const struct sae_plane *p, const struct sae_screen_row *row,
                                      size_t j, float v, float *low, float *up)
{
    float width = 2.0f * (row->A * p->a[j] + row->B * p->b[j]), ss = row->s * p->s[j];
    float slack = ((fabsf(v) + width) * 0x1p-20f + 0x1p-30f) * ss + 1e-37f;

    *up = v * ss + slack;
    *low = (v - width) * ss - slack;
}

/* The groups of n features from first (a multiple of 16) in the order in which they are screened.
 * Apart, for few rows: panels a quarter of the features from each other, as memory that is read in
 * several streams comes faster than in one. Then, or from the start: neighbours, `width` panels. */
struct sae_groups {
    const struct sae_plane *plane;
    size_t first, n; /* panels */
    size_t n_apart;  /* groups of panels apart */
    size_t width;    /* panels of the others */
    size_t i, done;  /* groups apart, and panels, that have been */
};

void sae_groups_init(struct sae_groups *s, const struct sae_plane *p, size_t first, size_t n,
                     bool apart, size_t width);
/* The next one into *g (its fetch, n_fetch and fetch_log2 stay); false: there is none. What g
 * prefetches is the one after it, be it beyond the n features. */
bool sae_groups_next(struct sae_groups *s, struct sae_screen_group *g);

/* The feature of a group's bit: 16 bits a panel. */
static inline size_t sae_group_feature(const struct sae_screen_group *g, size_t bit)
{
    return g->f0 + bit / SAE_SCREEN_PANEL * g->step * SAE_SCREEN_PANEL + bit % SAE_SCREEN_PANEL;
}

/* The bits of a group that stand for features: those of its panels, without the padding behind
 * feature F - 1. Whatever a kernel says of the others, no id comes of it. */
uint64_t sae_group_valid(const struct sae_plane *p, const struct sae_screen_group *g);
/* A row's candidates of a group, from its masks. */
static inline uint64_t sae_group_bits(const uint16_t *masks, uint64_t valid)
{
    return valid & (masks[0] | (uint64_t)masks[1] << 16 | (uint64_t)masks[2] << 32 |
                    (uint64_t)masks[3] << 48);
}

#endif
