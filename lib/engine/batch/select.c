/* select.c - from a row's runs to its answer: sparse entries, the k largest, columns looked up.
 *
 * The plan (one thread) counts runs and takes one block of memory for each slice, as a rule from
 * the room that the task has; the tiles (rows, in parallel) allocate nothing. Entries of runs are
 * unscaled f, ascending by id; scaling of a forward's f is done here, before it is asked what is
 * zero or largest. */
#include "lib/engine/engine.h"

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

/* ---- the plan ---------------------------------------------------------------------------------
 */

static size_t blocks_of_row(const struct sae_batch *b, const struct sae_part *part)
{
    return part->cols ? (part->n_cols + SAE_BLOCK - 1) / SAE_BLOCK : b->n_blocks;
}

static size_t count_runs(const struct sae_batch *b, size_t row)
{
    size_t n_blocks = blocks_of_row(b, &b->parts[b->rows[row].part]), n = 0;

    for (size_t k = 0; k < n_blocks; k++)
        n += sae_run_at(b, 0, row, k)->n;
    return n;
}

/* The most entries that a row can have. */
static size_t most_entries(const struct sae_task *t, size_t n)
{
    const struct sae_query *q = &t->query;

    if (q->form == SAE_FORM_DENSE)
        return 0;
    if (q->has_features && n > t->n_candidates)
        n = t->n_candidates;
    return q->form == SAE_FORM_TOP && n > q->top_k ? (size_t)q->top_k : n;
}

bool sae_select_plan(struct sae_batch *b, size_t *work)
{
    bool any = false;

    *work = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        struct sae_part *part = &b->parts[i];
        struct sae_task *t = part->slice.task;

        if (!part->selects || sae_task_failed(t))
            continue;
        any = true;
        for (size_t r = part->row; r < part->row + part->slice.n_rows; r++) {
            size_t n = count_runs(b, r);

            b->rows[r].out = part->n_entries;
            b->rows[r].cap = most_entries(t, n);
            part->n_entries += b->rows[r].cap;
            *work += n + (t->query.form == SAE_FORM_DENSE ? 4 * t->query.n_features : 0);
        }
        if (part->n_entries == 0)
            continue;
        part->words = sae_task_words(t, part->n_entries * sae_entry_words(&t->query));
        if (!part->words)
            sae_task_fail(t, SAE_E_NOMEM);
    }
    return any;
}

/* ---- one row ----------------------------------------------------------------------------------
 */

/* The row's list in one piece, in s; returns its length. */
static size_t join_runs(const struct sae_batch *b, size_t row, struct sae_scratch *s)
{
    size_t n_blocks = blocks_of_row(b, &b->parts[b->rows[row].part]), n = 0;

    for (size_t k = 0; k < n_blocks; k++) {
        const struct sae_run *u = sae_run_at(b, 0, row, k);

        if (u->n == 0)
            continue;
        memcpy(s->row_ids + n, sae_run_ids(u), u->n * sizeof *s->row_ids);
        memcpy(s->row_f + n, sae_run_f(u), u->n * sizeof *s->row_f);
        if (u->has_aux)
            memcpy(s->row_aux + n, sae_run_aux(u), u->n * sizeof *s->row_aux);
        n += u->n;
    }
    return n;
}

/* First position at or behind `from` whose id is at least `id`. */
static size_t find_id(const uint32_t *ids, size_t from, size_t n, uint32_t id)
{
    size_t hi = n;

    while (from < hi) {
        size_t mid = from + (hi - from) / 2;

        if (ids[mid] < id)
            from = mid + 1;
        else
            hi = mid;
    }
    return from;
}

/* Keep the entries whose ids are candidates. */
static size_t keep_candidates(const struct sae_task *t, size_t n, struct sae_scratch *s,
                              bool with_aux)
{
    size_t m = 0, at = 0;

    for (size_t c = 0; c < t->n_candidates && at < n; c++) {
        at = find_id(s->row_ids, at, n, t->candidates[c]);
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

/* The k largest of n entries, none of them zero: value order, NaN first, ties by position, which
 * is by id. A sort key is the order of the value, then the position inverted: no two are equal. */
static size_t put_top(const struct sae_kern *kern, const struct sae_row *r,
                      const struct sae_part *part, size_t n, struct sae_scratch *s)
{
    const struct sae_query *q = &r->task->query;
    uint32_t *ids = part->words + r->out;
    float *v = (float *)(ids + part->n_entries), *aux = (float *)(ids + 2 * part->n_entries);
    uint32_t *key = (uint32_t *)s->order_tmp, kth = 0;
    size_t k = n < q->top_k ? n : (size_t)q->top_k, ties = k, m = 0;

    kern->order(s->row_f, key, n);
    if (k < n)
        kth = kern->kth_largest(key, n, k);
    for (size_t i = 0; i < n; i++)
        ties -= key[i] > kth;
    for (size_t i = 0; i < n; i++) {
        if (key[i] < kth || (key[i] == kth && ties == 0))
            continue;
        ties -= key[i] == kth;
        s->order[m++] = (uint64_t)key[i] << 32 | (uint32_t)~i;
    }
    sort_descending(s->order, s->order_tmp, k);
    for (size_t i = 0; i < k; i++) {
        uint32_t pos = ~(uint32_t)s->order[i];

        ids[i] = s->row_ids[pos];
        v[i] = s->row_f[pos];
        if (q->want_aux)
            aux[i] = s->row_aux[pos];
    }
    r->task->f_rows[r->i] = (struct sae_sparse_row){.ids = ids, .values = v, .n = k};
    if (q->want_aux)
        r->task->aux_rows[r->i] = (struct sae_sparse_row){.ids = ids, .values = aux, .n = k};
    return k;
}

/* Dense columns of `features`, looked up; what is not listed is +0. */
static void put_columns(const struct sae_row *r, const float *norm, size_t n,
                        const struct sae_scratch *s)
{
    struct sae_task *t = r->task;
    const struct sae_query *q = &t->query;

    for (size_t c = 0; c < q->n_features; c++) {
        uint32_t id = q->features[c];
        size_t at = find_id(s->row_ids, 0, n, id), out = r->i * t->width + c;
        bool found = at < n && s->row_ids[at] == id;

        t->f[out] = !found ? 0.0f : norm ? s->row_f[at] * norm[id] : s->row_f[at];
        if (q->want_aux)
            t->aux[out] = found ? s->row_aux[at] : 0.0f;
    }
}

static void select_row(struct sae_batch *b, size_t row, struct sae_scratch *s, size_t *nnz,
                       size_t *aux_nnz)
{
    const struct sae_row *r = &b->rows[row];
    const struct sae_part *part = &b->parts[r->part];
    const struct sae_query *q = &r->task->query;
    const float *norm =
        q->op == SAE_OP_FORWARD && b->dict->formula.scales_forward_f ? b->dict->dec_norm : NULL;
    size_t n;

    *nnz = *aux_nnz = 0;
    if (q->form != SAE_FORM_DENSE && r->cap == 0)
        return; /* no entries: the row stays as prepare left it */
    n = join_runs(b, row, s);
    if (r->is_bounds)
        n = b->e->ops->resolve(b, row, n, s);
    if (q->form == SAE_FORM_DENSE) {
        put_columns(r, norm, n, s);
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

void sae_select_rows(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s)
{
    for (size_t r = r0; r < r1; r++) {
        struct sae_task *t = b->rows[r].task;
        size_t nnz, aux_nnz;

        if (!b->parts[b->rows[r].part].selects || sae_task_failed(t))
            continue;
        select_row(b, r, s, &nnz, &aux_nnz);
        /* Other batches may be adding for other rows of the task. */
        if (nnz)
            __atomic_fetch_add(&t->nnz, nnz, __ATOMIC_RELAXED);
        if (aux_nnz)
            __atomic_fetch_add(&t->aux_nnz, aux_nnz, __ATOMIC_RELAXED);
    }
}
