/* test_shape.c - formulae that keep the k largest features of a row, before decode: against ref.c
 * bit for bit on every instruction set and the openblas engine, by thresholds and by intervals, in
 * random queries and random company; forward is decode of encode; at most k features are on. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/native/state.h"
#include "lib/num.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* AutoEncoderNew: no ghost mask, which such formulae do not take; its forward scales f. */
static const struct {
    const char *class_name;
    size_t d, F;
    uint64_t k;
} shapes[] = {
    {"AutoEncoderNew", 16, 33, 1},     {"AutoEncoderNew", 48, 3000, 8},
    {"AutoEncoderNew", 48, 3000, 500}, {"AutoEncoderNew", 64, 2051, 2051},
    {"AutoEncoderNew", 7, 1024, 128},  {"AutoEncoderNew", 100, 1030, 32},
};
#define N_SHAPES ((int)SAE_COUNTOF(shapes))
enum { N_ROWS = 9, N_TASKS = 7, MAX_ROWS = 20 };

/* Some features equal their neighbours, so that values tie, at the k-th place too. */
static struct sae_dict *make(int i, bool exact)
{
    struct sae_dict *d =
        exact ? batches_exact_dict(shapes[i].class_name, shapes[i].d, shapes[i].F, (uint64_t)i)
              : dicts_make(shapes[i].class_name, shapes[i].d, shapes[i].F, (uint64_t)i);

    d->formula.top_k = shapes[i].k;
    for (size_t j = 1; j < d->formula.F; j += 3) {
        memcpy(d->enc.f32 + j * d->formula.d_in, d->enc.f32 + (j - 1) * d->formula.d_in,
               d->formula.d_in * sizeof *d->enc.f32);
        d->param[0][j] = d->param[0][j - 1];
    }
    return d;
}

struct rig {
    struct sae_batch *b;
    struct sae_scratch *s;
};

static struct rig rig_open(struct sae_engine *e, struct sae_dict *d)
{
    struct rig g;

    ck_assert_int_eq(sae_batch_create(&g.b, e, dicts_capacity(d, MAX_ROWS), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&g.s, e, dicts_capacity(d, MAX_ROWS), NULL), SAE_OK);
    return g;
}

static void rig_close(struct rig *g)
{
    sae_scratch_free(g->s);
    sae_batch_free(g->b);
}

static void check_mixed(struct rig *g, struct sae_dict *d, const float *x, bool exact_x_hat,
                        uint64_t seed, const char *label)
{
    struct sae_task t[N_TASKS];
    struct batches_store stores[N_TASKS];
    uint64_t random = seed;

    for (size_t i = 0; i < N_TASKS; i++) {
        t[i] = (struct sae_task){.dict = d, .n_rows = N_ROWS, .x = x};
        t[i].query = batches_query(d, N_ROWS, &random, &stores[i]);
        ck_assert_int_eq(sae_task_prepare(&t[i], NULL), SAE_OK);
    }
    batches_run_all(g->b, g->s, d, SAE_SIDE_ENCODE, t, N_TASKS, MAX_ROWS, seed);
    for (size_t i = 0; i < N_TASKS; i++) {
        batches_check(&t[i], true, exact_x_hat, label);
        sae_task_fini(&t[i]);
        batches_store_fini(&stores[i]);
    }
}

static struct sae_task run_one(struct rig *g, struct sae_dict *d, struct sae_query q,
                               const float *x)
{
    struct sae_task t = {.dict = d, .query = q, .n_rows = N_ROWS, .x = x};
    struct sae_slice slice = {.task = &t, .n_rows = N_ROWS};

    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    batches_run(g->b, g->s, d, q.op == SAE_OP_DECODE ? SAE_SIDE_DECODE : SAE_SIDE_ENCODE, &slice,
                1);
    ck_assert_int_eq(t.failed, 0);
    return t;
}

static void check_forward(struct rig *g, struct sae_dict *d, const float *x, const char *label)
{
    struct sae_task f = run_one(g, d, (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true}, x);
    struct sae_task back = run_one(g, d, (struct sae_query){.op = SAE_OP_DECODE}, f.f);
    struct sae_task both = run_one(g, d, (struct sae_query){.op = SAE_OP_FORWARD}, x);

    for (size_t r = 0; r < N_ROWS; r++) {
        uint64_t on = 0;

        for (size_t j = 0; j < d->formula.F; j++)
            on += f.f[r * d->formula.F + j] != 0.0f;
        ck_assert_msg(on <= d->formula.top_k, "%s: %llu on", label, (unsigned long long)on);
    }
    for (size_t i = 0; i < N_ROWS * d->formula.d_out; i++)
        ck_assert_msg(sae_f32_bits(back.x_hat[i]) == sae_f32_bits(both.x_hat[i]) ||
                          (isnan(back.x_hat[i]) && isnan(both.x_hat[i])),
                      "%s: forward is not decode of encode", label);
    sae_task_fini(&both);
    sae_task_fini(&back);
    sae_task_fini(&f);
}

START_TEST(native_keeps_the_k_largest)
{
    struct sae_dict *d = make(_i, false);
    float *x = dicts_rows(N_ROWS, d->formula.d_in, 5);
    char label[96];

    x[2 * d->formula.d_in] = NAN;
    x[4 * d->formula.d_in + 1] = INFINITY;
    batches_remember(d, x, N_ROWS);
    for (int i = 0; i < 2 * SAE_N_ISAS; i++) {
        struct sae_engine *e = batches_native((enum sae_isa)(i / 2), d);
        struct rig g;

        if (!e)
            continue;
        batches_only(i % 2 ? BATCHES_BY_INTERVAL : BATCHES_BY_THRESHOLD, d);
        snprintf(label, sizeof label, "%zux%zu k %llu, %s %s", d->formula.d_in, d->formula.F,
                 (unsigned long long)d->formula.top_k, sae_isa_name((enum sae_isa)(i / 2)),
                 i % 2 ? "by interval" : "by threshold");
        g = rig_open(e, d);
        for (uint64_t seed = 1; seed <= 3; seed++)
            check_mixed(&g, d, x, true, seed, label);
        check_forward(&g, d, x, label);
        rig_close(&g);
        batches_end(e, d);
    }
    batches_remember(NULL, NULL, 0);
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

/* Small integers: sums are exact in any order, so openblas must give the very bits. */
START_TEST(openblas_keeps_the_k_largest)
{
    struct sae_dict *d = make(_i, true);
    float *x = batches_exact_rows(N_ROWS, d->formula.d_in, 5);
    struct sae_engine *e = batches_engine(BATCHES_OPENBLAS, d);
    struct rig g = rig_open(e, d);

    for (uint64_t seed = 1; seed <= 3; seed++)
        check_mixed(&g, d, x, true, seed, "openblas");
    check_forward(&g, d, x, "openblas");
    rig_close(&g);
    sae_engine_free(e);
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shape");
    TCase *t = tcase_create("shape");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, native_keeps_the_k_largest, 0, N_SHAPES);
    tcase_add_loop_test(t, openblas_keeps_the_k_largest, 0, N_SHAPES);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
