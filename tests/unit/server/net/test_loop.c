/* test_loop.c - the connection threads' loop: notes from many threads, sleeping, ending. */
#include "server/net/loop.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { POSTERS = 4, NOTES = 20000 };

struct rig;

struct note {
    struct saed_loop_note note; /* first */
    struct rig *rig;
    int poster, number;
};

/* What a loop drives, and what it has seen. */
struct rig {
    struct saed_loop *loop;
    int fd;            /* stands for an epoll set: readable when it is not 0 */
    int last[POSTERS]; /* the loop's */
    size_t owed;       /* BUSY until so many notes have run */
    bool out_of_order;
    _Atomic size_t n_turns, n_idle, n_read, n_run; /* n_run: notes */
    _Atomic bool stopping;
};

static void on_note(struct saed_loop_note *note)
{
    struct note *n = (struct note *)note;
    struct rig *g = n->rig;

    g->out_of_order |= n->number != g->last[n->poster] + 1;
    g->last[n->poster] = n->number;
    g->n_run++;
    free(n);
}

static enum saed_loop_next on_turn(void *arg, bool idle)
{
    struct rig *g = arg;
    uint64_t count;

    if (read(g->fd, &count, sizeof count) == sizeof count)
        atomic_fetch_add(&g->n_read, 1);
    if (idle)
        atomic_fetch_add(&g->n_idle, 1);
    atomic_fetch_add(&g->n_turns, 1);
    return g->n_run < g->owed ? SAED_LOOP_BUSY : SAED_LOOP_IDLE;
}

static void post(struct rig *g, int poster, int number)
{
    struct note *n = calloc(1, sizeof *n);

    ck_assert_ptr_nonnull(n);
    *n = (struct note){.note.run = on_note, .rig = g, .poster = poster, .number = number};
    saed_loop_post(g->loop, &n->note);
}

static void start(struct rig *g)
{
    struct sae_err err = {0};

    g->fd = eventfd(0, EFD_NONBLOCK);
    ck_assert_int_ge(g->fd, 0);
    ck_assert_msg(saed_loop_create(&g->loop, g->fd, on_turn, g, "test-loop", &err) == SAE_OK, "%s",
                  err.text);
}

static void finish(struct rig *g)
{
    saed_loop_free(g->loop);
    close(g->fd);
}

struct poster {
    struct rig *rig;
    int index;
    pthread_t thread;
};

static void *post_all(void *arg)
{
    struct poster *p = arg;

    for (int i = 0; i < NOTES; i++)
        post(p->rig, p->index, i);
    return NULL;
}

START_TEST(every_note_runs_once_and_in_its_posters_order)
{
    struct rig g = {.last = {-1, -1, -1, -1}};
    struct poster p[POSTERS];

    start(&g);
    for (int i = 0; i < POSTERS; i++) {
        p[i] = (struct poster){.rig = &g, .index = i};
        ck_assert_int_eq(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
    }
    for (int i = 0; i < POSTERS; i++)
        pthread_join(p[i].thread, NULL);
    saed_loop_stop(g.loop); /* what was posted by now is run */
    ck_assert_uint_eq(g.n_run, POSTERS * NOTES);
    ck_assert(!g.out_of_order);
    finish(&g);
}
END_TEST

/* Each round waits for the loop to have gone to sleep or be about to: a lost bell hangs it. */
START_TEST(what_is_ready_wakes_a_sleeper)
{
    struct rig g = {.last = {-1, -1, -1, -1}};

    start(&g);
    for (size_t i = 0; i < 2000; i++) {
        ck_assert_int_eq(write(g.fd, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
        while (atomic_load(&g.n_read) <= i)
            ;
    }
    finish(&g);
}
END_TEST

START_TEST(a_loop_without_work_sleeps)
{
    struct rig g = {.last = {-1, -1, -1, -1}};
    size_t turns;

    start(&g);
    post(&g, 0, 0);
    saed_loop_stop(g.loop);
    turns = atomic_load(&g.n_turns);
    /* the first turn of its life, one for the note, one for the end, one that was spurious */
    ck_assert_uint_le(turns, 4);
    ck_assert_uint_le(atomic_load(&g.n_idle), 1);
    ck_assert_uint_eq(g.n_run, 1);
    finish(&g);
}
END_TEST

static void *stop(void *arg)
{
    struct rig *g = arg;

    atomic_store(&g->stopping, true);
    saed_loop_stop(g->loop);
    return NULL;
}

/* A connection that is suspended when the server stops: its note comes after the stop. Two notes
 * may be one turn's or two, so what is waited for is the notes. */
START_TEST(a_busy_loop_does_not_end)
{
    for (int i = 0; i < 500; i++) {
        struct rig g = {.last = {-1, -1, -1, -1}, .owed = 3};
        pthread_t stopper;

        start(&g);
        post(&g, 0, 0);
        ck_assert_int_eq(pthread_create(&stopper, NULL, stop, &g), 0);
        post(&g, 0, 1);
        while (atomic_load(&g.n_run) < 2 || !atomic_load(&g.stopping))
            sched_yield();
        post(&g, 0, 2);
        pthread_join(stopper, NULL);
        ck_assert_uint_eq(g.n_run, 3);
        finish(&g);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_note_runs_once_and_in_its_posters_order);
    tcase_add_test(t, what_is_ready_wakes_a_sleeper);
    tcase_add_test(t, a_loop_without_work_sleeps);
    tcase_add_test(t, a_busy_loop_does_not_end);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
