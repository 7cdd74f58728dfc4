/* test_sched_threads.c - the scheduler with real threads on the fake compute; run it under TSan
 * too.
 *
 * Nothing here sleeps for luck: threads wait for done callbacks, and a wait that takes longer than
 * PATIENCE_S says that a wake-up was lost. */
#include "server/sched/state.h"
#include "tests/support/sched_fake.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define PATIENCE_S 30
#define N_DICTS 2
#define MS 1000000ull
#define HOUR_NS (3600 * 1000 * MS)

static struct saed_dict *dicts[N_DICTS];

static uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- waiting for done callbacks ------------------------------------------------------------- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    size_t n_done;
};

static void waiter_init(struct waiter *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
    w->n_done = 0;
}

static void waiter_fini(struct waiter *w)
{
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
}

static void on_done(struct saed_job *job, void *arg)
{
    struct waiter *w = arg;

    FAKE_CHECK(job->state == SAED_JOB_DONE);
    FAKE_CHECK(atomic_fetch_add(&((struct fake_job *)job)->done_calls, 1) == 0);
    pthread_mutex_lock(&w->lock);
    w->n_done++;
    pthread_cond_signal(&w->cond); /* one thread waits; after the unlocking it may free the job */
    pthread_mutex_unlock(&w->lock);
}

/* Until n are done in all. */
static void wait_done(struct waiter *w, size_t n)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&w->lock);
    while (w->n_done < n)
        FAKE_CHECK(pthread_cond_timedwait(&w->cond, &w->lock, &until) == 0);
    pthread_mutex_unlock(&w->lock);
}

/* ---- one scheduler -------------------------------------------------------------------------- */

struct world {
    struct fake fake;
    struct saed_sched_config cfg;
    struct saed_sched *s;
    _Atomic size_t rows_seen, queued_seen, batches_seen;
};

static void see_batch(void *arg, const struct saed_dict *d, enum sae_side gemm, size_t rows,
                      uint64_t ns)
{
    struct world *w = arg;

    FAKE_CHECK(fake_dict_index(d->dict) < N_DICTS && gemm < SAE_N_SIDES && rows > 0 &&
               ns < HOUR_NS);
    atomic_fetch_add(&w->batches_seen, 1);
}

static void see_queued(void *arg, const struct saed_dict *d, uint64_t ns)
{
    FAKE_CHECK(fake_dict_index(d->dict) < N_DICTS && ns < HOUR_NS);
    atomic_fetch_add(&((struct world *)arg)->queued_seen, 1);
}

static void see_rows(void *arg, const struct saed_dict *d, enum sae_op op, size_t rows)
{
    FAKE_CHECK(fake_dict_index(d->dict) < N_DICTS && op < SAE_N_ROW_OPS);
    atomic_fetch_add(&((struct world *)arg)->rows_seen, rows);
}

static void world_init(struct world *w, size_t n_threads, size_t max_batch, uint64_t delay_ns,
                       unsigned max_phases, unsigned max_tiles)
{
    *w = (struct world){
        .fake = {
            .seed = 11, .max_phases = max_phases, .max_tiles = max_tiles, .max_rows = max_batch}};
    w->cfg = (struct saed_sched_config){
        .n_threads = n_threads,
        .max_batch_rows = max_batch,
        .max_delay_ns = delay_ns,
        .max_queue_rows = 4000,
        .compute = fake_compute(&w->fake),
        .observer = {.arg = w, .batch = see_batch, .queued = see_queued, .rows = see_rows}};
}

static void world_start(struct world *w)
{
    for (size_t i = 0; i < N_DICTS; i++)
        dicts[i] = fake_dict_create(i);
    FAKE_CHECK(saed_sched_create(&w->s, &w->cfg, NULL) == SAE_OK);
    FAKE_CHECK(saed_sched_start(w->s, NULL) == SAE_OK);
    FAKE_CHECK(atomic_load(&w->fake.warmed) == (int)w->cfg.n_threads);
}

static void world_open(struct world *w, size_t n_threads, size_t max_batch, uint64_t delay_ns,
                       unsigned max_phases, unsigned max_tiles)
{
    world_init(w, n_threads, max_batch, delay_ns, max_phases, max_tiles);
    world_start(w);
}

static void world_close(struct world *w)
{
    saed_sched_free(w->s);
    FAKE_CHECK(atomic_load(&w->fake.live) == 0);
    for (size_t i = 0; i < N_DICTS; i++)
        fake_dict_release(dicts[i]);
}

static struct fake_job *job_make(struct waiter *wt, size_t dict, enum sae_op op, size_t rows)
{
    struct fake_job *fj = fake_job_create(0, dict, op, rows);

    fj->job.done = on_done;
    fj->job.done_arg = wt;
    return fj;
}

/* Queue as submit does, or without waking anybody and rouse then. */
static enum sae_status queue(struct world *w, struct fake_job *fj, bool quietly)
{
    enum sae_status st;

    if (!quietly)
        return saed_sched_submit(w->s, dicts[fj->dict_index], &fj->job, NULL);
    st = saed_sched_enqueue(w->s, dicts[fj->dict_index], &fj->job, NULL);
    saed_sched_rouse(w->s);
    return st;
}

/* ---- one after the other: no wake-up is lost ------------------------------------------------- */

struct one_case {
    size_t n_threads;
    uint64_t delay_ns;
    unsigned n;
};
static const struct one_case one_cases[] = {
    {1, 0, 4000}, {2, 0, 4000}, {4, 0, 2000}, {1, 20000, 500}, {2, 20000, 500}, {3, 1, 2000},
};

START_TEST(each_job_is_answered_when_it_comes_alone)
{
    const struct one_case *c = &one_cases[_i];
    struct world w;
    struct waiter wt;

    waiter_init(&wt);
    world_open(&w, c->n_threads, 16, c->delay_ns, 3, 5);
    for (unsigned i = 0; i < c->n; i++) {
        struct fake_job *fj = job_make(&wt, i % N_DICTS, SAE_OP_ENCODE, 1 + i % 40);

        FAKE_CHECK(queue(&w, fj, i / 8 % 2) == SAE_OK);
        wait_done(&wt, i + 1);
        FAKE_CHECK(fj->job.status == SAE_OK && fj->n_hits == fj->job.task.n_rows);
        fake_job_free(fj);
    }
    world_close(&w);
    ck_assert_uint_eq(w.queued_seen, c->n);
    waiter_fini(&wt);
}
END_TEST

START_TEST(deadlines_are_noticed_while_all_sleep)
{
    struct world w;
    struct waiter wt;
    struct fake_job *fj[4];

    waiter_init(&wt);
    world_open(&w, 1 + (size_t)_i, 16, HOUR_NS, 1, 1);
    for (size_t i = 0; i < 4; i++) {
        fj[i] = job_make(&wt, i % N_DICTS, SAE_OP_ENCODE, 1);
        /* The first has none; each of the others is due before those that came earlier. */
        if (i > 0)
            fj[i]->job.deadline_ns = clock_ns() + (8 - 2 * i) * MS;
        FAKE_CHECK(saed_sched_submit(w.s, dicts[i % N_DICTS], &fj[i]->job, NULL) == SAE_OK);
    }
    wait_done(&wt, 3);
    for (size_t i = 1; i < 4; i++) {
        ck_assert_int_eq(fj[i]->job.status, SAE_E_DEADLINE_EXCEEDED);
        ck_assert(fj[i]->job.done_ns > fj[i]->job.deadline_ns);
    }
    /* Enough rows end the delay for the one that waits on. */
    struct fake_job *more = job_make(&wt, 0, SAE_OP_ENCODE, 15);
    FAKE_CHECK(saed_sched_submit(w.s, dicts[0], &more->job, NULL) == SAE_OK);
    wait_done(&wt, 5);
    ck_assert_int_eq(fj[0]->job.status, SAE_OK);
    ck_assert_uint_eq(fj[0]->job.largest_batch, 16);
    world_close(&w);
    for (size_t i = 0; i < 4; i++)
        fake_job_free(fj[i]);
    fake_job_free(more);
    waiter_fini(&wt);
}
END_TEST

/* A clock that counts who looks: a worker reads it as it wakes and again, under the lock, as it
 * sets its timer, so that the next submit finds it asleep. */
struct counted_clock {
    _Atomic unsigned n_reads;
};

static uint64_t counted_now(void *arg)
{
    atomic_fetch_add(&((struct counted_clock *)arg)->n_reads, 1);
    return clock_ns();
}

static void wait_reads(struct counted_clock *c, unsigned n)
{
    uint64_t end = clock_ns() + PATIENCE_S * 1000 * MS;

    while (atomic_load(&c->n_reads) < n) {
        FAKE_CHECK(clock_ns() < end);
        sched_yield();
    }
}

START_TEST(an_earlier_deadline_moves_the_timer_of_who_sleeps)
{
    struct counted_clock clock = {0};
    struct world w;
    struct waiter wt;
    struct fake_job *fj[3];
    bool quietly = _i & 1;

    waiter_init(&wt);
    world_init(&w, 1 + (size_t)_i / 2, 16, HOUR_NS, 1, 1);
    w.cfg.now_ns = counted_now;
    w.cfg.now_arg = &clock;
    world_start(&w);
    for (unsigned i = 0; i < 3; i++) {
        fj[i] = job_make(&wt, 0, SAE_OP_ENCODE, 1);
        if (i > 0)
            fj[i]->job.deadline_ns = clock_ns() + (i == 1 ? HOUR_NS / 2 : MS);
        FAKE_CHECK(queue(&w, fj[i], quietly) == SAE_OK);
        if (i < 2) /* submit, look, set the timer; rouse, if there is one who sleeps with a timer */
            wait_reads(&clock, 3 * (i + 1) + (quietly ? i : 0));
    }
    wait_done(&wt, 1);
    ck_assert_int_eq(fj[2]->job.status, SAE_E_DEADLINE_EXCEEDED);
    world_close(&w);
    for (unsigned i = 0; i < 3; i++)
        fake_job_free(fj[i]);
    waiter_fini(&wt);
}
END_TEST

/* ---- queued without waking anybody ----------------------------------------------------------- */

static void wait_all_asleep(struct world *w)
{
    uint64_t end = clock_ns() + PATIENCE_S * 1000 * MS;
    size_t asleep = 0;

    while (asleep < w->cfg.n_threads) {
        FAKE_CHECK(clock_ns() < end);
        sched_yield();
        pthread_mutex_lock(&w->s->lock);
        asleep = w->s->timekeeper ? 1 : 0;
        for (struct saed_worker *i = w->s->idle; i; i = i->next_idle)
            asleep++;
        pthread_mutex_unlock(&w->s->lock);
    }
}

/* Sleepers stay asleep until they are roused; then all is one batch. */
START_TEST(what_is_queued_quietly_rides_together)
{
    struct world w;
    struct waiter wt;
    struct fake_job *fj[10];

    waiter_init(&wt);
    world_open(&w, 1 + (size_t)_i, 16, 0, 3, 5);
    wait_all_asleep(&w);
    for (size_t i = 0; i < 10; i++) {
        fj[i] = job_make(&wt, 0, SAE_OP_ENCODE, 1);
        FAKE_CHECK(saed_sched_enqueue(w.s, dicts[0], &fj[i]->job, NULL) == SAE_OK);
    }
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 10);
    saed_sched_rouse(w.s);
    wait_done(&wt, 10);
    ck_assert_uint_eq(atomic_load(&w.fake.n_batches), 1);
    world_close(&w);
    for (size_t i = 0; i < 10; i++)
        fake_job_free(fj[i]);
    waiter_fini(&wt);
}
END_TEST

/* Queues a job from inside the first batch's tile. */
struct guest {
    struct world *w;
    struct fake_job *fj;
    _Atomic bool came;
};

static void queue_guest(void *arg)
{
    struct guest *g = arg;

    if (!atomic_exchange(&g->came, true))
        FAKE_CHECK(saed_sched_enqueue(g->w->s, dicts[0], &g->fj->job, NULL) == SAE_OK);
}

START_TEST(who_is_awake_takes_what_is_queued_quietly)
{
    struct world w;
    struct waiter wt;
    struct guest guest = {.w = &w};
    struct fake_job *fj;

    waiter_init(&wt);
    world_init(&w, 1 + (size_t)_i, 16, 0, 1, 1);
    w.fake.min_phases = 1;
    w.fake.on_tile = queue_guest;
    w.fake.arg = &guest;
    world_start(&w);
    guest.fj = job_make(&wt, 0, SAE_OP_ENCODE, 1);
    fj = job_make(&wt, 0, SAE_OP_ENCODE, 1);
    FAKE_CHECK(saed_sched_submit(w.s, dicts[0], &fj->job, NULL) == SAE_OK);
    wait_done(&wt, 2); /* nobody rouses */
    world_close(&w);
    fake_job_free(fj);
    fake_job_free(guest.fj);
    waiter_fini(&wt);
}
END_TEST

/* ---- workers side by side -------------------------------------------------------------------- */

/* Every tile waits until all workers are in a tile: passes only if all are woken for it. */
struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned here, want;
};

static void meet(void *arg)
{
    struct meeting *m = arg;
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&m->lock);
    m->here++;
    pthread_cond_broadcast(&m->cond);
    while (m->here < m->want)
        FAKE_CHECK(pthread_cond_timedwait(&m->cond, &m->lock, &until) == 0);
    pthread_mutex_unlock(&m->lock);
}

/* One batch of many tiles; single-tile batches of four queues, each a wake-up of its own; one job
 * that fills four batches, where each worker has to wake the next. */
START_TEST(all_workers_come_when_there_is_work_for_all)
{
    struct world w;
    struct waiter wt;
    struct meeting m = {.want = 4};
    struct fake_job *fj[4];
    size_t n = _i == 1 ? 4 : 1;

    waiter_init(&wt);
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.cond, NULL);
    world_open(&w, 4, 16, 0, 1, _i == 0 ? 64 : 1);
    w.fake.min_phases = 1;
    w.fake.seed = 4; /* a batch of 4 tiles or more */
    w.fake.on_tile = meet;
    w.fake.arg = &m;
    for (size_t i = 0; i < n; i++)
        fj[i] = job_make(&wt, i % 2, i / 2 ? SAE_OP_DECODE : SAE_OP_ENCODE, _i == 2 ? 64 : 16);
    for (size_t i = 0; i < n; i++)
        FAKE_CHECK(saed_sched_submit(w.s, dicts[i % 2], &fj[i]->job, NULL) == SAE_OK);
    wait_done(&wt, n);
    ck_assert_uint_ge(atomic_load(&w.fake.n_tiles), 4);
    world_close(&w);
    for (size_t i = 0; i < n; i++)
        fake_job_free(fj[i]);
    pthread_cond_destroy(&m.cond);
    pthread_mutex_destroy(&m.lock);
    waiter_fini(&wt);
}
END_TEST

/* ---- storms ---------------------------------------------------------------------------------- */

struct storm_case {
    size_t n_threads, max_batch;
    uint64_t delay_ns;
    unsigned max_phases, max_tiles, n_jobs;
    bool abort;
};
static const struct storm_case storm_cases[] = {
    {1, 32, 0, 2, 4, 3000, false},   {2, 64, 0, 3, 6, 3000, false},
    {4, 1, 0, 1, 1, 1500, false},    {4, 48, 0, 4, 8, 3000, false},
    {8, 16, 0, 2, 1, 2000, false},   {3, 256, 50000, 3, 5, 2000, false},
    {12, 16, 0, 2, 30, 2000, false}, {2, 100, 200000, 0, 1, 2000, true},
    {4, 32, 0, 3, 5, 3000, true},
};

#define N_PRODUCERS 3
#define N_LIVE 24

struct producer {
    pthread_t thread;
    struct world *w;
    const struct storm_case *c;
    uint64_t rng;
    size_t n_ok, n_submitted, rows_hit;
    bool stop_world; /* aborts halfway */
    bool grows;      /* has the compute's buffers made anew, and needs the new ones */
    unsigned needs;
};

static void check_job(struct producer *p, const struct fake_job *fj)
{
    size_t hits = fj->n_hits;

    FAKE_CHECK(fj->done_calls == 1);
    for (size_t r = 0; r < fj->job.task.n_rows; r++)
        FAKE_CHECK(fj->hits[r] == (r < hits));
    switch (fj->job.status) {
    case SAE_OK:
        FAKE_CHECK(hits == fj->job.task.n_rows);
        p->n_ok++;
        break;
    case SAE_E_DEADLINE_EXCEEDED:
        FAKE_CHECK(fj->job.deadline_ns && hits == 0);
        break;
    case SAE_E_NOMEM:
        FAKE_CHECK(fj->fail_at_row < hits);
        break;
    case SAE_E_CANCELLED:
        break;
    default:
        FAKE_CHECK(fj->job.status == SAE_E_DRAINING && p->c->abort);
    }
}

static struct fake_job *storm_job(struct producer *p, struct waiter *wt)
{
    static const unsigned sizes[] = {1, 1, 1, 8, 50, 300};
    size_t rows = 1 + fake_random(&p->rng) % sizes[fake_random(&p->rng) % 6];
    struct fake_job *fj = job_make(wt, fake_random(&p->rng) % N_DICTS,
                                   (enum sae_op)(fake_random(&p->rng) % SAE_N_ROW_OPS), rows);

    if (fake_random(&p->rng) % 8 == 0)
        fj->job.deadline_ns = clock_ns() + fake_random(&p->rng) % 200000;
    if (fake_random(&p->rng) % 16 == 0)
        fj->fail_at_row = fake_random(&p->rng) % rows;
    fj->needs = p->needs;
    return fj;
}

/* Up to N_LIVE jobs at a time, then wait for all of them. */
static void *produce(void *arg)
{
    struct producer *p = arg;
    struct saed_sched *s = p->w->s;
    struct waiter wt;
    size_t total = 0;

    waiter_init(&wt);
    for (unsigned sent = 0; sent < p->c->n_jobs;) {
        struct fake_job *live[N_LIVE];
        size_t n = 0, want = 1 + fake_random(&p->rng) % N_LIVE;
        bool quietly = fake_random(&p->rng) % 2;

        if (p->grows && fake_random(&p->rng) % 4 == 0) {
            p->needs = 1 + atomic_fetch_add(&p->w->fake.capacity, 1);
            FAKE_CHECK(saed_sched_renew(s, NULL) == SAE_OK);
        }
        for (size_t i = 0; i < want; i++, sent++) {
            struct fake_job *fj = storm_job(p, &wt);
            enum sae_status st = (quietly ? saed_sched_enqueue : saed_sched_submit)(
                s, dicts[fj->dict_index], &fj->job, NULL);

            if (st == SAE_OK) {
                live[n++] = fj;
            } else {
                FAKE_CHECK(st == SAE_E_OVERLOADED || (st == SAE_E_DRAINING && p->c->abort));
                fake_job_free(fj);
            }
            if (n && fake_random(&p->rng) % 10 == 0)
                saed_sched_cancel(s, &live[fake_random(&p->rng) % n]->job);
        }
        if (quietly)
            saed_sched_rouse(s);
        if (p->stop_world && sent > p->c->n_jobs / 2)
            saed_sched_abort(s);
        total += n;
        wait_done(&wt, total);
        for (size_t i = 0; i < n; i++) {
            check_job(p, live[i]);
            if (!atomic_load(&live[i]->job.task.failed))
                p->rows_hit += live[i]->n_hits;
            fake_job_free(live[i]);
        }
    }
    p->n_submitted = total;
    waiter_fini(&wt);
    return NULL;
}

START_TEST(every_job_of_a_storm_is_done_once)
{
    const struct storm_case *c = &storm_cases[_i];
    struct world w;
    struct producer p[N_PRODUCERS];
    size_t n_ok = 0, n = 0, rows = 0;

    world_open(&w, c->n_threads, c->max_batch, c->delay_ns, c->max_phases, c->max_tiles);
    for (int i = 0; i < N_PRODUCERS; i++) {
        p[i] = (struct producer){.w = &w,
                                 .c = c,
                                 .rng = (uint64_t)(100 * _i + i),
                                 .stop_world = c->abort && i == 0,
                                 .grows = i == 1};
        FAKE_CHECK(pthread_create(&p[i].thread, NULL, produce, &p[i]) == 0);
    }
    for (int i = 0; i < N_PRODUCERS; i++) {
        pthread_join(p[i].thread, NULL);
        n_ok += p[i].n_ok;
        n += p[i].n_submitted;
        rows += p[i].rows_hit;
    }
    ck_assert(saed_sched_idle(w.s));
    for (size_t d = 0; d < N_DICTS; d++)
        ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[d]), 0);
    world_close(&w);
    ck_assert_uint_gt(n_ok, n / 4);
    ck_assert_uint_eq(w.queued_seen, n);
    ck_assert_uint_ge(w.rows_seen, rows);
}
END_TEST

/* The scheduler is freed with jobs queued and in batches: each is done when free returns. */
START_TEST(free_leaves_no_job_behind)
{
    for (unsigned round = 0; round < 60; round++) {
        struct world w;
        struct waiter wt;
        struct fake_job *fj[40];

        waiter_init(&wt);
        world_open(&w, 1 + round % 4, 32, round % 2 ? 0 : HOUR_NS, 2, 4);
        for (size_t i = 0; i < 40; i++) {
            fj[i] = job_make(&wt, i % N_DICTS, SAE_OP_ENCODE, 1 + i);
            FAKE_CHECK(saed_sched_submit(w.s, dicts[i % N_DICTS], &fj[i]->job, NULL) == SAE_OK);
        }
        world_close(&w);
        ck_assert_uint_eq(wt.n_done, 40);
        for (size_t i = 0; i < 40; i++) {
            ck_assert(fj[i]->job.status == SAE_E_DRAINING || fj[i]->n_hits == i + 1);
            fake_job_free(fj[i]);
        }
        waiter_fini(&wt);
    }
}
END_TEST

START_TEST(start_fails_with_none_left_running)
{
#if SANITIZED
    printf("SKIP: a sanitizer needs the address space that this test takes away\n");
#else
    enum { THREADS = 64 };
    struct fake fake = {.max_tiles = 1, .max_rows = 4};
    struct saed_sched_config cfg = {
        .n_threads = THREADS, .max_batch_rows = 4, .max_queue_rows = 100};
    struct rlimit old, tight;
    struct saed_sched *s;
    struct sae_err err = {0};
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    cfg.compute = fake_compute(&fake);
    ck_assert_int_eq(saed_sched_create(&s, &cfg, NULL), SAE_OK);
    /* Room for some stacks of 8 MB, not for all. */
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &old), 0);
    tight = old;
    tight.rlim_cur = (rlim_t)pages * 4096 + (100u << 20);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &tight), 0);
    enum sae_status st = saed_sched_start(s, &err);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &old), 0);
    ck_assert_int_eq(st, SAE_E_IO);
    ck_assert_int_eq(err.status, SAE_E_IO);
    /* It can still be stepped, and started. */
    ck_assert(!saed_sched_step(s, 0));
    ck_assert_int_eq(saed_sched_start(s, NULL), SAE_OK);
    saed_sched_free(s);
#endif
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sched_threads");
    TCase *t = tcase_create("sched_threads");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, each_job_is_answered_when_it_comes_alone, 0,
                        (int)SAE_COUNTOF(one_cases));
    tcase_add_loop_test(t, deadlines_are_noticed_while_all_sleep, 0, 3);
    tcase_add_loop_test(t, an_earlier_deadline_moves_the_timer_of_who_sleeps, 0, 6);
    tcase_add_loop_test(t, what_is_queued_quietly_rides_together, 0, 3);
    tcase_add_loop_test(t, who_is_awake_takes_what_is_queued_quietly, 0, 3);
    tcase_add_loop_test(t, all_workers_come_when_there_is_work_for_all, 0, 3);
    tcase_add_loop_test(t, every_job_of_a_storm_is_done_once, 0, (int)SAE_COUNTOF(storm_cases));
    tcase_add_test(t, free_leaves_no_job_behind);
    tcase_add_test(t, start_fails_with_none_left_running);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
