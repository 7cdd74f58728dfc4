/* ref.h - the scalar reference of every formula, in canonical order: the truth for all kernels.
 *
 * Plain loops, one row at a time, no speed. Used by tests, and by start-up self-checks.
 * Canonical order of a dot product: x and w padded with +0 to a multiple of 16; chain i (0..15) is
 * fmaf over k = i, i + 16, ... ascending from +0; folded by (i, i+8), (i, i+4), (i, i+2), (i, i+1).
 * Decode: one fmaf chain per output over features != 0 in ascending id, from +0, then + bias. */
#ifndef SAE_REF_H
#define SAE_REF_H

#include "lib/dict/dict.h"

float sae_ref_dot(const float *x, const float *w, size_t n);
/* Sums in double of x, and of (x - mean)^2: 16 chains and the fold as above, every difference and
 * product rounded, no fma. */
double sae_ref_sum(const float *x, size_t n);
double sae_ref_squares(const float *x, double mean, size_t n);

/* The row's own numbers under the formula's input scaling (formula.h): s, or mu and sd. */
void sae_ref_state(const struct sae_dict *d, const float *x, float state[SAE_MAX_STATE]);
/* p [F] = dot(fl(input(x) - centre), enc row). */
void sae_ref_project(const struct sae_dict *d, const float *x, float *p);
/* One feature's value (and aux, or NULL) from its projection p, by the class's formula. */
float sae_ref_unit(const struct sae_dict *d, size_t j, float p, float *aux);
/* f [F], aux [F] or NULL. Where the formula has a top_k, the others are +0 then: kept are the k
 * largest of all F values, NaN before all, ties to the lower id. */
void sae_ref_encode(const struct sae_dict *d, const float *x, float *f, float *aux);
/* x_hat [d_out] from f [F], before what output does; with `bias` false the decoder's bias is left
 * out (ghost mode). */
void sae_ref_decode(const struct sae_dict *d, const float *f, bool bias, float *x_hat);
/* What output does to x_hat, by the row's own numbers, and then the skip of the row x [d_in].
 * Either may be NULL where the formula does not want it; without x there is no skip. */
void sae_ref_output(const struct sae_dict *d, const float *x, const float *state, float *x_hat);
/* f_ghost [F] = exp(pre-activation) * mask (mask element j at j * mask_col). */
void sae_ref_ghost(const struct sae_dict *d, const float *x, const float *mask, size_t mask_col,
                   float *f_ghost);

#endif
