/* sample.c - see sample.h.
 *
 * Two parts: rows through the engine, a batch at a time, and what is counted of each. The sums of
 * FVU want the mean of the rows first, so the rows are gone through once more at the end. */
#include "server/sample.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

const char *saed_figure_name(enum saed_figure f)
{
    static const char *const names[SAED_N_FIGURES] = {
        [SAED_ROWS] = "rows",
        [SAED_NONFINITE_ROWS] = "nonfinite_rows",
        [SAED_L0] = "l0",
        [SAED_L0_Q1] = "l0_q1",
        [SAED_L0_MEDIAN] = "l0_median",
        [SAED_L0_Q3] = "l0_q3",
        [SAED_L0_DECLARED] = "l0_declared",
        [SAED_ZERO_ROWS] = "zero_rows",
        [SAED_DEAD] = "dead",
        [SAED_FVU] = "fvu",
        [SAED_COSINE] = "cosine",
        [SAED_NORM_MIN] = "norm_min",
        [SAED_NORM_MEDIAN] = "norm_median",
        [SAED_NORM_MAX] = "norm_max",
        [SAED_THRESHOLD_UNSET] = "threshold_unset",
        [SAED_NAN] = "nan",
    };

    return names[f];
}

/* ---- the engine ------------------------------------------------------------------------------ */

/* Batches of one dictionary. */
struct runner {
    const struct saed_sampler *s;
    const struct sae_dict *dict;
    struct sae_batch *batch;
    struct sae_scratch **idle; /* [n_threads] */
    size_t n_idle;
    pthread_mutex_t lock; /* of idle */
};

static struct sae_scratch *exchange(struct runner *r, struct sae_scratch *back)
{
    struct sae_scratch *s = NULL;

    pthread_mutex_lock(&r->lock);
    if (back)
        r->idle[r->n_idle++] = back;
    else
        s = r->idle[--r->n_idle];
    pthread_mutex_unlock(&r->lock);
    return s;
}

static void tile_range(void *arg, size_t from, size_t to)
{
    struct runner *r = arg;
    struct sae_scratch *s = exchange(r, NULL);

    for (size_t tile = from; tile < to; tile++)
        sae_batch_run_tile(r->batch, tile, s);
    exchange(r, s);
}

static void runner_fini(struct runner *r)
{
    while (r->n_idle > 0)
        sae_scratch_free(r->idle[--r->n_idle]);
    sae_free(r->idle);
    sae_batch_free(r->batch);
    pthread_mutex_destroy(&r->lock);
}

static enum sae_status runner_init(struct runner *r, const struct saed_sampler *s,
                                   const struct sae_dict *d, struct sae_err *err)
{
    struct sae_capacity c = {.max_rows = s->max_rows, .n_workers = s->n_threads};
    enum sae_status st;

    *r = (struct runner){.s = s, .dict = d};
    pthread_mutex_init(&r->lock, NULL);
    (void)sae_capacity_widen(&c, d);
    r->idle = sae_calloc(s->n_threads, sizeof(struct sae_scratch *));
    st = r->idle ? sae_batch_create(&r->batch, s->engine, c, err)
                 : sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate %zu workers", s->n_threads);
    while (st == SAE_OK && r->n_idle < s->n_threads) {
        st = sae_scratch_create(&r->idle[r->n_idle], s->engine, c, err);
        r->n_idle += st == SAE_OK;
    }
    if (st != SAE_OK)
        runner_fini(r);
    return st;
}

/* Compute a task; it is for sae_task_fini whatever the result. */
static enum sae_status compute(struct runner *r, struct sae_task *t, struct sae_err *err)
{
    struct sae_slice slice = {t, 0, t->n_rows};
    struct sae_phase phase;
    enum sae_status st = sae_task_prepare(t, err);

    if (st != SAE_OK)
        return st;
    sae_batch_begin(r->batch, r->dict, SAE_SIDE_ENCODE, &slice, 1);
    while (sae_batch_next_phase(r->batch, &phase))
        sae_team_run(r->s->team, phase.n_tiles, 1, tile_range, r);
    return atomic_load(&t->failed)
               ? sae_err_set(err, SAE_E_NOMEM, "", "cannot compute %zu rows: out of memory",
                             t->n_rows)
               : SAE_OK;
}

/* ---- what is counted ------------------------------------------------------------------------- */

struct tally {
    const struct sae_dict_info *info;
    size_t n_rows, n_finite; /* looked at; kept: without what is not finite */
    float *x;                /* owned: [n_finite][d] */
    uint32_t *l0;            /* owned: [n_finite] */
    bool *is_on;             /* owned: [F]: in some row */
    bool *is_counted;        /* owned: [n_finite]: for FVU */
    double sq_error;
    size_t n_counted, n_nan;
};

static bool is_finite_row(const float *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(x[k]))
            return false;
    return true;
}

static bool is_zero_row(const float *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (x[k] != 0.0f)
            return false;
    return true;
}

static void tally_fini(struct tally *t)
{
    sae_free(t->x);
    sae_free(t->l0);
    sae_free(t->is_on);
    sae_free(t->is_counted);
}

static enum sae_status tally_init(struct tally *t, const struct sae_dict_info *info,
                                  const struct sae_rows *rows, struct sae_err *err)
{
    size_t d = rows->width;

    *t = (struct tally){.info = info, .n_rows = rows->n};
    t->x = sae_alloc(rows->n, d * sizeof *t->x);
    t->l0 = sae_calloc(rows->n, sizeof *t->l0);
    t->is_on = sae_calloc((size_t)info->dict_size, sizeof *t->is_on);
    t->is_counted = sae_calloc(rows->n, sizeof *t->is_counted);
    if (!t->x || !t->l0 || !t->is_on || !t->is_counted) {
        tally_fini(t);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot look at %zu rows: out of memory", rows->n);
    }
    for (size_t r = 0; r < rows->n; r++)
        if (is_finite_row(rows->values + r * d, d))
            memcpy(t->x + t->n_finite++ * d, rows->values + r * d, d * sizeof *t->x);
    return SAE_OK;
}

static void count_features(struct tally *t, size_t r, const struct sae_sparse_row *f)
{
    const float *x = t->x + r * (size_t)t->info->activation_dim;
    bool has_nan = false;

    t->l0[r] = (uint32_t)f->n;
    for (size_t i = 0; i < f->n; i++) {
        t->is_on[f->ids[i]] = true;
        has_nan |= isnan(f->values[i]);
    }
    t->n_nan +=
        has_nan && !(t->info->has_nan_of_zeros && is_zero_row(x, (size_t)t->info->activation_dim));
}

static void count_error(struct tally *t, size_t r, const float *x_hat)
{
    size_t d = (size_t)t->info->activation_dim;
    const float *x = t->x + r * d;
    double sum = 0.0;

    for (size_t k = 0; k < d; k++) {
        float e = x[k] - x_hat[k];

        sum += (double)e * (double)e;
    }
    if (!isfinite(sum))
        return;
    t->is_counted[r] = true;
    t->n_counted++;
    t->sq_error += sum;
}

/* Rows r0 ... of x: f by encode, unless forward's is the same; x_hat, where x is what it should
 * be. */
static enum sae_status go_through(struct runner *r, struct tally *t, size_t r0, size_t n,
                                  struct sae_err *err)
{
    bool decodes = !t->info->encodes_only, apart = decodes && t->info->scales_forward_f;
    const float *x = t->x + r0 * (size_t)t->info->activation_dim;
    struct sae_task f = {.dict = r->dict,
                         .query = {.op = decodes && !apart ? SAE_OP_FORWARD : SAE_OP_ENCODE,
                                   .want_f = true,
                                   .form = SAE_FORM_SPARSE},
                         .n_rows = n,
                         .x = x};
    struct sae_task y = {.dict = r->dict, .query = {.op = SAE_OP_FORWARD}, .n_rows = n, .x = x};
    enum sae_status st = compute(r, &f, err);

    for (size_t i = 0; st == SAE_OK && i < n; i++)
        count_features(t, r0 + i, &f.f_rows[i]);
    if (st == SAE_OK && apart)
        st = compute(r, &y, err);
    for (size_t i = 0; st == SAE_OK && decodes && t->info->reconstructs_x && i < n; i++)
        count_error(t, r0 + i, (apart ? y.x_hat : f.x_hat) + i * (size_t)t->info->output_dim);
    sae_task_fini(&f);
    if (apart)
        sae_task_fini(&y);
    return st;
}

/* ---- figures --------------------------------------------------------------------------------- */

static void set(struct saed_figures *out, enum saed_figure f, double v)
{
    out->value[f] = v;
    out->applies[f] = true;
}

/* Sum of squares around the mean of the rows that count. */
static enum sae_status squares(const struct tally *t, double *out, struct sae_err *err)
{
    size_t d = (size_t)t->info->activation_dim;
    double *mean = sae_calloc(d, sizeof *mean), sum = 0.0;

    if (!mean)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot add up rows: out of memory");
    for (size_t r = 0; r < t->n_finite; r++)
        for (size_t k = 0; t->is_counted[r] && k < d; k++)
            mean[k] += (double)t->x[r * d + k];
    for (size_t r = 0; r < t->n_finite; r++)
        for (size_t k = 0; t->is_counted[r] && k < d; k++) {
            float e = t->x[r * d + k] - (float)(mean[k] / (double)t->n_counted);

            sum += (double)e * (double)e;
        }
    sae_free(mean);
    *out = sum;
    return SAE_OK;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void count_l0(struct tally *t, struct saed_figures *out)
{
    size_t n = t->n_finite, n_zero = 0, n_dead = 0;
    double sum = 0.0;

    if (n == 0)
        return;
    qsort(t->l0, n, sizeof *t->l0, ascending);
    for (size_t r = 0; r < n; r++) {
        sum += t->l0[r];
        n_zero += t->l0[r] == 0;
    }
    for (uint64_t j = 0; j < t->info->dict_size; j++)
        n_dead += !t->is_on[j];
    set(out, SAED_L0, sum / (double)n);
    set(out, SAED_L0_Q1, t->l0[(n + 3) / 4 - 1]);
    set(out, SAED_L0_MEDIAN, t->l0[(n + 1) / 2 - 1]);
    set(out, SAED_L0_Q3, t->l0[(3 * n + 3) / 4 - 1]);
    set(out, SAED_ZERO_ROWS, (double)n_zero / (double)n);
    set(out, SAED_DEAD, (double)n_dead);
}

static enum sae_status sum_up(struct tally *t, const struct sae_dict *d, struct saed_figures *out,
                              struct sae_err *err)
{
    const struct sae_dict_info *info = t->info;
    double sq_dev = 0.0;
    enum sae_status st = sae_dict_figures(d, &out->weights, err);

    if (st == SAE_OK && t->n_counted > 0)
        st = squares(t, &sq_dev, err);
    if (st != SAE_OK)
        return st;
    set(out, SAED_ROWS, (double)t->n_rows);
    set(out, SAED_NONFINITE_ROWS, (double)(t->n_rows - t->n_finite));
    set(out, SAED_NAN, (double)t->n_nan);
    count_l0(t, out);
    if (info->declared_l0 > 0.0)
        set(out, SAED_L0_DECLARED, info->declared_l0);
    if (sq_dev > 0.0)
        set(out, SAED_FVU, t->sq_error / sq_dev);
    if (info->reconstructs_x && out->weights.has_cosine)
        set(out, SAED_COSINE, out->weights.cosine);
    if (info->has_norms) {
        set(out, SAED_NORM_MIN, (double)info->norm_min);
        set(out, SAED_NORM_MEDIAN, (double)info->norm_median);
        set(out, SAED_NORM_MAX, (double)info->norm_max);
    }
    if (out->weights.has_threshold)
        set(out, SAED_THRESHOLD_UNSET, (double)out->weights.n_unset);
    return SAE_OK;
}

enum sae_status saed_sample_measure(const struct saed_sampler *s, const struct sae_dict *d,
                                    const struct sae_rows *rows, struct saed_figures *out,
                                    struct sae_err *err)
{
    struct runner r;
    struct tally t;
    enum sae_status st = tally_init(&t, sae_dict_info(d), rows, err);

    *out = (struct saed_figures){.applies = {false}};
    if (st != SAE_OK)
        return st;
    st = runner_init(&r, s, d, err);
    if (st != SAE_OK) {
        tally_fini(&t);
        return st;
    }
    for (size_t at = 0, n; st == SAE_OK && at < t.n_finite; at += n) {
        n = t.n_finite - at < s->max_rows ? t.n_finite - at : s->max_rows;
        st = go_through(&r, &t, at, n, err);
    }
    if (st == SAE_OK)
        st = sum_up(&t, d, out, err);
    runner_fini(&r);
    tally_fini(&t);
    return st;
}
