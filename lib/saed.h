/* saed.h - all that server/ sees of lib: open a dictionary (source.h), describe it (info.h),
 * compute batches of rows.
 *
 * Rows in, rows out. No sockets, no argv, no environment, no logging, no policy; the caller brings
 * the threads. Symbols: d = activation_dim, F = dict_size. All matrices are row-major f32.
 *
 * A request becomes a `struct sae_task` (what is asked of its rows, and where the answer goes).
 * The scheduler cuts tasks into slices and hands slices of one dictionary and side to a
 * `struct sae_batch`, which turns them into phases of independent tiles:
 *
 *     begin -> { next_phase -> run_tile x n_tiles }* -> next_phase says "no more"
 *
 * next_phase is called by one thread with every tile of the previous phase done; run_tile by any
 * number of threads at once, each with a scratch of its own. Formulae are those of lib/dict/ref.c.
 */
#ifndef SAE_SAED_H
#define SAE_SAED_H

#include "lib/info.h"
#include "lib/source.h"

#define SAED_VERSION "0.1.0"

/* ---- engine ------------------------------------------------------------------------------- */

enum sae_engine_kind { SAE_ENGINE_AUTO, SAE_ENGINE_NATIVE, SAE_ENGINE_OPENBLAS };

struct sae_engine; /* immutable after open */

/* Load what an engine needs of the system: OpenBLAS, for `openblas` alone. Sets
 * OPENBLAS_NUM_THREADS, so call it before there are threads. SAE_E_IO when it is not there. */
enum sae_status sae_engine_load(enum sae_engine_kind kind, struct sae_err *err) SAE_MUST_USE;
/* OpenBLAS by its own words ("OpenBLAS 0.3.21 ..."), which loads it; NULL: it is not there. */
const char *sae_engine_library(void);
/* Choose engine and kernels for this CPU; auto is native. `isa` forces kernels by name (scalar,
 * avx2, avxvnni, avx512, vnni), NULL lets the CPU decide; an ISA that the CPU lacks is SAE_E_USAGE.
 * Loads the engine unless that is done. */
enum sae_status sae_engine_create(struct sae_engine **out, enum sae_engine_kind kind,
                                  const char *isa, struct sae_err *err) SAE_MUST_USE;
void sae_engine_free(struct sae_engine *e);
const char *sae_engine_name(const struct sae_engine *e); /* "openblas" or "native" */
const char *
sae_engine_kernel(const struct sae_engine *e); /* the kernel in use, e.g. "Haswell", "avx2" */
bool sae_engine_wants_f32(const struct sae_engine *e); /* of a dictionary's matrices */
/* True when a row's answer has the same bits whatever batch it rode in. */
bool sae_engine_bitwise(const struct sae_engine *e);

/* Make what the engine needs of a dictionary beside its tensors (native: a quantised plane of an
 * eighth of their bytes), with the threads of `team` (NULL: this one). Once for each dictionary,
 * before batches of it; kept until it is freed. */
enum sae_status sae_engine_prepare(const struct sae_engine *e, struct sae_dict *d,
                                   struct sae_team *team, struct sae_err *err) SAE_MUST_USE;
/* What that takes in memory beside info->resident_bytes. A dictionary without tensors needs none.
 */
uint64_t sae_engine_prepared_bytes(const struct sae_engine *e, const struct sae_dict_info *info);
/* Counters of the native engine's screening, since prepare; zero for other engines. */
struct sae_screen_stats {
    uint64_t candidates; /* features that had to be computed exactly in screened rows */
    uint64_t dense_rows; /* rows that were computed densely as a whole */
};
bool sae_engine_screens(const struct sae_engine *e); /* false: it has no such counts */
struct sae_screen_stats sae_engine_stats(const struct sae_engine *e, const struct sae_dict *d);

/* ---- tasks -------------------------------------------------------------------------------- */

/* A tensor of an answer, as far as it is known before it is computed. */
enum sae_output_kind { SAE_OUT_F, SAE_OUT_AUX, SAE_OUT_X_HAT, SAE_OUT_X_GHOST, SAE_OUT_STATE };
struct sae_output {
    enum sae_output_kind what;
    const char *name; /* static: "f", "gate", ... */
    enum sae_form form;
    uint64_t width; /* last dimension: dict_size also for sparse forms */
};
#define SAE_MAX_OUTPUTS 5

/* What a query of a dictionary's formula comes to: outputs and phases, worked out once. */
struct sae_plan {
    unsigned n_outputs;
    struct sae_output outputs[SAE_MAX_OUTPUTS]; /* the main tensor first: x_hat, or f */
    const char *f_units;                        /* "encode", "decoder_norm", or NULL */
    uint64_t top_width; /* SAE_FORM_TOP: columns of a rectangular tensor; until prepare that of as
                           many candidates as `features` has ids */

    /* Stages; private to lib/engine. */
    unsigned sinks;    /* SAE_SINK_*: what encoding a row delivers */
    bool own_columns;  /* only the columns of `features` are computed */
    uint64_t top_k;    /* so many of a row's list are wanted at most, the best; 0: all */
    bool shapes;       /* the formula selects: lists are cut to top_k before they are used */
    bool counts_zeros; /* ... among values of either sign, where zeros take places */
    bool delivers;     /* f comes of the list, once it is whole */
    bool is_scaled;    /* f is multiplied by the decoder's norms */
    bool decodes;
    uint64_t entries_bound, room_entries, entry_words; /* sparse forms: of a row, at most; that
                                                         there is room for; words of one */
};
void sae_plan_make(struct sae_plan *p, const struct sae_dict *d, const struct sae_query *q);

/* One request's rows and answer. The caller fills dict, query, n_rows and the input, then calls
 * sae_task_prepare. Owned by the request; written by compute threads between the scheduler's
 * submit and done, each row's outputs by one thread at a time. */
struct sae_task {
    const struct sae_dict *dict; /* borrowed */
    struct sae_query query;
    struct sae_plan plan; /* of both; by sae_task_plan, or by prepare */
    size_t n_rows;
    const float *x; /* encode, forward: [n_rows][d]; dense decode: f [n_rows][F] */
    const struct sae_sparse_row *f_in; /* sparse decode: [n_rows], ids ascending; x is NULL then */
    /* decode: the rows' own numbers [n_rows][sae_scaling_n_state of output], where it undoes them;
     * the rows [n_rows][d] for a skip, NULL leaves it out. */
    const float *state_in, *skip_x;

    /* The answer; allocated by sae_task_prepare, NULL where not asked. `width` is F, or n_features
     * for a dense form with `features`. */
    size_t width;
    float *f, *aux;                           /* dense form: [n_rows][width] */
    struct sae_sparse_row *f_rows, *aux_rows; /* other forms: [n_rows] */
    float *x_hat, *x_ghost;                   /* [n_rows][output_dim] */
    float *state;                             /* [n_rows][state_width] */
    uint64_t nnz, aux_nnz; /* other forms: entries in all rows, once all are done */

    /* SAE_FORM_TOP and SPARSE with features: the distinct ids, ascending (owned by the task). */
    uint32_t *candidates;
    size_t n_candidates;

    _Atomic int failed; /* a sae_status when a slice failed (SAE_E_NOMEM), else 0 */
    /* Memory of sparse rows' entries; owned, private to lib. */
    struct sae_room *room;           /* made by prepare, for as many as rows usually have */
    _Atomic size_t room_used;        /* words of it */
    _Atomic(struct sae_room *) more; /* made by batches, for slices that it did not hold */
};

void sae_task_plan(struct sae_task *t);
/* Bytes that sae_task_prepare will allocate (of a task that has its plan), so that the caller can
 * reserve them first. UINT64_MAX when it does not fit 64 bits. Of sparse rows' entries the usual
 * number is in it. */
uint64_t sae_task_bytes(const struct sae_task *t);
enum sae_status sae_task_prepare(struct sae_task *t, struct sae_err *err) SAE_MUST_USE;
/* Bytes of sparse entries allocated beyond that by now. */
uint64_t sae_task_sparse_bytes(const struct sae_task *t);
void sae_task_fini(struct sae_task *t); /* frees what prepare and the batches allocated */

/* ---- batches ------------------------------------------------------------------------------ */

/* Rows row0 .. row0 + n_rows - 1 of a task. */
struct sae_slice {
    struct sae_task *task;
    size_t row0;
    size_t n_rows;
};

/* What the next phase is, for metrics and for handing out its tiles. */
struct sae_phase {
    size_t n_tiles;     /* >= 1 */
    enum sae_side gemm; /* which GEMM this phase's time belongs to */
    size_t decode_rows; /* rows that the decode side of this batch computes (forward rows only,
                           on the encode side); 0 if none */
};

struct sae_batch;   /* scratch and phases of one batch at a time; reused. See above for threads */
struct sae_scratch; /* one compute thread's own buffers; owned by that thread */

/* What batches and scratch have room for, so that begin allocates nothing in the steady state:
 * rows, and the largest of the dictionaries that it was widened by. */
struct sae_capacity {
    size_t max_rows;
    size_t max_d; /* of dictionaries with an encoder */
    size_t max_F;
    bool has_ghost;   /* some take a ghost mask */
    size_t n_workers; /* scratches that may work on one batch at a time; 0: not known */
};
/* Make room for `d` too; false: there was. A batch or scratch that exists does not grow: who widens
 * makes new ones before it begins a batch of `d`. */
bool sae_capacity_widen(struct sae_capacity *c, const struct sae_dict *d);

/* The engine is borrowed until free. */
enum sae_status sae_batch_create(struct sae_batch **out, const struct sae_engine *e,
                                 struct sae_capacity c, struct sae_err *err) SAE_MUST_USE;
void sae_batch_free(struct sae_batch *b);
/* A batch that is complete: let go of memory for lists that it keeps for large ones to come. */
void sae_batch_rest(struct sae_batch *b);
enum sae_status sae_scratch_create(struct sae_scratch **out, const struct sae_engine *e,
                                   struct sae_capacity c, struct sae_err *err) SAE_MUST_USE;
void sae_scratch_free(struct sae_scratch *s);
/* Touch every large buffer once, and OpenBLAS at full concurrency, so that the first request meets
 * no lazy set-up. Call from each compute thread before ready. */
void sae_engine_warm(const struct sae_engine *e, struct sae_scratch *s);

/* Start a batch of slices of one dictionary and side, at most max_rows rows in all. The slices are
 * copied; tasks are borrowed until the last phase is over. */
void sae_batch_begin(struct sae_batch *b, const struct sae_dict *dict, enum sae_side side,
                     const struct sae_slice *slices, size_t n_slices);
/* Begin the next phase, described in *phase. False: the batch is complete, every answer stands. */
bool sae_batch_next_phase(struct sae_batch *b, struct sae_phase *phase);
void sae_batch_run_tile(struct sae_batch *b, size_t tile, struct sae_scratch *s);

#endif
