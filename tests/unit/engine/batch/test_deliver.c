/* test_deliver.c - top-k against a sort, with ties; pruning inside blocks. */
#include "lib/engine/engine.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* IdentityDict lists what it is given: rows of few distinct values are full of ties. Some are
 * longer than a block, so that blocks prune against each other's floors. */
START_TEST(top_k_equals_a_sort)
{
    static const size_t sizes[] = {1, 5, 64, 65, 1024, 1025, 5000};
    static const size_t ks[] = {1, 2, 31, 64, 65, 200, 1500, 9000};
    size_t F = sizes[(size_t)_i % SAE_COUNTOF(sizes)];
    int kind = _i / (int)SAE_COUNTOF(sizes);
    struct sae_dict *dict = dicts_make("IdentityDict", F, F, 1);
    uint64_t random = (uint64_t)_i;
    float *x = dicts_rows(3, F, 7);
    struct sae_engine *e;
    struct sae_batch *b;
    struct sae_scratch *s;

    for (size_t i = 0; i < 3 * F; i++) {
        uint64_t v = dicts_random(&random);

        if (kind == 0) /* ties, both signs, zeros */
            x[i] = (float)((int)(v % 7) - 3);
        else if (kind == 1) /* all equal, then NaN in a few */
            x[i] = v % 50 == 0 ? NAN : 2.5f;
        else if (kind == 2) /* ascending: every block beats the one before */
            x[i] = (float)(i % F) + 1.0f;
        else if (kind == 3) /* infinities, NaN, mostly zero */
            x[i] = v % 20 ? 0.0f : v % 3 ? INFINITY : v % 2 ? NAN : -INFINITY;
    }
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 3), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 3), NULL), SAE_OK);
    for (size_t i = 0; i < SAE_COUNTOF(ks); i++) {
        struct sae_task t = {.dict = dict, .n_rows = 3, .x = x};

        t.query = (struct sae_query){
            .op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = ks[i]};
        ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
        batches_run_all(b, s, dict, SAE_SIDE_ENCODE, &t, 1, 3, 1);
        batches_check(&t, true, true, "top k");
        sae_task_fini(&t);
    }
    sae_batch_free(b);
    sae_scratch_free(s);
    sae_engine_free(e);
    sae_free(x);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("select");
    TCase *t = tcase_create("select");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, top_k_equals_a_sort, 0, 35);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
