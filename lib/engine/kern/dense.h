/* dense.h - dense f32 products in canonical order, one kernel per instruction set: projections of
 * encode, scattered pairs, decode.
 *
 * p[r][j] = dot(x row r, w row j) for r < n, j < n_features. Canonical order (lib/dict/ref.h): 16
 * chains of fma over k = i, i + 16, ..., from +0, folded by (i, i+8), (i, i+4), (i, i+2), (i, i+1);
 * natural on row-major weights: one zmm, two ymm or 16 scalars hold a dot product's chains. All
 * kernels give the same bits; which rows share a call never matters.
 *
 * Pure functions on the caller's memory, any thread. */
#ifndef SAE_KERN_DENSE_H
#define SAE_KERN_DENSE_H

#include "lib/matrix.h"

#include <stdbool.h>
#include <stddef.h>

/* Features a register tile covers at most, and k steps of a part: acc scratch is sized by them. */
#define SAE_DENSE_TILE 6
#define SAE_DENSE_KPART 768

/* Floats of scratch that a call for n rows of width d needs (64-byte aligned): rows packed for the
 * tile, the open chains of one tile of features when d is cut into parts, and a part of its weights
 * widened. */
static inline size_t sae_dense_scratch_floats(size_t n, size_t d)
{
    size_t ld = (d + 15) & ~(size_t)15;

    return n * ld + n * SAE_DENSE_TILE * 16 + SAE_DENSE_TILE * SAE_DENSE_KPART;
}

/* x[r]: row r, zero from d up to the next multiple of 16.
 * Of w the n_features rows from `first` on, of width d; nothing behind the last one is read.
 * p: [n][ldp]. scratch: sae_dense_scratch_floats(n, d). */
typedef void sae_dense_fn(const float *const *x, size_t n, const struct sae_matrix *w, size_t first,
                          size_t n_features, float *p, size_t ldp, float *scratch);

sae_dense_fn sae_dense_f32_1x1__scalar;
sae_dense_fn sae_dense_f32_2x3__avx2;
sae_dense_fn sae_dense_f32_4x6__avx512;

/* Scattered pairs: out[i] = dot(x[i], row ids[i] of w), i < n, in canonical order. x[i] has the
 * padding of a row above. Meant for pairs sorted by id, so that a weight row is read once. */
typedef void sae_pairs_fn(const float *const *x, const struct sae_matrix *w, const uint32_t *ids,
                          size_t n, float *out);

sae_pairs_fn sae_pairs_f32__scalar;
sae_pairs_fn sae_pairs_f32__avx2;
sae_pairs_fn sae_pairs_f32__avx512;

/* Dense decode: y[r][c] = fma(f[r][j], w[first + j][col + c], y[r][c]) for j = 0 .. n - 1
 * ascending, whatever f[r][j] is; for all r < n_rows, c < n_cols. Rows of y lie ldy floats apart; y
 * has 16 floats of room behind the n_cols of its last row, and what lies behind n_cols is
 * overwritten. more: at least 64 further rows of w follow the n (they are prefetched). */
typedef void sae_decode_fn(const float *const *f, size_t n_rows, const struct sae_matrix *w,
                           size_t first, size_t n, size_t col, size_t n_cols, bool more, float *y,
                           size_t ldy);

sae_decode_fn sae_decode_f32_1x1__scalar;
sae_decode_fn sae_decode_f32_6x2__avx2;
sae_decode_fn sae_decode_f32_6x4__avx512;

#endif
