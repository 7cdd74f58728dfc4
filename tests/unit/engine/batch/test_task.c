/* test_task.c - what prepare allocates for each query, and that sae_task_bytes says so. */
#include "lib/engine/engine.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(prepare_fills_what_is_asked)
{
    struct sae_dict *dict = dicts_make("JumpAutoEncoder", 10, 50, 1);
    static const uint32_t ids[] = {9, 3, 9, 49, 3};
    struct sae_task t = {.dict = dict, .n_rows = 3};

    t.query = (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .want_aux = true};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    ck_assert(t.f && t.aux && !t.f_rows && !t.aux_rows && !t.x_hat && !t.x_ghost);
    ck_assert_uint_eq(t.width, 50);
    ck_assert_uint_eq((uintptr_t)t.f % 64, 0);
    ck_assert_uint_eq(sae_task_bytes(&t), 2 * 640);
    sae_task_fini(&t);

    t.query = (struct sae_query){.op = SAE_OP_FORWARD,
                                 .want_f = true,
                                 .has_features = true,
                                 .features = ids,
                                 .n_features = 5};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    ck_assert(t.f && !t.aux && t.x_hat && !t.candidates);
    ck_assert_uint_eq(t.width, 5);
    ck_assert_uint_eq(sae_task_bytes(&t), 64 + 128);
    sae_task_fini(&t);

    t.query.form = SAE_FORM_TOP;
    t.query.top_k = 1000;
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    ck_assert(!t.f && t.f_rows && !t.aux_rows && t.candidates);
    ck_assert_uint_eq(t.width, 50);
    ck_assert_uint_eq(t.n_candidates, 3);
    ck_assert(t.candidates[0] == 3 && t.candidates[1] == 9 && t.candidates[2] == 49);
    ck_assert_uint_eq(t.f_rows[2].n, 0);
    ck_assert_uint_eq(sae_task_sparse_bytes(&t), 0);
    sae_task_fini(&t);

    t.query = (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP};
    t.query.top_k = 7; /* three rows of 24 bytes; a header and room for 7 ids and values each */
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    ck_assert_uint_eq(sae_task_bytes(&t), 128 + 64 + 192);
    sae_task_fini(&t);
    sae_task_fini(&t); /* twice is harmless */
    sae_dict_free(dict);
}
END_TEST

/* Slices take odd numbers of words: pieces of the room are that, words one behind the other. */
START_TEST(pieces_of_the_room)
{
    struct sae_dict *dict = dicts_make("AutoEncoder", 10, 50, 1);
    struct sae_task t = {.dict = dict, .n_rows = 3};
    uint32_t *first, *second, *own;

    t.query =
        (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = 7};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK); /* room for 42 */
    first = sae_task_words(&t, 5);
    second = sae_task_words(&t, 37);
    ck_assert_uint_eq((uintptr_t)first % 64, 0);
    ck_assert_ptr_eq(second, first + 5);
    ck_assert_uint_eq(sae_task_sparse_bytes(&t), 0);
    own = sae_task_words(&t, 1);
    ck_assert_ptr_nonnull(own);
    ck_assert_uint_eq((uintptr_t)own % 64, 0);
    ck_assert_uint_eq(sae_task_sparse_bytes(&t), 64 + 4);
    memset(first, 1, 42 * sizeof *first);
    *own = 1;
    sae_task_fini(&t);
    sae_dict_free(dict);
}
END_TEST

START_TEST(ghost_is_for_those_who_have_it)
{
    struct sae_dict *ae = dicts_make("AutoEncoder", 4, 6, 1);
    struct sae_dict *id = dicts_make("IdentityDict", 4, 4, 1);
    static const float mask[6];
    struct sae_task t = {.dict = ae, .n_rows = 1};

    t.query = (struct sae_query){
        .op = SAE_OP_FORWARD, .has_ghost = true, .ghost_mask = mask, .ghost_col = 1};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    ck_assert(t.x_hat && t.x_ghost && !t.f);
    sae_task_fini(&t);
    t.dict = id;
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    ck_assert(t.x_hat && !t.x_ghost);
    sae_task_fini(&t);
    sae_dict_free(ae);
    sae_dict_free(id);
}
END_TEST

START_TEST(no_rows_and_no_columns_are_legal)
{
    struct sae_dict *dict = dicts_make("GatedAutoEncoder", 4, 6, 1);
    uint64_t random = 1;

    for (int i = 0; i < 200; i++) {
        struct batches_store store;
        struct sae_task t = {.dict = dict};

        t.query = batches_query(dict, 1, &random, &store);
        ck_assert_uint_lt(sae_task_bytes(&t), 4096);
        ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
        ck_assert(t.query.form != SAE_FORM_DENSE || !t.query.want_f || t.f);
        ck_assert(t.query.op == SAE_OP_ENCODE || t.x_hat);
        sae_task_fini(&t);
        batches_store_fini(&store);
    }
    sae_dict_free(dict);
}
END_TEST

/* Any number of allocations refused: an error that names the size, and nothing left behind. */
START_TEST(prepare_fails_whole)
{
    struct sae_dict *dict = dicts_make("JumpAutoEncoder", 10, 50, 1);
    static const uint32_t ids[] = {1, 2};

    for (int form = 0; form < 3; form++)
        for (long fault = 0;; fault++) {
            struct sae_task t = {.dict = dict, .n_rows = 2};
            struct sae_err err = {0};
            enum sae_status st;

            t.query = (struct sae_query){.op = SAE_OP_FORWARD,
                                         .want_f = true,
                                         .want_aux = true,
                                         .form = (enum sae_form)form,
                                         .top_k = 2,
                                         .has_features = true,
                                         .features = ids,
                                         .n_features = 2};
            sae_alloc_fault(fault, false);
            st = sae_task_prepare(&t, &err);
            sae_alloc_fault(-1, false);
            if (st == SAE_OK) {
                ck_assert_int_ge(fault, 3);
                sae_task_fini(&t);
                break;
            }
            ck_assert_int_eq(st, SAE_E_NOMEM);
            ck_assert_ptr_nonnull(strstr(err.text, "2 rows"));
            ck_assert(!t.f && !t.aux && !t.f_rows && !t.aux_rows && !t.x_hat && !t.candidates);
        }
    sae_dict_free(dict);
}
END_TEST

START_TEST(absurd_sizes_are_refused)
{
    struct sae_dict *dict = dicts_make("AutoEncoder", 4, 6, 1);
    struct sae_task t = {.dict = dict, .n_rows = SIZE_MAX / 8};
    struct sae_err err = {0};

    t.query = (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true};
    sae_task_plan(&t);
    ck_assert_uint_eq(sae_task_bytes(&t), UINT64_MAX);
    ck_assert_int_eq(sae_task_prepare(&t, &err), SAE_E_NOMEM);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("task");
    TCase *t = tcase_create("task");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, prepare_fills_what_is_asked);
    tcase_add_test(t, pieces_of_the_room);
    tcase_add_test(t, ghost_is_for_those_who_have_it);
    tcase_add_test(t, no_rows_and_no_columns_are_legal);
    tcase_add_test(t, prepare_fails_whole);
    tcase_add_test(t, absurd_sizes_are_refused);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
