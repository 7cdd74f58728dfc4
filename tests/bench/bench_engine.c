/* bench_engine.c - the encode and decode sides of a batch against the bare product, in one process.
 *
 * For init:AutoEncoder:768:24576:l0=50 and batches of 1 to 256 rows, one thread: cblas_sgemm of the
 * whole encoder (up to 4 rows the better of sgemm and sgemv row by row), then encode sparse,
 * top_k = 32, dense, forward and decode of the sparse f through sae_batch. Runs are interleaved,
 * medians printed; ratios above 1 are faster than the bare product. Ends by itself. */
#include "lib/dict/dict.h"
#include "lib/saed.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROWS = 256, MAX_REPS = 15 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_time);
    return t[n / 2];
}

struct rig {
    struct sae_engine *e;
    struct sae_dict *dict;
    struct sae_batch *b;
    struct sae_scratch *s;
    float *x, *p;
};

/* Seconds of one batch of the task's rows. */
static double run(const struct rig *g, struct sae_task *t, enum sae_side side)
{
    struct sae_slice slice = {.task = t, .row0 = 0, .n_rows = t->n_rows};
    double t0;

    if (sae_task_prepare(t, NULL) != SAE_OK)
        abort();
    t0 = now();
    batches_run(g->b, g->s, g->dict, side, &slice, 1);
    return now() - t0;
}

static double bare(const struct rig *g, size_t n)
{
    int d = (int)g->dict->d, F = (int)g->dict->F;
    double t0 = now(), gemm;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, F, d, 1.0f, g->x, d, g->dict->enc,
                d, 0.0f, g->p, F);
    gemm = now() - t0;
    if (n > 4)
        return gemm;
    t0 = now();
    for (size_t i = 0; i < n; i++)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, F, d, 1.0f, g->dict->enc, d, g->x + i * g->dict->d,
                    1, 0.0f, g->p + i * g->dict->F, 1);
    t0 = now() - t0;
    return gemm < t0 ? gemm : t0;
}

enum { BARE, SPARSE, TOP, DENSE, FORWARD, DECODE, N_KINDS };

static void row_of_table(const struct rig *g, size_t n)
{
    static const struct sae_query queries[N_KINDS] = {
        [SPARSE] = {.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_SPARSE},
        [TOP] = {.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = 32},
        [DENSE] = {.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_DENSE},
        [FORWARD] = {.op = SAE_OP_FORWARD},
        [DECODE] = {.op = SAE_OP_DECODE},
    };
    double t[N_KINDS][MAX_REPS], m[N_KINDS], l0 = 0.0;
    int reps = n >= 64 ? 5 : MAX_REPS;

    for (int r = 0; r < reps; r++) {
        struct sae_task sparse = {0};

        t[BARE][r] = bare(g, n);
        for (int k = SPARSE; k < N_KINDS; k++) {
            struct sae_task task = {.dict = g->dict, .query = queries[k], .n_rows = n, .x = g->x};

            if (k == DECODE) {
                task.x = NULL;
                task.f_in = sparse.f_rows;
            }
            t[k][r] = run(g, &task, k == DECODE ? SAE_SIDE_DECODE : SAE_SIDE_ENCODE);
            if (k == SPARSE)
                sparse = task;
            else
                sae_task_fini(&task);
        }
        l0 = (double)sparse.nnz / (double)n;
        sae_task_fini(&sparse);
    }
    for (int k = 0; k < N_KINDS; k++)
        m[k] = median(t[k], reps);
    printf("%4zu %6.1f %9.3f", n, l0, 1e3 * m[BARE]);
    for (int k = SPARSE; k < N_KINDS; k++)
        printf("  %9.3f %6.2f", 1e3 * m[k], m[BARE] / m[k]);
    printf("  %8.0f\n", (double)n / m[SPARSE]);
}

static void table(const struct rig *g, const char *source)
{
    static const size_t sizes[] = {1, 4, 16, 64, 256};

    printf("%s\nrows     L0      bare    encode sparse     encode top 32      encode dense"
           "           forward     decode sparse    rows/s\n",
           source);
    for (size_t i = 0; i < SAE_COUNTOF(sizes); i++)
        row_of_table(g, sizes[i]);
}

static int bench(const char *source)
{
    struct rig g = {0};
    struct sae_err err = {0};

    if (sae_dict_open(&g.dict, source, &err) != SAE_OK ||
        sae_engine_open(&g.e, SAE_ENGINE_OPENBLAS, NULL, &err) != SAE_OK ||
        sae_batch_create(&g.b, g.e, &g.dict, 1, MAX_ROWS, &err) != SAE_OK ||
        sae_scratch_create(&g.s, g.e, &g.dict, 1, MAX_ROWS, &err) != SAE_OK) {
        fprintf(stderr, "bench_engine: %s\n", err.text);
        return 1;
    }
    g.x = dicts_rows(MAX_ROWS, g.dict->d, 1);
    g.p = sae_alloc(MAX_ROWS * g.dict->F, sizeof *g.p);
    if (!g.p)
        return 1;
    sae_engine_warm(g.e, g.s);
    printf("engine %s, kernel %s, one thread; ms, and how many times as fast as the bare product\n",
           sae_engine_name(g.e), sae_engine_kernel(g.e));
    table(&g, source);
    sae_free(g.p);
    sae_free(g.x);
    sae_scratch_free(g.s);
    sae_batch_free(g.b);
    sae_engine_free(g.e);
    sae_dict_free(g.dict);
    return 0;
}

int main(int argc, char **argv)
{
    return bench(argc > 1 ? argv[1] : "init:AutoEncoder:768:24576:l0=50");
}
