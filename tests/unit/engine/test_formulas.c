/* test_formulas.c - the fields of a formula, one with another: every engine and instruction set
 * against ref.c, and ref.c against the formula in f64. Dictionaries are made from formulae; no
 * class has most of these. */
#include "lib/dict/ref.h"
#include "lib/engine/native/state.h"
#include "lib/num.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* top_k counts where F is 7: elsewhere it is the same share of F, or a tenth of that. */
static const struct {
    const char *name;
    struct sae_formula f;
} formulas[] = {
    {"linear", {.unit = SAE_UNIT_LINEAR, .has_centre = true, .adds_centre = true}},
    {"linear top 3", {.unit = SAE_UNIT_LINEAR, .has_dec_bias = true, .top_k = 3}},
    {"linear top 6",
     {.unit = SAE_UNIT_LINEAR, .has_centre = true, .adds_centre = true, .top_k = 6}},
    {"signed", {.unit = SAE_UNIT_THRESHOLD_SIGNED, .has_centre = true, .has_dec_bias = true}},
    {"signed top 2", {.unit = SAE_UNIT_THRESHOLD_SIGNED, .has_dec_bias = true, .top_k = 2}},
    {"signed top 5",
     {.unit = SAE_UNIT_THRESHOLD_SIGNED, .has_centre = true, .adds_centre = true, .top_k = 5}},
    {"threshold top 3", {.unit = SAE_UNIT_THRESHOLD, .has_centre = true, .top_k = 3}},
    {"relu top 2", {.unit = SAE_UNIT_RELU, .has_centre = true, .has_dec_bias = true, .top_k = 2}},
};
#define N_FORMULAS ((int)SAE_COUNTOF(formulas))

static const struct {
    size_t d, F;
} shapes[] = {{5, 7}, {19, 37}, {6, 6}, {48, 2100}};
#define N_SHAPES ((int)SAE_COUNTOF(shapes))

static struct sae_formula formula_of(int i, int shape)
{
    struct sae_formula f = formulas[i].f;

    f.d_in = f.d_out = shapes[shape].d;
    f.F = shapes[shape].F;
    f.top_k = (f.top_k * f.F + 6) / (f.F < 100 ? 7 : 70);
    return f;
}

/* Sets of the table by numbers of the loop: formula, then shape, then what is left. */
static int take(int *i, int n)
{
    int v = *i % n;

    *i /= n;
    return v;
}

/* Some features equal their neighbours, so that values tie, at the k-th place too. */
static void make_ties(struct sae_dict *d)
{
    for (size_t j = 1; j < d->formula.F; j += 3) {
        memcpy(d->enc + j * d->formula.d_in, d->enc + (j - 1) * d->formula.d_in,
               d->formula.d_in * sizeof *d->enc);
        for (size_t i = 0; i < SAE_MAX_PARAMS && d->param[i]; i++)
            d->param[i][j] = d->param[i][j - 1];
    }
}

/* A few per cent on: thresholds prove most features off. */
static void make_sparse(struct sae_dict *d)
{
    float *theta = sae_dict_array(d, SAE_ROLE_THRESHOLD);

    for (size_t j = 0; j < d->formula.F; j++) {
        if (theta)
            theta[j] = fabsf(theta[j]);
        d->param[0][j] = j % 7 == 0 ? -1.2f : -2.3f;
    }
}

static struct sae_dict *make(int formula, int shape, int kind, uint64_t seed)
{
    struct sae_formula f = formula_of(formula, shape);
    struct sae_dict *d = kind == 0 ? dicts_fixture(&f) : dicts_make_as(&f, seed);

    make_ties(d);
    if (kind == 2)
        make_sparse(d);
    return d;
}

START_TEST(native_equals_the_reference)
{
    int i = _i, isa = take(&i, SAE_N_ISAS), formula = take(&i, N_FORMULAS),
        shape = take(&i, N_SHAPES);

    for (int kind = 0; kind < 3; kind++)
        for (int way = BATCHES_BY_THRESHOLD; way < BATCHES_N_WAYS; way++) {
            struct sae_dict *d = make(formula, shape, kind, (uint64_t)_i);
            struct sae_engine *e = batches_native((enum sae_isa)isa, d);

            if (e) {
                batches_only((enum batches_way)way, d);
                batches_mixed(e, d, true, true, (uint64_t)(_i * 6 + kind * 2 + way));
                batches_end(e, d);
            }
            sae_dict_free(d);
        }
}
END_TEST

/* Sums of eighths are exact: the engine that promises a tolerance gives the same bits. */
START_TEST(openblas_equals_the_reference)
{
    int i = _i, formula = take(&i, N_FORMULAS), shape = take(&i, N_SHAPES);
    struct sae_dict *d = make(formula, shape, 0, 1);
    struct sae_engine *e = batches_engine(BATCHES_OPENBLAS, d);

    batches_mixed(e, d, true, true, (uint64_t)_i);
    sae_engine_free(e);
    sae_dict_free(d);
}
END_TEST

START_TEST(reference_is_near_the_truth)
{
    int i = _i, formula = take(&i, N_FORMULAS), shape = take(&i, 3), kind = take(&i, 2);
    struct sae_dict *d = make(formula, shape, kind, 3);
    float *x = dicts_rows(5, d->formula.d_in, 4), f[40], y[40];

    for (size_t r = 0; r < 5; r++) {
        struct tol t;

        for (size_t k = 0; r < 3 && k < d->formula.d_in; k++)
            x[r * d->formula.d_in + k] = dicts_fixture_x(r, k);
        sae_ref_encode(d, x + r * d->formula.d_in, f, NULL);
        tol_encode(d, x + r * d->formula.d_in, false, &t, NULL);
        ck_assert_tol(&t, f, formulas[formula].name);
        tol_free(&t);
        sae_ref_decode(d, f, true, y);
        tol_decode(d, f, &t);
        ck_assert_tol(&t, y, "x_hat");
        tol_free(&t);
    }
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

/* Values of the row of the fixtures, worked out by hand, in 32nds. */
START_TEST(the_fixtures_row_is_exact)
{
    static const struct {
        enum sae_unit_id unit;
        uint64_t top_k;
        int f[7];
    } cases[] = {
        {SAE_UNIT_RELU, 0, {5, 0, 196, 0, 0, 5, 237}},
        {SAE_UNIT_RELU, 3, {5, 0, 196, 0, 0, 0, 237}}, /* a tie: the lower id */
        {SAE_UNIT_LINEAR, 0, {5, -36, 196, -31, -140, 5, 237}},
        {SAE_UNIT_LINEAR, 6, {5, -36, 196, -31, 0, 5, 237}},
        /* thetas 0, 16, -32, 32, -140, 8, 64: -36 is above no threshold; h = theta is off */
        {SAE_UNIT_THRESHOLD, 0, {5, 0, 196, 0, 0, 0, 237}},
        {SAE_UNIT_THRESHOLD_SIGNED, 0, {5, 0, 196, 0, 0, 0, 237}},
    };
    struct sae_formula f = {.d_in = 5,
                            .d_out = 5,
                            .F = 7,
                            .unit = cases[_i].unit,
                            .top_k = cases[_i].top_k,
                            .has_centre = true,
                            .adds_centre = true};
    struct sae_dict *d = dicts_fixture(&f);
    float x[5], got[7];

    for (size_t k = 0; k < 5; k++)
        x[k] = dicts_fixture_x(0, k);
    sae_ref_encode(d, x, got, NULL);
    for (size_t j = 0; j < 7; j++)
        ck_assert_msg(got[j] * 32.0f == (float)cases[_i].f[j], "f[%zu] is %g / 32, want %d", j,
                      (double)got[j] * 32.0, cases[_i].f[j]);
    sae_dict_free(d);
}
END_TEST

/* What is not a number, infinite or a zero of either sign. */
START_TEST(signed_units_at_the_ends)
{
    static const struct {
        enum sae_unit_id unit;
        float p, bias, theta, f;
    } cases[] = {
        {SAE_UNIT_LINEAR, -0.0f, -0.0f, 0, 0.0f},
        {SAE_UNIT_LINEAR, -INFINITY, 1, 0, -INFINITY},
        {SAE_UNIT_LINEAR, NAN, 1, 0, NAN},
        {SAE_UNIT_THRESHOLD_SIGNED, -2, 1, -1.5f, -1},
        {SAE_UNIT_THRESHOLD_SIGNED, -2, 1, -1, 0.0f}, /* exactly the threshold: off, and +0 */
        {SAE_UNIT_THRESHOLD_SIGNED, -0.0f, -0.0f, -1, 0.0f},
        {SAE_UNIT_THRESHOLD_SIGNED, -INFINITY, 1, -1, NAN}, /* 0 * infinity */
        {SAE_UNIT_THRESHOLD_SIGNED, INFINITY, 1, 5, INFINITY},
        {SAE_UNIT_THRESHOLD_SIGNED, NAN, 1, 5, NAN},
    };
    float aux = 1, got = sae_units[cases[_i].unit].value(
                       cases[_i].p, (float[]){cases[_i].bias, cases[_i].theta}, &aux);

    ck_assert(isnan(cases[_i].f) ? isnan(got) : sae_f32_bits(got) == sae_f32_bits(cases[_i].f));
    ck_assert(aux == 0.0f);
}
END_TEST

/* A zero takes a place before what is negative, and is not listed. */
START_TEST(zeros_take_places)
{
    static const float h[8] = {5, 0, -1, -2, 0, -3, -0.0f, 7};
    static const struct {
        uint64_t k;
        unsigned on; /* bits of features */
    } cases[] = {{1, 0x80}, {2, 0x81}, {3, 0x81}, {5, 0x81}, {6, 0x85}, {7, 0x8d}, {8, 0xad}};
    struct sae_formula f = {
        .d_in = 1, .d_out = 1, .F = 8, .unit = SAE_UNIT_LINEAR, .top_k = cases[_i].k};
    struct sae_dict *d = dicts_fixture(&f);
    const float x = 1.0f;
    float got[8];

    memcpy(d->enc, h, sizeof h);
    memset(d->param[0], 0, sizeof h);
    sae_ref_encode(d, &x, got, NULL);
    for (size_t j = 0; j < 8; j++) {
        float want = cases[_i].on >> j & 1 ? h[j] : 0.0f;

        ck_assert_uint_eq(sae_f32_bits(got[j]), sae_f32_bits(want));
    }
    for (int way = 0; way < BATCHES_N_WAYS; way++) {
        struct sae_engine *e = batches_engine((enum batches_way)way, d);

        batches_mixed(e, d, true, true, (uint64_t)way);
        batches_end(e, d);
    }
    sae_dict_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("formulas");
    TCase *t = tcase_create("formulas");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, native_equals_the_reference, 0, SAE_N_ISAS * N_FORMULAS * N_SHAPES);
    tcase_add_loop_test(t, openblas_equals_the_reference, 0, N_FORMULAS * N_SHAPES);
    tcase_add_loop_test(t, reference_is_near_the_truth, 0, N_FORMULAS * 3 * 2);
    tcase_add_loop_test(t, the_fixtures_row_is_exact, 0, 6);
    tcase_add_loop_test(t, signed_units_at_the_ends, 0, 9);
    tcase_add_loop_test(t, zeros_take_places, 0, 7);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
