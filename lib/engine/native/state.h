/* state.h - what the files of the native engine share: its data of dictionaries, batches and
 * scratch, and its kernels. Private to native/. Threads: as engine.h says. */
#ifndef SAE_NATIVE_STATE_H
#define SAE_NATIVE_STATE_H

#include "lib/engine/batch/plan.h"
#include "lib/engine/kern/dense.h"
#include "lib/engine/native/plane.h"

#define NATIVE_GROUP (SAE_SCREEN_PANEL * SAE_SCREEN_STREAMS)
/* Rows of a larger top_k are computed densely: the lists kept for them would be. */
#define NATIVE_TOP_MAX 512
/* Likely values kept of a row: the k best, and those found since they were last told apart. */
#define NATIVE_TOP_ROOM (2 * NATIVE_TOP_MAX)

struct sae_native_kernels {
    sae_dense_fn *dense;
    sae_pairs_fn *pairs;
    sae_decode_fn *decode;
    sae_screen_fn *screen;
    sae_interval_fn *interval;
    const struct sae_quant *quant;
    int xmax;
    size_t width;     /* panels of a group, when they are neighbours */
    size_t max_apart; /* rows up to which panels apart are faster */
    /* What intervals cost a row beside thresholds (interval_is_cheaper): `ends` quarters for each
     * feature computed exactly, and as if `more` in d features were computed besides. */
    unsigned ends, more;
};

extern const struct sae_native_kernels sae_native_kernels_of[SAE_N_ISAS];

static inline const struct sae_native_kernels *sae_native_kernels(const struct sae_engine *e)
{
    return &sae_native_kernels_of[e->isa];
}

/* Has a way of computing paid for a dictionary lately? Atomic; a lost update does no harm. */
struct native_record {
    _Atomic uint32_t tried, failed; /* rows' parts computed so, and of those that did not pay */
    _Atomic uint32_t batches;       /* begun while it did not pay */
};

#define NATIVE_K_CLASSES 10 /* of top_k: 1, 2, 3 .. 4, 5 .. 8, ... 257 .. 512 */

/* What the engine keeps of a dictionary (sae_dict.engine_data). */
struct sae_native_dict {
    struct sae_plane *plane; /* NULL: never screened */
    float *u, *z;            /* [plane->Fp]: the value's line, for intervals */
    bool norms_finite;       /* f = 0 stays 0 when it is scaled */
    bool has_theta;          /* some feature can be proved off */
    bool has_lines;          /* every value ascends with p */
    size_t n_never_on;       /* by the score */
    struct native_record thresholds, intervals;
    /* Features computed exactly a row, lately: moving means in 1/16, 0 while not known. */
    _Atomic uint32_t exact_by_threshold, exact_by_interval[NATIVE_K_CLASSES];
    _Atomic uint32_t top_batches; /* with rows that might go either way */
    _Atomic uint64_t candidates, dense_rows;
};

/* ... of a batch (sae_batch.engine_data). */
struct native_batch {
    struct sae_slab slab;           /* of all that follows */
    int8_t *q;                      /* [max_rows][max dq] */
    struct sae_screen_row *rows;    /* [max_rows] */
    bool *is_screened;              /* [max_rows] by the threshold */
    struct native_top *top;         /* [max_rows]: of rows that go by intervals */
    double *v;                      /* [max dq] for the part of gather that begin does */
    bool by_threshold, by_interval; /* what pays for this batch's dictionary; set in begin */
    enum { NATIVE_CHEAPER, NATIVE_TRY_THRESHOLD, NATIVE_TRY_INTERVAL } top_way; /* where both do */
};

/* Projections and values of a piece of pairs, upper or likely ones. */
struct native_ends {
    float p[SAE_BLOCK], f[SAE_BLOCK], aux[SAE_BLOCK];
};

/* ... and of a compute thread (sae_scratch.engine_data). Pairs are (row, feature) candidates. */
struct native_scratch {
    struct sae_slab slab;                  /* of all that follows */
    double *v;                             /* [max dq] */
    uint16_t (*masks)[SAE_SCREEN_STREAMS]; /* [max_rows] */
    struct sae_screen_row *rows;           /* [max_rows] the block's screened rows, side by side */
    uint32_t *row_of, *count, *start;      /* [max_rows] */
    const float **x;                       /* [max_rows] rows of a dense product */
    uint32_t *dense_row;                   /* [max_rows] */
    uint32_t *pair_row, *pair_col;         /* [max_rows * SAE_BLOCK] */
    float *pair_p;                         /* [max_rows * SAE_BLOCK]; intervals: bounds */
    uint32_t *ids;                         /* [max_rows * SAE_BLOCK] sorted by row, as are ... */
    float *p;                              /* [max_rows * SAE_BLOCK] */
    uint32_t *found;    /* [max_rows * NATIVE_GROUP] row * NATIVE_GROUP + its bit */
    const char **fetch; /* [NATIVE_GROUP] weight rows to prefetch */
    /* intervals */
    float (*v_of)[SAE_SCREEN_GROUP]; /* [max_rows] of one group */
    float *floor, *plane_floor;      /* [max_rows] of the value; in the plane's units */
    uint32_t *best, *n_best;         /* [max_rows][NATIVE_TOP_ROOM], [max_rows]: order keys */
    struct native_ends *likely, *up; /* of pairs being settled */
    uint32_t *key, *exact, *chosen;  /* [max F + slack] resolve */
    float *dense;                    /* the dense kernel's scratch */
};

/* ---- native/state.c ----------------------------------------------------------------------------
 */

/* sae_engine_ops of the same names */
enum sae_status sae_native_prepare(const struct sae_engine *e, struct sae_dict *d,
                                   struct sae_team *team, struct sae_err *err);
uint64_t sae_native_prepared_bytes(uint64_t F, uint64_t d);
void sae_native_stats(const struct sae_dict *d, struct sae_screen_stats *out);
bool sae_native_batch_init(struct sae_batch *b, const struct sae_capacity *c);
void sae_native_batch_fini(struct sae_batch *b);
bool sae_native_scratch_init(struct sae_scratch *s, const struct sae_capacity *c);
void sae_native_scratch_fini(struct sae_scratch *s);

/* ---- native/encode.c ---------------------------------------------------------------------------
 */

void sae_native_record(struct native_record *r, uint32_t tried, uint32_t failed);
/* Take a new value into a moving mean. */
void sae_native_mean(_Atomic uint32_t *mean, uint64_t sixteenths);
/* Which of exact_by_interval is that of k, 1 .. NATIVE_TOP_MAX. */
static inline size_t sae_native_k_class(uint64_t k)
{
    return k <= 1 ? 0 : 64 - (size_t)__builtin_clzll(k - 1);
}

/* ---- native/decode.c ---------------------------------------------------------------------------
 */

/* sae_engine_ops.decode_dense */
void sae_native_decode_dense(struct sae_batch *b, size_t k0, size_t k1, struct sae_scratch *s);

/* ---- native/top.c ------------------------------------------------------------------------------
 */

/* A top-k row's best likely values so far, over all its blocks. */
struct native_top {
    pthread_mutex_t lock;   /* guards n and best; held for a few hundred nanoseconds */
    _Atomic uint32_t floor; /* order key: what lies below is likely not among the k best; 0: none */
    uint32_t n;
    uint32_t best[NATIVE_TOP_ROOM]; /* order keys */
};

void sae_native_top_reset(struct native_top *t);
/* The block's features of the n_rows rows in n->rows (batch rows n->row_of) whose interval may
 * reach the row's k best: into the rows' lists, as bounds. */
void sae_native_top_encode(struct sae_batch *b, size_t block, size_t n_rows, struct sae_scratch *s);
/* sae_engine_ops.resolve */
size_t sae_native_top_resolve(struct sae_batch *b, size_t row, size_t n, struct sae_scratch *s);

#endif
