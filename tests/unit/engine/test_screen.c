/* test_screen.c - the screening bound tested as a bound: no feature that is on may be proved off.
 *
 * Every kernel that this CPU has, on random, skewed and adversarial rows and weights; truth is the
 * canonical dot product of ref.c. The integer case leaves only the bound's rounding terms, and the
 * test shows that a bound without them would miss features there.
 * SAED_SCREEN_TRIALS=n multiplies the number of random trials (make check uses 1). */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/kern/dense.h"
#include "lib/engine/screen.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum sae_isa isa;
    sae_screen_fn *screen;
    sae_interval_fn *interval;
    const struct sae_quant *quant;
    int xmax;
} kernels[] = {
    {SAE_ISA_SCALAR, sae_screen_i8__scalar, sae_interval_i8__scalar, &sae_quant_scalar, 127},
    {SAE_ISA_AVX2, sae_screen_i8_4x1__avx2, sae_interval_i8__avx2, &sae_quant_avx2, 63},
    {SAE_ISA_AVXVNNI, sae_screen_i8_6x1__avxvnni, sae_interval_i8__avxvnni, &sae_quant_avx2, 127},
    {SAE_ISA_AVX512, sae_screen_i8_8x2__avx512, sae_interval_i8__avx512, &sae_quant_avx512, 63},
    {SAE_ISA_VNNI, sae_screen_i8_8x3__vnni, sae_interval_i8__vnni, &sae_quant_avx512, 127},
};
#define N_KERNELS ((int)SAE_COUNTOF(kernels))

static uint64_t seed = 1;
static bool bound_is_whole = true; /* false: a test has taken the bound's rounding terms away */

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53;
}

static double normal(void)
{
    double s = 0;

    for (int i = 0; i < 12; i++)
        s += uniform();
    return s - 6;
}

/* The canonical dot product; test_dense shows that the kernel used where it can be equals ref.c. */
static float dot_of(const float *x, const float *w, size_t d)
{
    float out;

    if (!sae_cpu_has(SAE_ISA_AVX2))
        return sae_ref_dot(x, w, d);
    sae_pairs_f32__avx2(&x, &w, 1, d, &out);
    return out;
}

static bool have(int k)
{
    if (sae_cpu_has(kernels[k].isa))
        return true;
    printf("SKIP: this CPU has no %s\n", sae_isa_name(kernels[k].isa));
    return false;
}

/* Every interval holds its projection; a row's floor is met by what may reach it. */
static void check_intervals(int k, const struct sae_plane *p, struct sae_screen_group g,
                            const struct sae_screen_row *rows, const size_t *which, size_t n,
                            const float *x)
{
    size_t in_group = g.n_panels * SAE_SCREEN_PANEL, ld = p->dq;
    sae_group_floats *low = calloc(n, sizeof *low), *up = calloc(n, sizeof *up);
    uint16_t(*masks)[SAE_SCREEN_PANELS] = calloc(n, sizeof *masks);
    float *floor = calloc(n, sizeof *floor), *c1 = calloc(p->Fp, sizeof *c1);
    float *c0 = calloc(p->Fp, sizeof *c0);

    for (size_t j = 0; j < p->Fp; j++) {
        c1[j] = j % 3 ? 1.0f : 0.5f;
        c0[j] = (float)(j % 5) * 0.1f - 0.2f;
    }
    for (size_t i = 0; i < n; i++) /* the value of some feature: it must be met exactly */
        floor[i] = fmaf(dot_of(x + which[i] * ld, p->w + (g.f0 + i % 16) % p->F * p->d, p->d),
                        c1[(g.f0 + i % 16) % p->F], c0[(g.f0 + i % 16) % p->F]);
    g.s = p->s;
    g.c1 = c1;
    g.c0 = c0;
    kernels[k].interval(rows, n, &g, floor, masks, low, up);
    for (size_t i = 0; i < n; i++)
        for (size_t in = 0; in < in_group && g.f0 + in < p->F; in++) {
            size_t j = g.f0 + in;
            float dot = dot_of(x + which[i] * ld, p->w + j * p->d, p->d);

            ck_assert_msg(low[i][in] <= dot && dot <= up[i][in], "%a is not in [%a, %a]",
                          (double)dot, (double)low[i][in], (double)up[i][in]);
            if (fmaf(dot, c1[j], c0[j]) >= floor[i])
                ck_assert(masks[i][in / SAE_SCREEN_PANEL] >> in % SAE_SCREEN_PANEL & 1);
        }
    free(c0);
    free(c1);
    free(floor);
    free(masks);
    free(up);
    free(low);
}

/* n rows against a plane: how many rows were screened, candidates, and features that are on but
 * were proved off (which must be none). */
struct outcome {
    size_t rows, candidates, on, missed;
};

static struct outcome run(int k, struct sae_plane *p, const float *x, size_t n, const double *theta)
{
    struct outcome o = {0};
    size_t ld = p->dq;
    int8_t *q = sae_alloc(n, p->dq);
    double *v = sae_alloc(sae_plane_row_scratch(p), sizeof *v);
    struct sae_screen_row *rows = calloc(n, sizeof *rows);
    uint16_t(*masks)[SAE_SCREEN_PANELS] = calloc(n, sizeof *masks);
    size_t *which = calloc(n, sizeof *which);

    for (size_t r = 0; r < n; r++)
        if (sae_plane_row(p, x + r * ld, q + o.rows * p->dq, rows + o.rows, v))
            which[o.rows++] = r;
    for (size_t f = 0; f < p->Fp && o.rows; f += SAE_SCREEN_PANEL * SAE_SCREEN_PANELS) {
        size_t left = (p->Fp - f) / SAE_SCREEN_PANEL;
        struct sae_screen_group g = {.plane = p->q + f * p->dq,
                                     .dq = p->dq,
                                     .a = p->a,
                                     .b = p->b,
                                     .t = p->t,
                                     .f0 = f,
                                     .n_panels =
                                         left < SAE_SCREEN_PANELS ? left : SAE_SCREEN_PANELS};

        if (bound_is_whole)
            check_intervals(k, p, g, rows, which, o.rows, x);
        kernels[k].screen(rows, o.rows, &g, masks);
        for (size_t i = 0; i < o.rows; i++)
            for (size_t in = 0; in < g.n_panels * SAE_SCREEN_PANEL; in++) {
                bool candidate = masks[i][in / SAE_SCREEN_PANEL] >> in % SAE_SCREEN_PANEL & 1, on;
                size_t j = f + in;

                if (j >= p->F) {
                    ck_assert_msg(!candidate, "padding feature %zu is a candidate", j);
                    continue;
                }
                on = (double)dot_of(x + which[i] * ld, p->w + j * p->d, p->d) > theta[j];
                o.candidates += candidate;
                o.on += on;
                o.missed += on && !candidate;
            }
    }
    free(which);
    free(masks);
    free(rows);
    sae_free(v);
    sae_free(q);
    return o;
}

static struct sae_plane *plane(int k, const float *w, size_t F, size_t d, const double *theta)
{
    struct sae_plane *p;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_plane_create(&p, w, F, d, theta, kernels[k].xmax, kernels[k].quant, &err),
                     SAE_OK);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* Distributions of rows and weights. */
enum { GAUSS, OUTLIERS_300, OUTLIERS_1000, LOGNORMAL, HEAVY_W, CONSTANT, ONE_HOT, N_KINDS };
static const char *const kind_names[] = {"gauss",   "outliers x300", "outliers x1000", "lognormal",
                                         "heavy w", "constant",      "one hot"};

static void fill(int kind, float *x, size_t n, size_t ld, float *w, size_t F, size_t d, double xs,
                 double ws)
{
    memset(x, 0, n * ld * sizeof *x);
    for (size_t r = 0; r < n; r++)
        for (size_t k = 0; k < d; k++) {
            double v = normal();

            if ((kind == OUTLIERS_300 || kind == OUTLIERS_1000) && k % (d / 3 + 1) == 1)
                v = (kind == OUTLIERS_300 ? 300 : 1000) * (1 + 0.2 * v);
            else if (kind == LOGNORMAL)
                v *= exp(0.7 * sin((double)(k * k)));
            else if (kind == CONSTANT)
                v = 1 + (double)(r % 3);
            else if (kind == ONE_HOT)
                v = k == r % d ? 5 : 0;
            x[r * ld + k] = (float)(v * xs);
        }
    for (size_t j = 0; j < F; j++)
        for (size_t k = 0; k < d; k++) {
            double v = normal() / sqrt((double)d);

            if (kind == HEAVY_W)
                v *= exp(1.5 * normal());
            if ((kind == OUTLIERS_300 || kind == OUTLIERS_1000) && k % (d / 3 + 1) == 1)
                v *= j % 2 ? 0.01 : 1;
            w[j * d + k] = (float)(v * ws);
        }
}

START_TEST(random_rows)
{
    static const size_t widths[] = {1, 5, 16, 48, 100, 256, 768};
    static const double scales[][2] = {
        {1, 1}, {1e-8, 1e3}, {1e10, 1e-5}, {1e-20, 1e-4}, {1e20, 1e10}};
    const char *env = getenv("SAED_SCREEN_TRIALS");
    int k = _i % N_KERNELS, kind = _i / N_KERNELS, trials = env ? atoi(env) : 1;

    if (!have(k))
        return;
    seed = (uint64_t)_i + 1;
    for (int trial = 0; trial < trials; trial++)
        for (size_t s = 0; s < SAE_COUNTOF(widths) * SAE_COUNTOF(scales); s++) {
            size_t d = widths[s % SAE_COUNTOF(widths)], F = 60, n = 13, ld = (d + 15) & ~(size_t)15;
            const double *scale = scales[s / SAE_COUNTOF(widths)];
            float *x = sae_alloc(n * ld, sizeof *x), *w = sae_alloc(F * d + 16, sizeof *w);
            double *theta = malloc(F * sizeof *theta);

            fill(kind, x, n, ld, w, F, d, scale[0], scale[1]);
            /* Thresholds at, just below and around values that occur: the decision is close. */
            for (size_t j = 0; j < F; j++) {
                float p = dot_of(x + j % n * ld, w + j * d, d);

                theta[j] = j % 4 == 0   ? (double)p
                           : j % 4 == 1 ? (double)nextafterf(p, -INFINITY)
                           : j % 4 == 2 ? (double)p * (1 + 1e-3 * normal())
                                        : 2 * scale[0] * scale[1];
            }
            struct sae_plane *p = plane(k, w, F, d, theta);
            struct outcome o = run(k, p, x, n, theta);

            ck_assert_msg(o.missed == 0,
                          "%s, d %zu, scale %g %g: %zu of %zu active features proved off",
                          kind_names[kind], d, scale[0], scale[1], o.missed, o.on);
            if (scale[0] == 1 && (kind == GAUSS || kind == OUTLIERS_300))
                ck_assert_msg(o.rows == n, "%s, d %zu: only %zu of %zu rows screened",
                              kind_names[kind], d, o.rows, n);
            sae_plane_free(p);
            free(theta);
            sae_free(w);
            sae_free(x);
        }
}
END_TEST

/* Q as a matrix, column k = Q e_k: the test knows nothing of its inner workings. Owned (sae_free).
 */
static double *rotation(const struct sae_quant *quant, size_t dq)
{
    double *m = sae_alloc(dq * dq, sizeof *m);

    memset(m, 0, dq * dq * sizeof *m);
    for (size_t k = 0; k < dq; k++) {
        m[k * dq + k] = 1;
        quant->rotate(m + k * dq, dq);
    }
    return m;
}

/* Q^T y. */
static void unrotate(const double *m, const double *y, size_t dq, double *out)
{
    for (size_t k = 0; k < dq; k++) {
        double sum[4] = {0};

        for (size_t i = 0; i < dq; i += 4)
            for (size_t l = 0; l < 4; l++)
                sum[l] += m[k * dq + i + l] * y[i + l];
        out[k] = sum[0] + sum[1] + sum[2] + sum[3];
    }
}

/* Cauchy-Schwarz nearly tight: Q w parallel to the row's quantisation error. */
START_TEST(weights_along_the_quantisation_error)
{
    enum { D = 256, N = 12, F = 12 * 8 };
    static float x[N * D], w[F * D + 16];
    static double v[D], e[D], back[D];
    static int8_t q[D];
    static const float zeros[F];
    double theta[F];
    int k = _i % N_KERNELS;
    double xs = pow(10, _i / N_KERNELS * 7 - 14), ws = pow(10, 6 - _i / N_KERNELS * 3), tight = 0;

    if (!have(k))
        return;
    double *turn = rotation(kernels[k].quant, D);
    seed = 99 + (uint64_t)_i;
    for (size_t i = 0; i < N * D; i++)
        x[i] = (float)(normal() * xs * (i / D % 3 == 2 ? exp(0.15 * normal()) : 1));
    for (size_t j = 0; j < F; j++) /* any plane will do to quantise rows */
        for (size_t i = 0; i < D; i++)
            w[j * D + i] = (float)(normal() * ws);
    memset(theta, 0, sizeof theta);
    struct sae_plane *p = plane(k, w, F, D, theta);
    for (size_t j = 0; j < F; j++) {
        size_t r = j % N;
        double n2, e2 = 0, mix = (double)(j / N % 4) * 0.02;
        struct sae_screen_row row;

        ck_assert(sae_plane_row(p, x + r * D, q, &row, v));
        ck_assert_int_eq(row.n_split, 0);
        kernels[k].quant->widen(x + r * D, D, v, &n2);
        kernels[k].quant->rotate(v, D);
        for (size_t i = 0; i < D; i++) {
            e[i] = v[i] - (double)q[i] / (double)row.C;
            e2 += e[i] * e[i];
        }
        unrotate(turn, e, D, back);
        for (size_t i = 0; i < D; i++)
            w[j * D + i] = (float)(ws * (back[i] / sqrt(e2) + mix * normal() / 16));
        float dot = dot_of(x + r * D, w + j * D, D);

        theta[j] = j / N % 2 ? (double)nextafterf(dot, -INFINITY) : (double)dot;
    }
    sae_plane_free(p);
    p = plane(k, w, F, D, theta);
    struct outcome o = run(k, p, x, N, theta);
    ck_assert_msg(o.missed == 0, "%zu of %zu active features proved off", o.missed, o.on);
    ck_assert_uint_eq(o.rows, N);
    /* How close the projection comes to the interval's ends: the adversary must be a real one. */
    for (size_t f = 0; f < F; f += SAE_SCREEN_PANEL) {
        struct sae_screen_group g = {.plane = p->q + f * p->dq,
                                     .dq = p->dq,
                                     .a = p->a,
                                     .b = p->b,
                                     .t = p->t,
                                     .s = p->s,
                                     .c1 = zeros,
                                     .c0 = zeros,
                                     .f0 = f,
                                     .n_panels = 1};
        sae_group_floats low, up;
        uint16_t masks[1][SAE_SCREEN_PANELS];
        float floor = -INFINITY;

        for (size_t in = 0; in < SAE_SCREEN_PANEL; in++) {
            size_t j = f + in;
            struct sae_screen_row row;

            ck_assert(sae_plane_row(p, x + j % N * D, q, &row, v));
            kernels[k].interval(&row, 1, &g, &floor, masks, &low, &up);
            double dot = (double)dot_of(x + j % N * D, w + j * D, D);
            double part = fabs(2 * dot - (double)low[in] - (double)up[in]) /
                          ((double)up[in] - (double)low[in]);

            ck_assert_msg(part <= 1, "the error is %g of the half-width", part);
            tight = part > tight ? part : tight;
        }
    }
    ck_assert_msg(tight > 0.5, "the adversary reaches only %g of the bound", tight);
    sae_plane_free(p);
    sae_free(turn);
}
END_TEST

/* Rows and weights whose rotations are integers within the quantiser's range: no quantisation
 * error, only the rounding terms are left. Without them the bound misses features: the test can
 * fail. */
START_TEST(integers_leave_only_the_rounding_terms)
{
    enum { D = 1024, N = 24, F = 24 * 6 };
    float *x = sae_alloc(N * D, sizeof *x), *w = sae_alloc(F * D + 16, sizeof *w);
    double *y = sae_alloc(D, sizeof *y), *back = sae_alloc(D, sizeof *back), *turn = NULL, theta[F];
    int k = _i;

    if (!have(k))
        goto out;
    turn = rotation(kernels[k].quant, D);
    seed = 5;
    for (size_t r = 0; r < N + F; r++) {
        bool row = r < N;
        int top = row ? kernels[k].xmax : 127;

        for (size_t i = 0; i < D; i++)
            y[i] = i == 0 ? top : floor(uniform() * (2 * top + 1)) - top;
        unrotate(turn, y, D, back);
        for (size_t i = 0; i < D; i++) {
            float *to = row ? x + r * D : w + (r - N) * D;

            to[i] = (float)back[i];
            ck_assert(back[i] == (double)to[i]);
        }
    }
    for (size_t j = 0; j < F; j++)
        theta[j] = (double)nextafterf(dot_of(x + j % N * D, w + j * D, D), -INFINITY);
    struct sae_plane *p = plane(k, w, F, D, theta);
    struct outcome o = run(k, p, x, N, theta);
    ck_assert_uint_eq(o.rows, N);
    ck_assert_msg(o.missed == 0, "%zu of %zu active features proved off", o.missed, o.on);
    /* The same without the rounding terms: e = 0, so the bound is the integer sum itself. */
    for (size_t j = 0; j < F; j++) {
        p->a[j] = p->b[j] = 0;
        p->t[j] = (float)(theta[j] / (double)p->s[j]);
    }
    bound_is_whole = false;
    o = run(k, p, x, N, theta);
    bound_is_whole = true;
    ck_assert_msg(o.missed > 0, "a bound without rounding terms misses nothing here: a weak test");
    sae_plane_free(p);
out:
    sae_free(turn);
    sae_free(back);
    sae_free(y);
    sae_free(w);
    sae_free(x);
}
END_TEST

START_TEST(rows_that_cannot_be_screened_say_so)
{
    enum { D = 32, F = 40 };
    static float w[F * D], x[D];
    static double theta[F], v[D];
    static int8_t q[D];
    struct sae_screen_row row;

    for (size_t i = 0; i < F * D; i++)
        w[i] = (float)normal();
    struct sae_plane *p = plane(0, w, F, D, theta);

    ck_assert(sae_plane_row(p, x, q, &row, v)); /* all zero: fine */
    for (int i = 0; i < 4; i++) {
        static const float bad[] = {NAN, INFINITY, 2e37f, 1e-37f};

        memset(x, 0, sizeof x);
        x[7] = bad[i];
        x[8] = i == 3 ? 1e-37f : 1;
        ck_assert_msg(!sae_plane_row(p, x, q, &row, v), "%g was screened", (double)bad[i]);
    }
    sae_plane_free(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("screen");
    TCase *t = tcase_create("screen");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, random_rows, 0, N_KERNELS * N_KINDS);
    tcase_add_loop_test(t, weights_along_the_quantisation_error, 0, N_KERNELS * 5);
    tcase_add_loop_test(t, integers_leave_only_the_rounding_terms, 0, N_KERNELS);
    tcase_add_test(t, rows_that_cannot_be_screened_say_so);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
