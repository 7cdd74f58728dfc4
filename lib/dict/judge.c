/* judge.c - see judge.h. */
#include "lib/judge.h"

#include "lib/dict/dict.h"
#include "lib/load/load.h"
#include "lib/num.h"

#include <math.h>
#include <string.h>

/* ---- rows from a file --------------------------------------------------------------------- */

static enum sae_status cannot(const char *path, const struct sae_err *low, struct sae_err *err)
{
    size_t n = strlen(path), room = 100;

    return sae_err_set(err, low->status, low->where, "cannot use the sample %s%s: %s",
                       n > room ? "..." : "", path + (n > room ? n - room : 0), low->text);
}

/* The tensor called so, or the only one. */
static enum sae_status find(struct sae_tensors *ts, const char *tensor, size_t *out,
                            struct sae_err *err)
{
    size_t n = sae_load_count(ts);

    *out = 0;
    if (tensor) {
        while (*out < n && strcmp(sae_load_tensor(ts, *out)->name, tensor) != 0)
            (*out)++;
        if (*out < n)
            return SAE_OK;
        return sae_err_set(err, SAE_E_FORMAT, "", "it has no tensor \"%.80s\"; its first is \"%s\"",
                           tensor, n ? sae_load_tensor(ts, 0)->name : "");
    }
    return n == 1 ? SAE_OK
                  : sae_err_set(err, SAE_E_FORMAT, "",
                                "it has %zu tensors; say which, FILE:TENSOR (\"%s\", ...)", n,
                                n ? sae_load_tensor(ts, 0)->name : "");
}

static enum sae_status read_rows(struct sae_tensors *ts, const char *tensor, size_t max_rows,
                                 struct sae_rows *r, struct sae_err *err)
{
    const struct sae_tensor *t;
    uint64_t n = 1;
    size_t i;
    enum sae_status st = SAE_OK;

    if (!sae_load_has_rows(ts))
        return sae_err_set(err, SAE_E_FORMAT, "", "it is a .%s, .npy or .safetensors is wanted",
                           sae_load_container(ts));
    st = sae_load_choose(ts, 0, 0, err);
    if (st == SAE_OK)
        st = find(ts, tensor, &i, err);
    if (st != SAE_OK)
        return st;
    t = sae_load_tensor(ts, i);
    for (unsigned k = 0; k + 1 < t->ndim; k++)
        n *= t->shape[k]; /* the container has checked the product */
    r->n = n < max_rows ? (size_t)n : max_rows;
    r->width = t->ndim ? (size_t)t->shape[t->ndim - 1] : 0;
    if (t->ndim && (r->width < 1 || r->width > SAE_DICT_MAX_DIM))
        return sae_err_set(err, SAE_E_FORMAT, t->name, "its rows have width %zu", r->width);
    r->values = sae_alloc(r->n, r->width * sizeof *r->values);
    if (!r->values)
        return sae_err_set(err, SAE_E_NOMEM, t->name, "its %zu rows do not fit in memory", r->n);
    return sae_load_rows(ts, i, r->n, r->values, err);
}

enum sae_status sae_rows_load(struct sae_rows *out, const char *path, const char *tensor,
                              size_t max_rows, struct sae_err *err)
{
    struct sae_rows r = {.values = NULL};
    struct sae_tensors *ts = NULL;
    struct sae_err low = {0};
    enum sae_status st = sae_load_open(&ts, path, &low);

    if (st == SAE_OK)
        st = read_rows(ts, tensor, max_rows, &r, &low);
    sae_load_close(ts);
    if (st == SAE_OK) {
        *out = r;
        return SAE_OK;
    }
    sae_rows_fini(&r);
    return cannot(path, &low, err);
}

void sae_rows_fini(struct sae_rows *r)
{
    sae_free(r->values);
    *r = (struct sae_rows){.values = NULL};
}

/* ---- what the weights tell ---------------------------------------------------------------- */

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0.0;

    for (size_t k = 0; k < n; k++)
        sum += (double)a[k] * (double)b[k];
    return sum;
}

static void add_cosine(const struct sae_dict *d, float *rooms, struct sae_weight_figures *out)
{
    size_t width = d->formula.d_in, n = 0;
    bool is_tied = true;
    double sum = 0.0;

    for (size_t j = 0; j < d->formula.F; j++) {
        const float *enc = sae_matrix_row(&d->enc, j, rooms);
        const float *dec = sae_matrix_row(&d->dec, j, rooms + width);
        double norms = sqrt(dot(enc, enc, width)) * sqrt(dot(dec, dec, width));

        is_tied = is_tied && memcmp(enc, dec, width * sizeof *enc) == 0;
        if (!(norms > 0.0))
            continue;
        sum += dot(enc, dec, width) / norms;
        n++;
    }
    out->has_cosine = !is_tied && n > 0;
    out->cosine = n ? sum / (double)n : 0.0;
}

enum sae_status sae_dict_figures(const struct sae_dict *d, struct sae_weight_figures *out,
                                 struct sae_err *err)
{
    const struct sae_unit *unit = sae_formula_unit(&d->formula);
    const float *theta = sae_dict_array(d, SAE_ROLE_THRESHOLD);
    size_t n_theta = d->single >> SAE_ROLE_THRESHOLD & 1 ? 1 : d->formula.F;
    float *rooms = sae_alloc(2 * d->formula.d_in, sizeof *rooms);

    if (!rooms)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot look at its weights: out of memory");
    *out = (struct sae_weight_figures){.has_cosine = false};
    if (d->enc.values && d->dec.values && d->formula.d_out == d->formula.d_in)
        add_cosine(d, rooms, out);
    sae_free(rooms);
    for (size_t j = 0; d->dec_norm && j < d->formula.F; j++) {
        out->n_zero_norms += d->dec_norm[j] == 0.0f;
        out->n_large_norms += (double)d->dec_norm[j] > 100.0 * (double)d->info.norm_median;
    }
    for (size_t j = 0; theta && j < n_theta; j++) {
        out->n_unset += theta[j] == -1.0f;
        out->n_below_zero += theta[j] < 0.0f;
    }
    out->has_threshold = theta != NULL;
    out->may_be_dense =
        d->formula.is_identity || unit->is_never_off || (unit->is_signed && out->n_below_zero > 0);
    return SAE_OK;
}
