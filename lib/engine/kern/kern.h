/* kern.h - the loops that every engine shares, once for each instruction set.
 *
 * Matrices, floats and counts only: no dictionary, no task. The sets of kernels give the same bits
 * (NaN payloads apart), so which one runs is a matter of speed. Chosen in engine/choose.c, once.
 * Files *_avx2.c and *_avx512.c are compiled for their instruction set by name (Makefile). Pure
 * functions, any thread. */
#ifndef SAE_KERN_H
#define SAE_KERN_H

#include "lib/matrix.h"
#include "lib/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `nonzero` writes whole vectors: positions need this much room behind the last. */
#define SAE_KERN_SLACK 16

typedef void sae_unit_fn(const float *p, const float *const *param, float *f, float *aux, size_t n);
typedef void sae_score_fn(const float *p, const float *const *param, const float *norm, float *t,
                          size_t n);

struct sae_kern {
    const char *name; /* of the instruction set */

    /* Four dot products of x and w[0..3], n values each, in canonical order: 16 fmaf chains (i
     * mod 16) from +0, tails as if padded with +0, folded (i, i+8), (i, i+4), (i, i+2), (i, i+1).
     */
    void (*dot4)(const float *x, const float *const w[4], size_t n, float out[4]);

    /* y[c] = one fmaf chain of f[i] * w[ids[i]][col + c] over i ascending from +0, then + bias[c]
     * (NULL: none), for n_cols columns. */
    void (*decode)(float *y, const struct sae_matrix *w, size_t col, size_t n_cols,
                   const uint32_t *ids, const float *f, size_t n, const float *bias);

    /* A row of a matrix of 16 bits, as f32. */
    void (*widen)(const struct sae_matrix *w, size_t row, float *out);

    /* Positions i < n where f[i] != 0, or g[i] != 0, or h[i] != 0 (NaN is not 0; g, h may be
     * NULL), ascending into pos; returns how many. */
    size_t (*nonzero)(const float *f, const float *g, const float *h, size_t n, uint32_t *pos);

    /* Positions where key[i] >= floor, as nonzero. */
    size_t (*at_least)(const uint32_t *key, uint32_t floor, size_t n, uint32_t *pos);

    /* The units of lib/dict/unit.h on n projections p: one rounding for each operation written
     * there. param: the unit's, [n] each. aux may be NULL; f and aux may not overlap p. */
    sae_unit_fn *unit[SAE_N_UNITS];
    /* Units of h: what they make of fl(h norm), +0 where norm is 0. Then f, in the place of those
     * scores, made of h = p + bias instead. */
    sae_score_fn *score[SAE_N_UNITS];
    void (*unscore)(const float *p, const float *bias, float *f, size_t n);

    /* out = a * b; out = a - b. */
    void (*mul)(const float *a, const float *b, float *out, size_t n);
    void (*sub)(const float *a, const float *b, float *out, size_t n);
    /* v = v - b; out = v c; v = v / c; out = (v - mu) / width; v = v sd + mu. */
    void (*less)(float *v, const float *b, size_t n);
    void (*scale)(const float *v, float c, float *out, size_t n);
    void (*divide)(float *v, float c, size_t n);
    void (*normalise)(const float *v, float mu, float width, float *out, size_t n);
    void (*restore)(float *v, float mu, float sd, size_t n);
    /* Sums in double of v, and of (v - mean)^2: 16 chains (i mod 16) from +0, folded as in dot4. */
    double (*sum)(const float *v, size_t n);
    double (*squares)(const float *v, double mean, size_t n);
    /* The k-th largest of key[0..n-1], 1 <= k <= n < 2^32: at most 32 passes over the keys, usually
     * some ten. */
    uint32_t (*kth_largest)(const uint32_t *key, size_t n, size_t k);
    /* Order of top-k: bits that ascend with the value; every NaN is the largest. v is not -0. */
    void (*order)(const float *v, uint32_t *key, size_t n);
};

extern const struct sae_kern sae_kern_scalar, sae_kern_avx2, sae_kern_avx512;

#endif
