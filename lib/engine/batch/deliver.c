/* deliver.c - from a row's list to its answer: sparse entries, the k largest, columns looked up, a
 * dense row. The list is whole (shape.c) and stands in the tile's scratch; a forward's f is scaled
 * here, before it is asked what is zero or largest. */
#include "lib/engine/batch/plan.h"

#include <string.h>

/* Largest first: a radix sort on the upper half of each key. Stable, and the lower half descends in
 * the input, so equal upper halves end up right. Few keys: insertion. */
static void sort_descending(uint64_t *key, uint64_t *tmp, size_t n)
{
    if (n <= 64) {
        for (size_t i = 1; i < n; i++) {
            uint64_t v = key[i];
            size_t j = i;

            for (; j > 0 && key[j - 1] < v; j--)
                key[j] = key[j - 1];
            key[j] = v;
        }
        return;
    }
    for (unsigned shift = 32; shift < 64; shift += 8) { /* four passes: the result is in key */
        size_t place[256] = {0}, sum = 0;
        uint64_t *swap = key;

        for (size_t i = 0; i < n; i++)
            place[255 - (key[i] >> shift & 255)]++;
        for (size_t c = 0; c < 256; c++) {
            size_t count = place[c];

            place[c] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            tmp[place[255 - (key[i] >> shift & 255)]++] = key[i];
        key = tmp;
        tmp = swap;
    }
}

/* Keep the entries whose ids are candidates. */
static size_t keep_candidates(const struct sae_task *t, size_t n, struct sae_scratch *s,
                              bool with_aux)
{
    size_t m = 0, at = 0;

    for (size_t c = 0; c < t->n_candidates && at < n; c++) {
        at = sae_shape_find(s->row_ids, at, n, t->candidates[c]);
        if (at == n || s->row_ids[at] != t->candidates[c])
            continue;
        s->row_ids[m] = s->row_ids[at];
        s->row_f[m] = s->row_f[at];
        if (with_aux)
            s->row_aux[m] = s->row_aux[at];
        m++;
        at++;
    }
    return m;
}

/* f times norm (NULL: as it is); keep the entries where that is not zero. */
static size_t keep_nonzero(const float *norm, size_t n, struct sae_scratch *s, bool with_aux)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        float v = norm ? s->row_f[i] * norm[s->row_ids[i]] : s->row_f[i];

        if (v == 0.0f)
            continue;
        s->row_ids[m] = s->row_ids[i];
        s->row_f[m] = v;
        if (with_aux)
            s->row_aux[m] = s->row_aux[i];
        m++;
    }
    return m;
}

static size_t put_sparse_aux(const struct sae_row *r, const struct sae_part *part, size_t n,
                             struct sae_scratch *s)
{
    uint32_t *ids = part->words + 2 * part->n_entries + r->out;
    float *v = (float *)(ids + part->n_entries);
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (s->row_aux[i] == 0.0f)
            continue;
        ids[m] = s->row_ids[i];
        v[m++] = s->row_aux[i];
    }
    r->task->aux_rows[r->i] = (struct sae_sparse_row){.ids = ids, .values = v, .n = m};
    return m;
}

static size_t put_sparse(const struct sae_row *r, const struct sae_part *part, size_t n,
                         struct sae_scratch *s)
{
    uint32_t *ids = part->words + r->out;
    float *v = (float *)(ids + part->n_entries);

    memcpy(ids, s->row_ids, n * sizeof *ids);
    memcpy(v, s->row_f, n * sizeof *v);
    r->task->f_rows[r->i] = (struct sae_sparse_row){.ids = ids, .values = v, .n = n};
    return n;
}

/* The k largest of n entries, none of them zero: value order, NaN first, ties by id. A sort key is
 * the order of the value, then the position inverted: no two are equal. */
static size_t put_top(const struct sae_kern *kern, const struct sae_row *r,
                      const struct sae_part *part, size_t n, struct sae_scratch *s)
{
    const struct sae_query *q = &r->task->query;
    uint32_t *ids = part->words + r->out;
    float *v = (float *)(ids + part->n_entries), *aux = (float *)(ids + 2 * part->n_entries);
    uint32_t *key = (uint32_t *)s->order_tmp;

    n = sae_shape_best(kern, s->row_f, n, q->top_k, q->want_aux, s);
    kern->order(s->row_f, key, n);
    for (size_t i = 0; i < n; i++)
        s->order[i] = (uint64_t)key[i] << 32 | (uint32_t)~i;
    sort_descending(s->order, s->order_tmp, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t pos = ~(uint32_t)s->order[i];

        ids[i] = s->row_ids[pos];
        v[i] = s->row_f[pos];
        if (q->want_aux)
            aux[i] = s->row_aux[pos];
    }
    r->task->f_rows[r->i] = (struct sae_sparse_row){.ids = ids, .values = v, .n = n};
    if (q->want_aux)
        r->task->aux_rows[r->i] = (struct sae_sparse_row){.ids = ids, .values = aux, .n = n};
    return n;
}

/* Dense columns of `features`, looked up; what is not listed is +0. */
static void put_columns(const struct sae_row *r, const float *norm, size_t n,
                        const struct sae_scratch *s)
{
    struct sae_task *t = r->task;
    const struct sae_query *q = &t->query;

    for (size_t c = 0; c < q->n_features; c++) {
        uint32_t id = q->features[c];
        size_t at = sae_shape_find(s->row_ids, 0, n, id), out = r->i * t->width + c;
        bool found = at < n && s->row_ids[at] == id;

        t->f[out] = !found ? 0.0f : norm ? s->row_f[at] * norm[id] : s->row_f[at];
        if (q->want_aux)
            t->aux[out] = found ? s->row_aux[at] : 0.0f;
    }
}

/* The whole row, dense; what is not listed is +0. No formula that selects has an aux. */
static void put_dense(const struct sae_row *r, const float *norm, size_t n,
                      const struct sae_scratch *s)
{
    float *f = r->task->f + r->i * r->task->width;

    memset(f, 0, r->task->width * sizeof *f);
    for (size_t i = 0; i < n; i++)
        f[s->row_ids[i]] = norm ? s->row_f[i] * norm[s->row_ids[i]] : s->row_f[i];
}

void sae_deliver_row(struct sae_batch *b, size_t row, size_t n, struct sae_scratch *s, size_t *nnz,
                     size_t *aux_nnz)
{
    const struct sae_row *r = &b->rows[row];
    const struct sae_part *part = &b->parts[r->part];
    const struct sae_query *q = &r->task->query;
    const float *norm = r->task->plan.is_scaled ? b->dict->dec_norm : NULL;

    if (q->form == SAE_FORM_DENSE) {
        (q->has_features ? put_columns : put_dense)(r, norm, n, s);
        return;
    }
    if (q->has_features && !part->cols)
        n = keep_candidates(r->task, n, s, q->want_aux);
    if (q->want_aux && q->form == SAE_FORM_SPARSE)
        *aux_nnz = put_sparse_aux(r, part, n, s);
    n = keep_nonzero(norm, n, s, q->want_aux);
    if (q->form == SAE_FORM_SPARSE) {
        *nnz = put_sparse(r, part, n, s);
        return;
    }
    *nnz = put_top(b->e->kern, r, part, n, s);
    *aux_nnz = q->want_aux ? *nnz : 0;
}
