/* engine.h - the inside of lib/engine: what a batch is made of, and the seam that an engine fills.
 *
 * A batch goes through at most four phases (batch.c), each a list of independent tiles:
 *
 *   gather   X = input(x) - centre, rows padded to 16 with +0 (in begin when small)
 *   encode   blocks of SAE_BLOCK features of all rows -> each row's sinks;
 *            on the decode side: dense f is scanned for what is not zero
 *   shape    a row's runs, its whole list, cut to what the formula selects (shape.c); from it the
 *            answer's sparse entries, top k, columns of `features`, dense row (deliver.c)
 *   decode   lists of f != 0 -> x_hat, x_ghost (decode.c); output and skip (scaling.c)
 *
 * THE SEAM is struct sae_engine_ops. `encode` gets one block of features of the batch's first
 * n_gemm rows and must deliver every row of it once, in any of three ways, row by row as it likes:
 *   - sae_epilogue of sae_cols_block: raw projections of the whole block; formula, dense stores,
 *     list and ghost entries are then the shared epilogue's work (blas.c);
 *   - sae_epilogue of sae_cols_sparse: projections of the features that may be on, the others being
 *     known to be off (native/encode.c; not for rows with SAE_SINK_GHOST, nor with an aux that
 *     can be on where f is off);
 *   - sae_list_put: entries made by the engine, for a row whose sinks are lists alone. They may be
 *     bounds, when sae_row.is_bounds says so and the engine has `resolve` (native/top.c).
 * An engine that needs more of a row than X (quantised rows, norms) derives it in `gather`.
 *
 * Lists live as runs, one for each row and block, in chunks that the batch keeps from use to use
 * (batch/lists.c). What deliver makes of them is copied to memory that the task owns.
 *
 * THREADS  batch: one thread in begin and next_phase, with all tiles done; in a phase, tiles write
 *          disjoint rows, runs and columns, and share only the chunks (their lock) and atomics.
 *          scratch: its worker alone. engine: immutable. */
#ifndef SAE_ENGINE_H
#define SAE_ENGINE_H

#include "lib/cpu.h"
#include "lib/dict/dict.h"
#include "lib/engine/kern/kern.h"
#include "lib/saed.h"

#include <pthread.h>
#include <stdatomic.h>

#define SAE_BLOCK 1024 /* features of a block; runs and encode tiles count in blocks */

/* Work of a tile in multiply-adds, 100 to 300 microseconds of the slow kinds (one row, lists).
 * Below it a phase is a single tile, so that small batches of different dictionaries run side by
 * side. */
#define SAE_TILE_WORK ((size_t)2 << 20)

struct sae_cols;

struct sae_engine_ops {
    const char *name;
    bool is_bitwise; /* sae_engine_bitwise */
    bool wants_f32;  /* sae_engine_wants_f32 */
    /* What it needs of the system, and the name of its kernels once that is there. NULL: nothing,
     * and that of the instruction set. */
    enum sae_status (*load)(struct sae_err *err);
    const char *(*kernel)(void);
    /* Any of the following seven may be NULL: nothing to do. What an engine keeps of its own hangs
     * on sae_dict.engine_data (prepare), sae_batch.engine_data and sae_scratch.engine_data (init;
     * false: out of memory; fini must cope with what a failed init left). */
    enum sae_status (*prepare)(const struct sae_engine *e, struct sae_dict *d,
                               struct sae_team *team, struct sae_err *err);
    /* What that takes in memory, of F features of width d. */
    uint64_t (*prepared_bytes)(uint64_t F, uint64_t d);
    bool (*batch_init)(struct sae_batch *b, const struct sae_capacity *c);
    void (*batch_fini)(struct sae_batch *b);
    bool (*scratch_init)(struct sae_scratch *s, const struct sae_capacity *c);
    void (*scratch_fini)(struct sae_scratch *s);
    void (*stats)(const struct sae_dict *d, struct sae_screen_stats *out);
    /* An encode-side batch of a dictionary with an encoder begins; its rows are set, X is not. */
    void (*begin)(struct sae_batch *b);
    /* A batch of either side is complete: let go of what is held for its rows. */
    void (*end)(struct sae_batch *b);
    /* Rows r0 .. r1 - 1 of X stand: derive what encode needs of them. s is NULL in begin. */
    void (*gather)(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s);
    /* Features block * SAE_BLOCK ... of rows 0 .. n_gemm - 1; see above. */
    void (*encode)(struct sae_batch *b, size_t block, struct sae_scratch *s);
    /* shape: a row whose list of n entries (in s, ids ascending) holds bounds. Leave its exact
     * entries there (f, and aux where asked), those that can be among the k best at least; returns
     * how many. NULL: no row is_bounds. */
    size_t (*resolve)(struct sae_batch *b, size_t row, size_t n, struct sae_scratch *s);
    /* x_hat of the items b->dense, columns k0 .. k1 - 1 (at most SAE_DECODE_COLS), by a dense
     * product; in canonical order where the engine is bitwise. NULL: by lists, always. */
    void (*decode_dense)(struct sae_batch *b, size_t k0, size_t k1, struct sae_scratch *s);
    /* What it costs, whatever is on, in lists of all F features (whose cost is in proportion to
     * their length): `product`, and a row_share-th of a list for each row. Columns of its tiles. */
    struct {
        size_t product, row_share, cols;
    } dense_cost;
    void (*warm)(const struct sae_engine *e, struct sae_scratch *s);
};

struct sae_engine {
    const struct sae_engine_ops *ops;
    enum sae_isa isa;
    const struct sae_kern *kern; /* the shared loops */
    char kernel[48];             /* sae_engine_kernel */
};

extern const struct sae_engine_ops sae_engine_openblas, sae_engine_native;
/* blas.c: load OpenBLAS, its own threads off. SAE_E_IO when it cannot be loaded. */
enum sae_status sae_blas_load(struct sae_err *err) SAE_MUST_USE;
/* Once it is loaded: what build it is. */
const char *sae_blas_config(void);

/* ---- runs: lists by row and block (batch/lists.c) -------------------------------------------- */

/* n entries: ids, then values, then aux values where the list has them; ids ascend. */
struct sae_run {
    uint32_t *mem; /* in a chunk of the batch, until the next begin */
    uint32_t n;
    bool has_aux;
};

static inline const uint32_t *sae_run_ids(const struct sae_run *u)
{
    return u->mem;
}
static inline const float *sae_run_f(const struct sae_run *u)
{
    return (const float *)(u->mem + u->n);
}
static inline const float *sae_run_aux(const struct sae_run *u)
{
    return (const float *)(u->mem + 2 * (size_t)u->n);
}

struct sae_chunk;
struct sae_chunks {
    pthread_mutex_t lock; /* guards the lists; held for a few pointers only */
    struct sae_chunk *spare, *open, *full;
    size_t n_chunks, high_water;
};

/* With a chunk for each of n_workers, up to a number; memory that is not used is not touched. */
enum sae_status sae_chunks_init(struct sae_chunks *p, size_t n_workers,
                                struct sae_err *err) SAE_MUST_USE;
void sae_chunks_fini(struct sae_chunks *p);
/* All runs are dead: chunks are spare again. Keeps what recent batches used, frees the rest. */
void sae_chunks_reset(struct sae_chunks *p);
/* All runs are dead, and no more chunks are kept than at the start, nor more of their pages. */
void sae_chunks_rest(struct sae_chunks *p);
/* Give back the chunk that a tile wrote to, so that the next tile goes on in it. */
void sae_chunks_leave(struct sae_batch *b, struct sae_scratch *s);

/* ---- rows and batches ----------------------------------------------------------------------- */

struct sae_row {
    struct sae_task *task;
    size_t i;               /* row of the task */
    unsigned sinks;         /* its plan's (batch/plan.h) */
    uint32_t part;          /* index into sae_batch.parts */
    _Atomic uint32_t floor; /* SAE_SINK_TOP: kern->order keys below it are not among the k best */
    size_t out, cap;        /* shape: place and room of its entries in the part's words */
    bool is_bounds; /* the list holds bounds (f: what the value cannot exceed), to be resolved */
    size_t
        n_nonzero; /* how many values of f are not zero: decode side, dense f; plan.counts_zeros */
};

/* A slice, and where its rows are. */
struct sae_part {
    struct sae_slice slice;
    size_t row;           /* first row of the batch */
    const uint32_t *cols; /* `features` of an encode: only these columns are computed; else NULL */
    size_t n_cols;
    size_t tile, n_tiles; /* cols: its tiles of the encode phase ... */
    size_t tile_blocks;   /* ... of so many blocks of SAE_BLOCK columns each */
    uint32_t *words;      /* shape: entries of its rows in the answer */
    size_t n_entries;     /* room in them */
};

/* A row to decode: list 0 (f -> x_hat) or 1 (f_ghost -> x_ghost). */
struct sae_item {
    uint32_t row;
    uint32_t list;
    size_t n; /* entries */
};

enum sae_batch_phase {
    SAE_PHASE_BEGUN,
    SAE_PHASE_GATHER,
    SAE_PHASE_ENCODE,
    SAE_PHASE_SHAPE,
    SAE_PHASE_DECODE,
    SAE_PHASE_END
};

/* Columns of a decode tile by decode_dense at most, and of column groups in general: whole
 * registers. */
#define SAE_DECODE_COLS 256

struct sae_batch {
    const struct sae_engine *e;
    size_t max_rows, max_blocks, max_ld;
    void *engine_data;
    struct sae_slab slab; /* of the arrays below */
    struct sae_chunks chunks;

    /* The batch: set by begin. Rows 0 .. n_gemm - 1 want all features; then come the parts with
     * columns of their own. */
    const struct sae_dict *dict;
    enum sae_side side;
    size_t n_parts, n_rows, n_gemm;
    struct sae_part *parts; /* [max_rows] */
    struct sae_row *rows;   /* [max_rows] */
    float *x;               /* [n_rows][ld], encode side of dictionaries with an encoder */
    size_t ld;
    float *state;            /* [max_rows][SAE_MAX_STATE] encode side: the rows' own numbers */
    size_t n_blocks;         /* of dict->F */
    struct sae_run *runs[2]; /* [n_rows][n_blocks]: list, ghost; decode side: list */
    size_t decode_rows;

    /* The phase: set by next_phase. */
    enum sae_batch_phase phase;
    size_t tile_rows; /* rows of a gather, scan or shape tile */
    size_t gemm_tiles, tile_blocks;
    struct sae_item *items, *dense; /* [2 * max_rows]: in canonical order; by decode_dense */
    size_t n_items, n_dense;
    size_t item_tiles, tile_items, col_tiles, tile_cols;
};

struct sae_scratch {
    const struct sae_engine *e;
    void *engine_data;
    struct sae_slab slab; /* of the arrays below */
    size_t max_rows;
    float *p;                 /* [max_rows + 3][SAE_BLOCK] projections, or a dense block of f */
    float *c;                 /* [max_rows][SAE_DECODE_COLS] */
    float *f, *aux, *scaled;  /* [SAE_BLOCK] of one row */
    float *wide;              /* [4][max ld] weight rows of 16 bits */
    uint32_t *pos, *ids;      /* [SAE_BLOCK + SAE_KERN_SLACK] */
    uint32_t *key;            /* [SAE_BLOCK] */
    float *list_f, *list_aux; /* [SAE_BLOCK] */
    float *
        param; /* [SAE_MAX_PARAMS + 1][SAE_BLOCK] those of columns that are not neighbours, norms */
    uint32_t *row_ids;           /* [max F + slack] one row's whole list ... */
    float *row_f, *row_aux;      /* [max F] */
    uint64_t *order, *order_tmp; /* [max F] top-k; the latter ranks, behind n keys, too */
    size_t *cursor;              /* [2 * max_rows] */
    struct sae_chunk *chunk;     /* of the batch whose tile is running */
};

static inline struct sae_run *sae_run_at(const struct sae_batch *b, unsigned list, size_t row,
                                         size_t block)
{
    return &b->runs[list][row * b->n_blocks + block];
}

static inline const float *sae_row_x(const struct sae_batch *b, size_t row)
{
    const struct sae_row *r = &b->rows[row];
    size_t width = b->side == SAE_SIDE_DECODE ? b->dict->formula.F : b->dict->formula.d_in;

    return r->task->x + r->i * width;
}

static inline bool sae_task_failed(struct sae_task *t)
{
    return atomic_load_explicit(&t->failed, memory_order_relaxed) != 0;
}
static inline void sae_task_fail(struct sae_task *t, enum sae_status st)
{
    atomic_store_explicit(&t->failed, (int)st, memory_order_relaxed);
}

/* Store a run (n <= SAE_BLOCK; aux NULL: none). Out of memory fails the row's task and leaves the
 * run empty. Each (list, row, block) that the row's sinks ask for is put once, empty or not; shape
 * puts it anew. */
void sae_list_put(struct sae_batch *b, unsigned list, size_t row, size_t block,
                  struct sae_scratch *s, size_t n, const uint32_t *ids, const float *f,
                  const float *aux);

/* ---- epilogue.c ----------------------------------------------------------------------------- */

/* n <= SAE_BLOCK columns and their parameters; NULL where the dictionary has none. */
struct sae_cols {
    size_t n;
    size_t first;        /* ids NULL: column i is feature first + i */
    const uint32_t *ids; /* else ids[i] */
    bool is_sparse;      /* the block's features that are not in ids are off (p <= threshold) */
    size_t block_n;      /* is_sparse: features of the block */
    size_t out;          /* dense: column of the task's output where column 0 goes */
    const float *param[SAE_MAX_PARAMS], *norm;
};

/* Columns of a block of all features; of ids[n] (parameters are gathered into s). */
struct sae_cols sae_cols_block(const struct sae_dict *d, size_t block);
struct sae_cols sae_cols_ids(const struct sae_dict *d, const uint32_t *ids, size_t n, size_t out,
                             struct sae_scratch *s);
/* The features of a block that may be on, ids ascending; every other one is known to be off. */
struct sae_cols sae_cols_sparse(const struct sae_dict *d, size_t block, const uint32_t *ids,
                                size_t n, struct sae_scratch *s);
/* The dictionary's unit, under its score, on projections p[c->n]; aux may be NULL, and is not
 * written without one. Under SAE_SCORE_DECODER_NORM it is given the scores. */
void sae_unit(const struct sae_batch *b, const struct sae_cols *c, const float *p, float *f,
              float *aux);
/* One row's projections p[c->n] into its sinks. `block` numbers the runs. */
void sae_epilogue(struct sae_batch *b, size_t row, size_t block, const struct sae_cols *c,
                  const float *p, struct sae_scratch *s);

/* ---- scaling.c ------------------------------------------------------------------------------ */

/* The row as the encoder sees it into out [d_in], and its own numbers. */
void sae_row_scale(struct sae_batch *b, size_t row, float *out);
/* What a formula does to the x_hat of n items behind the decoder's sum and bias, columns k0 .. k1 -
 * 1. Nothing to do for most formulae. */
void sae_items_finish(const struct sae_batch *b, const struct sae_item *items, size_t n, size_t k0,
                      size_t k1);

/* ---- shape.c, deliver.c --------------------------------------------------------------------- */

/* Make room for the entries of all rows whose lists are shaped or delivered; false: none is. Sets
 * *work, about the entries to be looked at. */
bool sae_shape_begin(struct sae_batch *b, size_t *work);
void sae_shape_rows(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s);
/* Keep the k best of the n entries in s by rank[n] (value order, NaN first, ties by id), in order
 * of ids; returns how many. k may be 0. */
size_t sae_shape_best(const struct sae_kern *kern, const float *rank, size_t n, uint64_t k,
                      bool with_aux, struct sae_scratch *s);
/* First position at or behind `from` whose id is at least `id`. */
size_t sae_shape_find(const uint32_t *ids, size_t from, size_t n, uint32_t id);
/* The row's whole list, n entries in s, into its answer; counts what is not zero. */
void sae_deliver_row(struct sae_batch *b, size_t row, size_t n, struct sae_scratch *s, size_t *nnz,
                     size_t *aux_nnz);

/* ---- decode.c ------------------------------------------------------------------------------- */

/* List the items, choose a way for each, cut tiles; returns how many, 0: nothing to decode. */
size_t sae_decode_begin(struct sae_batch *b);
void sae_decode_tile(struct sae_batch *b, size_t tile, struct sae_scratch *s);
/* Decode side: find what is not zero in rows r0 .. r1 - 1 of dense f. */
void sae_decode_scan(struct sae_batch *b, size_t r0, size_t r1, struct sae_scratch *s);
/* x_hat or x_ghost of an item by its list, columns k0 .. k1 - 1. */
void sae_item_decode(const struct sae_batch *b, const struct sae_item *it, size_t k0, size_t k1,
                     struct sae_scratch *s);
/* Its dense f where the request has it and decode uses it as it is; else NULL. */
const float *sae_item_dense(const struct sae_batch *b, const struct sae_item *it);
/* Where an item's answer goes. */
float *sae_item_out(const struct sae_batch *b, const struct sae_item *it);
/* What decode multiplies features first .. first + n - 1 of an item by, dense, 0 where absent.
 * *cursor starts at 0 and is kept by the caller while `first` ascends block by block. */
void sae_item_block(const struct sae_batch *b, const struct sae_item *it, size_t first, size_t n,
                    size_t *cursor, float *out);

/* ---- task.c --------------------------------------------------------------------------------- */

/* Memory of sparse entries: of the room that prepare made, or one of its own, pushed onto the
 * task. NULL: out of memory. */
uint32_t *sae_task_words(struct sae_task *t, size_t n_words);

#endif
