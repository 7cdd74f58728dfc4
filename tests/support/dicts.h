/* dicts.h - dictionaries for tests, made in memory: any class, any size, nothing trivial in them.
 *
 * Every array has values that are not zero (centre, biases, r_mag, jump), so that a term left out
 * of a formula shows. On rows of dicts_rows about a third of the features are on. The same seed
 * gives the same bits on one machine; nothing is promised between machines. Any thread. */
#ifndef TESTS_SUPPORT_DICTS_H
#define TESTS_SUPPORT_DICTS_H

#include "lib/dict/dict.h"

/* A sealed dictionary, owned (sae_dict_free). IdentityDict: F must be d. Out of memory, an unknown
 * class or a failing seal aborts the test program with a message. */
struct sae_dict *dicts_make(const char *class_name, size_t d, size_t F, uint64_t seed);

/* The same of a formula; its thresholds, biases and matrices as dicts_make's. */
struct sae_dict *dicts_make_as(const struct sae_formula *f, uint64_t seed);

/* The dictionary that a source names, opened and loaded; *out is owned. Errors as those of
 * sae_draft_open and sae_draft_load. */
enum sae_status dicts_load(struct sae_dict **out, const char *source, struct sae_team *team,
                           struct sae_err *err) SAE_MUST_USE;

/* The same dictionary with its matrices kept otherwise, owned; `d` is taken. To 16 bits values are
 * cut towards zero, and norms are made anew. */
struct sae_dict *dicts_kept_take(struct sae_dict *d, const struct sae_storage *kept);

/* A dictionary of the formula whose values are whole eighths, and rows of whole quarters for it:
 * every product and sum is exact in f32 in any order. At d_in 5 and F 7, with the decoder's bias as
 * the centre, row 0 has h = 5/32, -36/32, 196/32, -31/32, -140/32, 5/32, 237/32. */
struct sae_dict *dicts_fixture(const struct sae_formula *f);
float dicts_fixture_x(size_t r, size_t k);

/* n rows of d standard normal values, owned (sae_free), SAE_OVERREAD readable bytes behind. */
float *dicts_rows(size_t n, size_t d, uint64_t seed);

/* Room for max_rows rows of this dictionary. */
struct sae_capacity dicts_capacity(const struct sae_dict *d, size_t max_rows);

/* One standard normal value; *state is any number, advanced by each call. */
float dicts_normal(uint64_t *state);
uint64_t dicts_random(uint64_t *state); /* 64 uniform bits (SplitMix64) */

#endif
