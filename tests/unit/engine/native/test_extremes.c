/* test_extremes.c - rows and weights at the ends of f32, and raw bytes as rows: the native engine
 * against ref.c bit for bit, by thresholds and by intervals, on every instruction set.
 *
 * What has gone wrong: one finite row, [1e27, 1e-13, ...], had its outlier divided by the rest's
 * scale and became infinite; infinity times the 0 of a padding feature was a candidate, and its id,
 * beyond F, was read and written through; elsewhere an infinity absorbed the bound and features
 * that were on were proved off. A draw is a dictionary, rows (ordinary ones between the others,
 * which must not notice) and random queries, in random slices. SAED_SCREEN_TRIALS=n multiplies the
 * draws, as in test_plane.c. */
#include "lib/cpu.h"
#include "lib/engine/native/state.h"
#include "lib/num.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_ROWS = 18, N_TASKS = 5, MAX_ROWS = 40 };

static const char *const classes[] = {"AutoEncoder",     "AutoEncoderNew",      "GatedAutoEncoder",
                                      "JumpAutoEncoder", "JumpReluAutoEncoder", "AutoEncoderTopK"};
#define N_CLASSES ((int)SAE_COUNTOF(classes))
static const size_t widths[] = {4, 16, 64, 300}, sizes[] = {17, 33, 1024, 1030, 2051};
#define N_SHAPES ((int)(SAE_COUNTOF(widths) * SAE_COUNTOF(sizes)))

static uint64_t below(uint64_t *random, uint64_t n)
{
    return dicts_random(random) % n;
}

/* 10^low .. 10^high, of either sign; below 1e-38 denormal, at last 0. */
static float log_uniform(uint64_t *random, double low, double high)
{
    double u = (double)(dicts_random(random) >> 11) * 0x1p-53;

    return (float)copysign(pow(10, low + u * (high - low)), below(random, 2) ? 1.0 : -1.0);
}

/* Any bits; finite: but for infinities and NaN. */
static float any_bits(uint64_t *random, bool finite)
{
    float v;

    do
        v = sae_f32_from_bits((uint32_t)dicts_random(random));
    while (finite && !isfinite(v));
    return v;
}

enum row_kind {
    ORDINARY,
    ONE_LARGE,
    TWO_LARGE,
    FIVE_LARGE,
    LARGE_ALONE,
    LOG_UNIFORM,
    FINITE_BITS,
    ANY_BITS,
    DENORMAL,
    N_ROW_KINDS
};

static void fill_row(enum row_kind kind, float *x, size_t d, uint64_t *random)
{
    static const size_t n_large[N_ROW_KINDS] = {
        [ONE_LARGE] = 1, [TWO_LARGE] = 2, [FIVE_LARGE] = 5, [LARGE_ALONE] = 1};
    double rest = -13 - (double)below(random, 32);

    for (size_t k = 0; k < d; k++)
        switch (kind) {
        case ORDINARY:
            x[k] = dicts_normal(random);
            break;
        case LARGE_ALONE:
            x[k] = 0;
            break;
        case LOG_UNIFORM:
            x[k] = log_uniform(random, -46, 38.5);
            break;
        case FINITE_BITS:
        case ANY_BITS:
            x[k] = any_bits(random, kind == FINITE_BITS);
            break;
        default:
            x[k] = dicts_normal(random) * (float)pow(10, kind == DENORMAL ? -39 : rest);
            break;
        }
    for (size_t i = 0; i < n_large[kind]; i++)
        x[below(random, d)] = log_uniform(random, 20, 38.5);
}

enum dict_kind { USUAL, SCALED, RAGGED, N_DICT_KINDS };

/* USUAL: few features on. SCALED: all weights times one number, some features denormal. RAGGED:
 * each feature's weights, threshold and parameters have a scale of their own. */
static struct sae_dict *make_dict(const char *class_name, enum dict_kind kind, size_t d, size_t F,
                                  uint64_t seed)
{
    struct sae_dict *dict = dicts_make(class_name, d, F, seed);
    float *theta = sae_dict_array(dict, SAE_ROLE_GATE_BIAS)
                       ? sae_dict_array(dict, SAE_ROLE_GATE_BIAS)
                       : sae_dict_array(dict, SAE_ROLE_ENC_BIAS);
    float *vectors[] = {
        sae_dict_array(dict, SAE_ROLE_ENC_BIAS), sae_dict_array(dict, SAE_ROLE_GATE_BIAS),
        sae_dict_array(dict, SAE_ROLE_MAG_BIAS), sae_dict_array(dict, SAE_ROLE_JUMP),
        sae_dict_array(dict, SAE_ROLE_THRESHOLD)};
    uint64_t random = seed;
    float scale = kind == SCALED ? fabsf(log_uniform(&random, -29, 28)) : 1.0f;

    for (size_t j = 0; j < F; j++) {
        float *w = dict->enc.f32 + j * d;
        float own = kind == RAGGED ? log_uniform(&random, -45, 10) : j % 19 == 5 ? 1e-39f : scale;

        theta[j] = -2.0f * own * (float)sae_dict_norm(w, d) * (j % 7 ? 1.0f : 0.3f);
        for (size_t k = 0; k < d; k++)
            w[k] *= own;
        if (kind != RAGGED || j % 3)
            continue;
        for (size_t i = 0; i < SAE_COUNTOF(vectors); i++)
            if (vectors[i])
                vectors[i][j] = log_uniform(&random, -45, 38.5);
        if (sae_dict_array(dict, SAE_ROLE_R_MAG))
            sae_dict_array(dict, SAE_ROLE_R_MAG)[j] = fabsf(log_uniform(&random, -44, 38));
    }
    return dict;
}

static struct sae_task task_of(const struct sae_dict *dict, const float *rows, uint64_t *random,
                               struct batches_store *store)
{
    struct sae_task t = {.dict = dict, .n_rows = N_ROWS, .x = rows};

    t.query = batches_query(dict, N_ROWS, random, store);
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    return t;
}

/* Random queries of all the rows, mixed into batches. */
static void check_answers(struct sae_engine *e, struct sae_dict *dict, const float *x,
                          uint64_t seed, const char *label)
{
    struct sae_task t[N_TASKS];
    struct batches_store stores[N_TASKS];
    struct sae_scratch *s;
    struct sae_batch *b;
    uint64_t random = seed;

    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, MAX_ROWS), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, MAX_ROWS), NULL), SAE_OK);
    for (size_t i = 0; i < N_TASKS; i++)
        t[i] = task_of(dict, x, &random, &stores[i]);
    batches_run_all(b, s, dict, SAE_SIDE_ENCODE, t, N_TASKS, MAX_ROWS, seed);
    for (size_t i = 0; i < N_TASKS; i++) {
        batches_check(&t[i], true, true, label);
        sae_task_fini(&t[i]);
        batches_store_fini(&stores[i]);
    }
    sae_scratch_free(s);
    sae_batch_free(b);
}

/* The rows on every instruction set, both ways. spoil: called on what was prepared. */
static void check_everywhere(struct sae_dict *dict, const float *x, uint64_t seed,
                             void (*spoil)(struct sae_native_dict *nd))
{
    char label[128];

    batches_remember(dict, x, N_ROWS);
    for (int i = 0; i < 2 * SAE_N_ISAS; i++) {
        enum sae_isa isa = (enum sae_isa)(i / 2);
        struct sae_engine *e = batches_native(isa, dict);

        if (!e)
            continue;
        batches_only(i % 2 ? BATCHES_BY_INTERVAL : BATCHES_BY_THRESHOLD, dict);
        if (spoil)
            spoil(dict->engine_data);
        snprintf(label, sizeof label, "%s %zux%zu seed %llu %s %s", dict->layout->name,
                 dict->formula.d_in, dict->formula.F, (unsigned long long)seed, sae_isa_name(isa),
                 i % 2 ? "by interval" : "by threshold");
        check_answers(e, dict, x, seed, label);
        batches_end(e, dict);
    }
    batches_remember(NULL, NULL, 0);
}

/* One draw. only: rows of this kind alone, N_ROW_KINDS: of every kind. */
static void draw(const char *class_name, enum dict_kind kind, size_t d, size_t F,
                 enum row_kind only, uint64_t seed)
{
    struct sae_dict *dict = make_dict(class_name, kind, d, F, seed);
    float *x = sae_alloc(N_ROWS * d, sizeof *x);
    uint64_t random = seed;

    for (size_t r = 0; r < N_ROWS; r++)
        fill_row(only < N_ROW_KINDS ? only : (enum row_kind)(r % N_ROW_KINDS), x + r * d, d,
                 &random);
    check_everywhere(dict, x, seed, NULL);
    sae_free(x);
    sae_dict_free(dict);
}

static int trials(void)
{
    const char *env = getenv("SAED_SCREEN_TRIALS");

    return env ? atoi(env) : 1;
}

START_TEST(rows_at_the_ends_of_f32)
{
    size_t d = widths[_i % (int)SAE_COUNTOF(widths)], F = sizes[_i / (int)SAE_COUNTOF(widths)];

    for (int i = 0; i < (F > 1024 ? 2 : N_CLASSES) * trials(); i++)
        draw(classes[(i + _i / 3) % N_CLASSES], (enum dict_kind)((i + _i) % N_DICT_KINDS), d, F,
             N_ROW_KINDS, (uint64_t)(_i + i * N_SHAPES));
}
END_TEST

/* What a client's raw bytes may be. */
START_TEST(random_bytes_as_rows)
{
    for (int i = 0; i < 20 * trials(); i++)
        draw(classes[_i], i % 2 ? RAGGED : USUAL, widths[i % 3], i % 5 ? 33 : 130,
             i % 4 ? ANY_BITS : FINITE_BITS, (uint64_t)(1000 + i));
}
END_TEST

/* The row that ended the daemon, in every company. */
START_TEST(one_large_dimension_beside_next_to_nothing)
{
    enum { D = 768, F = 1030 };
    struct sae_dict *dict = make_dict(classes[_i], USUAL, D, F, 7);
    float *x = dicts_rows(N_ROWS, D, 3);

    for (size_t r = 0; r < N_ROWS; r += 2)
        for (size_t k = 0; k < D; k++)
            x[r * D + k] = k == 0 ? 1e27f : 1e-13f;
    check_everywhere(dict, x, (uint64_t)_i, NULL);
    sae_free(x);
    sae_dict_free(dict);
}
END_TEST

/* The proof keeps every feature and every padding feature behind them. */
static void keep_all(struct sae_native_dict *nd)
{
    for (size_t j = 0; j < nd->plane->Fp; j++)
        nd->plane->t[j] = -INFINITY;
}

START_TEST(no_id_comes_of_padding)
{
    struct sae_dict *dict = make_dict(classes[_i], USUAL, 16, 33, 7);
    float *x = dicts_rows(N_ROWS, 16, 3);

    check_everywhere(dict, x, (uint64_t)_i, keep_all);
    sae_free(x);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("extremes");
    TCase *t = tcase_create("extremes");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, one_large_dimension_beside_next_to_nothing, 0, N_CLASSES);
    tcase_add_loop_test(t, no_id_comes_of_padding, 0, N_CLASSES);
    tcase_add_loop_test(t, rows_at_the_ends_of_f32, 0, N_SHAPES);
    tcase_add_loop_test(t, random_bytes_as_rows, 0, N_CLASSES);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
