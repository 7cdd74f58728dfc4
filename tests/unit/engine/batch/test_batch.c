/* test_batch.c - every class, form and option through mixed batches, against ref.c.
 *
 * Integer dictionaries: bit for bit, x_hat too on an engine without decode_dense. Gaussian ones: by
 * tolerance. Some rows hold NaN and infinities and must not touch their company. */
#include "lib/dict/ref.h"
#include "lib/engine/engine.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const classes[] = {"AutoEncoder",     "IdentityDict",   "GatedAutoEncoder",
                                      "JumpAutoEncoder", "AutoEncoderNew", "JumpReluAutoEncoder"};
static const struct {
    size_t d, F;
} shapes[] = {{1, 1},   {7, 5},    {16, 1023}, {33, 1025}, {16, 3000},
              {767, 5}, {767, 40}, {1, 3000},  {48, 2048}, {257, 1500}};

static struct sae_engine *open_engine(void)
{
    struct sae_engine *e;

    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_OPENBLAS, NULL, NULL), SAE_OK);
    return e;
}

/* The openblas engine without its dense decode: every sum of decode is in canonical order. */
static struct sae_engine canonical(const struct sae_engine *e, struct sae_engine_ops *ops)
{
    struct sae_engine c = *e;

    *ops = *e->ops;
    ops->decode_dense = NULL;
    c.ops = ops;
    return c;
}

START_TEST(integer_dictionaries_bit_for_bit)
{
    size_t c = (size_t)_i % SAE_COUNTOF(classes), sh = (size_t)_i / SAE_COUNTOF(classes);
    bool identity = strcmp(classes[c], "IdentityDict") == 0;
    size_t d = identity ? shapes[sh].F : shapes[sh].d;
    struct sae_engine *e = open_engine();
    struct sae_engine_ops ops;
    struct sae_engine plain = canonical(e, &ops);
    struct sae_dict *dict = batches_exact_dict(classes[c], d, shapes[sh].F, (uint64_t)_i);

    for (uint64_t seed = 1; seed <= 2; seed++) {
        batches_mixed(&plain, dict, true, true, 100 * seed + (uint64_t)_i);
        batches_mixed(e, dict, true, false, 100 * seed + (uint64_t)_i);
    }
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

START_TEST(gaussian_dictionaries_within_tolerance)
{
    size_t c = (size_t)_i % SAE_COUNTOF(classes), sh = (size_t)_i / SAE_COUNTOF(classes);
    bool identity = strcmp(classes[c], "IdentityDict") == 0;
    size_t d = identity ? shapes[sh].F : shapes[sh].d;
    struct sae_engine *e = open_engine();
    struct sae_dict *dict = dicts_make(classes[c], d, shapes[sh].F, (uint64_t)_i);

    for (uint64_t seed = 1; seed <= 1; seed++)
        batches_mixed(e, dict, false, false, 100 * seed + (uint64_t)_i);
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

/* ---- decode side --------------------------------------------------------------------------------
 */

/* f of a given density; zeros of both signs, and something not finite now and then. */
static float *random_f(size_t n, size_t F, unsigned percent, uint64_t *random)
{
    float *f = sae_alloc(n * F, sizeof *f);

    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < n * F; i++) {
        bool on = dicts_random(random) % 100 < percent;

        f[i] = on ? dicts_normal(random) : dicts_random(random) % 2 ? 0.0f : -0.0f;
        if (on && dicts_random(random) % 5000 == 0)
            f[i] = INFINITY;
    }
    return f;
}

/* The same rows as lists; explicit zeros stay in when `zeros`. */
static struct sae_sparse_row *as_sparse(const float *f, size_t n, size_t F, bool zeros)
{
    struct sae_sparse_row *rows = calloc(n, sizeof *rows);
    uint32_t *ids = calloc(n * F, sizeof *ids);
    float *v = calloc(n * F, sizeof *v);

    ck_assert(rows && ids && v);
    for (size_t r = 0; r < n; r++) {
        rows[r].ids = ids + r * F;
        rows[r].values = v + r * F;
        for (size_t j = 0; j < F; j++) {
            if (f[r * F + j] == 0.0f && !(zeros && j % 3 == 0))
                continue;
            ids[r * F + rows[r].n] = (uint32_t)j;
            v[r * F + rows[r].n++] = f[r * F + j];
        }
    }
    return rows;
}

static void check_decoded(const struct sae_task *t, const float *f, bool exact)
{
    const struct sae_dict *d = t->dict;
    float *want = calloc(d->formula.d_in, sizeof *want);

    for (size_t r = 0; r < t->n_rows; r++) {
        struct tol tol = {0};

        sae_ref_decode(d, f + r * d->formula.F, true, want);
        tol_decode(d, f + r * d->formula.F, NULL, &tol);
        for (size_t k = 0; k < d->formula.d_in; k++) {
            float got = t->x_hat[r * d->formula.d_in + k];

            if (exact ? memcmp(&got, &want[k], 4) != 0 && !(isnan(got) && isnan(want[k]))
                      : !tol_near(&tol, k, got))
                ck_abort_msg("%s %zux%zu row %zu: x_hat[%zu] is %.9g, want %.9g", d->layout->name,
                             d->formula.d_in, d->formula.F, r, k, (double)got, (double)want[k]);
        }
        tol_free(&tol);
    }
    free(want);
}

static void decode_rows(const struct sae_engine *e, struct sae_dict *dict, unsigned percent,
                        bool exact, uint64_t seed)
{
    enum { N = 4 };
    static const size_t n_rows[N] = {1, 13, 2, 5};
    struct sae_task tasks[N];
    float *f[N];
    struct sae_sparse_row *lists[N] = {NULL};
    uint64_t random = seed;
    struct sae_batch *b;
    struct sae_scratch *s;

    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 17), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 17), NULL), SAE_OK);
    for (size_t i = 0; i < N; i++) {
        f[i] = random_f(n_rows[i], dict->formula.F, i == 2 ? 1 : percent, &random);
        tasks[i] = (struct sae_task){.dict = dict, .n_rows = n_rows[i]};
        tasks[i].query.op = SAE_OP_DECODE;
        if (i % 2 == 0)
            tasks[i].x = f[i];
        else
            tasks[i].f_in = lists[i] = as_sparse(f[i], n_rows[i], dict->formula.F, i == 3);
        ck_assert_int_eq(sae_task_prepare(&tasks[i], NULL), SAE_OK);
    }
    /* a sparse IdentityDict row has no -0 where nothing is listed */
    for (size_t i = 1; !dict->dec.f32 && i < N; i += 2)
        for (size_t j = 0; j < n_rows[i] * dict->formula.F; j++)
            if (f[i][j] == 0.0f && !(i == 3 && j % dict->formula.F % 3 == 0))
                f[i][j] = 0.0f;
    batches_run_all(b, s, dict, SAE_SIDE_DECODE, tasks, N, 17, seed);
    for (size_t i = 0; i < N; i++) {
        check_decoded(&tasks[i], f[i], exact);
        sae_task_fini(&tasks[i]);
        if (lists[i]) {
            free((void *)lists[i][0].ids);
            free((void *)lists[i][0].values);
            free(lists[i]);
        }
        sae_free(f[i]);
    }
    sae_batch_free(b);
    sae_scratch_free(s);
}

START_TEST(decode_of_any_density)
{
    static const unsigned percents[] = {0, 1, 14, 90};
    size_t c = (size_t)_i % SAE_COUNTOF(classes), sh = (size_t)_i / SAE_COUNTOF(classes);
    bool identity = strcmp(classes[c], "IdentityDict") == 0;
    size_t d = identity ? shapes[sh].F : shapes[sh].d;
    struct sae_engine *e = open_engine();
    struct sae_engine_ops ops;
    struct sae_engine plain = canonical(e, &ops);
    struct sae_dict *dict = dicts_make(classes[c], d, shapes[sh].F, (uint64_t)_i);

    for (size_t i = 0; i < SAE_COUNTOF(percents); i++) {
        decode_rows(&plain, dict, percents[i], true, i + 1);
        decode_rows(e, dict, percents[i], false, i + 1);
    }
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

/* ---- details ------------------------------------------------------------------------------------
 */

/* A decoder column whose norm overflows f32: 0 * inf is NaN in the dense f, so it is listed too. */
START_TEST(scaled_zeros_follow_ieee_products)
{
    struct sae_engine *e = open_engine();
    struct sae_dict *dict = batches_exact_dict("AutoEncoderNew", 16, 1100, 3);
    float *x = batches_exact_rows(2, 16, 5);

    dict->dec_norm[7] = dict->dec_norm[1099] = INFINITY;
    dict->dec_norm[8] = 0.0f;
    for (int form = 0; form < 3; form++)
        for (int features = 0; features < 2; features++) {
            static const uint32_t ids[] = {8, 1099, 7, 0, 7};
            struct sae_task t = {.dict = dict, .n_rows = 2, .x = x};
            struct sae_batch *b;
            struct sae_scratch *s;

            t.query = (struct sae_query){.op = SAE_OP_FORWARD,
                                         .want_f = true,
                                         .form = (enum sae_form)form,
                                         .top_k = 3,
                                         .has_features = features,
                                         .features = ids,
                                         .n_features = features ? 5 : 0};
            ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
            ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 2), NULL), SAE_OK);
            ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 2), NULL), SAE_OK);
            batches_run_all(b, s, dict, SAE_SIDE_ENCODE, &t, 1, 2, 1);
            batches_check(&t, true, false, "infinite norm");
            sae_task_fini(&t);
            sae_batch_free(b);
            sae_scratch_free(s);
        }
    sae_free(x);
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

/* Everything on, and a ghost mask of ones: both lists of all rows go through decode_dense. */
START_TEST(long_lists_take_the_dense_way)
{
    enum { N = 24, D = 300, F = 2100 };
    struct sae_engine *e;
    struct sae_dict *dict = dicts_make("AutoEncoder", D, F, 1);
    float *x = dicts_rows(N, D, 5);
    static const float one = 1.0f;
    struct sae_task t = {.dict = dict, .n_rows = N, .x = x};
    struct sae_batch *b;
    struct sae_scratch *s;

    for (size_t j = 0; j < F; j++)
        sae_dict_array(dict, SAE_ROLE_ENC_BIAS)[j] += 5.0f;
    t.query = (struct sae_query){
        .op = SAE_OP_FORWARD, .want_f = true, .has_ghost = true, .ghost_mask = &one};
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_OPENBLAS, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, N), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, N), NULL), SAE_OK);
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    batches_run(b, s, dict, SAE_SIDE_ENCODE, &(struct sae_slice){.task = &t, .n_rows = N}, 1);
    ck_assert_uint_eq(b->n_dense, 2 * N);
    batches_check(&t, false, false, "all on");
    sae_task_fini(&t);
    sae_batch_free(b);
    sae_scratch_free(s);
    sae_engine_free(e);
    sae_dict_free(dict);
    sae_free(x);
}
END_TEST

/* -0 in an IdentityDict's row: kept dense and by column, never listed. */
START_TEST(identity_keeps_negative_zero)
{
    struct sae_engine *e = open_engine();
    struct sae_dict *dict = dicts_make("IdentityDict", 4, 4, 1);
    static const float x[] = {-0.0f, 1.0f, 0.0f, -2.0f};
    static const uint32_t ids[] = {3, 0, 2};
    struct sae_task t = {.dict = dict, .n_rows = 1, .x = x};
    struct sae_batch *b;
    struct sae_scratch *s;

    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 2), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 2), NULL), SAE_OK);
    for (int op = 0; op < 2; op++) {
        t.query = (struct sae_query){.op = op ? SAE_OP_FORWARD : SAE_OP_ENCODE,
                                     .want_f = true,
                                     .has_features = true,
                                     .features = ids,
                                     .n_features = 3};
        ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
        batches_run_all(b, s, dict, SAE_SIDE_ENCODE, &t, 1, 2, 1);
        ck_assert(t.f[0] == -2.0f && t.f[1] == 0.0f && signbit(t.f[1]) && !signbit(t.f[2]));
        if (op)
            ck_assert(memcmp(t.x_hat, x, sizeof x) == 0);
        sae_task_fini(&t);
    }
    sae_batch_free(b);
    sae_scratch_free(s);
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("batch");
    TCase *t = tcase_create("batch");
    SRunner *r = srunner_create(s);
    int n = (int)(SAE_COUNTOF(classes) * SAE_COUNTOF(shapes));

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, integer_dictionaries_bit_for_bit, 0, n);
    tcase_add_loop_test(t, gaussian_dictionaries_within_tolerance, 0, n);
    tcase_add_loop_test(t, decode_of_any_density, 0, n);
    tcase_add_test(t, scaled_zeros_follow_ieee_products);
    tcase_add_test(t, long_lists_take_the_dense_way);
    tcase_add_test(t, identity_keeps_negative_zero);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
