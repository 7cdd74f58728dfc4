/* native_top.c - top-k rows of the native engine by intervals, exact in two steps.
 *
 * Where thresholds prove nothing off (a dictionary without them, half its features active), the k
 * best are still few. For each feature the screening's numbers give an interval that holds the
 * value; the class's formula is monotone in the projection, so its ends are the formula's values at
 * the ends. Collecting: what cannot reach the k-th largest lower bound seen so far is dropped; what
 * may goes into the row's list as (low, up). Resolving, in select: the k best lower bounds are
 * computed exactly, the k-th of those values is the bar, and what may still reach it is computed
 * too. Only what lies strictly below the k-th best is ever left out, so ties go by id in the end.
 *
 * Jump: a feature that is on may be negative, and one that is off is not listed at all, so "off"
 * counts as less than everything. THREADS: engine.h; blocks of a row share struct native_top. */
#include "lib/engine/native.h"

#include "lib/dict/ref.h"
#include "lib/num.h"

#include <math.h>
#include <string.h>

/* kern->order for one value that is neither NaN nor -0, and back. */
static uint32_t key_of(float v)
{
    uint32_t u = sae_f32_bits(v);

    return u ^ ((u >> 31 ? 0xffffffffu : 0u) | 0x80000000u);
}

static float value_of(uint32_t key)
{
    return sae_f32_from_bits(key >> 31 ? key ^ 0x80000000u : ~key);
}

void sae_native_top_reset(struct native_top *t)
{
    t->n = 0;
    atomic_store_explicit(&t->floor, 0, memory_order_relaxed);
}

void sae_native_line(const struct sae_dict *d, size_t j, float *c1, float *c0)
{
    *c1 = d->r ? d->r[j] : 1.0f;
    *c0 = d->mag_bias ? d->mag_bias[j] : d->enc_bias[j] + (d->jump ? d->jump[j] : 0.0f);
}

/* The value at projection p; false: the feature is off there (or zero, and so not listed). */
static bool value_at(const struct sae_dict *d, size_t j, float p, float *v)
{
    float aux = 0;

    *v = sae_ref_unit(d, j, p, &aux);
    return d->arch->unit == SAE_UNIT_JUMP ? aux > 0 : *v > 0;
}

/* Keep the k largest of the keys; returns how many there are now. */
static uint32_t keep_best(uint32_t *key, uint32_t n, uint32_t k)
{
    if (n <= k)
        return n;
    sae_kth_largest_u32(key, n, k); /* the k largest are in front now */
    return k;
}

static uint32_t smallest(const uint32_t *key, uint32_t n)
{
    uint32_t m = key[0];

    for (uint32_t i = 1; i < n; i++)
        m = key[i] < m ? key[i] : m;
    return m;
}

/* Lower bounds of row i that this block found join the row's; the floor rises. */
static void merge_best(struct native_top *t, const uint32_t *best, uint32_t n, uint32_t k)
{
    uint32_t floor = atomic_load_explicit(&t->floor, memory_order_relaxed);

    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < n; i++) {
        if (best[i] < floor)
            continue;
        t->best[t->n++] = best[i];
        if (t->n == 2 * k)
            t->n = keep_best(t->best, t->n, k);
    }
    t->n = keep_best(t->best, t->n, k);
    if (t->n == k)
        atomic_store_explicit(&t->floor, smallest(t->best, k), memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
}

/* One survivor of row i: exact ends, the pair, and its lower bound among the block's best. */
static void survivor(const struct sae_dict *d, struct native_scratch *n, size_t i, size_t j,
                     float p_low, float p_up, uint32_t k, size_t *n_pairs)
{
    uint32_t *best = n->best + i * 2 * NATIVE_TOP_MAX, key;
    float low, up;

    if (!value_at(d, j, p_up, &up) || up < n->floor[i])
        return;
    if (!value_at(d, j, p_low, &low))
        low = -INFINITY;
    n->pair_row[*n_pairs] = (uint32_t)i;
    n->pair_col[*n_pairs] = (uint32_t)j;
    n->pair_p[*n_pairs] = low;
    n->pair_up[(*n_pairs)++] = up;
    n->count[i]++;
    if (low == -INFINITY || low < n->floor[i])
        return;
    best[n->n_best[i]++] = key_of(low);
    if (n->n_best[i] < 2 * k)
        return;
    n->n_best[i] = keep_best(best, n->n_best[i], k);
    key = smallest(best, k);
    if (value_of(key) > n->floor[i])
        n->floor[i] = value_of(key);
}

static size_t collect_block(struct sae_batch *b, size_t block, size_t n_rows,
                            struct native_scratch *n)
{
    const struct sae_native_dict *nd = b->dict->engine_data;
    const struct sae_plane *pl = nd->plane;
    size_t f = block * SAE_BLOCK, end = f + SAE_BLOCK < pl->Fp ? f + SAE_BLOCK : pl->Fp,
           n_pairs = 0;

    for (; f < end; f += NATIVE_GROUP) {
        size_t left = (end - f) / SAE_SCREEN_PANEL;
        struct sae_screen_group g = {
            .plane = pl->q + f * pl->dq,
            .dq = pl->dq,
            .a = pl->a,
            .b = pl->b,
            .t = pl->t,
            .s = pl->s,
            .c1 = nd->c1,
            .c0 = nd->c0,
            .f0 = f,
            .n_panels = left < SAE_SCREEN_PANELS ? left : SAE_SCREEN_PANELS,
            .ahead = left >= 2 * SAE_SCREEN_PANELS
                         ? (const char *)pl->q + (f + NATIVE_GROUP) * pl->dq
                         : NULL,
        };

        sae_native_kernels(b->e)->interval(n->rows, n_rows, &g, n->floor, n->masks, n->low_of,
                                           n->up_of);
        for (size_t i = 0; i < n_rows; i++) {
            uint32_t k = (uint32_t)b->rows[n->row_of[i]].task->query.top_k;

            for (size_t p = 0; p < g.n_panels; p++)
                for (unsigned m = n->masks[i][p]; m; m &= m - 1) {
                    size_t in = p * SAE_SCREEN_PANEL + (size_t)__builtin_ctz(m);

                    if (f + in < b->dict->F)
                        survivor(b->dict, n, i, f + in, n->low_of[i][in], n->up_of[i][in], k,
                                 &n_pairs);
                }
        }
    }
    return n_pairs;
}

void sae_native_top_encode(struct sae_batch *b, size_t block, size_t n_rows, struct sae_scratch *s)
{
    struct native_batch *nb = b->engine_data;
    struct native_scratch *n = s->engine_data;
    size_t n_pairs;
    uint32_t at = 0;

    for (size_t i = 0; i < n_rows; i++) {
        uint32_t floor = atomic_load_explicit(&nb->top[n->row_of[i]].floor, memory_order_relaxed);

        n->floor[i] = floor ? value_of(floor) : -INFINITY;
        n->count[i] = n->n_best[i] = 0;
    }
    n_pairs = collect_block(b, block, n_rows, n);
    for (size_t i = 0; i < n_rows; i++) {
        if (n->n_best[i])
            merge_best(&nb->top[n->row_of[i]], n->best + i * 2 * NATIVE_TOP_MAX, n->n_best[i],
                       (uint32_t)b->rows[n->row_of[i]].task->query.top_k);
        n->start[i] = at;
        at += n->count[i];
    }
    for (size_t i = 0; i < n_pairs;
         i++) { /* by row, ids ascending; what the floor passed is dropped */
        uint32_t r = n->pair_row[i];

        if (n->pair_up[i] < n->floor[r])
            continue;
        n->ids[n->start[r]] = n->pair_col[i];
        n->p[n->start[r]] = n->pair_p[i];
        n->up[n->start[r]++] = n->pair_up[i];
    }
    at = 0;
    for (size_t i = 0; i < n_rows; i++) {
        sae_list_put(b, 0, n->row_of[i], block, s, n->start[i] - at, n->ids + at, n->p + at,
                     n->up + at);
        at += n->count[i];
    }
}

/* ---- resolve -----------------------------------------------------------------------------------
 */

/* Exact values of the m entries at positions n->chosen: into s->row_f, s->row_aux, and as keys into
 * both bounds (0: off). */
static void compute_chosen(struct sae_batch *b, size_t row, size_t m, struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    const struct sae_dict *d = b->dict;
    const float *x[SAE_KERN_SLACK], *w[SAE_KERN_SLACK], *row_x = b->x + row * b->ld;

    for (size_t at = 0; at < m; at += SAE_BLOCK) {
        size_t part = m - at < SAE_BLOCK ? m - at : SAE_BLOCK;
        struct sae_cols cols;

        for (size_t i = 0; i < part; i++)
            n->ids[i] = s->row_ids[n->chosen[at + i]];
        for (size_t i = 0; i < part; i += SAE_COUNTOF(x)) {
            size_t few = part - i < SAE_COUNTOF(x) ? part - i : SAE_COUNTOF(x);

            for (size_t k = 0; k < few; k++) {
                x[k] = row_x;
                w[k] = d->enc + (size_t)n->ids[i + k] * d->d;
            }
            sae_native_kernels(b->e)->pairs(x, w, few, d->d, n->p + i);
        }
        cols = sae_cols_ids(d, n->ids, part, 0, s);
        sae_unit(b, &cols, n->p, s->f, d->arch->aux_name ? s->aux : NULL);
        for (size_t i = 0; i < part; i++) {
            uint32_t pos = n->chosen[at + i];

            s->row_f[pos] = s->f[i];
            s->row_aux[pos] = d->arch->aux_name ? s->aux[i] : 0.0f;
            n->key_low[pos] = n->key_up[pos] = s->f[i] == 0.0f ? 0 : key_of(s->f[i]);
        }
    }
}

size_t sae_native_top_resolve(struct sae_batch *b, size_t row, size_t n_entries,
                              struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    size_t top_k = (size_t)b->rows[row].task->query.top_k, m = 0, m2 = 0, kept = 0;
    uint32_t bar = 0;

    if (n_entries == 0)
        return 0;
    b->e->kern->order(s->row_f, n->key_low, n_entries);
    b->e->kern->order(s->row_aux, n->key_up, n_entries);
    if (n_entries > top_k) {
        memcpy(n->key_tmp, n->key_low, n_entries * sizeof *n->key_tmp);
        bar = sae_kth_largest_u32(n->key_tmp, n_entries, top_k);
    }
    /* The first step: everything whose lower bound is among the k best. */
    for (size_t i = 0; i < n_entries; i++)
        if (n->key_low[i] >= bar)
            n->chosen[m++] = (uint32_t)i;
    compute_chosen(b, row, m, s);
    if (m > top_k || (m == top_k && n_entries > top_k)) {
        for (size_t i = 0; i < m; i++)
            n->key_tmp[i] = n->key_low[n->chosen[i]];
        uint32_t exact = sae_kth_largest_u32(n->key_tmp, m, top_k);

        bar = exact > bar ? exact : bar;
    }
    /* Entries of the first step are marked by their key: the others still hold bounds. */
    for (size_t i = 0; i < m; i++)
        n->key_tmp[i] = n->chosen[i];
    for (size_t i = 0, done = 0; i < n_entries; i++) {
        if (done < m && n->key_tmp[done] == i) {
            done++;
            continue;
        }
        if (n->key_up[i] >= bar)
            n->chosen[m2++] = (uint32_t)i;
        else
            s->row_f[i] = 0.0f; /* below the k-th best: not of interest any more */
    }
    compute_chosen(b, row, m2, s);
    atomic_fetch_add_explicit(&nd->candidates, m + m2, memory_order_relaxed);
    for (size_t i = 0; i < n_entries; i++) {
        if (s->row_f[i] == 0.0f)
            continue;
        s->row_ids[kept] = s->row_ids[i];
        s->row_f[kept] = s->row_f[i];
        s->row_aux[kept++] = s->row_aux[i];
    }
    return kept;
}
