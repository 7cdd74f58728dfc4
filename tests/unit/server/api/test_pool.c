/* test_pool.c - threads for bodies: each lane in order, and the large one holds no other back. */
#include "server/api/pool.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#define SMALL (300u << 10)
#define LARGE (64u << 20)

struct step {
    struct saed_pool_work work;
    sem_t *wait, *post;
    int *order, n; /* the how manieth it was */
};

static struct timespec soon(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += 30;
    return t;
}

static void must_wait(sem_t *s)
{
    struct timespec t = soon();

    ck_assert_msg(sem_timedwait(s, &t) == 0, "nobody came");
}

static void run(void *arg)
{
    struct step *s = arg;
    struct timespec t = soon();

    if (s->wait)
        sem_timedwait(s->wait, &t);
    s->n = (*s->order)++;
    sem_post(s->post);
}

static void push(struct saed_pool *c, struct step *s, uint64_t bytes)
{
    s->work.run = run;
    s->work.arg = s;
    saed_pool_push(c, &s->work, bytes);
}

/* The large body waits for the small one that came behind it. */
START_TEST(a_large_body_holds_no_small_one_back)
{
    struct saed_pool *c = NULL;
    sem_t small_ran, large_ran;
    int order = 0;
    struct step large = {.wait = &small_ran, .post = &large_ran, .order = &order};
    struct step small = {.post = &small_ran, .order = &order};

    sem_init(&small_ran, 0, 0);
    sem_init(&large_ran, 0, 0);
    ck_assert_int_eq(saed_pool_create(&c, 1, NULL), SAE_OK);
    push(c, &large, LARGE);
    push(c, &small, SMALL);
    must_wait(&large_ran);
    ck_assert_int_eq(small.n, 0);
    ck_assert_int_eq(large.n, 1);
    saed_pool_free(c);
}
END_TEST

START_TEST(a_lane_is_first_come_first_served)
{
    const uint64_t bytes = _i ? LARGE : SMALL;
    struct saed_pool *c = NULL;
    struct step steps[20];
    sem_t go, ran;
    int order = 0;

    sem_init(&go, 0, 0);
    sem_init(&ran, 0, 0);
    ck_assert_int_eq(saed_pool_create(&c, 1, NULL), SAE_OK);
    for (int i = 0; i < 20; i++) {
        steps[i] = (struct step){.wait = i ? NULL : &go, .post = &ran, .order = &order};
        push(c, &steps[i], bytes);
    }
    sem_post(&go);
    saed_pool_free(c); /* runs what is queued */
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(steps[i].n, i);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pool");
    TCase *t = tcase_create("pool");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, a_large_body_holds_no_small_one_back);
    tcase_add_loop_test(t, a_lane_is_first_come_first_served, 0, 2);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
