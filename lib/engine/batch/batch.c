/* batch.c - a batch's life: rows and sinks, phases, tiles. See saed.h and engine.h.
 *
 * begun -> gather -> encode -> shape -> decode -> end, each phase left out when it has no tile.
 * On the decode side `encode` is the scan of dense f. begin and next_phase run on one thread with
 * all tiles done; they cut tiles, tiles compute. */
#include "lib/engine/batch/plan.h"

#include <assert.h>
#include <string.h>

/* X is filled by begin when it has at most this many values (some 20 microseconds). */
#define GATHER_IN_BEGIN ((size_t)64 << 10)
#define PAD 16 /* rows of X are padded to whole canonical steps */

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static size_t blocks_of(size_t n)
{
    return (n + SAE_BLOCK - 1) / SAE_BLOCK;
}

/* ---- create, free -----------------------------------------------------------------------------
 */

bool sae_capacity_widen(struct sae_capacity *c, const struct sae_dict *d)
{
    struct sae_capacity was = *c;

    if (d->enc.values && d->formula.d_in > c->max_d)
        c->max_d = d->formula.d_in;
    if (d->formula.F > c->max_F)
        c->max_F = d->formula.F;
    c->has_ghost |= d->enc.values && d->info.options & SAE_OPT_GHOST_MASK;
    return c->max_d > was.max_d || c->max_F > was.max_F || c->has_ghost > was.has_ghost;
}

static void batch_cut(struct sae_batch *b, bool has_ghost)
{
    struct sae_slab *slab = &b->slab;
    size_t rows = b->max_rows, runs = b->max_blocks * sizeof *b->runs[0];

    b->parts = sae_slab_cut(slab, rows, sizeof *b->parts);
    b->rows = sae_slab_cut(slab, rows, sizeof *b->rows);
    /* an engine may round the number of rows up: what it reads there reaches no answer */
    b->x = sae_slab_cut(slab, rows + 3, b->max_ld * sizeof *b->x);
    b->state = sae_slab_cut(slab, rows, SAE_MAX_STATE * sizeof *b->state);
    b->items = sae_slab_cut(slab, 2 * rows, sizeof *b->items);
    b->dense = sae_slab_cut(slab, 2 * rows, sizeof *b->dense);
    b->runs[0] = sae_slab_cut(slab, rows, runs);
    b->runs[1] = has_ghost ? sae_slab_cut(slab, rows, runs) : NULL;
}

static bool batch_alloc(struct sae_batch *b, bool has_ghost)
{
    batch_cut(b, has_ghost);
    if (!sae_slab_make(&b->slab))
        return false;
    batch_cut(b, has_ghost);
    memset(b->parts, 0, b->max_rows * sizeof *b->parts);
    memset(b->rows, 0, b->max_rows * sizeof *b->rows);
    memset(b->x, 0, (b->max_rows + 3) * b->max_ld * sizeof *b->x);
    return true;
}

enum sae_status sae_batch_create(struct sae_batch **out, const struct sae_engine *e,
                                 struct sae_capacity c, struct sae_err *err)
{
    struct sae_batch *b = sae_calloc(1, sizeof *b);

    assert(c.max_rows >= 1);
    if (!b || sae_chunks_init(&b->chunks, c.n_workers, err) != SAE_OK) {
        sae_free(b);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate a batch: out of memory");
    }
    b->e = e;
    b->max_rows = c.max_rows;
    b->max_blocks = c.max_F ? blocks_of(c.max_F) : 1;
    b->max_ld = c.max_d ? round_up(c.max_d, PAD) : PAD;
    if (!batch_alloc(b, c.has_ghost) || (e->ops->batch_init && !e->ops->batch_init(b, &c))) {
        sae_batch_free(b);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate a batch of %zu rows", c.max_rows);
    }
    *out = b;
    return SAE_OK;
}

void sae_batch_free(struct sae_batch *b)
{
    if (!b)
        return;
    if (b->e->ops->batch_fini)
        b->e->ops->batch_fini(b);
    sae_chunks_fini(&b->chunks);
    sae_free(b->slab.base);
    sae_free(b);
}

void sae_batch_rest(struct sae_batch *b)
{
    sae_chunks_rest(&b->chunks);
}

/* ---- begin ------------------------------------------------------------------------------------
 */

static bool is_identity(const struct sae_dict *d)
{
    return d->formula.is_identity;
}

static void add_part(struct sae_batch *b, const struct sae_slice *slice)
{
    const struct sae_task *t = slice->task;
    const struct sae_query *q = &t->query;
    struct sae_part *part = &b->parts[b->n_parts];

    assert(slice->n_rows >= 1 && slice->row0 + slice->n_rows <= t->n_rows);
    assert(b->n_rows + slice->n_rows <= b->max_rows && t->dict == b->dict);
    assert(b->side != SAE_SIDE_DECODE || t->state_in ||
           sae_scaling_n_state(b->dict->formula.output) == 0);
    *part = (struct sae_part){.slice = *slice, .row = b->n_rows};
    if (t->plan.own_columns) {
        part->cols = q->form == SAE_FORM_DENSE ? q->features : t->candidates;
        part->n_cols = q->form == SAE_FORM_DENSE ? q->n_features : t->n_candidates;
    }
    for (size_t i = 0; i < slice->n_rows; i++) {
        struct sae_row *r = &b->rows[b->n_rows++];

        r->task = slice->task;
        r->i = slice->row0 + i;
        r->sinks = t->plan.sinks;
        r->part = (uint32_t)b->n_parts;
        r->out = r->cap = r->n_nonzero = 0;
        r->is_bounds = false;
        atomic_store_explicit(&r->floor, 0, memory_order_relaxed);
    }
    if (t->plan.decodes)
        b->decode_rows += slice->n_rows;
    b->n_parts++;
}

static void gather(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s)
{
    const struct sae_dict *d = b->dict;

    for (size_t r = r0; r < r1; r++) {
        const float *x = sae_row_x(b, r);
        float *out = b->x + r * b->ld;

        if (d->formula.input != SAE_SCALING_NONE)
            sae_row_scale(b, r, out);
        else if (d->centre)
            b->e->kern->sub(x, d->centre, out, d->formula.d_in);
        else
            memcpy(out, x, d->formula.d_in * sizeof *out);
        memset(out + d->formula.d_in, 0, (b->ld - d->formula.d_in) * sizeof *out);
    }
    if (b->e->ops->gather)
        b->e->ops->gather(b, r0, r1, s);
}

void sae_batch_begin(struct sae_batch *b, const struct sae_dict *dict, enum sae_side side,
                     const struct sae_slice *slices, size_t n_slices)
{
    b->dict = dict;
    b->side = side;
    b->n_parts = b->n_rows = b->decode_rows = 0;
    b->n_blocks = blocks_of(dict->formula.F);
    b->ld = round_up(dict->formula.d_in, PAD);
    b->phase = SAE_PHASE_BEGUN;
    b->tile_rows = 0;
    assert(b->n_blocks <= b->max_blocks && (!dict->enc.values || b->ld <= b->max_ld));
    sae_chunks_reset(&b->chunks);
    for (size_t i = 0; i < n_slices; i++)
        if (!slices[i].task->plan.own_columns)
            add_part(b, &slices[i]);
    b->n_gemm = b->n_rows;
    for (size_t i = 0; i < n_slices; i++)
        if (slices[i].task->plan.own_columns)
            add_part(b, &slices[i]);
    if (side == SAE_SIDE_DECODE || is_identity(dict))
        return;
    if (b->e->ops->begin)
        b->e->ops->begin(b);
    if (b->n_rows * dict->formula.d_in <= GATHER_IN_BEGIN)
        gather(b, 0, b->n_rows, NULL);
    else
        b->tile_rows = GATHER_IN_BEGIN / dict->formula.d_in + 1;
}

/* ---- begin of a phase: its number of tiles, 0 to leave it out -----------------------------------
 */

static size_t begin_gather(struct sae_batch *b)
{
    return b->tile_rows ? (b->n_rows + b->tile_rows - 1) / b->tile_rows : 0;
}

/* Blocks of a tile, so that it has SAE_TILE_WORK at least. */
static size_t blocks_for(size_t block_work)
{
    return block_work >= SAE_TILE_WORK ? 1 : (SAE_TILE_WORK + block_work - 1) / block_work;
}

/* Rows of a tile, so that it has SAE_TILE_WORK at least when all rows have `work`. */
static size_t rows_for(const struct sae_batch *b, size_t work)
{
    size_t n_tiles = work / SAE_TILE_WORK + 1;

    return (b->n_rows + n_tiles - 1) / n_tiles;
}

static size_t begin_scan(struct sae_batch *b)
{
    size_t n_dense = 0;

    if (is_identity(b->dict))
        return 0;
    for (size_t i = 0; i < b->n_parts; i++)
        n_dense += b->parts[i].slice.task->x ? b->parts[i].slice.n_rows : 0;
    if (n_dense == 0)
        return 0;
    /* a value read costs about as much as some eight multiply-adds */
    b->tile_rows = rows_for(b, 8 * n_dense * b->dict->formula.F);
    return (b->n_rows + b->tile_rows - 1) / b->tile_rows;
}

static size_t begin_encode(struct sae_batch *b)
{
    /* IdentityDict: a value copied is about as much as some eight multiply-adds. */
    size_t depth = is_identity(b->dict) ? 8 : b->dict->formula.d_in, tile = 0;
    bool any = false;

    for (size_t r = 0; r < b->n_gemm && !any; r++)
        any = b->rows[r].sinks != 0;
    if (any) {
        b->tile_blocks = blocks_for(b->n_gemm * depth * SAE_BLOCK);
        tile = (b->n_blocks + b->tile_blocks - 1) / b->tile_blocks;
    }
    b->gemm_tiles = tile;
    for (size_t i = 0; i < b->n_parts; i++) {
        struct sae_part *part = &b->parts[i];

        if (!part->cols)
            continue;
        part->tile = tile;
        part->tile_blocks = blocks_for(part->slice.n_rows * depth * SAE_BLOCK);
        part->n_tiles = (blocks_of(part->n_cols) + part->tile_blocks - 1) / part->tile_blocks;
        tile += part->n_tiles;
    }
    return tile;
}

static size_t begin_shape(struct sae_batch *b)
{
    size_t work;

    if (b->side == SAE_SIDE_DECODE || !sae_shape_begin(b, &work))
        return 0;
    b->tile_rows = rows_for(b, 64 * work); /* an entry costs some 64 multiply-adds */
    return (b->n_rows + b->tile_rows - 1) / b->tile_rows;
}

bool sae_batch_next_phase(struct sae_batch *b, struct sae_phase *phase)
{
    size_t n = 0;

    while (n == 0 && b->phase != SAE_PHASE_END) {
        b->phase++;
        switch (b->phase) {
        case SAE_PHASE_GATHER:
            n = begin_gather(b);
            break;
        case SAE_PHASE_ENCODE:
            n = b->side == SAE_SIDE_DECODE ? begin_scan(b) : begin_encode(b);
            break;
        case SAE_PHASE_SHAPE:
            n = begin_shape(b);
            break;
        case SAE_PHASE_DECODE:
            n = b->decode_rows ? sae_decode_begin(b) : 0;
            break;
        case SAE_PHASE_BEGUN:
        case SAE_PHASE_END:
            break;
        }
    }
    if (n == 0) {
        if (b->e->ops->end)
            b->e->ops->end(b);
        return false;
    }
    *phase = (struct sae_phase){
        .n_tiles = n,
        .gemm = b->phase == SAE_PHASE_DECODE ? SAE_SIDE_DECODE : b->side,
        .decode_rows = b->decode_rows,
    };
    return true;
}

/* ---- tiles ------------------------------------------------------------------------------------
 */

/* p of four columns for all rows of a part: the weights stay in the nearest cache, widened once. */
static void project_columns(const struct sae_batch *b, const struct sae_part *part,
                            const uint32_t *ids, size_t n, float *p, struct sae_scratch *s)
{
    const struct sae_dict *d = b->dict;

    for (size_t c = 0; c < n; c += 4) {
        const float *w[4];
        float out[4];

        for (size_t i = 0; i < 4; i++) {
            size_t j = ids[c + i < n ? c + i : c];

            w[i] = d->enc.f32 + j * d->formula.d_in;
            if (d->enc.dtype == SAE_DTYPE_F32)
                continue;
            b->e->kern->widen(&d->enc, j, s->wide + i * b->ld);
            w[i] = s->wide + i * b->ld;
        }
        for (size_t r = 0; r < part->slice.n_rows; r++) {
            b->e->kern->dot4(b->x + (part->row + r) * b->ld, w, d->formula.d_in, out);
            for (size_t i = 0; i < 4 && c + i < n; i++)
                p[r * SAE_BLOCK + c + i] = out[i];
        }
    }
}

static void read_columns(const struct sae_batch *b, const struct sae_part *part,
                         const uint32_t *ids, size_t n, float *p)
{
    for (size_t r = 0; r < part->slice.n_rows; r++)
        for (size_t c = 0; c < n; c++)
            p[r * SAE_BLOCK + c] = sae_row_x(b, part->row + r)[ids[c]];
}

static void encode_columns(struct sae_batch *b, const struct sae_part *part, size_t block,
                           struct sae_scratch *s)
{
    size_t c0 = block * SAE_BLOCK;
    size_t n = part->n_cols - c0 < SAE_BLOCK ? part->n_cols - c0 : SAE_BLOCK;
    struct sae_cols cols = sae_cols_ids(b->dict, part->cols + c0, n, c0, s);

    if (is_identity(b->dict))
        read_columns(b, part, cols.ids, n, s->p);
    else
        project_columns(b, part, cols.ids, n, s->p, s);
    for (size_t r = 0; r < part->slice.n_rows; r++)
        sae_epilogue(b, part->row + r, block, &cols, s->p + r * SAE_BLOCK, s);
}

static void encode_block(struct sae_batch *b, size_t block, struct sae_scratch *s)
{
    if (is_identity(b->dict)) {
        struct sae_cols cols = sae_cols_block(b->dict, block);

        for (size_t r = 0; r < b->n_gemm; r++)
            if (b->rows[r].sinks)
                sae_epilogue(b, r, block, &cols, sae_row_x(b, r) + cols.first, s);
    } else {
        b->e->ops->encode(b, block, s);
    }
}

static void encode_tile(struct sae_batch *b, size_t tile, struct sae_scratch *s)
{
    const struct sae_part *part = b->parts;
    size_t block, end;

    if (tile < b->gemm_tiles) {
        block = tile * b->tile_blocks;
        end = block + b->tile_blocks;
        for (; block < end && block < b->n_blocks; block++)
            encode_block(b, block, s);
        return;
    }
    while (!part->cols || tile >= part->tile + part->n_tiles)
        part++;
    block = (tile - part->tile) * part->tile_blocks;
    end = block + part->tile_blocks;
    for (; block < end && block < blocks_of(part->n_cols); block++)
        encode_columns(b, part, block, s);
}

void sae_batch_run_tile(struct sae_batch *b, size_t tile, struct sae_scratch *s)
{
    size_t r0 = tile * b->tile_rows, r1 = r0 + b->tile_rows;

    r1 = r1 < b->n_rows ? r1 : b->n_rows;
    switch (b->phase) {
    case SAE_PHASE_GATHER:
        gather(b, r0, r1, s);
        break;
    case SAE_PHASE_ENCODE:
        if (b->side == SAE_SIDE_DECODE)
            sae_decode_scan(b, r0, r1, s);
        else
            encode_tile(b, tile, s);
        break;
    case SAE_PHASE_SHAPE:
        sae_shape_rows(b, r0, r1, s);
        break;
    case SAE_PHASE_DECODE:
        sae_decode_tile(b, tile, s);
        break;
    case SAE_PHASE_BEGUN:
    case SAE_PHASE_END:
        assert(false); /* a tile outside of a phase */
    }
    sae_chunks_leave(b, s);
}
