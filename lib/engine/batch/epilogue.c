/* epilogue.c - from one row's projections of one block to whatever the row's request asked for.
 *
 * Shared by all engines: an engine computes p, this applies the unit (lib/dict/unit.h) and
 * delivers dense values straight into the task, list entries into a run. Called from encode tiles,
 * once for each row and block; scratch and output places belong to the calling tile. */
#include "lib/engine/batch/plan.h"

#include "lib/num.h"

#include <string.h>

struct sae_cols sae_cols_block(const struct sae_dict *d, size_t block)
{
    size_t j = block * SAE_BLOCK;
    struct sae_cols c = {
        .n = d->formula.F - j < SAE_BLOCK ? d->formula.F - j : SAE_BLOCK,
        .first = j,
        .out = j,
        .norm = d->dec_norm ? d->dec_norm + j : NULL,
    };

    for (unsigned i = 0; i < SAE_MAX_PARAMS; i++)
        c.param[i] = d->param[i] ? d->param[i] + j : NULL;
    return c;
}

/* v[ids[i]] into place `at` of the scratch's parameters. */
static const float *pick(const float *v, const uint32_t *ids, size_t n, struct sae_scratch *s,
                         size_t at)
{
    float *out = s->param + at * SAE_BLOCK;

    if (!v)
        return NULL;
    for (size_t i = 0; i < n; i++)
        out[i] = v[ids[i]];
    return out;
}

struct sae_cols sae_cols_ids(const struct sae_dict *d, const uint32_t *ids, size_t n, size_t out,
                             struct sae_scratch *s)
{
    struct sae_cols c = {.n = n, .ids = ids, .out = out};

    for (unsigned i = 0; i < SAE_MAX_PARAMS; i++)
        c.param[i] = pick(d->param[i], ids, n, s, i);
    if (d->formula.score != SAE_SCORE_VALUE) /* else only forward scales, of whole blocks */
        c.norm = pick(d->dec_norm, ids, n, s, SAE_MAX_PARAMS);
    return c;
}

struct sae_cols sae_cols_sparse(const struct sae_dict *d, size_t block, const uint32_t *ids,
                                size_t n, struct sae_scratch *s)
{
    size_t j = block * SAE_BLOCK;
    struct sae_cols c = sae_cols_ids(d, ids, n, j, s);

    c.is_sparse = true;
    c.block_n = d->formula.F - j < SAE_BLOCK ? d->formula.F - j : SAE_BLOCK;
    if (!c.norm)
        c.norm = pick(d->dec_norm, ids, n, s, SAE_MAX_PARAMS);
    return c;
}

void sae_unit(const struct sae_batch *b, const struct sae_cols *c, const float *p, float *f,
              float *aux)
{
    const struct sae_kern *k = b->e->kern;
    const struct sae_formula *formula = &b->dict->formula;

    if (formula->score == SAE_SCORE_VALUE) {
        k->unit[formula->unit](p, c->param, f, aux, c->n);
        return;
    }
    k->score[formula->unit](p, c->param, c->norm, f, c->n);
    if (formula->score == SAE_SCORE_DECODER_NORM_FOLDED)
        return;
    if (aux)
        memcpy(aux, f, c->n * sizeof *aux);
    k->unscore(p, c->param[0], f, c->n);
}

/* Entries at positions pos[0..n-1] of the block, as ids and values, side by side in s. */
static void collect(struct sae_scratch *s, const struct sae_cols *c, size_t n, const uint32_t *pos,
                    const float *f, const float *aux)
{
    for (size_t i = 0; i < n; i++) {
        s->ids[i] = c->ids ? c->ids[pos[i]] : (uint32_t)c->first + pos[i];
        s->list_f[i] = f[pos[i]];
    }
    for (size_t i = 0; aux && i < n; i++)
        s->list_aux[i] = aux[pos[i]];
}

static void raise_floor(struct sae_row *r, uint32_t floor)
{
    uint32_t old = atomic_load_explicit(&r->floor, memory_order_relaxed);

    while (old < floor && !atomic_compare_exchange_weak_explicit(
                              &r->floor, &old, floor, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Of n positions keep those that may be among the row's k best: not below what the row's other
 * blocks have shown (floor), nor below this block's own k-th. Equal values all stay, so that ties
 * go by id in the end. */
static size_t prune(const struct sae_kern *k, struct sae_row *r, struct sae_scratch *s, size_t n,
                    uint32_t *pos, const float *rank)
{
    uint32_t *key = s->key;
    uint32_t floor = atomic_load_explicit(&r->floor, memory_order_relaxed);
    uint64_t top_k = r->task->plan.top_k;
    size_t m;

    for (size_t i = 0; i < n; i++)
        s->list_f[i] = rank[pos[i]];
    k->order(s->list_f, key, n);
    if (floor > 0) {
        m = k->at_least(key, floor, n, s->ids);
        for (size_t i = 0; i < m; i++) { /* s->ids[i] >= i: in place */
            key[i] = key[s->ids[i]];
            pos[i] = pos[s->ids[i]];
        }
        n = m;
    }
    if (n <= top_k)
        return n;
    floor = k->kth_largest(key, n, (size_t)top_k);
    raise_floor(r, floor);
    m = k->at_least(key, floor, n, s->ids);
    for (size_t i = 0; i < m; i++)
        pos[i] = pos[s->ids[i]];
    return m;
}

static void put_list(struct sae_batch *b, size_t row, size_t block, const struct sae_cols *c,
                     const float *f, const float *aux, struct sae_scratch *s)
{
    const struct sae_kern *k = b->e->kern;
    struct sae_row *r = &b->rows[row];
    const float *entry_aux = r->sinks & SAE_SINK_LIST_AUX ? aux : NULL;
    const float *rank = sae_formula_ranks_apart(&b->dict->formula) ? aux : f;
    const float *scaled = NULL;
    size_t n;

    if (r->sinks & SAE_SINK_LIST_SCALED) {
        k->mul(f, c->norm, s->scaled, c->n);
        scaled = s->scaled;
    }
    if (r->sinks & SAE_SINK_TOP) {
        n = k->nonzero(rank, NULL, NULL, c->n, s->pos);
        if (r->task->plan.counts_zeros)
            __atomic_fetch_add(&r->n_nonzero, n, __ATOMIC_RELAXED);
        n = n > 0 ? prune(k, r, s, n, s->pos, rank) : 0;
    } else {
        n = k->nonzero(f, entry_aux, scaled, c->n, s->pos);
    }
    collect(s, c, n, s->pos, f, entry_aux);
    sae_list_put(b, 0, row, block, s, n, s->ids, s->list_f, entry_aux ? s->list_aux : NULL);
}

/* exp of the pre-activation times the mask, where that is not zero. A mask of 0 gives 0 unless exp
 * is infinite or NaN, so most exps are never computed: above 88 the product is formed. */
static void put_ghost(struct sae_batch *b, size_t row, size_t block, const struct sae_cols *c,
                      const float *p, struct sae_scratch *s)
{
    const struct sae_row *r = &b->rows[row];
    const struct sae_query *q = &r->task->query;
    const float *mask = q->ghost_mask + r->i * q->ghost_row + c->first * q->ghost_col;
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) {
        float pre = p[i] + c->param[0][i], m = mask[i * q->ghost_col], v;

        if (m == 0.0f && pre <= 88.0f)
            continue;
        v = sae_exp_f32(pre) * m;
        if (v != 0.0f) {
            s->ids[n] = (uint32_t)(c->first + i);
            s->list_f[n++] = v;
        }
    }
    sae_list_put(b, 1, row, block, s, n, s->ids, s->list_f, NULL);
}

/* Dense stores of a block of which only c's ids may be on. */
static void scatter(struct sae_batch *b, size_t row, size_t block, const struct sae_cols *c,
                    const float *p, struct sae_scratch *s)
{
    const struct sae_row *r = &b->rows[row];
    struct sae_task *t = r->task;
    float *f = t->f + r->i * t->width, *aux = t->aux ? t->aux + r->i * t->width : NULL;
    const float *stored = s->f;

    sae_unit(b, c, p, s->f, s->aux);
    if (r->sinks & SAE_SINK_F_SCALED) {
        b->e->kern->mul(s->f, c->norm, s->scaled, c->n);
        stored = s->scaled;
    }
    memset(f + c->out, 0, c->block_n * sizeof *f);
    for (size_t i = 0; i < c->n; i++)
        f[c->ids[i]] = stored[i];
    if (r->sinks & SAE_SINK_AUX) {
        memset(aux + c->out, 0, c->block_n * sizeof *aux);
        for (size_t i = 0; i < c->n; i++)
            aux[c->ids[i]] = s->aux[i];
    }
    if (r->sinks & SAE_SINK_LIST)
        put_list(b, row, block, c, s->f, NULL, s);
}

void sae_epilogue(struct sae_batch *b, size_t row, size_t block, const struct sae_cols *c,
                  const float *p, struct sae_scratch *s)
{
    const struct sae_kern *k = b->e->kern;
    const struct sae_row *r = &b->rows[row];
    struct sae_task *t = r->task;
    unsigned sinks = r->sinks;

    if (c->is_sparse && sinks & (SAE_SINK_F | SAE_SINK_F_SCALED)) {
        scatter(b, row, block, c, p, s);
        return;
    }
    size_t place = r->i * t->width + c->out;
    /* Values that are stored as they are go to their place at once. */
    float *f = sinks & SAE_SINK_F && !(sinks & SAE_SINK_F_SCALED) ? t->f + place : s->f;
    float *aux = sinks & SAE_SINK_AUX ? t->aux + place : NULL;

    if (!aux && (sinks & SAE_SINK_LIST_AUX || sae_formula_ranks_apart(&b->dict->formula)))
        aux = s->aux;
    sae_unit(b, c, p, f, aux);
    if (sinks & SAE_SINK_F_SCALED)
        k->mul(f, c->norm, t->f + place, c->n);
    if (sinks & SAE_SINK_LIST)
        put_list(b, row, block, c, f, aux, s);
    if (sinks & SAE_SINK_GHOST)
        put_ghost(b, row, block, c, p, s);
}
