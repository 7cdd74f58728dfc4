/* decode.c - lists of features that are not zero -> x_hat and x_ghost.
 *
 * Canonical order: for each output one fmaf chain over f != 0 in ascending id, from +0, then +
 * bias. Fifty active features of 24576 read fifty decoder rows. Tiles are groups of items, and of
 * columns too where few items have long lists. An engine with decode_dense takes the items whose
 * lists are so long that a matrix product is faster. Its begin runs on one thread, tiles in
 * parallel. */
#include "lib/engine/batch/plan.h"

#include <string.h>

/* Dense f of a request is kept as a list up to this share of F; beyond it the row is scanned again
 * when it is decoded, so that the batch never holds more than the request does. */
#define LIST_SHARE 8

static bool is_identity(const struct sae_batch *b)
{
    return b->dict->formula.is_identity;
}

/* Dense f of a decode request; NULL: sparse f_in, or a forward's list. */
static const float *dense_f(const struct sae_batch *b, size_t row)
{
    return b->side == SAE_SIDE_DECODE && b->rows[row].task->x ? sae_row_x(b, row) : NULL;
}

static bool is_listed(const struct sae_batch *b, size_t row)
{
    return b->rows[row].n_nonzero <= b->dict->formula.F / LIST_SHARE;
}

/* ---- scan -------------------------------------------------------------------------------------
 */

void sae_decode_scan(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s)
{
    for (size_t r = r0; r < r1; r++) {
        struct sae_row *row = &b->rows[r];
        const float *f = dense_f(b, r);

        row->n_nonzero = 0;
        for (size_t k = 0; f && k < b->n_blocks; k++) {
            size_t j = k * SAE_BLOCK,
                   n = b->dict->formula.F - j < SAE_BLOCK ? b->dict->formula.F - j : SAE_BLOCK;

            n = b->e->kern->nonzero(f + j, NULL, NULL, n, s->pos);
            row->n_nonzero += n;
            if (!is_listed(b, r))
                continue;
            for (size_t i = 0; i < n; i++) {
                s->ids[i] = (uint32_t)j + s->pos[i];
                s->list_f[i] = f[j + s->pos[i]];
            }
            sae_list_put(b, 0, r, k, s, n, s->ids, s->list_f, NULL);
        }
    }
}

/* ---- begin -----------------------------------------------------------------------------------
 */

static size_t item_entries(const struct sae_batch *b, size_t row, unsigned list)
{
    const struct sae_row *r = &b->rows[row];
    size_t n = 0;

    if (is_identity(b))
        return 1;
    if (dense_f(b, row))
        return r->n_nonzero;
    if (b->side == SAE_SIDE_DECODE)
        return r->task->f_in[r->i].n;
    for (size_t k = 0; k < b->n_blocks; k++)
        n += sae_run_at(b, list, row, k)->n;
    return n;
}

static void add_item(struct sae_batch *b, size_t row, unsigned list)
{
    b->items[b->n_items++] =
        (struct sae_item){.row = (uint32_t)row, .list = list, .n = item_entries(b, row, list)};
}

/* Move the items with long lists to `dense`, if they are enough to be worth a matrix product. */
static void split_dense(struct sae_batch *b)
{
    const struct sae_engine_ops *ops = b->e->ops;
    size_t floor, n_long = 0, entries = 0, m = 0;

    b->n_dense = 0;
    if (!ops->decode_dense || is_identity(b))
        return;
    floor = b->dict->formula.F / ops->dense_cost.row_share;
    for (size_t i = 0; i < b->n_items; i++) {
        n_long += b->items[i].n > floor;
        entries += b->items[i].n > floor ? b->items[i].n : 0;
    }
    if (entries <=
        (ops->dense_cost.product + n_long / ops->dense_cost.row_share) * b->dict->formula.F)
        return;
    for (size_t i = 0; i < b->n_items; i++) {
        if (b->items[i].n > floor)
            b->dense[b->n_dense++] = b->items[i];
        else
            b->items[m++] = b->items[i];
    }
    b->n_items = m;
}

size_t sae_decode_begin(struct sae_batch *b)
{
    size_t d = b->dict->formula.d_out, entries = 0, want, n_tiles;

    b->n_items = 0;
    for (size_t r = 0; r < b->n_rows; r++) {
        const struct sae_row *row = &b->rows[r];

        if (!row->task->plan.decodes || sae_task_failed(row->task))
            continue;
        add_item(b, r, 0);
        if (row->sinks & SAE_SINK_GHOST)
            add_item(b, r, 1);
    }
    split_dense(b);
    for (size_t i = 0; i < b->n_items; i++)
        entries += b->items[i].n + 1 + (b->dict->skip ? b->dict->formula.d_in : 0);
    want = entries * d / SAE_TILE_WORK + 1;
    b->tile_items = (b->n_items + want - 1) / want;
    b->item_tiles = b->tile_items ? (b->n_items + b->tile_items - 1) / b->tile_items : 0;
    b->col_tiles = 1;
    if (b->tile_items == 1 && want > b->n_items && !is_identity(b))
        b->col_tiles = want / b->n_items;
    b->tile_cols = (d + b->col_tiles - 1) / b->col_tiles;
    b->tile_cols = (b->tile_cols + SAE_DECODE_COLS - 1) / SAE_DECODE_COLS * SAE_DECODE_COLS;
    b->col_tiles = (d + b->tile_cols - 1) / b->tile_cols;
    n_tiles = b->item_tiles * b->col_tiles;
    if (b->n_dense > 0)
        n_tiles += (d + b->e->ops->dense_cost.cols - 1) / b->e->ops->dense_cost.cols;
    return n_tiles;
}

/* ---- tiles ------------------------------------------------------------------------------------
 */

float *sae_item_out(const struct sae_batch *b, const struct sae_item *it)
{
    const struct sae_row *r = &b->rows[it->row];

    return (it->list == 0 ? r->task->x_hat : r->task->x_ghost) + r->i * b->dict->formula.d_out;
}

/* Norms that f is divided by, or NULL. */
static const float *divisors(const struct sae_batch *b)
{
    return b->dict->formula.score == SAE_SCORE_DECODER_NORM_FOLDED ? b->dict->dec_norm : NULL;
}

static float quotient(float f, float norm)
{
    return norm == 0.0f ? 0.0f : f / norm;
}

/* Append what is not zero to s->row_ids, row_f; returns the new length. */
static size_t append(const struct sae_batch *b, struct sae_scratch *s, size_t m,
                     const uint32_t *ids, const float *f, size_t n)
{
    const float *norm = divisors(b);

    for (size_t i = 0; i < n; i++) {
        float u = norm ? quotient(f[i], norm[ids[i]]) : f[i];

        s->row_ids[m] = ids[i];
        s->row_f[m] = u;
        m += u != 0.0f;
    }
    return m;
}

static size_t append_dense(const struct sae_batch *b, struct sae_scratch *s, const float *f)
{
    size_t m = 0;

    for (size_t j = 0; j < b->dict->formula.F; j += SAE_BLOCK) {
        size_t n = b->dict->formula.F - j < SAE_BLOCK ? b->dict->formula.F - j : SAE_BLOCK;

        n = b->e->kern->nonzero(f + j, NULL, NULL, n, s->pos);
        for (size_t i = 0; i < n; i++) {
            s->ids[i] = (uint32_t)j + s->pos[i];
            s->list_f[i] = f[j + s->pos[i]];
        }
        m = append(b, s, m, s->ids, s->list_f, n);
    }
    return m;
}

/* The item's list in one piece: in s, or where the request has it. */
static size_t item_list(const struct sae_batch *b, const struct sae_item *it, struct sae_scratch *s,
                        const uint32_t **ids, const float **f)
{
    const struct sae_row *r = &b->rows[it->row];
    const float *dense = dense_f(b, it->row);
    size_t n = 0;

    *ids = s->row_ids;
    *f = s->row_f;
    if (dense && !is_listed(b, it->row))
        return append_dense(b, s, dense);
    if (b->side == SAE_SIDE_DECODE && !dense) {
        const struct sae_sparse_row *in = &r->task->f_in[r->i];

        for (size_t i = 0; i < in->n; i++)
            if (in->values[i] == 0.0f || divisors(b))
                return append(b, s, 0, in->ids, in->values, in->n);
        *ids = in->ids;
        *f = in->values;
        return in->n;
    }
    for (size_t k = 0; k < b->n_blocks; k++) {
        const struct sae_run *u = sae_run_at(b, it->list, it->row, k);

        if (u->n > 0)
            n = append(b, s, n, sae_run_ids(u), sae_run_f(u), u->n);
    }
    return n;
}

static void decode_identity(const struct sae_batch *b, const struct sae_item *it)
{
    const struct sae_row *r = &b->rows[it->row];
    float *out = sae_item_out(b, it);

    if (r->task->x) {
        memcpy(out, sae_row_x(b, it->row), b->dict->formula.d_out * sizeof *out);
    } else {
        const struct sae_sparse_row *in = &r->task->f_in[r->i];

        memset(out, 0, b->dict->formula.d_out * sizeof *out);
        for (size_t i = 0; i < in->n; i++)
            out[in->ids[i]] = in->values[i];
    }
}

const float *sae_item_dense(const struct sae_batch *b, const struct sae_item *it)
{
    return divisors(b) ? NULL : dense_f(b, it->row);
}

void sae_item_decode(const struct sae_batch *b, const struct sae_item *it, size_t k0, size_t k1,
                     struct sae_scratch *s)
{
    const struct sae_dict *d = b->dict;
    const float *bias = d->dec_bias && it->list == 0 ? d->dec_bias + k0 : NULL;
    const uint32_t *ids;
    const float *f;
    size_t n = item_list(b, it, s, &ids, &f);

    b->e->kern->decode(sae_item_out(b, it) + k0, &d->dec, k0, k1 - k0, ids, f, n, bias);
}

static void decode_items(const struct sae_batch *b, size_t tile, struct sae_scratch *s)
{
    size_t i0 = tile / b->col_tiles * b->tile_items, i1 = i0 + b->tile_items;
    size_t k0 = tile % b->col_tiles * b->tile_cols, left = b->dict->formula.d_out - k0;
    size_t k1 = left < b->tile_cols ? k0 + left : k0 + b->tile_cols;

    i1 = i1 < b->n_items ? i1 : b->n_items;
    for (size_t i = i0; i < i1; i++) {
        if (is_identity(b))
            decode_identity(b, &b->items[i]);
        else
            sae_item_decode(b, &b->items[i], k0, k1, s);
    }
    sae_items_finish(b, b->items + i0, i1 - i0, k0, k1);
}

void sae_decode_tile(struct sae_batch *b, size_t tile, struct sae_scratch *s)
{
    size_t first_dense = b->item_tiles * b->col_tiles;

    if (tile < first_dense) {
        decode_items(b, tile, s);
    } else {
        size_t cols = b->e->ops->dense_cost.cols, k0 = (tile - first_dense) * cols;
        size_t left = b->dict->formula.d_out - k0, k1 = left < cols ? k0 + left : k0 + cols;

        b->e->ops->decode_dense(b, k0, k1, s);
        sae_items_finish(b, b->dense, b->n_dense, k0, k1);
    }
}

static void block_of_f(const struct sae_batch *b, const struct sae_item *it, size_t first, size_t n,
                       size_t *cursor, float *out)
{
    const struct sae_row *r = &b->rows[it->row];
    const float *dense = dense_f(b, it->row);

    if (dense) {
        memcpy(out, dense + first, n * sizeof *out);
        return;
    }
    memset(out, 0, n * sizeof *out);
    if (b->side == SAE_SIDE_DECODE) {
        const struct sae_sparse_row *in = &r->task->f_in[r->i];

        for (; *cursor < in->n && in->ids[*cursor] < first + n; ++*cursor)
            out[in->ids[*cursor] - first] = in->values[*cursor];
    } else {
        const struct sae_run *u = sae_run_at(b, it->list, it->row, first / SAE_BLOCK);

        for (size_t i = 0; i < u->n; i++)
            out[sae_run_ids(u)[i] - first] = sae_run_f(u)[i];
    }
}

void sae_item_block(const struct sae_batch *b, const struct sae_item *it, size_t first, size_t n,
                    size_t *cursor, float *out)
{
    const float *norm = divisors(b);

    block_of_f(b, it, first, n, cursor, out);
    for (size_t i = 0; norm && i < n; i++)
        out[i] = quotient(out[i], norm[first + i]);
}
