/* sample.h - what a reading does to real rows, in figures: L0, FVU and the like (formats 5.4).
 *
 * Rows go through the engine's own batches, by as many threads as compute. Called by check.c.
 * Owned by one thread. */
#ifndef SAED_SAMPLE_H
#define SAED_SAMPLE_H

#include "lib/judge.h"
#include "lib/saed.h"

#include <stddef.h>

/* In the order in which they are printed; a row each of the table in sample.c. */
enum saed_figure {
    SAED_ROWS,
    SAED_NONFINITE_ROWS,
    SAED_L0,
    SAED_L0_Q1,
    SAED_L0_MEDIAN,
    SAED_L0_Q3,
    SAED_L0_DECLARED,
    SAED_ZERO_ROWS,
    SAED_DEAD,
    SAED_FVU,
    SAED_COSINE,
    SAED_NORM_MIN,
    SAED_NORM_MEDIAN,
    SAED_NORM_MAX,
    SAED_THRESHOLD_UNSET,
    SAED_NAN,
    SAED_N_FIGURES
};

struct saed_figures {
    double value[SAED_N_FIGURES];
    bool applies[SAED_N_FIGURES];
    struct sae_weight_figures weights;
};

const char *saed_figure_name(enum saed_figure f);

struct saed_sampler {
    const struct sae_engine *engine;
    struct sae_team *team; /* NULL: one thread */
    size_t n_threads;      /* of it */
    size_t max_rows;       /* of a batch */
};

/* Measure a prepared dictionary on rows of its width. SAE_E_NOMEM. */
enum sae_status saed_sample_measure(const struct saed_sampler *s, const struct sae_dict *d,
                                    const struct sae_rows *rows, struct saed_figures *out,
                                    struct sae_err *err) SAE_MUST_USE;

#endif
