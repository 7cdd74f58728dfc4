/* test_threads.c - tiles of a phase on two threads at once, and two batches side by side that work
 * on rows of the same tasks; every class in every way of computing. For TSan as much as for the
 * answers. */
#include "lib/engine/engine.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

enum { N_THREADS = 2, N_TASKS = 6, MAX_ROWS = 24, N_CLASSES = 4 };

static void tasks_make(struct sae_task *t, struct batches_store *store, const struct sae_dict *dict,
                       uint64_t seed)
{
    uint64_t random = seed;

    for (size_t i = 0; i < N_TASKS; i++) {
        t[i] = (struct sae_task){
            .dict = dict, .n_rows = 4, .x = batches_exact_rows(4, dict->formula.d_in, seed + i)};
        t[i].query = batches_query(dict, 4, &random, &store[i]);
        ck_assert_int_eq(sae_task_prepare(&t[i], NULL), SAE_OK);
    }
}

static void tasks_check(struct sae_task *t, struct batches_store *store)
{
    for (size_t i = 0; i < N_TASKS; i++) {
        batches_check(&t[i], true, false, "threads");
        sae_task_fini(&t[i]);
        batches_store_fini(&store[i]);
        sae_free((float *)t[i].x);
    }
}

static const char *const classes[N_CLASSES] = {"AutoEncoder", "GatedAutoEncoder", "JumpAutoEncoder",
                                               "AutoEncoderNew"};

START_TEST(tiles_run_side_by_side)
{
    /* 96 x 9000: large enough for several tiles in every phase but the smallest */
    struct sae_dict *dict = batches_exact_dict(classes[_i % N_CLASSES], 96, 9000, 2);
    struct sae_engine *e = batches_engine((enum batches_way)(_i / N_CLASSES), dict);
    struct sae_scratch *s[N_THREADS];
    struct sae_batch *b;

    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, MAX_ROWS), NULL), SAE_OK);
    for (size_t i = 0; i < N_THREADS; i++)
        ck_assert_int_eq(sae_scratch_create(&s[i], e, dicts_capacity(dict, MAX_ROWS), NULL),
                         SAE_OK);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct sae_task t[N_TASKS];
        struct batches_store store[N_TASKS];
        struct sae_slice slices[N_TASKS];

        tasks_make(t, store, dict, seed);
        for (size_t i = 0; i < N_TASKS; i++)
            slices[i] = (struct sae_slice){.task = &t[i], .row0 = 0, .n_rows = 4};
        batches_run_crew(b, s, N_THREADS, dict, SAE_SIDE_ENCODE, slices, N_TASKS);
        tasks_check(t, store);
    }
    sae_batch_free(b);
    for (size_t i = 0; i < N_THREADS; i++)
        sae_scratch_free(s[i]);
    sae_engine_free(e);
    sae_dict_free(dict);
}
END_TEST

struct half {
    struct sae_batch *b;
    struct sae_scratch *s;
    struct sae_task *t;
    const struct sae_engine *e;
    struct sae_dict *dict;
    size_t row0;
};

static void *run_half(void *arg)
{
    struct half *h = arg;
    struct sae_slice slices[N_TASKS];

    sae_engine_warm(h->e, h->s);
    for (size_t i = 0; i < N_TASKS; i++)
        slices[i] = (struct sae_slice){.task = &h->t[i], .row0 = h->row0, .n_rows = 2};
    batches_run(h->b, h->s, h->dict, SAE_SIDE_ENCODE, slices, N_TASKS);
    return NULL;
}

/* The rows of each task split over two batches at the same time. */
START_TEST(batches_share_tasks)
{
    struct sae_dict *dict = batches_exact_dict(classes[_i % N_CLASSES], 30, 2000, 2);
    struct sae_engine *e = batches_engine((enum batches_way)(_i / N_CLASSES), dict);

    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct sae_task t[N_TASKS];
        struct batches_store store[N_TASKS];
        struct half h[2];
        pthread_t threads[2];

        tasks_make(t, store, dict, seed);
        for (size_t i = 0; i < 2; i++) {
            h[i] = (struct half){.t = t, .e = e, .dict = dict, .row0 = 2 * i};
            ck_assert_int_eq(sae_batch_create(&h[i].b, e, dicts_capacity(dict, MAX_ROWS), NULL),
                             SAE_OK);
            ck_assert_int_eq(sae_scratch_create(&h[i].s, e, dicts_capacity(dict, MAX_ROWS), NULL),
                             SAE_OK);
        }
        for (size_t i = 0; i < 2; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, run_half, &h[i]), 0);
        for (size_t i = 0; i < 2; i++) {
            pthread_join(threads[i], NULL);
            sae_batch_free(h[i].b);
            sae_scratch_free(h[i].s);
        }
        tasks_check(t, store);
    }
    sae_engine_free(e);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine threads");
    TCase *t = tcase_create("threads");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, tiles_run_side_by_side, 0, N_CLASSES * BATCHES_N_WAYS);
    tcase_add_loop_test(t, batches_share_tasks, 0, N_CLASSES * BATCHES_N_WAYS);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
