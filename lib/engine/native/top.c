/* top.c - top-k rows of the native engine by intervals, exact in two steps.
 *
 * The k best are few even where thresholds prove nothing off (a dictionary without them, half its
 * features active), and fewer than what thresholds leave where they do. For each feature the
 * screening's numbers give an interval that holds the value; the class's formula is monotone in the
 * projection, so its ends are the formula's values at the ends.
 *
 * Collecting: the kernel drops what is off, or cannot reach the row's floor, which is the k-th
 * largest value that is likely (LIKELY_ERROR) of those seen so far. Of what is left, pairs (row,
 * feature), the upper ends and the likely values are computed some thousand at a time, the latter
 * raise the floor, and the former become the row's list. A floor costs more to find than a few
 * pairs too many: it is sought when a row's likely values have grown by a quarter of k, not at
 * every block.
 *
 * Resolving, in shape: those with the largest upper ends are computed exactly, the k-th of their
 * values is the bar, and what may still reach it is computed too. k values that reach the floor
 * prove it: all that was dropped lies strictly below the k-th best, so ties go by id in the end. A
 * floor that does not hold has the row computed densely (rare: it takes errors of quantisation that
 * are all alike).
 *
 * Where a feature that is on may be negative (is_on_by_aux, is_never_off), one that is off is not
 * listed at all, so "off" counts as less than everything; but where the formula itself selects, a
 * zero takes its place (plan.counts_zeros). THREADS: engine.h; blocks of a row share struct
 * native_top. */
#include "lib/engine/native/state.h"

#include "lib/num.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define INTERVAL_GROUP (SAE_SCREEN_PANEL * SAE_SCREEN_PANELS)
/* An interval is a worst case, the Cauchy-Schwarz bound of an error; an error that has nothing to
 * do with the row spreads over 1/sqrt(d) of that, less than this much by far: */
#define LIKELY_ERROR 4.0f

void sae_native_top_reset(struct native_top *t)
{
    t->n = 0;
    atomic_store_explicit(&t->floor, 0, memory_order_relaxed);
}

static uint32_t top_k_of(const struct sae_batch *b, size_t row)
{
    return (uint32_t)b->rows[row].task->plan.top_k;
}

/* ---- floors ------------------------------------------------------------------------------------
 */

/* Is it time to find the k best of n likely values? */
static bool is_due(uint32_t n, uint32_t k)
{
    return n >= k + k / 4;
}

/* Keep the k largest of the n keys (n >= k); returns the least of them. */
static uint32_t keep_best(const struct sae_kern *kern, uint32_t *key, uint32_t n, uint32_t k)
{
    uint32_t kth = kern->kth_largest(key, n, k), m = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t v = key[i];

        key[m] = v;
        m += v > kth;
    }
    while (m < k)
        key[m++] = kth;
    return kth;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void set_floor(struct native_scratch *n, size_t i, float floor)
{
    n->floor[i] = floor;
    n->plane_floor[i] = sae_plane_floor(&n->rows[i], floor);
}

/* Row i's floor from the likely values of this block. */
static void raise_floor(const struct sae_kern *kern, struct native_scratch *n, size_t i, uint32_t k)
{
    float floor;

    floor = sae_f32_of_key(keep_best(kern, n->best + i * NATIVE_TOP_ROOM, n->n_best[i], k));
    n->n_best[i] = k;
    if (floor > n->floor[i])
        set_floor(n, i, floor);
}

/* The block's likely values of row i join those of the row's other blocks. */
static void merge_best(const struct sae_kern *kern, struct native_top *t, struct native_scratch *n,
                       size_t i, uint32_t k)
{
    const uint32_t *best = n->best + i * NATIVE_TOP_ROOM;
    uint32_t floor, own = n->floor[i] > -INFINITY ? sae_f32_key(n->floor[i]) : 0;

    pthread_mutex_lock(&t->lock);
    floor = atomic_load_explicit(&t->floor, memory_order_relaxed);
    floor = larger(own, floor); /* resolve answers for every floor that was used: never lower it */
    for (uint32_t at = 0; at < n->n_best[i]; at++) {
        if (best[at] < floor)
            continue;
        t->best[t->n++] = best[at];
        if (t->n < NATIVE_TOP_ROOM)
            continue;
        floor = larger(floor, keep_best(kern, t->best, t->n, k));
        t->n = k;
    }
    if (is_due(t->n, k)) {
        floor = larger(floor, keep_best(kern, t->best, t->n, k));
        t->n = k;
    }
    atomic_store_explicit(&t->floor, floor, memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
}

/* ---- collecting --------------------------------------------------------------------------------
 */

/* Survivors of one group behind the pairs found so far: pair_p is the kernel's v for now. */
static size_t collect_group(const struct sae_plane *pl, struct native_scratch *n, size_t n_rows,
                            const struct sae_screen_group *g, size_t n_pairs)
{
    const uint64_t valid = sae_group_valid(pl, g);

    for (size_t i = 0; i < n_rows; i++)
        for (uint64_t bits = sae_group_bits(n->masks[i], valid); bits; bits &= bits - 1) {
            size_t in = (size_t)__builtin_ctzll(bits);

            n->pair_row[n_pairs] = (uint32_t)i;
            n->pair_col[n_pairs] = (uint32_t)(g->f0 + in);
            n->pair_p[n_pairs++] = n->v_of[i][in];
        }
    return n_pairs;
}

/* The upper ends of the m values of pairs at .., and what they are likely to reach. */
static void compute_ends(struct sae_batch *b, size_t at, size_t m, struct sae_scratch *s)
{
    const struct sae_native_dict *nd = b->dict->engine_data;
    struct native_scratch *n = s->engine_data;
    struct sae_cols cols = sae_cols_ids(b->dict, n->pair_col + at, m, 0, s);
    float error = fminf(1.0f, LIKELY_ERROR / sqrtf((float)b->dict->formula.d_in));

    for (size_t i = 0; i < m; i++) {
        float low, up;

        sae_plane_interval(nd->plane, &n->rows[n->pair_row[at + i]], n->pair_col[at + i],
                           n->pair_p[at + i], &low, &up);
        n->up->p[i] = up;
        n->likely->p[i] = up - 0.5f * (1.0f + error) * (up - low);
    }
    sae_unit(b, &cols, n->likely->p, n->likely->f, n->likely->aux);
    sae_unit(b, &cols, n->up->p, n->up->f, n->up->aux);
}

/* Pairs from .. to - 1 get their upper ends, and go when those are off or below the floor; likely
 * values raise the floors. Returns where the pairs end now. */
static size_t settle(struct sae_batch *b, size_t n_rows, size_t from, size_t to,
                     struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    const struct sae_unit *unit = sae_formula_unit(&b->dict->formula);
    bool by_aux = unit->is_on_by_aux, always = unit->is_never_off;
    bool apart = sae_formula_ranks_apart(&b->dict->formula);
    size_t kept = from;

    for (size_t at = from, m; at < to; at += m) {
        const float *likely = apart ? n->likely->aux : n->likely->f,
                    *up = apart ? n->up->aux : n->up->f;
        const float *likely_on = by_aux ? n->likely->aux : likely,
                    *up_on = by_aux ? n->up->aux : up;

        m = to - at < SAE_BLOCK ? to - at : SAE_BLOCK;
        compute_ends(b, at, m, s);
        for (size_t i = 0; i < m; i++) {
            uint32_t r = n->pair_row[at + i];

            if ((!always && up_on[i] <= 0.0f && !isnan(up[i])) || up[i] < n->floor[r])
                continue;
            n->pair_row[kept] = r;
            n->pair_col[kept] = n->pair_col[at + i];
            n->pair_p[kept++] = up[i];
            if (!((always || likely_on[i] > 0.0f) && likely[i] >= n->floor[r]))
                continue;
            n->best[r * NATIVE_TOP_ROOM + n->n_best[r]++] = sae_f32_key(likely[i]);
            if (n->n_best[r] == NATIVE_TOP_ROOM)
                raise_floor(b->e->kern, n, r, top_k_of(b, n->row_of[r]));
        }
    }
    for (size_t i = 0; i < n_rows; i++) {
        uint32_t k = top_k_of(b, n->row_of[i]);

        if (is_due(n->n_best[i], k))
            raise_floor(b->e->kern, n, i, k);
    }
    return kept;
}

static size_t collect_block(struct sae_batch *b, size_t block, size_t n_rows, struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    const struct sae_native_dict *nd = b->dict->engine_data;
    const struct sae_plane *pl = nd->plane;
    size_t f = block * SAE_BLOCK, end = f + SAE_BLOCK < pl->Fp ? f + SAE_BLOCK : pl->Fp;
    size_t n_pairs = 0, settled = 0, due = 0;

    for (size_t i = 0; i < n_rows; i++)
        due += top_k_of(b, n->row_of[i]);
    for (; f < end; f += INTERVAL_GROUP) {
        size_t left = (end - f) / SAE_SCREEN_PANEL;
        struct sae_screen_group g = {
            .plane = pl->q + f * pl->dq,
            .dq = pl->dq,
            .a = pl->a,
            .b = pl->b,
            .t = pl->t,
            .u = nd->u,
            .z = nd->z,
            .f0 = f,
            .n_panels = left < SAE_SCREEN_PANELS ? left : SAE_SCREEN_PANELS,
            .step = 1,
            .ahead = left >= 2 * SAE_SCREEN_PANELS
                         ? (const char *)pl->q + (f + INTERVAL_GROUP) * pl->dq
                         : NULL,
        };

        sae_native_kernels(b->e)->interval(n->rows, n_rows, &g, n->plane_floor, n->masks, n->v_of);
        n_pairs = collect_group(pl, n, n_rows, &g, n_pairs);
        if (n_pairs - settled >= due || f + INTERVAL_GROUP >= end)
            n_pairs = settled = settle(b, n_rows, settled, n_pairs, s);
    }
    return n_pairs;
}

/* Pairs that still reach their row's floor, by row into its list; ids ascend as they do in pairs.
 */
static void put_pairs(struct sae_batch *b, size_t block, size_t n_rows, size_t n_pairs,
                      struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    uint32_t at = 0;

    memset(n->count, 0, n_rows * sizeof *n->count);
    for (size_t i = 0; i < n_pairs; i++)
        n->count[n->pair_row[i]] += !(n->pair_p[i] < n->floor[n->pair_row[i]]);
    for (size_t i = 0; i < n_rows; i++) {
        n->start[i] = at;
        at += n->count[i];
    }
    for (size_t i = 0; i < n_pairs; i++) {
        uint32_t r = n->pair_row[i];

        if (n->pair_p[i] < n->floor[r])
            continue;
        assert(n->pair_col[i] < b->dict->formula.F);
        n->ids[n->start[r]] = n->pair_col[i];
        n->p[n->start[r]++] = n->pair_p[i];
    }
    for (size_t i = 0; i < n_rows; i++) {
        uint32_t first = n->start[i] - n->count[i]; /* start is at the row's end now */

        sae_list_put(b, 0, n->row_of[i], block, s, n->count[i], n->ids + first, n->p + first, NULL);
    }
}

void sae_native_top_encode(struct sae_batch *b, size_t block, size_t n_rows, struct sae_scratch *s)
{
    struct native_batch *nb = b->engine_data;
    struct native_scratch *n = s->engine_data;
    size_t n_pairs;

    for (size_t i = 0; i < n_rows; i++) {
        uint32_t floor = atomic_load_explicit(&nb->top[n->row_of[i]].floor, memory_order_relaxed);

        set_floor(n, i, floor ? sae_f32_of_key(floor) : -INFINITY);
        n->n_best[i] = 0;
    }
    n_pairs = collect_block(b, block, n_rows, s);
    for (size_t i = 0; i < n_rows; i++)
        if (n->n_best[i])
            merge_best(b->e->kern, &nb->top[n->row_of[i]], n, i, top_k_of(b, n->row_of[i]));
    put_pairs(b, block, n_rows, n_pairs, s);
}

/* ---- resolving ---------------------------------------------------------------------------------
 */

/* Exact values of the m entries at positions `at`: into s->row_f and s->row_aux, and as keys into
 * `exact` (0: off). */
static void compute_exact(struct sae_batch *b, size_t row, const uint32_t *at, size_t m,
                          uint32_t *exact, struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    const struct sae_dict *d = b->dict;
    const float *x[64], *row_x = b->x + row * b->ld;
    bool counts_zeros = b->rows[row].task->plan.counts_zeros;
    bool has_aux = sae_formula_unit(&d->formula)->aux_name;
    bool apart =
        sae_formula_ranks_apart(&d->formula); /* f is zero where the score is: no overflow */

    for (size_t done = 0, part; done < m; done += part) {
        struct sae_cols cols;

        part = m - done < SAE_BLOCK ? m - done : SAE_BLOCK;
        for (size_t i = 0; i < part; i++)
            n->ids[i] = s->row_ids[at[done + i]];
        for (size_t i = 0; i < part; i += SAE_COUNTOF(x)) {
            size_t few = part - i < SAE_COUNTOF(x) ? part - i : SAE_COUNTOF(x);

            for (size_t k = 0; k < few; k++)
                x[k] = row_x;
            sae_native_kernels(b->e)->pairs(x, &d->enc, n->ids + i, few, n->p + i);
        }
        cols = sae_cols_ids(d, n->ids, part, 0, s);
        sae_unit(b, &cols, n->p, s->f, has_aux || apart ? s->aux : NULL);
        b->e->kern->order(apart ? s->aux : s->f, exact + done, part);
        for (size_t i = 0; i < part; i++) {
            s->row_f[at[done + i]] = s->f[i];
            s->row_aux[at[done + i]] = has_aux ? s->aux[i] : 0.0f;
            exact[done + i] = s->f[i] == 0.0f && !counts_zeros ? 0 : exact[done + i];
        }
    }
}

/* Drop the entries that the row's floor has passed; keys of the others' bounds into n->key. */
static size_t drop_passed(const struct sae_kern *kern, uint32_t floor, size_t n_entries,
                          struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    size_t m;

    kern->order(s->row_f, n->key, n_entries);
    m = kern->at_least(n->key, floor, n_entries, n->chosen);
    for (size_t i = 0; i < m; i++) { /* chosen[i] >= i: in place */
        s->row_ids[i] = s->row_ids[n->chosen[i]];
        n->key[i] = n->key[n->chosen[i]];
        s->row_f[i] = 0.0f; /* until it is computed */
    }
    return m;
}

/* The whole row, dense: what is not zero. */
static size_t compute_row(struct sae_batch *b, size_t row, struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    const struct sae_dict *d = b->dict;
    const float *x = b->x + row * b->ld;
    float *aux = sae_formula_unit(&d->formula)->aux_name ? s->aux : NULL;
    size_t kept = 0;

    for (size_t block = 0; block < b->n_blocks; block++) {
        struct sae_cols cols = sae_cols_block(d, block);
        size_t m;

        sae_native_kernels(b->e)->dense(&x, 1, &d->enc, cols.first, cols.n, s->p, SAE_BLOCK,
                                        n->dense);
        sae_unit(b, &cols, s->p, s->f, aux);
        m = b->e->kern->nonzero(s->f, NULL, NULL, cols.n, s->pos);
        for (size_t i = 0; i < m; i++, kept++) {
            s->row_ids[kept] = (uint32_t)cols.first + s->pos[i];
            s->row_f[kept] = s->f[s->pos[i]];
            s->row_aux[kept] = aux ? aux[s->pos[i]] : 0.0f;
        }
    }
    b->rows[row].n_nonzero = kept;
    return kept;
}

size_t sae_native_top_resolve(struct sae_batch *b, size_t row, size_t n_entries,
                              struct sae_scratch *s)
{
    const struct sae_kern *kern = b->e->kern;
    const struct native_batch *nb = b->engine_data;
    struct native_scratch *n = s->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    size_t k = top_k_of(b, row), first = k + k / 4, m, m1, m2 = 0, kept = 0;
    uint32_t floor = atomic_load_explicit(&nb->top[row].floor, memory_order_relaxed), least = 0;
    bool is_nan = false, holds;

    m = drop_passed(kern, floor, n_entries, s);
    /* The first step. None of the k largest upper ends is in vain: k values at least reach the k-th
     * best, so their upper ends do. A few more bring the bar closer to it. */
    if (m > first)
        least = kern->kth_largest(n->key, m, first);
    m1 = kern->at_least(n->key, least, m, n->chosen);
    compute_exact(b, row, n->chosen, m1, n->exact, s);
    if (m1 < m) {
        uint32_t bar = kern->kth_largest(n->exact, m1, k);

        is_nan = bar == UINT32_MAX;
        for (size_t i = 0; i < m; i++)
            if (n->key[i] < least && n->key[i] >= bar)
                n->chosen[m2++] = (uint32_t)i;
        compute_exact(b, row, n->chosen, m2, n->exact + m1, s);
    }
    /* What is NaN may have an end that is none, and be among the k first by its id. */
    holds = !is_nan &&
            (floor == 0 || (m1 + m2 >= k && kern->kth_largest(n->exact, m1 + m2, k) >= floor));
    sae_native_record(&nd->intervals, 1, !holds);
    if (!holds) {
        atomic_fetch_add_explicit(&nd->dense_rows, 1, memory_order_relaxed);
        return compute_row(b, row, s);
    }
    atomic_fetch_add_explicit(&nd->candidates, m1 + m2, memory_order_relaxed);
    sae_native_mean(&nd->exact_by_interval[sae_native_k_class(k)], 16 * (m1 + m2));
    for (size_t i = 0; i < m; i++) {
        if (s->row_f[i] == 0.0f)
            continue;
        s->row_ids[kept] = s->row_ids[i];
        s->row_f[kept] = s->row_f[i];
        s->row_aux[kept++] = s->row_aux[i];
    }
    /* Zeros that were not computed lie below the k-th best and take nobody's place, but for those
     * that the kernel left out. */
    b->rows[row].n_nonzero = b->dict->formula.F - nd->n_never_on - (m1 + m2 - kept);
    return kept;
}
