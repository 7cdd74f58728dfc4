/* encode.c - encode and decode of whole batches through lib/saed.h, native engine, one thread,
 * beside the bare product: what a user of the library sees, epilogue, lists and selection included.
 *
 * A turn is a batch of ours and a product of the same shape in the baseline's process, each after
 * one of the same that is not timed: both sides find their own weights in the caches as far as they
 * fit there (what a server under load sees); the row "caches cold" shows the other case.
 * sae_task_prepare (the answer's memory) is not in the time, nor is the product's output buffer. */
#include "lib/saed.h"
#include "tests/bench/bench.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <math.h>
#include <string.h>

enum { MAX_ROWS = 256, N_OUTLIERS = 3 };
static const size_t batch_sizes[] = {1, 4, 16, 64, 256};
static const size_t outliers[N_OUTLIERS] = {5, 100, 400};
#define OUTLIER_SCALE 300.0f

static const struct sae_query sparse = {
    .op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_SPARSE};
static const struct sae_query top = {
    .op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = 32};

/* A dictionary, and what it takes to run batches of it. */
struct rig {
    const struct bench *bench;
    char shape[24]; /* "768/24576" */
    struct sae_engine *e;
    struct sae_dict *dict;
    struct sae_batch *b;
    struct sae_scratch *s;
    float *x;            /* [MAX_ROWS][d] */
    float *wild;         /* the same, outlier dimensions OUTLIER_SCALE times as large; or NULL */
    uint64_t rows, nnz;  /* computed by run, and what they gave, ... */
    uint64_t candidates; /* ... computed exactly for it: since forget */
};

static int turns_of(size_t n)
{
    return n < 16 ? 21 : n < 64 ? 15 : n < 256 ? 11 : 7;
}

/* A random encoder has its threshold at 0 and half its features on; l0 = 0 leaves it so. With
 * `small` the encoder's outlier dimensions are as small as a trained one's. */
static void rig_init(struct rig *g, const struct bench *bench, size_t d, size_t F, unsigned l0,
                     bool small)
{
    struct sae_err err = {0};
    char source[80];
    int k = snprintf(source, sizeof source, "init:AutoEncoder:%zu:%zu", d, F);

    if (l0)
        snprintf(source + k, sizeof source - (size_t)k, ":l0=%u", l0);
    *g = (struct rig){.bench = bench};
    snprintf(g->shape, sizeof g->shape, "%zu/%zu", d, F);
    if (dicts_load(&g->dict, source, NULL, &err) != SAE_OK ||
        sae_engine_create(&g->e, SAE_ENGINE_NATIVE, sae_isa_name(bench->isa), &err) != SAE_OK)
        bench_die("%s", err.text);
    g->x = dicts_rows(MAX_ROWS, d, 1);
    if (small) {
        g->wild = dicts_rows(MAX_ROWS, d, 1);
        for (size_t o = 0; o < N_OUTLIERS; o++) {
            for (size_t j = 0; j < F; j++)
                g->dict->enc.f32[j * d + outliers[o]] /= OUTLIER_SCALE;
            for (size_t r = 0; r < MAX_ROWS; r++)
                g->wild[r * d + outliers[o]] *= OUTLIER_SCALE;
        }
    }
    if (sae_engine_prepare(g->e, g->dict, NULL, &err) != SAE_OK ||
        sae_batch_create(&g->b, g->e, dicts_capacity(g->dict, MAX_ROWS), &err) != SAE_OK ||
        sae_scratch_create(&g->s, g->e, dicts_capacity(g->dict, MAX_ROWS), &err) != SAE_OK)
        bench_die("%s", err.text);
    sae_engine_warm(g->e, g->s);
}

static void rig_fini(struct rig *g)
{
    sae_scratch_free(g->s);
    sae_batch_free(g->b);
    sae_dict_free(g->dict);
    sae_engine_free(g->e);
    sae_free(g->x);
    sae_free(g->wild);
}

/* Seconds of one batch; the task's answer stays for the caller (sae_task_fini). */
static double run_task(struct rig *g, struct sae_task *t, enum sae_side side)
{
    struct sae_slice slice = {.task = t, .row0 = 0, .n_rows = t->n_rows};
    double t0;

    if (sae_task_prepare(t, NULL) != SAE_OK)
        bench_die("out of memory");
    t0 = bench_cpu();
    batches_run(g->b, g->s, g->dict, side, &slice, 1);
    return bench_cpu() - t0;
}

static double run(struct rig *g, const struct sae_query *q, const float *x, size_t n)
{
    struct sae_task t = {.dict = g->dict, .query = *q, .n_rows = n, .x = x};
    uint64_t before = sae_engine_stats(g->e, g->dict).candidates;
    double s = run_task(g, &t, SAE_SIDE_ENCODE);

    g->rows += n;
    g->nnz += t.nnz;
    g->candidates += sae_engine_stats(g->e, g->dict).candidates - before;
    sae_task_fini(&t);
    return s;
}

/* Seconds of the second of two. */
static double run_twice(struct rig *g, const struct sae_query *q, const float *x, size_t n)
{
    run(g, q, x, n);
    return run(g, q, x, n);
}

static void forget(struct rig *g)
{
    g->rows = g->nnz = g->candidates = 0;
}

static void say_sparsity(const struct rig *g, char *note, size_t cap)
{
    snprintf(note, cap, "L0 %.0f, %.2f %% candidates", (double)g->nnz / (double)g->rows,
             100.0 * (double)g->candidates / (double)g->rows / (double)g->dict->formula.F);
}

/* One row of the table: n rows of the query, beside cblas_sgemm (one row: or cblas_sgemv). */
static void beside_gemm(struct rig *g, const struct sae_query *q, const char *what, size_t n,
                        double target)
{
    struct bench_blas *blas = g->bench->blas;
    struct bench_row row = {.unit = "ms", .target = target};
    double got[BENCH_MAX_TURNS], base[BENCH_MAX_TURNS];
    const char *kind = n == 1 ? "gemv" : "gemm";
    int turns = turns_of(n);

    blas_pick(blas, kind, n);
    forget(g);
    for (int i = 0; i < turns; i++) {
        blas_run(blas, kind, n);
        base[i] = 1e3 * blas_run(blas, kind, n);
        got[i] = 1e3 * run_twice(g, q, g->x, n);
    }
    snprintf(row.what, sizeof row.what, "%s, batch %zu", what, n);
    snprintf(row.beside_what, sizeof row.beside_what, "cblas_s%s, %s", kind, blas_core(blas));
    row.ratio = bench_ratio(base, got, turns);
    row.value = bench_median(got, turns);
    row.beside = bench_median(base, turns);
    say_sparsity(g, row.note, sizeof row.note);
    report_row(g->bench->report, &row);
}

static void sparse_rows(struct rig *g, const char *l0)
{
    static const double avx2[] = {9, 10, 3.7, 2.2, 1.8}, vnni[] = {10, 19, 9, 4.5, 3.4};
    bool has_target = strcmp(g->shape, "768/24576") == 0;
    char what[64];

    snprintf(what, sizeof what, "encode sparse %s, L0 %s", g->shape, l0);
    for (size_t i = 0; i < SAE_COUNTOF(batch_sizes); i++)
        beside_gemm(g, &sparse, what, batch_sizes[i],
                    has_target ? bench_target(g->bench, avx2[i], vnni[i]) : 0);
}

/* top_k where no threshold helps: half the features are on. */
static void top_rows(struct rig *g)
{
    for (size_t i = 0; i < SAE_COUNTOF(batch_sizes); i++) {
        size_t n = batch_sizes[i];

        beside_gemm(g, &top, "top_k 32, no threshold, 768/24576", n,
                    n == 64 ? bench_target(g->bench, 1.6, 3.3) : 0);
    }
    for (uint64_t k = 64; k <= 128; k *= 2) {
        struct sae_query q = top;
        char what[64];

        q.top_k = k;
        snprintf(what, sizeof what, "top_k %d, no threshold, 768/24576", (int)k);
        beside_gemm(g, &q, what, 64, 0);
    }
}

/* Rows with outlier dimensions, beside the rows without on the same dictionary. */
static void outlier_rows(struct rig *g)
{
    for (size_t i = 0; i < SAE_COUNTOF(batch_sizes); i++) {
        size_t n = batch_sizes[i];
        struct bench_row row = {.unit = "ms", .at_most = true, .target = 1.15};
        double got[BENCH_MAX_TURNS], base[BENCH_MAX_TURNS];
        int turns = turns_of(n);

        for (int t = 0; t < turns; t++) {
            base[t] = 1e3 * run_twice(g, &sparse, g->x, n);
            forget(g);
            got[t] = 1e3 * run_twice(g, &sparse, g->wild, n);
        }
        snprintf(row.what, sizeof row.what, "3 dims at 300x, %s, batch %zu", g->shape, n);
        snprintf(row.beside_what, sizeof row.beside_what, "rows without outliers");
        row.ratio = bench_ratio(got, base, turns);
        row.value = bench_median(got, turns);
        row.beside = bench_median(base, turns);
        say_sparsity(g, row.note, sizeof row.note);
        report_row(g->bench->report, &row);
    }
}

/* One row against reading what it must: plane, bound parameters and the candidates' weights. The
 * sample of the limit also puts everything out of the caches. */
static void memory_row(struct rig *g)
{
    enum { TURNS = 11 };
    size_t bytes = (size_t)256 << 20;
    char *buf = sae_huge_alloc(bytes, 1);
    double got[TURNS], limit[TURNS],
        fixed = (double)g->dict->formula.F * ((double)g->dict->formula.d_in + 12);
    struct bench_row row = {.unit = "GB/s", .beside_what = "memory-read limit", .target = 0.85};

    if (!buf)
        bench_die("out of memory");
    memset(buf, 1, bytes);
    for (int i = 0; i < TURNS; i++) {
        double t;

        limit[i] = limit_read(buf, bytes) * 1e-9;
        forget(g);
        t = run(g, &sparse, g->x + (size_t)i * g->dict->formula.d_in, 1);
        got[i] = (fixed + (double)g->candidates * (double)g->dict->formula.d_in * 4) / t * 1e-9;
    }
    sae_huge_free(buf, bytes, 1);
    snprintf(row.what, sizeof row.what, "encode sparse %s, batch 1, caches cold", g->shape);
    row.ratio = bench_ratio(got, limit, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(limit, TURNS);
    report_row(g->bench->report, &row);
}

/* Dense f of which so many percent are on, both sides. */
static void decode_dense_row(struct rig *g, size_t n, unsigned percent)
{
    struct bench_blas *blas = g->bench->blas;
    struct bench_row row = {.unit = "ms"};
    size_t total = n * g->dict->formula.F;
    float *f = sae_alloc(total, sizeof *f);
    double got[BENCH_MAX_TURNS], base[BENCH_MAX_TURNS];
    int turns = turns_of(n);
    uint64_t random = 1;

    if (!f)
        bench_die("out of memory");
    for (size_t i = 0; i < total; i++)
        f[i] = dicts_random(&random) % 100 < percent ? 0x1p-10f * (float)(i % 1000 + 1) : 0.0f;
    blas_pick(blas, "decode", n);
    for (int i = 0; i < turns; i++) {
        struct sae_task t = {.dict = g->dict, .query = {.op = SAE_OP_DECODE}, .n_rows = n, .x = f};

        blas_run(blas, "decode", n);
        base[i] = 1e3 * blas_run(blas, "decode", n);
        run_task(g, &t, SAE_SIDE_DECODE);
        sae_task_fini(&t);
        got[i] = 1e3 * run_task(g, &t, SAE_SIDE_DECODE);
        sae_task_fini(&t);
    }
    snprintf(row.what, sizeof row.what, "decode dense %s, %u %% on, batch %zu", g->shape, percent,
             n);
    snprintf(row.beside_what, sizeof row.beside_what, "cblas_sgemm, %s", blas_core(blas));
    row.ratio = bench_ratio(base, got, turns);
    row.value = bench_median(got, turns);
    row.beside = bench_median(base, turns);
    report_row(g->bench->report, &row);
    sae_free(f);
}

/* f of 50 active features a row, both sides. */
static void decode_row(struct rig *g, size_t n)
{
    struct bench_blas *blas = g->bench->blas;
    struct bench_row row = {.unit = "ms", .target = 50};
    struct sae_task enc = {.dict = g->dict, .query = top, .n_rows = n, .x = g->x};
    double got[BENCH_MAX_TURNS], base[BENCH_MAX_TURNS];
    int turns = turns_of(n);

    enc.query = sparse;
    run_task(g, &enc, SAE_SIDE_ENCODE);
    blas_pick(blas, "decode", n);
    for (int i = 0; i < turns; i++) {
        struct sae_task dec = {
            .dict = g->dict, .query = {.op = SAE_OP_DECODE}, .n_rows = n, .f_in = enc.f_rows};

        blas_run(blas, "decode", n);
        base[i] = 1e3 * blas_run(blas, "decode", n);
        run_task(g, &dec, SAE_SIDE_DECODE);
        sae_task_fini(&dec);
        got[i] = 1e3 * run_task(g, &dec, SAE_SIDE_DECODE);
        sae_task_fini(&dec);
    }
    snprintf(row.what, sizeof row.what, "decode sparse %s, batch %zu", g->shape, n);
    snprintf(row.beside_what, sizeof row.beside_what, "cblas_sgemm, %s", blas_core(blas));
    row.ratio = bench_ratio(base, got, turns);
    row.value = bench_median(got, turns);
    row.beside = bench_median(base, turns);
    snprintf(row.note, sizeof row.note, "%.0f active a row", (double)enc.nnz / (double)n);
    report_row(g->bench->report, &row);
    sae_task_fini(&enc);
}

static void small(struct bench *b)
{
    struct rig g;

    blas_load(b->blas, 512, 4096);
    rig_init(&g, b, 512, 4096, 50, false);
    sparse_rows(&g, "50");
    rig_fini(&g);
}

static void middle(struct bench *b)
{
    static const unsigned l0s[] = {20, 100, 400};
    struct rig g;

    blas_load(b->blas, 768, 24576);
    rig_init(&g, b, 768, 24576, 50, false);
    sparse_rows(&g, "50");
    memory_row(&g);
    decode_row(&g, 64);
    decode_dense_row(&g, 64, 50);
    decode_dense_row(&g, 64, 100);
    rig_fini(&g);
    for (size_t i = 0; i < SAE_COUNTOF(l0s); i++) {
        char what[64];

        rig_init(&g, b, 768, 24576, l0s[i], false);
        snprintf(what, sizeof what, "encode sparse %s, L0 %u", g.shape, l0s[i]);
        beside_gemm(&g, &sparse, what, 64, 0);
        rig_fini(&g);
    }
    rig_init(&g, b, 768, 24576, 50, true);
    outlier_rows(&g);
    rig_fini(&g);
    rig_init(&g, b, 768, 24576, 0, false);
    top_rows(&g);
    rig_fini(&g);
}

static void large(struct bench *b)
{
    struct rig g;

    blas_load(b->blas, 2304, 65536);
    rig_init(&g, b, 2304, 65536, 50, false);
    sparse_rows(&g, "50");
    memory_row(&g);
    rig_fini(&g);
    rig_init(&g, b, 2304, 65536, 50, true);
    outlier_rows(&g);
    rig_fini(&g);
}

void section_encode(struct bench *b)
{
    report_section(b->report, "batches through lib/saed.h, one thread");
    small(b);
    middle(b);
    if (b->big)
        large(b);
    else
        report_note(b->report, "2304/65536 left out: `make bench BENCH_ARGS=--big` measures it");
}
