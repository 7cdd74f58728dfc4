/* judge.h - what --check --sample sees of lib beside saed.h: rows from a file, and what a
 * dictionary's own weights tell of its reading (formats 5.4). Pure functions, any thread. */
#ifndef SAE_JUDGE_H
#define SAE_JUDGE_H

#include "lib/base.h"

struct sae_dict;

/* Rows of f32. */
struct sae_rows {
    float *values; /* owned: [n][width] */
    size_t n, width;
};

/* The first max_rows rows of the array in an .npy, or of `tensor` of a .safetensors (NULL: its only
 * one): floats of one or more dimensions, the last being a row's. Values that are not finite stay.
 * SAE_E_IO, SAE_E_FORMAT: the text names the file, and what it has instead; SAE_E_NOMEM. */
enum sae_status sae_rows_load(struct sae_rows *out, const char *path, const char *tensor,
                              size_t max_rows, struct sae_err *err) SAE_MUST_USE;
void sae_rows_fini(struct sae_rows *r); /* safe on a zeroed one */

struct sae_weight_figures {
    bool has_cosine; /* decoder and encoder are kept, of one width, and not tied */
    double cosine;   /* mean over features of the cosine of their rows, without those of norm 0 */
    uint64_t n_zero_norms, n_large_norms; /* decoder norms of 0; above 100 times the median */
    bool has_threshold;
    uint64_t n_unset, n_below_zero; /* thresholds of exactly -1; below 0 */
    bool may_be_dense;              /* most features are on in a row, and rightly so */
};
/* SAE_E_NOMEM. */
enum sae_status sae_dict_figures(const struct sae_dict *d, struct sae_weight_figures *out,
                                 struct sae_err *err) SAE_MUST_USE;

#endif
