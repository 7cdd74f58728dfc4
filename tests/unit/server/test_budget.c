/* test_budget.c - bytes in flight: what fits, what never will, what does not now; many threads. */
#include "server/budget.h"

#include <check.h>
#include <pthread.h>

static const struct {
    uint64_t held, others, bytes; /* under a limit of 1000 */
    enum sae_status want;
    uint64_t got; /* what the error says was met */
} holds[] = {
    {0, 0, 0, SAE_OK, 0},
    {0, 0, 1000, SAE_OK, 0},
    {0, 0, 1001, SAE_E_BODY_TOO_LARGE, 1001},
    {0, 999, 1001, SAE_E_BODY_TOO_LARGE, 1001}, /* no room now would be no answer */
    {0, 0, UINT64_MAX, SAE_E_BODY_TOO_LARGE, UINT64_MAX},
    {0, 600, 400, SAE_OK, 0},
    {0, 600, 401, SAE_E_OVERLOADED, 1001},
    {300, 600, 400, SAE_OK, 0}, /* a body grows */
    {300, 600, 401, SAE_E_OVERLOADED, 1001},
    {300, 600, 300, SAE_OK, 0},
    {300, 700, 200, SAE_OK, 0}, /* less always fits */
    {300, 700, 0, SAE_OK, 0},
};

START_TEST(a_hold_fits_or_leaves_all_as_it_was)
{
    uint64_t held = 0, others = 0;
    struct saed_budget b;
    struct sae_err err = {0};
    enum sae_status st;

    saed_budget_init(&b, _i % 2 ? 1000 : 1);
    saed_budget_set_limit(&b, 1000);
    ck_assert_int_eq(saed_budget_hold(&b, &others, holds[_i].others, 0, NULL), SAE_OK);
    ck_assert_int_eq(saed_budget_hold(&b, &held, holds[_i].held, 0, NULL), SAE_OK);
    st = saed_budget_hold(&b, &held, holds[_i].bytes, SAE_E_BODY_TOO_LARGE, &err);
    ck_assert_int_eq(st, holds[_i].want);
    ck_assert_int_eq(err.status, st);
    ck_assert_uint_eq(held, st == SAE_OK ? holds[_i].bytes : holds[_i].held);
    ck_assert_uint_eq(saed_budget_used(&b), others + held);
    if (st != SAE_OK) {
        ck_assert_str_eq(err.option, "--max-inflight-bytes");
        ck_assert_uint_eq(err.limit, 1000);
        ck_assert_uint_eq(err.got, holds[_i].got);
    }
    saed_budget_release(&b, &held);
    ck_assert_uint_eq(held, 0);
    ck_assert_uint_eq(saed_budget_used(&b), others);
}
END_TEST

/* ---- threads -------------------------------------------------------------------------------- */

#define N_THREADS 4
#define N_HOLDS 50000
#define LIMIT 1000

static pthread_barrier_t begun;

struct holder {
    struct saed_budget *b;
    uint64_t random;
    pthread_t thread;
};

static void *hold_much(void *arg)
{
    struct holder *h = arg;
    uint64_t held = 0;

    pthread_barrier_wait(&begun);
    for (size_t i = 0; i < N_HOLDS; i++) {
        uint64_t bytes;
        enum sae_status st;

        h->random = h->random * 6364136223846793005u + 1442695040888963407u;
        bytes = (h->random >> 33) % (LIMIT / 2);
        st = saed_budget_hold(h->b, &held, bytes, SAE_E_BODY_TOO_LARGE, NULL);
        ck_assert(st == SAE_OK ? held == bytes : st == SAE_E_OVERLOADED && bytes > held);
        ck_assert(saed_budget_used(h->b) <= LIMIT && saed_budget_used(h->b) >= held);
        if (i % 64 == 0)
            saed_budget_release(h->b, &held);
    }
    saed_budget_release(h->b, &held);
    return NULL;
}

START_TEST(many_threads_never_pass_the_limit_and_leave_nothing)
{
    struct holder h[N_THREADS];
    struct saed_budget b;

    saed_budget_init(&b, LIMIT);
    pthread_barrier_init(&begun, NULL, N_THREADS);
    for (size_t i = 0; i < N_THREADS; i++) {
        h[i] = (struct holder){.b = &b, .random = i};
        ck_assert_int_eq(pthread_create(&h[i].thread, NULL, hold_much, &h[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++)
        pthread_join(h[i].thread, NULL);
    pthread_barrier_destroy(&begun);
    ck_assert_uint_eq(saed_budget_used(&b), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("budget");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, a_hold_fits_or_leaves_all_as_it_was, 0, (int)SAE_COUNTOF(holds));
    tcase_add_test(t, many_threads_never_pass_the_limit_and_leave_nothing);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
