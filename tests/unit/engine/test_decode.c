/* test_decode.c - the dense decode of the native engine against ref.c and against lists, bit for
 * bit, on every instruction set that this CPU has. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/engine.h"
#include "lib/num.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 70, F = SAE_BLOCK + 85 };

static const size_t widths[] = {1, 7, 16, 767, 768, 4097};
static const unsigned percents[] = {0, 1, 5, 50, 100};

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || sae_f32_bits(a) == sae_f32_bits(b);
}

/* Columns in turn: normal, zeros of both signs, so small that products underflow to either zero,
 * normal and then such; a bias of -0 keeps the sign of a zero, +0 and others hide it. */
static struct sae_dict *make_dict(size_t d)
{
    struct sae_dict *dict = dicts_make("AutoEncoder", d, F, d);
    uint64_t random = d;

    for (size_t j = 0; j < F; j++)
        for (size_t k = 0; k < d; k++) {
            float *w = &dict->dec.f32[j * d + k], sign = dicts_random(&random) % 2 ? 1.0f : -1.0f;

            if (k % 4 == 1 && d > 1)
                *w = sign * 0.0f;
            else if (k % 4 == 2 || d == 1 || (k % 4 == 3 && j > F / 2))
                *w = sign * 1e-38f;
        }
    for (size_t k = 0; k < d; k++)
        if (k % 3 != 0 || d == 1)
            dict->dec_bias[k] = k % 3 == 1 ? 0.0f : -0.0f;
    return dict;
}

/* Values on: normal, small enough to underflow, denormal; rows 3 and 14 also what is not finite. */
static void make_f(float *f, size_t n, unsigned percent)
{
    static const float odds[] = {INFINITY, -INFINITY, NAN};
    uint64_t random = percent + 1;

    for (size_t i = 0; i < n * F; i++) {
        uint64_t u = dicts_random(&random);
        float v = dicts_normal(&random);

        if (i / F % 11 == 3 && u >> 32 & 1 && u % 499 < 3)
            v = odds[u % 499];
        else if (i / F % 2)
            v = u >> 33 & 1 ? 1e-30f * v : 1e-42f * v;
        f[i] = u % 100 < percent ? v : u >> 40 & 1 ? 0.0f : -0.0f;
    }
}

/* An engine whose plan finds a dense product free, or that has none. */
struct rig {
    struct sae_engine *e, forced;
    struct sae_engine_ops ops;
    struct sae_batch *b;
    struct sae_scratch *s;
};

static void rig_init(struct rig *g, enum sae_isa isa, struct sae_dict *dict, bool dense)
{
    ck_assert_int_eq(sae_engine_create(&g->e, SAE_ENGINE_NATIVE, sae_isa_name(isa), NULL), SAE_OK);
    g->ops = *g->e->ops;
    g->ops.dense_cost.product = 0;
    g->ops.dense_cost.row_share = 10 * F;
    if (!dense)
        g->ops.decode_dense = NULL;
    g->forced = *g->e;
    g->forced.ops = &g->ops;
    ck_assert_int_eq(sae_batch_create(&g->b, &g->forced, dicts_capacity(dict, MAX_ROWS), NULL),
                     SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&g->s, &g->forced, dicts_capacity(dict, MAX_ROWS), NULL),
                     SAE_OK);
}

static void rig_fini(struct rig *g)
{
    sae_scratch_free(g->s);
    sae_batch_free(g->b);
    sae_engine_free(g->e);
}

static void check(struct rig *g, struct sae_dict *dict, const float *f, const float *want, size_t n)
{
    struct sae_task t = {.dict = dict, .n_rows = n, .x = f, .query.op = SAE_OP_DECODE};
    size_t d = dict->formula.d_in;

    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    batches_run_all(g->b, g->s, dict, SAE_SIDE_DECODE, &t, 1, n, 1);
    for (size_t i = 0; i < n * d; i++)
        if (!same(t.x_hat[i], want[i])) /* an assert for each is slow */
            ck_abort_msg("%s, %zu rows of %zu: row %zu, x_hat[%zu] %a, want %a",
                         sae_isa_name(g->e->isa), n, d, i / d, i % d, (double)t.x_hat[i],
                         (double)want[i]);
    sae_task_fini(&t);
}

START_TEST(equals_reference_and_lists)
{
    static const size_t counts[] = {1, 2, 5, 6, 7, 13, MAX_ROWS};
    size_t d = widths[(size_t)_i / SAE_COUNTOF(percents)];
    unsigned percent = percents[(size_t)_i % SAE_COUNTOF(percents)];
    size_t most = d > 1000 ? 15 : MAX_ROWS;
    struct sae_dict *dict = make_dict(d);
    float *f = sae_alloc(most * F, sizeof *f), *want = calloc(most * d, sizeof *want);

    ck_assert(f && want);
    make_f(f, most, percent);
    for (size_t r = 0; r < most; r++)
        sae_ref_decode(dict, f + r * F, true, want + r * d);
    for (int isa = 0; isa < SAE_N_ISAS; isa++) {
        if (!sae_cpu_has((enum sae_isa)isa)) {
            printf("SKIP: this CPU has no %s\n", sae_isa_name((enum sae_isa)isa));
            continue;
        }
        for (int dense = 0; dense < 2; dense++) {
            struct rig g;

            rig_init(&g, (enum sae_isa)isa, dict, dense);
            for (size_t c = 0; c < SAE_COUNTOF(counts) && counts[c] <= most; c++)
                check(&g, dict, f, want, counts[c]);
            rig_fini(&g);
        }
    }
    free(want);
    sae_free(f);
    sae_dict_free(dict);
}
END_TEST

/* The plan: half dense rows of a batch by a product, a row alone and short ones by list. */
START_TEST(long_lists_of_a_batch_go_dense)
{
    struct sae_dict *dict = make_dict(16);
    float *f = sae_alloc((size_t)MAX_ROWS * F, sizeof *f);
    struct sae_engine *e = NULL;
    struct sae_scratch *s;
    struct sae_batch *b;

    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, MAX_ROWS), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, MAX_ROWS), NULL), SAE_OK);
    for (int i = 0; i < 3; i++) {
        size_t n = i == 1 ? 1 : 64;
        struct sae_task t = {.dict = dict, .n_rows = n, .x = f, .query.op = SAE_OP_DECODE};

        make_f(f, n, i == 2 ? 5 : 50);
        ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
        batches_run_all(b, s, dict, SAE_SIDE_DECODE, &t, 1, n, 1);
        ck_assert_uint_eq(b->n_dense, i == 0 ? n : 0);
        sae_task_fini(&t);
    }
    sae_scratch_free(s);
    sae_batch_free(b);
    sae_engine_free(e);
    sae_free(f);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decode");
    TCase *t = tcase_create("decode");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, equals_reference_and_lists, 0,
                        (int)(SAE_COUNTOF(widths) * SAE_COUNTOF(percents)));
    tcase_add_test(t, long_lists_of_a_batch_go_dense);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
