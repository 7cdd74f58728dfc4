/* test_plane.c - the screening bound tested as a bound: no feature that is on may be proved off.
 *
 * Every kernel that this CPU has, on random, skewed and adversarial rows and weights; truth is the
 * canonical dot product of ref.c. The integer case leaves only the bound's rounding terms, and the
 * test shows that a bound without them would miss features there.
 *
 * Longer than others because all tests share the draws, the judge and the table of kernels. A trial
 * is a seeded draw of rows, weights and thresholds. SAED_SCREEN_TRIALS=n multiplies their
 * number (make check: 1, some thousands; make check-bound: millions). A test case for each kernel,
 * named by its instruction set, so that CK_RUN_CASE picks one. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/kern/dense.h"
#include "lib/engine/native/plane.h"

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

/* ck_assert_msg writes to a pipe even when it holds: too slow for every decision. */
#define REQUIRE(cond, ...)             \
    do {                               \
        if (!(cond))                   \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

/* How often each draw is repeated, with new numbers. */
static int trials(void)
{
    const char *env = getenv("SAED_SCREEN_TRIALS");
    int n = env ? atoi(env) : 1;

    ck_assert_int_ge(n, 1);
    return n;
}

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
    const struct sae_matrix m = {.width = d, .f32 = (float *)w};
    const uint32_t first = 0;
    float out;

    if (!sae_cpu_has(SAE_ISA_AVX2))
        return sae_ref_dot(x, w, d);
    sae_pairs_f32__avx2(&x, &m, &first, 1, &out);
    return out;
}

static bool have(int k)
{
    if (sae_cpu_has(kernels[k].isa))
        return true;
    printf("SKIP: this CPU has no %s\n", sae_isa_name(kernels[k].isa));
    return false;
}

/* Lines of values as the classes have them: j % 3 = 0: r p + c0; 1: p + c0; 2: (p + b) + jump,
 * which nearly cancel. `large` is beyond every |p|. */
static float value_of(size_t j, float p, float large, float *c1, double *c0, double *terms)
{
    float bias = (float)((int)(j % 5) - 2) * 0.01f * large, t;

    *c1 = j % 3 ? 1.0f : 0.5f;
    *c0 = *terms = (double)bias;
    if (j % 3 == 0)
        return *c1 * p + bias;
    if (j % 3 == 1)
        return p + bias;
    t = 2048 * large - bias;
    *c0 = (double)(2048 * large) - (double)t;
    *terms = (double)(2048 * large) + (double)t;
    return (p + 2048 * large) - t;
}

/* Every interval holds its projection; what is on and reaches a row's floor is not dropped. */
static void check_intervals(int k, const struct sae_plane *p, struct sae_screen_group g,
                            const struct sae_screen_row *rows, const size_t *which, size_t n,
                            const float *x, const double *theta)
{
    size_t in_group = g.n_panels * SAE_SCREEN_PANEL, ld = p->dq;
    float(*v)[SAE_SCREEN_GROUP] = calloc(n, sizeof *v);
    float(*dot)[SAE_SCREEN_GROUP] = calloc(n, sizeof *dot);
    uint16_t(*masks)[SAE_SCREEN_STREAMS] = calloc(n, sizeof *masks);
    float *floor = calloc(n, sizeof *floor), *u = calloc(p->Fp, sizeof *u), c1, large = 0;
    float *z = calloc(p->Fp, sizeof *z), *plane_floor = calloc(n, sizeof *plane_floor);
    double c0, terms;

    for (size_t i = 0; i < n; i++)
        for (size_t in = 0; in < in_group && g.f0 + in < p->F; in++) {
            dot[i][in] = dot_of(x + which[i] * ld, p->w.f32 + (g.f0 + in) * p->d, p->d);
            large = fmaxf(large, fabsf(dot[i][in]));
        }
    for (size_t j = 0; j < p->F; j++) {
        value_of(j, 0, large, &c1, &c0, &terms);
        sae_plane_line(p, j, (struct sae_line){(double)c1, c0, fabs(terms)}, &u[j], &z[j]);
    }
    for (size_t i = 0; i < n; i++) { /* the value of some feature: it must be met exactly */
        size_t in = (g.f0 + i % 16) % p->F - g.f0;

        in = in < in_group ? in : 0;
        floor[i] = value_of(g.f0 + in, dot[i][in], large, &c1, &c0, &terms);
        plane_floor[i] = sae_plane_floor(&rows[i], floor[i]);
    }
    g.u = u;
    g.z = z;
    kernels[k].interval(rows, n, &g, plane_floor, masks, v);
    for (size_t i = 0; i < n; i++)
        for (size_t in = 0; in < in_group && g.f0 + in < p->F; in++) {
            size_t j = g.f0 + in;
            float low, up, value = value_of(j, dot[i][in], large, &c1, &c0, &terms);

            sae_plane_interval(p, &rows[i], j, v[i][in], &low, &up);
            REQUIRE(low <= dot[i][in] && dot[i][in] <= up, "%a is not in [%a, %a]",
                    (double)dot[i][in], (double)low, (double)up);
            REQUIRE(!(value >= floor[i] && (double)dot[i][in] > theta[j]) ||
                        masks[i][in / SAE_SCREEN_PANEL] >> in % SAE_SCREEN_PANEL & 1,
                    "feature %zu: %a reaches %a and was dropped", j, (double)value,
                    (double)floor[i]);
        }
    free(plane_floor);
    free(z);
    free(u);
    free(floor);
    free(masks);
    free(dot);
    free(v);
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
    uint16_t(*masks)[SAE_SCREEN_STREAMS] = calloc(n, sizeof *masks);
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
            check_intervals(k, p, g, rows, which, o.rows, x, theta);
        kernels[k].screen(rows, o.rows, &g, masks);
        for (size_t i = 0; i < o.rows; i++)
            for (size_t in = 0; in < g.n_panels * SAE_SCREEN_PANEL; in++) {
                bool candidate = masks[i][in / SAE_SCREEN_PANEL] >> in % SAE_SCREEN_PANEL & 1, on;
                size_t j = f + in;

                if (j >= p->F) {
                    REQUIRE(!candidate, "padding feature %zu is a candidate", j);
                    continue;
                }
                on = (double)dot_of(x + which[i] * ld, p->w.f32 + j * p->d, p->d) > theta[j];
                o.candidates += candidate;
                o.on += on;
                o.missed += on && !candidate;
            }
    }
    sae_plane_release(p, rows, o.rows);
    free(which);
    free(masks);
    free(rows);
    sae_free(v);
    sae_free(q);
    for (size_t i = 0; i < SAE_PLANE_COLUMNS; i++)
        REQUIRE(p->columns[i].holders == 0, "a column is held by %u rows that are gone",
                p->columns[i].holders);
    return o;
}

/* NULL: these weights are not screened at all. */
static struct sae_plane *plane_or_none(int k, const float *w, size_t F, size_t d,
                                       const double *theta)
{
    const struct sae_matrix m = {.width = d, .f32 = (float *)w};
    struct sae_plane *p;
    struct sae_err err = {0};

    ck_assert_int_eq(
        sae_plane_create(&p, &m, F, theta, kernels[k].xmax, kernels[k].quant, NULL, &err), SAE_OK);
    return p;
}

static struct sae_plane *plane(int k, const float *w, size_t F, size_t d, const double *theta)
{
    struct sae_plane *p = plane_or_none(k, w, F, d, theta);

    ck_assert_ptr_nonnull(p);
    return p;
}

/* Distributions of rows and weights. */
enum {
    GAUSS,
    OUTLIERS_300,
    OUTLIERS_1000,
    LOGNORMAL,
    HEAVY_W,
    HEAVY_BOTH,
    CONSTANT,
    ONE_HOT,
    LARGE_BESIDE_NOTHING, /* 1, 2 or 5 dimensions of 1e20 to 3e38 beside 1e-13 to 1e-44 */
    ENDS_OF_F32,          /* rows log-uniform from denormals to the largest, weights ragged */
    N_KINDS
};
static const char *const kind_names[] = {
    "gauss",    "outliers x300", "outliers x1000",       "lognormal",  "heavy w", "heavy x and w",
    "constant", "one hot",       "large beside nothing", "ends of f32"};

/* 10^low .. 10^high, of either sign. */
static double log_uniform(double low, double high)
{
    return copysign(pow(10, low + uniform() * (high - low)), uniform() - 0.5);
}

/* The two kinds that take no heed of scales. */
static void fill_extremes(int kind, float *x, size_t n, size_t ld, float *w, size_t F, size_t d)
{
    static const size_t n_large[] = {1, 2, 5};

    for (size_t r = 0; r < n; r++) {
        double rest = pow(10, -13 - uniform() * 31);

        for (size_t k = 0; k < d; k++)
            x[r * ld + k] =
                (float)(kind == ENDS_OF_F32
                            ? fmax(-3e38, fmin(3e38, log_uniform(-46, r % 2 ? 38.4 : 25)))
                            : normal() * rest);
        for (size_t i = 0; kind == LARGE_BESIDE_NOTHING && i < n_large[r % 3]; i++)
            x[r * ld + (size_t)(uniform() * (double)d)] = (float)log_uniform(20, r % 2 ? 38.4 : 29);
    }
    for (size_t j = 0; kind == ENDS_OF_F32 && j < F; j++) {
        double own = log_uniform(-45, 6);

        for (size_t k = 0; k < d; k++)
            w[j * d + k] = (float)(normal() * own * (j % 5 ? 1 : log_uniform(-20, 0)));
    }
}

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
            else if (kind == HEAVY_BOTH)
                v *= exp(1.5 * normal());
            else if (kind == CONSTANT)
                v = 1 + (double)(r % 3);
            else if (kind == ONE_HOT)
                v = k == r % d ? 5 : 0;
            x[r * ld + k] = (float)(v * xs);
        }
    for (size_t j = 0; j < F; j++)
        for (size_t k = 0; k < d; k++) {
            double v = normal() / sqrt((double)d);

            if (kind == HEAVY_W || kind == HEAVY_BOTH)
                v *= exp(1.5 * normal());
            if ((kind == OUTLIERS_300 || kind == OUTLIERS_1000) && k % (d / 3 + 1) == 1)
                v *= j % 2 ? 0.01 : 1;
            w[j * d + k] = (float)(v * ws);
        }
    if (kind == LARGE_BESIDE_NOTHING || kind == ENDS_OF_F32)
        fill_extremes(kind, x, n, ld, w, F, d);
}

/* One draw of rows, weights and thresholds; the outcome, or none when it is not screened. */
static struct outcome trial(int k, int kind, size_t d, double xs, double ws)
{
    size_t F = 60, n = 13, ld = (d + 15) & ~(size_t)15;
    float *x = sae_alloc(n * ld, sizeof *x), *w = sae_alloc(F * d + 16, sizeof *w);
    double *theta = malloc(F * sizeof *theta);
    struct outcome o = {0};
    struct sae_plane *p;

    fill(kind, x, n, ld, w, F, d, xs, ws);
    /* Thresholds at, just below and around values that occur: the decision is close. */
    for (size_t j = 0; j < F; j++) {
        float v = dot_of(x + j % n * ld, w + j * d, d);

        theta[j] = j % 4 == 0   ? (double)v
                   : j % 4 == 1 ? (double)nextafterf(v, -INFINITY)
                   : j % 4 == 2 ? (double)v * (1 + 1e-3 * normal())
                                : 2 * xs * ws;
    }
    p = plane_or_none(k, w, F, d, theta);
    if (p)
        o = run(k, p, x, n, theta);
    REQUIRE(o.missed == 0, "%s, d %zu, scale %g %g: %zu of %zu active features proved off",
            kind_names[kind], d, xs, ws, o.missed, o.on);
    if (xs == 1 && ws == 1 && (kind == GAUSS || kind == OUTLIERS_300))
        REQUIRE(o.rows == n, "%s, d %zu: only %zu of %zu rows screened", kind_names[kind], d,
                o.rows, n);
    sae_plane_free(p);
    free(theta);
    sae_free(w);
    sae_free(x);
    return o;
}

START_TEST(random_rows)
{
    enum { REPEATS = 3 };
    static const size_t widths[] = {1, 5, 16, 48, 100, 256, 768};
    static const double scales[][2] = {{1, 1},       {1e-8, 1e3},  {1e10, 1e-5}, {1e-20, 1e-4},
                                       {1e20, 1e10}, {1e20, 1},    {1e-27, 1e3}, {1e-30, 1},
                                       {1, 1e-30},   {1e20, 1e-29}};
    int k = _i / N_KINDS, kind = _i % N_KINDS, repeats = REPEATS * trials();
    size_t n = 0, rows = 0, on = 0;

    if (!have(k))
        return;
    seed = (uint64_t)_i + 1;
    for (int i = 0; i < repeats; i++)
        for (size_t s = 0; s < SAE_COUNTOF(widths) * SAE_COUNTOF(scales); s++) {
            const double *scale = scales[s / SAE_COUNTOF(widths)];
            struct outcome o = trial(k, kind, widths[s % SAE_COUNTOF(widths)], scale[0], scale[1]);

            n++;
            rows += o.rows;
            on += o.on;
        }
    ck_assert_uint_gt(rows, 0);
    ck_assert_uint_gt(on, 0);
    if (repeats > REPEATS)
        printf("%s, %s: %zu trials, %zu rows screened, %zu active features, none missed\n",
               sae_isa_name(kernels[k].isa), kind_names[kind], n, rows, on);
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

/* ---- Cauchy-Schwarz nearly tight -------------------------------------------------------------
 * One side parallel to the other's quantisation error. */
enum { ADV_D = 256, ADV_N = 12, ADV_F = ADV_N * 9 };
enum adversary { ALONG_ROW_ERROR, ALONG_PLAIN_ROW_ERROR, ALONG_WEIGHT_ERROR, N_ADVERSARIES };

static float adv_x[ADV_N * ADV_D], adv_w[ADV_F * ADV_D + 16];

/* v - s round(v / s) of what the quantiser was given. */
static void error_of(const double *v, const int8_t *q, double s, double *e)
{
    for (size_t i = 0; i < ADV_D; i++)
        e[i] = v[i] - s * (double)q[i];
}

/* Q^T of the error that the row's (or, plain, an unrotated row's) quantisation makes. */
static void row_error(int k, struct sae_plane *p, const double *turn, const float *x, bool plain,
                      double *out)
{
    static double v[ADV_D], e[ADV_D];
    static int8_t q[ADV_D];
    double n2, err2, m = kernels[k].quant->widen(x, ADV_D, v, &n2);
    struct sae_screen_row row;
    int64_t q2, sum;

    if (plain) {
        m /= kernels[k].xmax;
        kernels[k].quant->round(v, ADV_D, m, kernels[k].xmax, q, &err2, &q2, &sum);
        error_of(v, q, m, out);
        return;
    }
    ck_assert(sae_plane_row(p, x, q, &row, v));
    ck_assert_int_eq(row.n_split, 0);
    kernels[k].quant->widen(x, ADV_D, v, &n2);
    kernels[k].quant->rotate(v, ADV_D);
    error_of(v, q, (double)row.s, e);
    unrotate(turn, e, ADV_D, out);
}

/* The same of feature j's weights, whose integers stand in the plane. */
static void weight_error(int k, const struct sae_plane *p, const double *turn, size_t j,
                         double *out)
{
    static double v[ADV_D], e[ADV_D];
    static int8_t q[ADV_D];
    const uint8_t *from = p->q + j / SAE_SCREEN_PANEL * p->dq * SAE_SCREEN_PANEL;
    double n2;

    for (size_t i = 0; i < ADV_D; i++)
        q[i] = (int8_t)(from[(i / 4 * SAE_SCREEN_PANEL + j % SAE_SCREEN_PANEL) * 4 + i % 4] - 128);
    kernels[k].quant->widen(adv_w + j * ADV_D, ADV_D, v, &n2);
    kernels[k].quant->rotate(v, ADV_D);
    error_of(v, q, (double)p->s[j], e);
    unrotate(turn, e, ADV_D, out);
}

/* to = scale (dir / |dir| + mix noise) */
static void along(float *to, const double *dir, double scale, double mix)
{
    double n2 = 0;

    for (size_t i = 0; i < ADV_D; i++)
        n2 += dir[i] * dir[i];
    for (size_t i = 0; i < ADV_D; i++)
        to[i] = (float)(scale * (dir[i] / sqrt(n2) + mix * normal() / 16));
}

/* Feature j goes with row j % N. */
static void make_adversaries(int k, enum adversary kind, const double *turn, double xs, double ws)
{
    static double dir[ADV_D], theta[ADV_F];
    struct sae_plane *p;

    for (size_t i = 0; i < ADV_N * ADV_D; i++) {
        double v = normal() * (i / ADV_D % 3 == 2 ? exp(0.15 * normal()) : 1);

        /* beyond 6 rms, once in some million, a dimension is split off: not what is tested here */
        adv_x[i] = (float)(fmax(-4.5, fmin(v, 4.5)) * xs);
    }
    for (size_t i = 0; i < ADV_F * ADV_D; i++)
        adv_w[i] = (float)(normal() * ws);
    p = plane(k, adv_w, ADV_F, ADV_D, theta); /* its weights and the scale of rows */
    for (size_t j = 0; kind == ALONG_WEIGHT_ERROR && j < ADV_N; j++) {
        weight_error(k, p, turn, j, dir);
        along(adv_x + j * ADV_D, dir, 16 * xs, (double)(j % 4) * 0.02);
    }
    for (size_t j = 0; kind != ALONG_WEIGHT_ERROR && j < ADV_F; j++) {
        row_error(k, p, turn, adv_x + j % ADV_N * ADV_D, kind == ALONG_PLAIN_ROW_ERROR, dir);
        along(adv_w + j * ADV_D, dir, ws, (double)(j / ADV_N % 3) * 0.02);
    }
    sae_plane_free(p);
}

/* How close the projections come to their intervals' ends, in half-widths: at most 1. */
static double tightness(int k, struct sae_plane *p)
{
    static const float zeros[ADV_F + SAE_SCREEN_PANEL]; /* whole panels are read */
    static double v[ADV_D];
    static int8_t q[ADV_D];
    double tight = 0;

    for (size_t j = 0; j < ADV_F; j++) {
        size_t f = j / SAE_SCREEN_PANEL * SAE_SCREEN_PANEL, in = j - f;
        struct sae_screen_group g = {.plane = p->q + f * p->dq,
                                     .dq = p->dq,
                                     .a = p->a,
                                     .b = p->b,
                                     .t = p->t,
                                     .u = zeros,
                                     .z = zeros,
                                     .f0 = f,
                                     .n_panels = 1};
        const float *x = adv_x + j % ADV_N * ADV_D;
        double dot = (double)dot_of(x, adv_w + j * ADV_D, ADV_D), part;
        uint16_t masks[1][SAE_SCREEN_STREAMS];
        struct sae_screen_row row;
        float v_of[SAE_SCREEN_GROUP];
        float none = -INFINITY, low, up;

        ck_assert(sae_plane_row(p, x, q, &row, v));
        kernels[k].interval(&row, 1, &g, &none, masks, &v_of);
        sae_plane_interval(p, &row, j, v_of[in], &low, &up);
        part = fabs(2 * dot - (double)low - (double)up) / ((double)up - (double)low);
        REQUIRE(part <= 1, "the error is %g of the half-width", part);
        tight = part > tight ? part : tight;
    }
    return tight;
}

START_TEST(one_side_along_the_error_of_the_other)
{
    enum { N_SCALES = 5 };
    static const double reached[N_ADVERSARIES] = {0.5, 0, 0.3};
    int k = _i / (N_ADVERSARIES * N_SCALES), at = _i % N_SCALES, repeats = 2 * trials();
    enum adversary kind = (enum adversary)(_i / N_SCALES % N_ADVERSARIES);
    double xs = pow(10, at * 7 - 14), ws = pow(10, 6 - at * 3), theta[ADV_F];

    if (!have(k))
        return;
    double *turn = rotation(kernels[k].quant, ADV_D);
    seed = 99 + (uint64_t)_i;
    for (int i = 0; i < repeats; i++) {
        struct sae_plane *p;
        struct outcome o;
        double tight;

        make_adversaries(k, kind, turn, xs, ws);
        for (size_t j = 0; j < ADV_F; j++) { /* the bias one ulp below, at, and one ulp above */
            float dot = dot_of(adv_x + j % ADV_N * ADV_D, adv_w + j * ADV_D, ADV_D);
            size_t side = j / ADV_N / 3;

            theta[j] = (double)(side == 0   ? nextafterf(dot, -INFINITY)
                                : side == 1 ? dot
                                            : nextafterf(dot, INFINITY));
        }
        p = plane(k, adv_w, ADV_F, ADV_D, theta);
        o = run(k, p, adv_x, ADV_N, theta);
        REQUIRE(o.missed == 0, "%zu of %zu active features proved off", o.missed, o.on);
        REQUIRE(o.on >= ADV_F / 3, "only %zu features are on", o.on);
        REQUIRE(o.rows == ADV_N, "only %zu rows were screened", o.rows);
        tight = tightness(k, p);
        REQUIRE(tight >= reached[kind], "the adversary reaches only %g of the bound", tight);
        sae_plane_free(p);
    }
    sae_free(turn);
}
END_TEST

/* Rows and weights whose rotations are integers within the quantiser's range: no quantisation
 * error, only the rounding terms are left. Without them the bound misses features: the test can
 * fail. */
/* Rows first, then weights, of whole numbers after rotation. */
static void draw_integers(int k, const double *turn, float *x, size_t n, float *w, size_t F,
                          size_t d)
{
    double *y = sae_alloc(d, sizeof *y), *back = sae_alloc(d, sizeof *back);

    for (size_t r = 0; r < n + F; r++) {
        float *to = r < n ? x + r * d : w + (r - n) * d;
        int top = r < n ? kernels[k].xmax : 127;

        for (size_t i = 0; i < d; i++)
            y[i] = i == 0 ? top : floor(uniform() * (2 * top + 1)) - top;
        unrotate(turn, y, d, back);
        for (size_t i = 0; i < d; i++) {
            to[i] = (float)back[i];
            REQUIRE(back[i] == (double)to[i], "%a is no float", back[i]);
        }
    }
    sae_free(back);
    sae_free(y);
}

START_TEST(integers_leave_only_the_rounding_terms)
{
    enum { D = 1024, N = 24, F = 24 * 6 };
    float *x = sae_alloc(N * D, sizeof *x), *w = sae_alloc(F * D + 16, sizeof *w);
    double *turn = NULL, theta[F];
    int k = _i, repeats = (trials() + 9) / 10; /* a draw costs as much as a hundred others */

    if (!have(k))
        goto out;
    turn = rotation(kernels[k].quant, D);
    seed = 5;
    for (int i = 0; i < repeats; i++) {
        struct sae_plane *p;
        struct outcome o;

        draw_integers(k, turn, x, N, w, F, D);
        for (size_t j = 0; j < F; j++)
            theta[j] = (double)nextafterf(dot_of(x + j % N * D, w + j * D, D), -INFINITY);
        p = plane(k, w, F, D, theta);
        o = run(k, p, x, N, theta);
        REQUIRE(o.rows == N, "only %zu rows were screened", o.rows);
        REQUIRE(o.missed == 0, "%zu of %zu active features proved off", o.missed, o.on);
        /* The same without the rounding terms: e = 0, so the bound is the integer sum itself. */
        for (size_t j = 0; j < F; j++) {
            p->a[j] = p->b[j] = 0;
            p->t[j] = (float)(theta[j] / (double)p->s[j]);
        }
        bound_is_whole = false;
        o = run(k, p, x, N, theta);
        bound_is_whole = true;
        REQUIRE(o.missed > 0, "a bound without rounding terms misses nothing: a weak test");
        sae_plane_free(p);
    }
out:
    sae_free(turn);
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

/* Every kernel gives the scalar one's masks, whatever the shape: rows by the register tile, panels
 * side by side or apart, with and without something to prefetch. */
START_TEST(any_shape_gives_the_same_masks)
{
    enum { D = 80, F = 16 * 12, N = 26 };
    float *x = sae_alloc(N * D, sizeof *x), *w = sae_alloc(F * D + 16, sizeof *w);
    double theta[F], *v = sae_alloc(D, sizeof *v);
    int8_t *q = sae_alloc(N, D);
    struct sae_screen_row rows[N];
    const char *fetch[7];
    size_t n_on = 0;
    int k = _i;

    if (!have(k))
        goto out;
    seed = 5;
    fill(OUTLIERS_300, x, N, D, w, F, D, 1, 1);
    for (size_t j = 0; j < F; j++)
        theta[j] = 1.5 * normal();
    for (size_t i = 0; i < SAE_COUNTOF(fetch); i++)
        fetch[i] = (const char *)(w + i * D);
    struct sae_plane *p = plane(k, w, F, D, theta);
    for (size_t r = 0; r < N; r++)
        ck_assert(sae_plane_row(p, x + r * D, q + r * D, rows + r, v));
    for (size_t n = 1; n <= N; n++)
        for (size_t c = 0; c < SAE_SCREEN_STREAMS * 4; c++) {
            uint16_t want[N][SAE_SCREEN_STREAMS], got[N][SAE_SCREEN_STREAMS];
            struct sae_screen_group g = {.plane = p->q + SAE_SCREEN_PANEL * p->dq,
                                         .dq = p->dq,
                                         .a = p->a,
                                         .b = p->b,
                                         .t = p->t,
                                         .f0 = SAE_SCREEN_PANEL,
                                         .n_panels = c % SAE_SCREEN_STREAMS + 1,
                                         .step = c / SAE_SCREEN_STREAMS,
                                         .ahead = n % 2 ? (const char *)p->q : NULL,
                                         .fetch = fetch,
                                         .n_fetch = n % 3 ? SAE_COUNTOF(fetch) : 0};

            sae_screen_i8__scalar(rows, n, &g, want);
            kernels[k].screen(rows, n, &g, got);
            for (size_t r = 0; r < n; r++)
                for (size_t i = 0; i < g.n_panels; i++) {
                    ck_assert_msg(want[r][i] == got[r][i],
                                  "%zu rows, %zu panels, step %zu: row %zu, panel %zu differs", n,
                                  g.n_panels, g.step, r, i);
                    n_on += (size_t)__builtin_popcount(want[r][i]);
                }
        }
    ck_assert_uint_gt(n_on, 10000); /* masks worth comparing */
    sae_plane_free(p);
out:
    sae_free(q);
    sae_free(v);
    sae_free(w);
    sae_free(x);
}
END_TEST

/* d 64; `where`: the outlier dimension. */
static bool holds_column_of(struct sae_plane *p, size_t where, float rest,
                            struct sae_screen_row *row)
{
    static double v[64];
    static int8_t q[64];
    float x[64];

    for (size_t k = 0; k < 64; k++)
        x[k] = k == where ? 1.0f : rest * (k % 2 ? 1.0f : -1.0f);
    return sae_plane_row(p, x, q, row, v) && row->n_split == 1;
}

/* Rows of one large dimension and nothing else took all the columns, and rows with other outlier
 * dimensions were dense from then on. */
START_TEST(unit_vectors_take_no_columns)
{
    static float w[40 * 64];
    static double theta[40];
    struct sae_screen_row row = {0};
    struct sae_plane *p;

    for (size_t i = 0; i < SAE_COUNTOF(w); i++)
        w[i] = (float)normal();
    p = plane(0, w, 40, 64, theta);
    for (size_t k = 0; k < 64; k++) {
        ck_assert(!holds_column_of(p, k, 0, &row));
        ck_assert(!holds_column_of(p, k, 1e-10f, &row));
    }
    for (size_t i = 0; i < SAE_PLANE_COLUMNS; i++)
        ck_assert_ptr_null(p->columns[i].values);
    sae_plane_free(p);
}
END_TEST

/* All columns taken: the one least used makes way for one that is asked for again and again, unless
 * a row holds it. */
START_TEST(columns_make_way_for_those_that_are_used)
{
    static float w[40 * 64];
    static double theta[40];
    struct sae_screen_row rows[SAE_PLANE_COLUMNS] = {0}, row;
    struct sae_plane *p;

    for (size_t i = 0; i < SAE_COUNTOF(w); i++)
        w[i] = (float)normal();
    p = plane(0, w, 40, 64, theta);
    for (size_t k = 0; k < SAE_PLANE_COLUMNS; k++)
        ck_assert(holds_column_of(p, k, 1e-3f, &rows[k]));
    for (int i = 0; i < 2 * SAE_PLANE_DEMAND; i++) /* all are held: none makes way */
        ck_assert(!holds_column_of(p, 60, 1e-3f, &row));
    sae_plane_release(p, rows, SAE_PLANE_COLUMNS);
    ck_assert(holds_column_of(p, 60, 1e-3f, &row)); /* wanted much more often than any */
    for (size_t j = 0; j < 40; j++)
        ck_assert_float_eq(row.col[0][j], w[j * 64 + 60] / p->s[j]);
    sae_plane_release(p, &row, 1);
    for (int i = 1; i < SAE_PLANE_DEMAND; i++) /* often enough, one short */
        ck_assert(!holds_column_of(p, 61, 1e-3f, &row));
    ck_assert(holds_column_of(p, 61, 1e-3f, &row));
    sae_plane_release(p, &row, 1);
    ck_assert(holds_column_of(p, 60, 1e-3f, &row)); /* the least used went, not this one */
    sae_plane_release(p, &row, 1);
    /* What was asked for long ago counts for little. */
    for (int i = 0; i < 10 * SAE_PLANE_AGE; i++)
        if (holds_column_of(p, 62, 1e-3f, &row))
            sae_plane_release(p, &row, 1);
    ck_assert_uint_eq(p->asked[60], 0);
    sae_plane_free(p);
}
END_TEST

/* Every panel once, in whatever order; nothing outside the plane is prefetched. */
START_TEST(groups_cover_every_panel_once)
{
    enum { D = 16, BLOCK = 16 * 12 };
    static float w[16 * 40 * D];
    static double theta[16 * 40];
    static const uint16_t all[SAE_SCREEN_STREAMS] = {0xffff, 0xffff, 0xffff, 0xffff};

    for (size_t i = 0; i < SAE_COUNTOF(w); i++)
        w[i] = 1;
    for (size_t panels = 1; panels <= 40; panels++)
        for (int i = 0; i < 4; i++) {
            struct sae_plane *p = plane(0, w, 16 * panels - 3, D, theta);
            bool apart = i % 2;
            size_t width = i / 2 ? 3 : 4, seen[40] = {0}, most = 0;
            const char *begin = (const char *)p->q, *end = begin + p->Fp * p->dq;

            for (size_t f = 0; f < p->Fp; f += BLOCK) {
                struct sae_screen_group g = {0};
                struct sae_groups s;

                sae_groups_init(&s, p, f, BLOCK, apart, width);
                while (sae_groups_next(&s, &g)) {
                    ck_assert_ptr_eq(g.plane, p->q + g.f0 * p->dq);
                    ck_assert(g.n_panels >= 1 && g.n_panels <= SAE_SCREEN_STREAMS);
                    for (size_t c = 0; c < g.n_panels; c++) {
                        size_t j = sae_group_feature(&g, c * SAE_SCREEN_PANEL);

                        ck_assert(j >= f && j < f + BLOCK && j < p->Fp);
                        seen[j / SAE_SCREEN_PANEL]++;
                    }
                    /* whatever a kernel says, bits of padding and of no panel are no candidates */
                    for (size_t bit = 0; bit < 64; bit++)
                        ck_assert_uint_eq(sae_group_bits(all, sae_group_valid(p, &g)) >> bit & 1,
                                          bit < g.n_panels * SAE_SCREEN_PANEL &&
                                              sae_group_feature(&g, bit) < p->F);
                    ck_assert(!g.ahead ||
                              (g.ahead >= begin &&
                               g.ahead + ((g.n_panels - 1) * g.step + 1) * p->dq * 16 <= end));
                    most = g.step > most ? g.step : most;
                }
            }
            for (size_t c = 0; c < panels; c++)
                ck_assert_uint_eq(seen[c], 1);
            ck_assert_uint_eq(most, !apart ? 1 : panels < 8 ? 1 : panels >= 12 ? 3 : panels / 4);
            sae_plane_free(p);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("screen");
    SRunner *r = srunner_create(s);
    int n = N_ADVERSARIES * 5, failed;

    for (int k = 0; k < N_KERNELS; k++) {
        TCase *t = tcase_create(sae_isa_name(kernels[k].isa));

        tcase_set_timeout(t, 0);
        tcase_add_loop_test(t, random_rows, k * N_KINDS, (k + 1) * N_KINDS);
        tcase_add_loop_test(t, one_side_along_the_error_of_the_other, k * n, (k + 1) * n);
        tcase_add_loop_test(t, integers_leave_only_the_rounding_terms, k, k + 1);
        tcase_add_loop_test(t, any_shape_gives_the_same_masks, k, k + 1);
        if (k == 0) {
            tcase_add_test(t, rows_that_cannot_be_screened_say_so);
            tcase_add_test(t, groups_cover_every_panel_once);
            tcase_add_test(t, unit_vectors_take_no_columns);
            tcase_add_test(t, columns_make_way_for_those_that_are_used);
        }
        suite_add_tcase(s, t);
    }
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
