/* test_formulas.c - the fields of a formula, one with another: every engine and instruction set
 * against ref.c, and ref.c against the formula in f64. Dictionaries are made from formulae; no
 * class has most of these. */
#include "lib/dict/ref.h"
#include "lib/engine/native/state.h"
#include "lib/num.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"
#include "tests/support/sanitized.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* top_k counts where F is 7: elsewhere it is the same share of F, or a fiftieth of that. A d_out
 * stands for one that is not d_in. */
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
    {"relu scored", {.unit = SAE_UNIT_RELU, .score = SAE_SCORE_DECODER_NORM}},
    {"relu scored top 3",
     {.unit = SAE_UNIT_RELU,
      .has_centre = true,
      .adds_centre = true,
      .score = SAE_SCORE_DECODER_NORM,
      .top_k = 3}},
    {"relu folded top 3",
     {.unit = SAE_UNIT_RELU,
      .has_centre = true,
      .adds_centre = true,
      .score = SAE_SCORE_DECODER_NORM_FOLDED,
      .top_k = 3}},
    {"threshold folded",
     {.unit = SAE_UNIT_THRESHOLD,
      .has_dec_bias = true,
      .score = SAE_SCORE_DECODER_NORM_FOLDED,
      .d_out = 1}},
    {"threshold scored top 2",
     {.unit = SAE_UNIT_THRESHOLD, .score = SAE_SCORE_DECODER_NORM, .top_k = 2}},
    {"linear scored top 4",
     {.unit = SAE_UNIT_LINEAR, .score = SAE_SCORE_DECODER_NORM, .top_k = 4, .d_out = 1}},
    {"linear folded",
     {.unit = SAE_UNIT_LINEAR, .has_dec_bias = true, .score = SAE_SCORE_DECODER_NORM_FOLDED}},
    {"signed scored", {.unit = SAE_UNIT_THRESHOLD_SIGNED, .score = SAE_SCORE_DECODER_NORM}},
    {"signed scored top 4",
     {.unit = SAE_UNIT_THRESHOLD_SIGNED, .score = SAE_SCORE_DECODER_NORM, .top_k = 4}},
    {"signed folded top 3, layer norm",
     {.unit = SAE_UNIT_THRESHOLD_SIGNED,
      .has_centre = true,
      .adds_centre = true,
      .score = SAE_SCORE_DECODER_NORM_FOLDED,
      .top_k = 3,
      .input = SAE_SCALING_LAYER,
      .output = SAE_SCALING_LAYER}},
    {"linear alone", {.unit = SAE_UNIT_LINEAR, .encodes_only = true}},
    {"linear scored top 3 alone",
     {.unit = SAE_UNIT_LINEAR,
      .has_centre = true,
      .score = SAE_SCORE_DECODER_NORM,
      .top_k = 3,
      .encodes_only = true}},
    {"scale",
     {.unit = SAE_UNIT_RELU,
      .has_centre = true,
      .adds_centre = true,
      .input = SAE_SCALING_CONSTANT,
      .input_scale = 0.5f,
      .output = SAE_SCALING_CONSTANT,
      .output_scale = 0.5f}},
    {"scaled output",
     {.unit = SAE_UNIT_THRESHOLD_SIGNED,
      .has_dec_bias = true,
      .output = SAE_SCALING_CONSTANT,
      .output_scale = 4.0f,
      .d_out = 1}},
    {"rms",
     {.unit = SAE_UNIT_THRESHOLD,
      .has_centre = true,
      .adds_centre = true,
      .input = SAE_SCALING_RMS,
      .output = SAE_SCALING_RMS}},
    {"rms linear top 2, skip",
     {.unit = SAE_UNIT_LINEAR,
      .has_centre = true,
      .has_dec_bias = true,
      .has_skip = true,
      .top_k = 2,
      .input = SAE_SCALING_RMS,
      .output = SAE_SCALING_RMS,
      .d_out = 1}},
    {"layer norm",
     {.unit = SAE_UNIT_RELU,
      .has_centre = true,
      .adds_centre = true,
      .input = SAE_SCALING_LAYER,
      .output = SAE_SCALING_LAYER}},
    {"layer norm that stays", {.unit = SAE_UNIT_LINEAR, .input = SAE_SCALING_LAYER}},
    {"transcoder", {.unit = SAE_UNIT_RELU, .has_dec_bias = true, .d_out = 1}},
    {"skip", {.unit = SAE_UNIT_RELU, .has_centre = true, .adds_centre = true, .has_skip = true}},
    {"skip transcoder",
     {.unit = SAE_UNIT_LINEAR, .has_dec_bias = true, .has_skip = true, .d_out = 1}},
};
#define N_FORMULAS ((int)SAE_COUNTOF(formulas))

static const struct {
    size_t d, F, m;
} shapes[] = {{1, 3, 2}, {5, 7, 3}, {19, 37, 11}, {6, 6, 6}, {48, 2100, 70}};
#define N_SHAPES ((int)SAE_COUNTOF(shapes))

static struct sae_formula formula_of(int i, int shape)
{
    struct sae_formula f = formulas[i].f;

    f.d_in = shapes[shape].d;
    f.d_out = f.d_out ? shapes[shape].m : f.d_in;
    f.F = shapes[shape].F;
    f.top_k = (f.top_k * f.F + 6) / (f.F < 100 ? 7 : 350);
    return f;
}

/* Sets of the table by numbers of the loop: formula, then shape, then what is left. */
static int take(int *i, int n)
{
    int v = *i % n;

    *i /= n;
    return v;
}

/* A fixture's decoder with norms that are whole (3, 5, 1, 1/2), one of them 0; m is 3 or more. */
static void make_norms(struct sae_dict *d)
{
    static const float rows[7][3] = {{0, 0.5f, 0}, {1, 0, 0}, {0, 0, -3}, {3, 0, 4},
                                     {0, -3, 4},   {2, 2, 1}, {0, 1, 0}};
    size_t m = d->formula.d_out;

    if (m < 3 || !d->dec.f32)
        return;
    memset(d->dec.f32, 0, d->formula.F * m * sizeof *d->dec.f32);
    for (size_t j = 0; j < d->formula.F; j++)
        if (j % 11 != 10)
            memcpy(d->dec.f32 + j * m, rows[j % 7], sizeof rows[0]);
    ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, NULL), SAE_OK);
}

/* Some features equal their neighbours, so that values tie, at the k-th place too. */
static void make_ties(struct sae_dict *d)
{
    for (size_t j = 1; j < d->formula.F; j += 3) {
        memcpy(d->enc.f32 + j * d->formula.d_in, d->enc.f32 + (j - 1) * d->formula.d_in,
               d->formula.d_in * sizeof *d->enc.f32);
        for (size_t i = 0; i < SAE_MAX_PARAMS && d->param[i]; i++)
            d->param[i][j] = d->param[i][j - 1];
        if (d->dec_norm)
            d->dec_norm[j] = d->dec_norm[j - 1];
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

/* Kinds from N_PLAIN on: dictionaries whose matrices are kept in 16 bits. */
enum { N_PLAIN = 3, N_KINDS = 6 };
static const struct sae_storage storages[] = {{SAE_DTYPE_BF16, SAE_DTYPE_F16, false},
                                              {SAE_DTYPE_F16, SAE_DTYPE_F32, false},
                                              {SAE_DTYPE_BF16, SAE_DTYPE_BF16, true}};

static struct sae_dict *make(int formula, int shape, int kind, uint64_t seed)
{
    struct sae_formula f = formula_of(formula, shape);
    struct sae_dict *d = kind == 0 ? dicts_fixture(&f) : dicts_make_as(&f, seed);
    struct sae_storage kept = storages[kind < N_PLAIN ? 0 : kind - N_PLAIN];

    if (kind == 0 && f.score != SAE_SCORE_VALUE)
        make_norms(d);
    make_ties(d);
    if (kind == 2 || kind == 4)
        make_sparse(d);
    kept.is_tied &= f.d_in == f.d_out && !f.encodes_only;
    return kind < N_PLAIN ? d : dicts_kept_take(d, &kept);
}

START_TEST(native_equals_the_reference)
{
    int i = _i, isa = take(&i, SAE_N_ISAS), formula = take(&i, N_FORMULAS),
        shape = take(&i, N_SHAPES);

    for (int kind = 0; kind < N_KINDS; kind++) {
        if (shape < N_SHAPES - 1 && (kind == 1 || kind == 2))
            continue;
        /* A sanitizer looks at memory: each kind under each instruction set, not of each formula.
         */
        if (SANITIZED && shape == N_SHAPES - 1 && (kind + formula + isa) % 3)
            continue;
        for (int way = BATCHES_BY_THRESHOLD; way < BATCHES_N_WAYS; way++) {
            struct sae_dict *d = make(formula, shape, kind, (uint64_t)_i);
            struct sae_engine *e = batches_native((enum sae_isa)isa, d);

            if (e) {
                batches_only((enum batches_way)way, d);
                batches_mixed(e, d, true, true, (uint64_t)(_i * 12 + kind * 2 + way));
                batches_end(e, d);
            }
            sae_dict_free(d);
        }
    }
}
END_TEST

/* Sums of eighths are exact: the engine that promises a tolerance gives the same bits. */
START_TEST(openblas_equals_the_reference)
{
    int i = _i, formula = take(&i, N_FORMULAS), shape = take(&i, N_SHAPES);
    struct sae_formula f = formula_of(formula, shape);
    /* where sums are rounded, ties and what is selected among them would be by chance */
    struct sae_dict *d =
        sae_scaling_n_state(f.input) ? dicts_make_as(&f, (uint64_t)_i) : make(formula, shape, 0, 1);
    struct sae_engine *e = batches_engine(BATCHES_OPENBLAS, d);

    batches_mixed(e, d, sae_scaling_n_state(f.input) == 0, sae_scaling_n_state(f.input) == 0,
                  (uint64_t)_i);
    sae_engine_free(e);
    sae_dict_free(d);
}
END_TEST

static struct sae_task run(struct sae_engine *e, struct sae_dict *d, const struct sae_task *task)
{
    struct sae_task t = *task;
    struct sae_slice slice = {.task = &t, .n_rows = t.n_rows};
    struct sae_batch *b;
    struct sae_scratch *s;

    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(d, t.n_rows), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(d, t.n_rows), NULL), SAE_OK);
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    batches_run(b, s, d, t.query.op == SAE_OP_DECODE ? SAE_SIDE_DECODE : SAE_SIDE_ENCODE, &slice,
                1);
    ck_assert_int_eq(t.failed, 0);
    sae_scratch_free(s);
    sae_batch_free(b);
    return t;
}

/* With the rows' own numbers and the rows beside it: f dense and sparse, of few and of many rows,
 * so that both ways of decode are taken. */
START_TEST(decode_of_forward_is_its_x_hat)
{
    enum { N = 40 };
    int i = _i, isa = take(&i, SAE_N_ISAS), formula = take(&i, N_FORMULAS), n = i ? N : 1;
    struct sae_dict *d = make(formula, N_SHAPES - 1, n == 1 ? 1 : N_PLAIN + formula % 3, 5);
    struct sae_engine *e = batches_native((enum sae_isa)isa, d);
    const size_t n_state = sae_scaling_n_state(d->formula.input), m = d->formula.d_out;
    float *x = dicts_rows(N, d->formula.d_in, 6);

    for (int form = SAE_FORM_DENSE; e && d->dec.values && form <= SAE_FORM_SPARSE; form++) {
        struct sae_task forward, decode, t = {.dict = d, .n_rows = (size_t)n, .x = x};

        t.query = (struct sae_query){.op = SAE_OP_FORWARD,
                                     .want_f = true,
                                     .want_state = n_state > 0,
                                     .form = (enum sae_form)form};
        forward = run(e, d, &t);
        ck_assert_uint_eq(sae_dict_info(d)->state_width, n_state);
        for (size_t r = 0; r < (size_t)n; r++) {
            float own[SAE_MAX_STATE];

            sae_ref_state(d, x + r * d->formula.d_in, own);
            ck_assert(n_state == 0 ||
                      memcmp(forward.state + r * n_state, own, n_state * sizeof *own) == 0);
        }
        t = (struct sae_task){.dict = d, .n_rows = (size_t)n, .x = forward.f};
        t.f_in = forward.f_rows;
        t.state_in = forward.state;
        t.skip_x = x;
        t.query.op = SAE_OP_DECODE;
        decode = run(e, d, &t);
        ck_assert_msg(memcmp(decode.x_hat, forward.x_hat, (size_t)n * m * sizeof *x) == 0, "%s",
                      formulas[formula].name);
        sae_task_fini(&forward);
        sae_task_fini(&decode);
    }
    if (e)
        batches_end(e, d);
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

START_TEST(reference_is_near_the_truth)
{
    int i = _i, formula = take(&i, N_FORMULAS), shape = take(&i, N_SHAPES - 1), kind = take(&i, 2);
    struct sae_dict *d = make(formula, shape, kind, 3);
    float *x = dicts_rows(5, d->formula.d_in, 4), f[40], y[40], state[SAE_MAX_STATE];

    for (size_t r = 0; r < 5; r++) {
        struct tol t;

        for (size_t k = 0; r < 3 && k < d->formula.d_in; k++)
            x[r * d->formula.d_in + k] = dicts_fixture_x(r, k);
        for (size_t k = 0; r == 3 && k < d->formula.d_in; k++)
            x[r * d->formula.d_in + k] = 0.0f;
        sae_ref_encode(d, x + r * d->formula.d_in, f, NULL);
        tol_encode(d, x + r * d->formula.d_in, false, &t, NULL);
        ck_assert_tol(&t, f, formulas[formula].name);
        tol_free(&t);
        if (!d->dec.f32)
            continue;
        sae_ref_decode(d, f, true, y);
        sae_ref_state(d, x + r * d->formula.d_in, state);
        sae_ref_output(d, x + r * d->formula.d_in, state, y);
        tol_decode(d, f, x + r * d->formula.d_in, &t);
        ck_assert_tol(&t, y, "x_hat");
        tol_free(&t);
    }
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

/* ---- the ends of what is proved off ------------------------------------------------------------
 */

enum { EDGE_D = 64, EDGE_F = 2048, EDGE_ROWS = 48 };

/* Every feature's bias puts h of the row that reaches highest at the edge of its tau: there, or one
 * step above. */
static void put_at_edges(struct sae_dict *d, const float *x)
{
    const struct sae_unit *unit = sae_formula_unit(&d->formula);
    float *highest = calloc(EDGE_F, sizeof *highest), *p = calloc(EDGE_F, sizeof *p);

    ck_assert(highest && p);
    for (size_t r = 0; r < EDGE_ROWS; r++) {
        sae_ref_project(d, x + r * EDGE_D, p);
        for (size_t j = 0; j < EDGE_F; j++)
            highest[j] = r == 0 || p[j] > highest[j] ? p[j] : highest[j];
    }
    for (size_t j = 0; j < EDGE_F; j++) {
        float param[SAE_MAX_PARAMS], tau = (float)unit->tau(sae_dict_params(d, j, param)), b;

        if (d->formula.score != SAE_SCORE_VALUE)
            tau = d->dec_norm[j] > 0.0f ? sae_score_tau(tau, d->dec_norm[j]) : 0.0f;
        b = tau - highest[j];
        while (highest[j] + b > tau)
            b = nextafterf(b, -INFINITY);
        while (highest[j] + nextafterf(b, INFINITY) <= tau)
            b = nextafterf(b, INFINITY);
        d->param[0][j] = j % 2 ? nextafterf(b, INFINITY) : b;
    }
    free(p);
    free(highest);
}

/* Thresholds of both signs, norms from nothing to what f32 holds, rows up to the guards. */
START_TEST(nothing_at_the_edges_is_missed)
{
    static const struct {
        enum sae_unit_id unit;
        enum sae_score score;
    } cases[] = {
        {SAE_UNIT_THRESHOLD, SAE_SCORE_VALUE},
        {SAE_UNIT_THRESHOLD_SIGNED, SAE_SCORE_VALUE},
        {SAE_UNIT_RELU, SAE_SCORE_DECODER_NORM},
        {SAE_UNIT_THRESHOLD, SAE_SCORE_DECODER_NORM},
        {SAE_UNIT_THRESHOLD, SAE_SCORE_DECODER_NORM_FOLDED},
        {SAE_UNIT_THRESHOLD_SIGNED, SAE_SCORE_DECODER_NORM},
    };
    static const float norms[] = {1.0f, 0x1p-120f, 0.3f, 0.0f, 5.0f, 0x1p120f};
    int i = _i, isa = take(&i, SAE_N_ISAS), c = take(&i, (int)SAE_COUNTOF(cases)),
        n_norms = take(&i, 2) ? 6 : 5;
    const struct sae_formula f = {.d_in = EDGE_D,
                                  .d_out = EDGE_D,
                                  .F = EDGE_F,
                                  .unit = cases[c].unit,
                                  .score = cases[c].score};
    struct sae_dict *d = dicts_make_as(&f, 1);
    float *x = dicts_rows(EDGE_ROWS, EDGE_D, 2), *theta = sae_dict_array(d, SAE_ROLE_THRESHOLD);
    struct sae_engine *e;

    for (size_t j = 0; j < EDGE_F; j++) {
        d->dec_norm[j] = norms[j % (size_t)n_norms];
        if (theta)
            theta[j] = (float)(j % 3) - 1.0f;
    }
    put_at_edges(d, x);
    e = batches_native((enum sae_isa)isa, d);
    if (e) {
        struct sae_task got, t = {.dict = d, .n_rows = EDGE_ROWS, .x = x};

        t.query = (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_SPARSE};
        got = run(e, d, &t);
        batches_check(&got, true, true, sae_units[cases[c].unit].name);
        ck_assert_uint_gt(got.nnz, EDGE_F / 10);
        if (n_norms == 5) /* else values would not stay finite, and rows are not screened */
            ck_assert_uint_eq(sae_engine_stats(e, d).dense_rows, 0);
        else if (f.score != SAE_SCORE_VALUE)
            ck_assert_uint_eq(sae_engine_stats(e, d).dense_rows, EDGE_ROWS);
        sae_task_fini(&got);
        for (size_t k = 0; k < EDGE_ROWS * EDGE_D; k++) /* some rows within the guards, some not */
            x[k] *= k / EDGE_D % 2 ? 1e35f : 3e36f;
        t.query.form = SAE_FORM_TOP;
        t.query.top_k = 40;
        got = run(e, d, &t);
        batches_check(&got, true, true, sae_units[cases[c].unit].name);
        sae_task_fini(&got);
        batches_end(e, d);
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
        enum sae_score score;
    } cases[] = {
        /* norms 1/2 1 3 5 5 3 1: scores 5/2 -36 588 -155 -700 15 237 */
        {SAE_UNIT_RELU, 3, {0, 0, 196, 0, 0, 5, 237}, SAE_SCORE_DECODER_NORM},
        {SAE_UNIT_RELU, 2, {0, 0, 588, 0, 0, 0, 237}, SAE_SCORE_DECODER_NORM_FOLDED},
        {SAE_UNIT_LINEAR, 5, {5, -36, 196, 0, 0, 5, 237}, SAE_SCORE_DECODER_NORM},
        /* thetas 0, 16, -32, 32, -140, 8, 64 */
        {SAE_UNIT_THRESHOLD, 0, {5, 0, 196, 0, 0, 5, 237}, SAE_SCORE_DECODER_NORM},
        {SAE_UNIT_RELU, 0, {5, 0, 196, 0, 0, 5, 237}, SAE_SCORE_VALUE},
        {SAE_UNIT_RELU, 3, {5, 0, 196, 0, 0, 0, 237}, SAE_SCORE_VALUE}, /* a tie: the lower id */
        {SAE_UNIT_LINEAR, 0, {5, -36, 196, -31, -140, 5, 237}, SAE_SCORE_VALUE},
        {SAE_UNIT_LINEAR, 6, {5, -36, 196, -31, 0, 5, 237}, SAE_SCORE_VALUE},
        /* thetas 0, 16, -32, 32, -140, 8, 64: -36 is above no threshold; h = theta is off */
        {SAE_UNIT_THRESHOLD, 0, {5, 0, 196, 0, 0, 0, 237}, SAE_SCORE_VALUE},
        {SAE_UNIT_THRESHOLD_SIGNED, 0, {5, 0, 196, 0, 0, 0, 237}, SAE_SCORE_VALUE},
    };
    struct sae_formula f = {.d_in = 5,
                            .d_out = 5,
                            .F = 7,
                            .unit = cases[_i].unit,
                            .top_k = cases[_i].top_k,
                            .score = cases[_i].score,
                            .has_centre = true,
                            .adds_centre = true};
    struct sae_dict *d = dicts_fixture(&f);
    float x[5], got[7];

    if (cases[_i].score != SAE_SCORE_VALUE)
        make_norms(d);
    for (size_t k = 0; k < 5; k++)
        x[k] = dicts_fixture_x(0, k);
    sae_ref_encode(d, x, got, NULL);
    for (size_t j = 0; j < 7; j++)
        ck_assert_msg(got[j] * 32.0f == (float)cases[_i].f[j], "f[%zu] is %g / 32, want %d", j,
                      (double)got[j] * 32.0, cases[_i].f[j]);
    sae_dict_free(d);
}
END_TEST

/* The largest t with fl(t n) <= tau: the next float is above it. */
START_TEST(taus_are_the_largest)
{
    static const float taus[] = {0.0f, 1.0f, -1.0f, 0.3f, -0.3f, 0x1p-149f, 3e38f, -3e38f},
                       ns[] = {1.0f, 3.7f, 0.1f, 0x1p-120f, 0x1p120f, 0x1p-149f, 3e38f};
    float tau = taus[_i];

    for (size_t i = 0; i < SAE_COUNTOF(ns); i++) {
        float n = ns[i], t = sae_score_tau(tau, n);

        if (isinf(t)) {
            ck_assert(t < 0.0f && -FLT_MAX * n > tau);
            continue;
        }
        ck_assert_msg(t * n <= tau && (t == FLT_MAX || nextafterf(t, INFINITY) * n > tau),
                      "tau %g n %g: %g", (double)tau, (double)n, (double)t);
    }
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

    memcpy(d->enc.f32, h, sizeof h);
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
    TCase *t = tcase_create("formulas"), *edges = tcase_create("edges"),
          *values = tcase_create("values");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, native_equals_the_reference, 0, SAE_N_ISAS * N_FORMULAS * N_SHAPES);
    tcase_add_loop_test(t, openblas_equals_the_reference, 0, N_FORMULAS * N_SHAPES);
    tcase_add_loop_test(t, decode_of_forward_is_its_x_hat, 0, SAE_N_ISAS * N_FORMULAS * 2);
    tcase_add_loop_test(edges, nothing_at_the_edges_is_missed, 0, SAE_N_ISAS * 6 * 2);
    tcase_add_loop_test(t, reference_is_near_the_truth, 0, N_FORMULAS * (N_SHAPES - 1) * 2);
    tcase_add_loop_test(values, the_fixtures_row_is_exact, 0, 10);
    tcase_add_loop_test(values, taus_are_the_largest, 0, 8);
    tcase_add_loop_test(values, signed_units_at_the_ends, 0, 9);
    tcase_add_loop_test(values, zeros_take_places, 0, 7);
    suite_add_tcase(s, values);
    suite_add_tcase(s, edges);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
