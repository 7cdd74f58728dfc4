/* shape.c - a row's list made whole, and cut to what the formula selects, before it is used.
 *
 * Its begin (one thread) counts runs and takes the memory of each slice, as a rule from the room
 * that the task has; the tiles (rows, in parallel) allocate nothing for answers. A row's
 * runs are joined, bounds become values (the engine's resolve), what the formula does not keep
 * goes: then the list is the row's f, for decode (its runs are put anew) and for deliver.c. Entries
 * are unscaled f, ascending by id. */
#include "lib/engine/batch/plan.h"

#include <math.h>
#include <string.h>

/* ---- begin -----------------------------------------------------------------------------------
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

static bool is_shaped(const struct sae_task *t)
{
    return (t->plan.shapes || t->plan.delivers) && !sae_task_failed((struct sae_task *)t);
}

bool sae_shape_begin(struct sae_batch *b, size_t *work)
{
    bool any = false;

    *work = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        struct sae_part *part = &b->parts[i];
        struct sae_task *t = part->slice.task;

        if (!is_shaped(t))
            continue;
        any = true;
        for (size_t r = part->row; r < part->row + part->slice.n_rows; r++) {
            size_t n = count_runs(b, r);

            b->rows[r].out = part->n_entries;
            b->rows[r].cap = n < t->plan.entries_bound ? n : (size_t)t->plan.entries_bound;
            part->n_entries += b->rows[r].cap;
            *work += n + (t->query.form == SAE_FORM_DENSE ? 4 * t->query.n_features : 0);
        }
        if (part->n_entries == 0)
            continue;
        part->words = sae_task_words(t, part->n_entries * t->plan.entry_words);
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

size_t sae_shape_find(const uint32_t *ids, size_t from, size_t n, uint32_t id)
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

size_t sae_shape_best(const struct sae_kern *kern, const float *rank, size_t n, uint64_t k,
                      bool with_aux, struct sae_scratch *s)
{
    uint32_t *key = (uint32_t *)s->order_tmp, kth;
    size_t ties = (size_t)k, m = 0;

    if (n <= k || k == 0)
        return n <= k ? n : 0;
    kern->order(rank, key, n);
    kth = kern->kth_largest(key, n, (size_t)k);
    for (size_t i = 0; i < n; i++)
        ties -= key[i] > kth;
    for (size_t i = 0; i < n; i++) {
        if (key[i] < kth || (key[i] == kth && ties == 0))
            continue;
        ties -= key[i] == kth;
        s->row_ids[m] = s->row_ids[i];
        s->row_f[m] = s->row_f[i];
        if (with_aux)
            s->row_aux[m] = s->row_aux[i];
        m++;
    }
    return m;
}

/* What the formula selects the n entries in s by. A score that is NaN where f is not, the unit's 0
 * times an overflow, is listed with a zero. */
static const float *ranks(const struct sae_batch *b, size_t n, struct sae_scratch *s)
{
    float *rank = (float *)s->order_tmp + n;

    if (!sae_formula_ranks_apart(&b->dict->formula))
        return s->row_f;
    for (size_t i = 0; i < n; i++)
        rank[i] = s->row_f[i] == 0.0f ? NAN : s->row_f[i] * b->dict->dec_norm[s->row_ids[i]];
    return rank;
}

/* How many of the row's n entries in s its formula keeps. Zeros are not listed, but take places
 * before what is negative. */
static uint64_t n_kept(const struct sae_batch *b, const struct sae_row *r, const float *rank,
                       size_t n)
{
    const struct sae_plan *p = &r->task->plan;
    uint64_t zeros = b->dict->formula.F - r->n_nonzero, not_negative = 0, left;

    if (!p->counts_zeros)
        return p->top_k;
    for (size_t i = 0; i < n; i++)
        not_negative += !(rank[i] < 0.0f);
    if (not_negative >= p->top_k)
        return p->top_k;
    left = p->top_k > zeros ? p->top_k - zeros : 0;
    return left > not_negative ? left : not_negative;
}

/* The row's n entries in s are its list from now on. */
static void put_runs(struct sae_batch *b, size_t row, size_t n, struct sae_scratch *s)
{
    size_t at = 0;

    for (size_t k = 0; k < b->n_blocks; k++) {
        size_t end = sae_shape_find(s->row_ids, at, n, (uint32_t)((k + 1) * SAE_BLOCK));

        sae_list_put(b, 0, row, k, s, end - at, s->row_ids + at, s->row_f + at, NULL);
        at = end;
    }
}

static void shape_row(struct sae_batch *b, size_t row, struct sae_scratch *s, size_t *nnz,
                      size_t *aux_nnz)
{
    const struct sae_row *r = &b->rows[row];
    const struct sae_plan *p = &r->task->plan;
    bool delivers = p->delivers && (p->entry_words == 0 || r->cap > 0);
    bool puts = p->shapes && p->decodes;
    size_t n;

    *nnz = *aux_nnz = 0;
    if (!delivers && !puts)
        return; /* no entries: the row stays as prepare left it */
    n = join_runs(b, row, s);
    if (r->is_bounds)
        n = b->e->ops->resolve(b, row, n, s);
    if (p->shapes) {
        const float *rank = ranks(b, n, s);

        n = sae_shape_best(b->e->kern, rank, n, n_kept(b, r, rank, n), false, s);
    }
    if (puts)
        put_runs(b, row, n, s);
    if (delivers)
        sae_deliver_row(b, row, n, s, nnz, aux_nnz);
}

void sae_shape_rows(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s)
{
    for (size_t r = r0; r < r1; r++) {
        struct sae_task *t = b->rows[r].task;
        size_t nnz, aux_nnz;

        if (!is_shaped(t))
            continue;
        shape_row(b, r, s, &nnz, &aux_nnz);
        /* Other batches may be adding for other rows of the task. */
        if (nnz)
            __atomic_fetch_add(&t->nnz, nnz, __ATOMIC_RELAXED);
        if (aux_nnz)
            __atomic_fetch_add(&t->aux_nnz, aux_nnz, __ATOMIC_RELAXED);
    }
}
