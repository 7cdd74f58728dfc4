/* kernels.c - the CPU's limits, and the kernels alone as a share of them, one thread.
 *
 * The kernels are called as lib/engine/native/encode.c calls them, block by block of SAE_BLOCK
 * features, on the weights of a 768 x 24576 dictionary; no epilogue, no exact part. Limits are
 * sampled in turns with the kernels, as clocks move. oneDNN's int8 GEMM, the yardstick, answers
 * from bench_dnnl. */
#include "lib/engine/engine.h"
#include "lib/engine/kern/dense.h"
#include "lib/engine/native/state.h"
#include "lib/engine/native/plane.h"
#include "tests/bench/bench.h"
#include "tests/support/dicts.h"

#include <string.h>
#include <unistd.h>

enum { MAX_ROWS = 256, TURNS = 9 };

struct kernels {
    sae_dense_fn *dense;
    sae_screen_fn *screen;
    const struct sae_quant *quant;
    int xmax;
    const char *dense_name, *screen_name;
};

/* The choice of native/state.c. */
static struct kernels kernels_of(enum sae_isa isa)
{
    switch (isa) {
    case SAE_ISA_VNNI:
        return (struct kernels){sae_dense_f32_4x6__avx512,
                                sae_screen_i8_8x3__vnni,
                                &sae_quant_avx512,
                                127,
                                "4x6 avx512",
                                "8x3 vnni"};
    case SAE_ISA_AVX512:
        return (struct kernels){sae_dense_f32_4x6__avx512,
                                sae_screen_i8_8x2__avx512,
                                &sae_quant_avx512,
                                63,
                                "4x6 avx512",
                                "8x2 avx512"};
    case SAE_ISA_AVXVNNI:
        return (struct kernels){sae_dense_f32_2x3__avx2,
                                sae_screen_i8_6x1__avxvnni,
                                &sae_quant_avx2,
                                127,
                                "2x3 avx2",
                                "6x1 avxvnni"};
    default:
        return (struct kernels){sae_dense_f32_2x3__avx2,
                                sae_screen_i8_4x1__avx2,
                                &sae_quant_avx2,
                                63,
                                "2x3 avx2",
                                "4x1 avx2"};
    }
}

struct rig {
    struct kernels k;
    struct sae_dict *dict;
    struct sae_plane *plane;
    float *rows, *p, *scratch;
    const float *x[MAX_ROWS];
    int8_t *q;
    struct sae_screen_row screened[MAX_ROWS];
    uint16_t masks[MAX_ROWS][SAE_SCREEN_STREAMS];
};

static void rig_init(struct rig *g, const struct bench *b)
{
    struct sae_err err = {0};
    double *theta, *v;

    g->k = kernels_of(b->isa);
    if (dicts_load(&g->dict, "init:AutoEncoder:768:24576:l0=50", NULL, &err) != SAE_OK)
        bench_die("%s", err.text);
    g->rows = dicts_rows(MAX_ROWS, g->dict->formula.d_in, 1);
    g->p = sae_alloc((size_t)MAX_ROWS * SAE_BLOCK, sizeof *g->p);
    g->scratch =
        sae_alloc(sae_dense_scratch_floats(MAX_ROWS, g->dict->formula.d_in), sizeof *g->scratch);
    theta = sae_alloc(g->dict->formula.F, sizeof *theta);
    g->q = sae_alloc(MAX_ROWS * g->dict->formula.d_in, 1);
    if (!g->p || !g->scratch || !theta || !g->q)
        bench_die("out of memory");
    for (size_t j = 0; j < g->dict->formula.F; j++)
        theta[j] = -(double)sae_dict_array(g->dict, SAE_ROLE_ENC_BIAS)[j];
    if (sae_plane_create(&g->plane, &g->dict->enc, g->dict->formula.F, theta, g->k.xmax, g->k.quant,
                         NULL, &err) != SAE_OK)
        bench_die("%s", err.text);
    v = sae_alloc(sae_plane_row_scratch(g->plane), sizeof *v);
    for (size_t r = 0; r < MAX_ROWS; r++) {
        g->x[r] = g->rows + r * g->dict->formula.d_in;
        if (!v || !sae_plane_row(g->plane, g->x[r], g->q + r * g->plane->dq, &g->screened[r], v))
            bench_die("a row cannot be screened");
    }
    sae_free(v);
    sae_free(theta);
}

static void rig_fini(struct rig *g)
{
    sae_plane_free(g->plane);
    sae_free(g->q);
    sae_free(g->scratch);
    sae_free(g->p);
    sae_free(g->rows);
    sae_dict_free(g->dict);
}

/* flop/s of n rows against all features. */
static double dense(struct rig *g, size_t n)
{
    const struct sae_dict *d = g->dict;
    double t0 = bench_cpu();

    for (size_t j = 0; j < d->formula.F; j += SAE_BLOCK) {
        size_t m = d->formula.F - j < SAE_BLOCK ? d->formula.F - j : SAE_BLOCK;

        g->k.dense(g->x, n, &d->enc, j, m, g->p, SAE_BLOCK, g->scratch);
    }
    return 2.0 * (double)n * (double)d->formula.F * (double)d->formula.d_in / (bench_cpu() - t0);
}

/* op/s of the bound for n rows and all features. */
static double screen(struct rig *g, enum sae_isa isa, size_t n)
{
    const struct sae_native_kernels *k = &sae_native_kernels_of[isa];
    const struct sae_plane *pl = g->plane;
    struct sae_screen_group s = {0};
    double t0 = bench_cpu();

    for (size_t j = 0; j < pl->Fp; j += SAE_BLOCK) {
        struct sae_groups groups;

        sae_groups_init(&groups, pl, j, SAE_BLOCK, n <= k->max_apart, k->width);
        while (sae_groups_next(&groups, &s))
            g->k.screen(g->screened, n, &s, g->masks);
    }
    return 2.0 * (double)n * (double)pl->Fp * (double)pl->dq / (bench_cpu() - t0);
}

/* The best of three: what disturbs a sample only lowers it, and a
 * low limit would flatter what stands beside it. */
static double best_fma(bool avx512)
{
    double best = 0;

    for (int i = 0; i < 3; i++) {
        double got = limit_fma(avx512);

        best = got > best ? got : best;
    }
    return best;
}

static void limits(struct bench *b)
{
    size_t bytes = (size_t)256 << 20;
    double fma[TURNS], int8[TURNS], mem[TURNS];
    char *buf = sae_huge_alloc(bytes, 1);

    if (!buf)
        bench_die("out of memory");
    memset(buf, 1, bytes);
    for (int i = 0; i < TURNS; i++) {
        fma[i] = best_fma(b->avx512) * 1e-9;
        int8[i] = limit_int8(b->isa) * 1e-9;
        mem[i] = limit_read(buf, bytes) * 1e-9;
    }
    sae_huge_free(buf, bytes, 1);
    report_row(b->report, &(struct bench_row){.what = "FMA f32, registers only",
                                              .value = bench_median(fma, TURNS),
                                              .unit = "Gflop/s"});
    report_row(b->report, &(struct bench_row){.what = "int8 dot product, registers only",
                                              .value = bench_median(int8, TURNS),
                                              .unit = "Gop/s"});
    report_row(b->report, &(struct bench_row){.what = "memory read, 256 MB",
                                              .value = bench_median(mem, TURNS),
                                              .unit = "GB/s"});
}

static void dense_row(struct bench *b, struct rig *g, size_t n)
{
    double got[TURNS], limit[TURNS];
    struct bench_row row = {.unit = "Gflop/s", .beside_what = "FMA limit"};

    for (int i = 0; i < TURNS; i++) {
        limit[i] = best_fma(b->avx512) * 1e-9;
        got[i] = dense(g, n) * 1e-9;
    }
    snprintf(row.what, sizeof row.what, "dense f32 %s, 768/24576, batch %zu", g->k.dense_name, n);
    row.ratio = bench_ratio(got, limit, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(limit, TURNS);
    row.target = bench_target(b, 0.90, 0.85);
    report_row(b->report, &row);
}

static void screen_row(struct bench *b, struct rig *g, struct bench_child *dnnl, size_t n)
{
    double got[TURNS], limit[TURNS], yard[TURNS];
    struct bench_row row = {.unit = "Gop/s", .beside_what = "int8 limit"};

    for (int i = 0; i < TURNS; i++) {
        limit[i] = limit_int8(b->isa) * 1e-9;
        got[i] = screen(g, b->isa, n) * 1e-9;
        if (dnnl->pid)
            yard[i] = child_ask(dnnl, "%zu", n) * 1e-9;
    }
    snprintf(row.what, sizeof row.what, "int8 screening %s, 768/24576, batch %zu", g->k.screen_name,
             n);
    row.ratio = bench_ratio(got, limit, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(limit, TURNS);
    row.target = 0.85;
    report_row(b->report, &row);
    if (!dnnl->pid)
        return;
    snprintf(row.beside_what, sizeof row.beside_what, "oneDNN gemm_u8s8s32");
    row.ratio = bench_ratio(got, yard, TURNS);
    row.beside = bench_median(yard, TURNS);
    row.target = 0;
    report_row(b->report, &row);
}

void section_kernels(struct bench *b)
{
    struct rig *g = calloc(1, sizeof *g);
    struct bench_child dnnl;
    char path[512];
    const char *const argv[] = {path, NULL};
    const char *const env[] = {"OMP_NUM_THREADS=1", b->avx512 ? NULL : "DNNL_MAX_CPU_ISA=AVX2",
                               NULL};

    report_section(b->report, "CPU limits, one thread");
    limits(b);
    report_section(b->report, "kernels, one thread");
    if (!g)
        bench_die("out of memory");
    rig_init(g, b);
    snprintf(path, sizeof path, "%s/bench_dnnl", b->dir);
    if (!child_start(&dnnl, argv, env))
        report_note(b->report, "oneDNN left out: libdnnl-dev was not there when this was built");
    dense_row(b, g, 64);
    dense_row(b, g, 256);
    screen_row(b, g, &dnnl, 64);
    screen_row(b, g, &dnnl, 256);
    child_stop(&dnnl);
    rig_fini(g);
    free(g);
}
