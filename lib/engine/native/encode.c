/* encode.c - the native engine: the same bits as ref.c, and most of a dense encode left out.
 *
 * gather quantises rows (native/plane.h). encode takes a block of features in three steps: int8
 * products and the bound prove most features off; what is left is computed exactly, in canonical
 * order, from the weights themselves, sorted by feature so that a weight row is read once; the
 * shared epilogue does the rest. Rows that cannot be screened, or whose block has too many
 * candidates, are computed densely. Rows of a small top_k go by intervals instead (native/top.c). A
 * dictionary for whose rows a way keeps failing is not computed so for a while (struct
 * native_record).
 *
 * THREADS  as engine.h says: gather writes rows r0..r1 - 1 of the batch's data, encode only its
 *          scratch and the row's sinks; the counters of a dictionary are relaxed atomics. */
#include "lib/engine/native/state.h"

#include <assert.h>
#include <string.h>

/* Candidates of a row in a block beyond which a dense product is cheaper: about 6 % (measured at
 * d 768, AVX-512 VNNI; break-even lies higher at larger d). */
#define MAX_CANDIDATES (SAE_BLOCK / 16)
/* A way of computing rests while more than half of the last some thousand tries did not pay; one
 * batch in PROBE tries again. */
#define WINDOW 4096
#define PROBE 256

/* ---- gather: rows quantised --------------------------------------------------------------------
 */

/* What of a row's answer does not follow from the features that are on. */
static bool needs_dense(const struct sae_native_dict *nd, const struct sae_dict *d, unsigned sinks)
{
    if (sinks & SAE_SINK_GHOST)
        return true;
    if (sinks & (SAE_SINK_F_SCALED | SAE_SINK_LIST_SCALED) && !nd->norms_finite)
        return true;
    return sinks & (SAE_SINK_AUX | SAE_SINK_LIST_AUX) &&
           sae_formula_unit(&d->formula)->is_aux_alone;
}

/* Forgets the past by halves. */
void sae_native_record(struct native_record *r, uint32_t tried, uint32_t failed)
{
    tried += atomic_fetch_add_explicit(&r->tried, tried, memory_order_relaxed);
    failed += atomic_fetch_add_explicit(&r->failed, failed, memory_order_relaxed);
    if (tried <= WINDOW)
        return;
    atomic_store_explicit(&r->tried, tried / 2, memory_order_relaxed);
    atomic_store_explicit(&r->failed, failed / 2, memory_order_relaxed);
}

static bool pays(struct native_record *r)
{
    uint32_t tried = atomic_load_explicit(&r->tried, memory_order_relaxed);
    uint32_t failed = atomic_load_explicit(&r->failed, memory_order_relaxed);

    if (failed <= tried / 2)
        return true;
    return atomic_fetch_add_explicit(&r->batches, 1, memory_order_relaxed) % PROBE == 0;
}

void sae_native_mean(_Atomic uint32_t *mean, uint64_t sixteenths)
{
    int64_t old = atomic_load_explicit(mean, memory_order_relaxed);
    int64_t v = sixteenths < UINT32_MAX ? (int64_t)sixteenths + 1 : UINT32_MAX; /* 0: not known */

    atomic_store_explicit(mean, (uint32_t)(old == 0 ? v : old + (v - old) / 16),
                          memory_order_relaxed);
}

static bool may_go_by_interval(const struct sae_row *row)
{
    return row->sinks & SAE_SINK_TOP && row->task->plan.top_k <= NATIVE_TOP_MAX;
}

static void begin(struct sae_batch *b)
{
    struct native_batch *nb = b->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    bool any = false;
    uint32_t n;

    nb->by_threshold = nd && nd->plane && nd->has_theta && pays(&nd->thresholds);
    nb->by_interval = nd && nd->plane && nd->has_lines && pays(&nd->intervals);
    nb->top_way = NATIVE_CHEAPER;
    if (!nb->by_interval)
        return;
    for (size_t r = 0; r < b->n_gemm && !any; r++)
        any = may_go_by_interval(&b->rows[r]);
    if (!any)
        return;
    n = atomic_fetch_add_explicit(&nd->top_batches, 1, memory_order_relaxed) % PROBE;
    if (n == 0 && nb->by_threshold)
        nb->top_way = NATIVE_TRY_THRESHOLD;
    else if (n == 1)
        nb->top_way = NATIVE_TRY_INTERVAL;
}

/* Is the interval cheaper for a top-k row than a dense product? AVX2 measured at d 768 and F 24576
 * (tests/bench/LOG.md): it breaks even where one feature in 19 is computed exactly; for a row
 * alone, for which the product waits for memory, where one in 3 is. */
static bool interval_pays(const struct sae_batch *b, uint64_t top_k)
{
    const struct native_batch *nb = b->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    uint64_t exact = atomic_load_explicit(&nd->exact_by_interval[sae_native_k_class(top_k)],
                                          memory_order_relaxed);

    return nb->top_way == NATIVE_TRY_INTERVAL ||
           exact <= 16 * (uint64_t)b->dict->formula.F / (b->n_gemm == 1 ? 4 : 16);
}

/* Is the interval the cheaper way for a top-k row? Its kernel does more for a feature, which is as
 * if so many more were computed exactly (for few rows, where memory is read in one stream instead
 * of several, many more), and for what it computes exactly it has first computed the ends. The
 * kernels' numbers: AVX2 measured at d 768 and F 24576 (tests/bench/LOG.md), the others by what
 * was seen of them with VNNI. */
static bool interval_is_cheaper(const struct sae_batch *b, uint64_t top_k)
{
    const struct native_batch *nb = b->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    const struct sae_native_kernels *k = sae_native_kernels(b->e);
    uint64_t more =
        b->dict->formula.F * (b->n_gemm <= k->max_apart ? 24 : k->more) / b->dict->formula.d_in;
    uint64_t threshold = atomic_load_explicit(&nd->exact_by_threshold, memory_order_relaxed);
    uint64_t interval = atomic_load_explicit(&nd->exact_by_interval[sae_native_k_class(top_k)],
                                             memory_order_relaxed);

    if (nb->top_way != NATIVE_CHEAPER)
        return nb->top_way == NATIVE_TRY_INTERVAL;
    return interval == 0 || (threshold > 0 && threshold > interval * k->ends / 4 + 16 * more);
}

static void gather(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s)
{
    struct native_batch *nb = b->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    double *v = s ? ((struct native_scratch *)s->engine_data)->v : nb->v;
    uint64_t dense = 0;

    for (size_t r = r0; r < r1 && r < b->n_gemm; r++) {
        struct sae_row *row = &b->rows[r];
        bool by_threshold = nb->by_threshold && !needs_dense(nd, b->dict, row->sinks);
        bool by_interval = nb->by_interval && may_go_by_interval(row) &&
                           interval_pays(b, row->task->plan.top_k) &&
                           (!by_threshold || interval_is_cheaper(b, row->task->plan.top_k));

        nb->is_screened[r] = row->is_bounds = false;
        if (by_interval || by_threshold) {
            bool fits = sae_plane_row(nd->plane, b->x + r * b->ld, nb->q + r * nd->plane->dq,
                                      &nb->rows[r], v);

            nb->is_screened[r] = fits && !by_interval;
            row->is_bounds = fits && by_interval;
        }
        if (row->is_bounds)
            sae_native_top_reset(&nb->top[r]);
        dense += !nb->is_screened[r] && !row->is_bounds;
    }
    if (nd) /* a dictionary that was not prepared is computed densely */
        atomic_fetch_add_explicit(&nd->dense_rows, dense, memory_order_relaxed);
}

static void end(struct sae_batch *b)
{
    struct native_batch *nb = b->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;

    if (nd && nd->plane)
        sae_plane_release(nd->plane, nb->rows, b->n_gemm);
}

/* ---- encode ------------------------------------------------------------------------------------
 */

/* Candidates of one group, by feature and then row, behind the pairs found so far; n->fetch has
 * their distinct weight rows. */
static size_t collect(const struct sae_plane *pl, struct native_scratch *n, size_t n_rows,
                      const struct sae_screen_group *g, size_t n_pairs, size_t *n_fetch)
{
    uint32_t at[NATIVE_GROUP] = {0}, total = 0, first = 0;
    const uint64_t valid = sae_group_valid(pl, g);
    uint64_t all = 0;

    for (size_t i = 0; i < n_rows; i++) {
        uint64_t bits = sae_group_bits(n->masks[i], valid);

        if (!bits || n->count[i] > MAX_CANDIDATES)
            continue;
        all |= bits;
        for (; bits; bits &= bits - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(bits);

            n->found[total++] = (uint32_t)i * NATIVE_GROUP + bit;
            at[bit]++;
            n->count[i]++;
        }
    }
    *n_fetch = 0;
    for (; all; all &= all - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(all);
        uint32_t m = at[bit];

        n->fetch[(*n_fetch)++] = sae_matrix_at(&pl->w, sae_group_feature(g, bit), 0);
        at[bit] = first;
        first += m;
    }
    for (uint32_t i = 0; i < total; i++) {
        uint32_t bit = n->found[i] % NATIVE_GROUP;
        size_t to = n_pairs + at[bit]++;

        n->pair_row[to] = n->found[i] / NATIVE_GROUP;
        n->pair_col[to] = (uint32_t)sae_group_feature(g, bit);
    }
    return n_pairs + total;
}

/* Exact projections of pairs from .. to - 1. */
static void compute_pairs(struct sae_batch *b, size_t from, size_t to, struct native_scratch *n)
{
    const float *x[64];

    while (from < to) {
        size_t m = to - from < SAE_COUNTOF(x) ? to - from : SAE_COUNTOF(x);

        for (size_t i = 0; i < m; i++) {
            x[i] = b->x + n->row_of[n->pair_row[from + i]] * b->ld;
            assert(n->pair_col[from + i] < b->dict->formula.F);
        }
        sae_native_kernels(b->e)->pairs(x, &b->dict->enc, n->pair_col + from, m, n->pair_p + from);
        from += m;
    }
}

/* Screen the block's features for the n_rows rows in n->rows, and compute the candidates: those of
 * a group once the next one has been screened, which has brought their weights near. */
static size_t screen(struct sae_batch *b, const struct sae_plane *pl, size_t block, size_t n_rows,
                     bool apart, struct native_scratch *n)
{
    const struct sae_native_kernels *k = sae_native_kernels(b->e);
    struct sae_groups groups;
    struct sae_screen_group g = {.fetch = n->fetch,
                                 .fetch_log2 = sae_matrix_item(&pl->w) == sizeof(float) ? 2 : 3};
    size_t n_pairs = 0, computed = 0;

    memset(n->count, 0, n_rows * sizeof *n->count);
    sae_groups_init(&groups, pl, block * SAE_BLOCK, SAE_BLOCK, apart, k->width);
    while (sae_groups_next(&groups, &g)) {
        size_t before = n_pairs;

        k->screen(n->rows, n_rows, &g, n->masks);
        n_pairs = collect(pl, n, n_rows, &g, n_pairs, &g.n_fetch);
        compute_pairs(b, computed, before, n);
        computed = before;
    }
    compute_pairs(b, computed, n_pairs, n);
    return n_pairs;
}

/* n entries by id; they ascend already but for the jumps between panels apart. */
static void sort_row(uint32_t *ids, float *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint32_t id = ids[i];
        float v = p[i];
        size_t to = i;

        for (; to > 0 && ids[to - 1] > id; to--) {
            ids[to] = ids[to - 1];
            p[to] = p[to - 1];
        }
        ids[to] = id;
        p[to] = v;
    }
}

/* The pairs whose rows stay screened, sorted by row and feature into n->ids and n->p. */
static void sort_pairs(size_t n_pairs, size_t n_rows, bool apart, struct native_scratch *n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n_rows; i++) {
        n->start[i] = sum;
        sum += n->count[i] <= MAX_CANDIDATES ? n->count[i] : 0;
    }
    for (size_t i = 0; i < n_pairs; i++) {
        uint32_t r = n->pair_row[i], to;

        if (n->count[r] > MAX_CANDIDATES)
            continue;
        to = n->start[r]++;
        n->ids[to] = n->pair_col[i];
        n->p[to] = n->pair_p[i];
    }
    for (size_t i = 0; apart && i < n_rows; i++)
        if (n->count[i] <= MAX_CANDIDATES)
            sort_row(n->ids + n->start[i] - n->count[i], n->p + n->start[i] - n->count[i],
                     n->count[i]);
}

static void encode_dense(struct sae_batch *b, size_t block, size_t n_rows, struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;
    struct sae_cols cols = sae_cols_block(b->dict, block);

    if (n_rows == 0)
        return;
    for (size_t i = 0; i < n_rows; i++)
        n->x[i] = b->x + n->dense_row[i] * b->ld;
    sae_native_kernels(b->e)->dense(n->x, n_rows, &b->dict->enc, cols.first, cols.n, s->p,
                                    SAE_BLOCK, n->dense);
    for (size_t i = 0; i < n_rows; i++)
        sae_epilogue(b, n->dense_row[i], block, &cols, s->p + i * SAE_BLOCK, s);
}

/* Rows that go by intervals, side by side in n->rows; returns how many. */
static size_t pick_bounds(const struct sae_batch *b, struct native_scratch *n)
{
    const struct native_batch *nb = b->engine_data;
    size_t n_rows = 0;

    for (size_t r = 0; r < b->n_gemm; r++)
        if (b->rows[r].is_bounds) {
            n->rows[n_rows] = nb->rows[r];
            n->row_of[n_rows++] = (uint32_t)r;
        }
    return n_rows;
}

static void encode(struct sae_batch *b, size_t block, struct sae_scratch *s)
{
    struct native_batch *nb = b->engine_data;
    struct sae_native_dict *nd = b->dict->engine_data;
    struct native_scratch *n = s->engine_data;
    size_t n_rows = 0, n_dense = 0, n_pairs;
    uint32_t n_failed = 0;

    for (size_t r = 0; r < b->n_gemm; r++) {
        if (!b->rows[r].sinks || b->rows[r].is_bounds)
            continue;
        if (nb->is_screened[r]) {
            n->rows[n_rows] = nb->rows[r];
            n->row_of[n_rows++] = (uint32_t)r;
        } else {
            n->dense_row[n_dense++] = (uint32_t)r;
        }
    }
    if (n_rows) {
        bool apart = n_rows <= sae_native_kernels(b->e)->max_apart;

        n_pairs = screen(b, nd->plane, block, n_rows, apart, n);
        sort_pairs(n_pairs, n_rows, apart, n);
        for (size_t i = 0; i < n_rows; i++) {
            size_t m = n->count[i], first = n->start[i] - m; /* start is at the row's end now */

            if (n->count[i] > MAX_CANDIDATES) {
                n->dense_row[n_dense++] = n->row_of[i];
                n_failed++;
                continue;
            }
            struct sae_cols cols = sae_cols_sparse(b->dict, block, n->ids + first, m, s);

            sae_epilogue(b, n->row_of[i], block, &cols, n->p + first, s);
        }
        atomic_fetch_add_explicit(&nd->candidates, n_pairs, memory_order_relaxed);
        sae_native_record(&nd->thresholds, (uint32_t)n_rows, n_failed);
        sae_native_mean(&nd->exact_by_threshold, 16 * n_pairs * b->n_blocks / n_rows);
    }
    encode_dense(b, block, n_dense, s);
    n_rows = pick_bounds(b, n);
    if (n_rows)
        sae_native_top_encode(b, block, n_rows, s);
}

const struct sae_engine_ops sae_engine_native = {
    .name = "native",
    .is_bitwise = true,
    .prepare = sae_native_prepare,
    .prepared_bytes = sae_native_prepared_bytes,
    .stats = sae_native_stats,
    .batch_init = sae_native_batch_init,
    .batch_fini = sae_native_batch_fini,
    .scratch_init = sae_native_scratch_init,
    .scratch_fini = sae_native_scratch_fini,
    .begin = begin,
    .end = end,
    .gather = gather,
    .encode = encode,
    .resolve = sae_native_top_resolve,
    .decode_dense = sae_native_decode_dense,
    /* One thread, d 768, F 24576: a list of all features 2.1 to 2.7 ms (AVX-512) or 3.3 to 5
     * (AVX2), the product 2.3 and 0.23 ms a row, or 4 and 0.43. */
    .dense_cost = {.product = 1, .row_share = 10, .cols = 128},
};
