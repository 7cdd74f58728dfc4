/* test_sched_random.c - thousands of seeded schedules against a naive model.
 *
 * A schedule is a random interleaving of submit, cancel, step of some worker, moves of the clock
 * and abort, on random limits. The model keeps the queues as plain arrays and says what each batch
 * must hold, who may be late, and what the gauge reads; the fake compute says that no row comes
 * twice. Jobs are freed in their done callback, so that a later touch is seen by AddressSanitizer.
 * SCHED_SEED=n in the environment runs that schedule alone. */
#include "tests/support/sched_fake.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_SCHEDULES 6000
#define N_GROUPS 12 /* loop tests: small enough for one second each under sanitizers */
#define N_DICTS 3
#define N_QUEUES (N_DICTS * SAE_N_SIDES)
#define MAX_LIVE 64

enum model_state { M_QUEUED, M_RUNNING };

struct model_job {
    struct fake_job *fj;
    enum model_state state;
    size_t next, turn_left;
    uint64_t submit_ns;
    bool dropped;        /* takes no more rows ... */
    enum sae_status why; /* ... for this reason */
};

struct model_queue {
    struct model_job *job[MAX_LIVE]; /* by turn */
    size_t n;
};

struct world {
    uint64_t seed, rng, now;
    struct fake fake;
    struct saed_sched_config cfg;
    struct saed_sched *s;
    struct model_queue q[N_QUEUES];
    size_t ring[N_QUEUES], n_ring;
    struct model_job *live[MAX_LIVE];
    size_t n_live, n_submitted, n_done;
    bool aborted, closing;
    size_t rows_seen[N_DICTS][SAE_N_ROW_OPS], rows_hit[N_DICTS][SAE_N_ROW_OPS];
    size_t queued_seen;
    int depth; /* of done callbacks */
};

static struct saed_dict *dicts[N_DICTS];

static uint64_t rnd(struct world *w, uint64_t n)
{
    return fake_random(&w->rng) % n;
}

/* ---- the model ------------------------------------------------------------------------------ */

static size_t queue_of(const struct fake_job *fj)
{
    return fj->dict_index * SAE_N_SIDES + fj->job.side;
}

static size_t rest(const struct model_job *m)
{
    return m->dropped ? 0 : m->fj->job.task.n_rows - m->next;
}

static size_t queue_rows(const struct model_queue *q)
{
    size_t n = 0;

    for (size_t i = 0; i < q->n; i++)
        n += rest(q->job[i]);
    return n;
}

static void ring_remove(struct world *w, size_t qi)
{
    size_t k = 0;

    for (size_t i = 0; i < w->n_ring; i++) {
        if (w->ring[i] != qi)
            w->ring[k++] = w->ring[i];
    }
    w->n_ring = k;
}

static void queue_remove(struct world *w, struct model_job *m)
{
    size_t qi = queue_of(m->fj), k = 0;
    struct model_queue *q = &w->q[qi];

    for (size_t i = 0; i < q->n; i++) {
        if (q->job[i] != m)
            q->job[k++] = q->job[i];
    }
    q->n = k;
    if (k == 0)
        ring_remove(w, qi);
}

static void model_drop(struct world *w, struct model_job *m, enum sae_status why)
{
    if (!m->dropped) {
        m->dropped = true;
        m->why = why;
        queue_remove(w, m);
    }
}

static bool ripe(const struct world *w, const struct model_queue *q)
{
    uint64_t oldest = UINT64_MAX;

    for (size_t i = 0; i < q->n; i++) {
        if (q->job[i]->submit_ns < oldest)
            oldest = q->job[i]->submit_ns;
    }
    return w->cfg.max_delay_ns == 0 || queue_rows(q) >= w->cfg.max_batch_rows ||
           w->now >= oldest + w->cfg.max_delay_ns;
}

/* What must be in the batch: rows by job. */
static size_t model_form(struct world *w, size_t qi, struct model_job **who, size_t *row0,
                         size_t *n_rows)
{
    struct model_queue *q = &w->q[qi];
    size_t room = w->cfg.max_batch_rows, n = 0;

    ring_remove(w, qi);
    w->ring[w->n_ring++] = qi;
    while (room > 0 && q->n > 0) {
        struct model_job *m = q->job[0];
        size_t take = rest(m), k = 0;

        if (atomic_load(&m->fj->job.task.failed)) {
            model_drop(w, m, SAE_E_NOMEM);
            continue;
        }
        take = take < m->turn_left ? take : m->turn_left;
        take = take < room ? take : room;
        while (k < n && who[k] != m)
            k++;
        if (k == n) {
            who[n] = m;
            row0[n] = m->next;
            n_rows[n++] = 0;
        }
        n_rows[k] += take;
        m->next += take;
        m->turn_left -= take;
        m->state = M_RUNNING;
        room -= take;
        if (rest(m) == 0) {
            queue_remove(w, m);
        } else if (m->turn_left == 0) {
            m->turn_left = SAED_TURN_ROWS;
            memmove(q->job, q->job + 1, (q->n - 1) * sizeof q->job[0]);
            q->job[q->n - 1] = m;
        }
    }
    return n;
}

static bool is_late(const struct world *w, const struct model_job *m)
{
    return m->state == M_QUEUED && m->fj->job.deadline_ns && w->now > m->fj->job.deadline_ns;
}

static void on_begin(void *arg, const struct sae_dict *dict, enum sae_side side,
                     const struct sae_slice *slices, size_t n_slices)
{
    struct world *w = arg;
    struct model_job *who[MAX_LIVE];
    size_t row0[MAX_LIVE], n_rows[MAX_LIVE], n, i, qi;

    FAKE_CHECK(!w->closing);
    for (i = 0; i < w->n_live; i++)
        FAKE_CHECK(w->live[i]->dropped || !is_late(w, w->live[i]));
    for (;;) { /* a ripe queue whose jobs have all failed makes no batch */
        for (i = 0; i < w->n_ring && !ripe(w, &w->q[w->ring[i]]); i++)
            ;
        FAKE_CHECK(i < w->n_ring);
        qi = w->ring[i];
        n = model_form(w, qi, who, row0, n_rows);
        if (n > 0)
            break;
    }
    FAKE_CHECK(qi / SAE_N_SIDES == fake_dict_index(dict));
    FAKE_CHECK(qi % SAE_N_SIDES == (size_t)side);
    FAKE_CHECK(n == n_slices);
    for (i = 0; i < n; i++) {
        FAKE_CHECK(slices[i].task == &who[i]->fj->job.task);
        FAKE_CHECK(slices[i].row0 == row0[i] && slices[i].n_rows == n_rows[i]);
    }
}

/* ---- moves ---------------------------------------------------------------------------------- */

static void see_rows(void *arg, const struct saed_dict *d, enum sae_op op, size_t rows)
{
    ((struct world *)arg)->rows_seen[fake_dict_index(d->dict)][op] += rows;
}

static void see_queued(void *arg, const struct saed_dict *d, uint64_t ns)
{
    struct world *w = arg;

    FAKE_CHECK(fake_dict_index(d->dict) < N_DICTS && ns <= w->now);
    w->queued_seen++;
}

static void submit(struct world *w);
static void cancel(struct world *w);

/* A job whose failure the scheduler has seen when a batch of it came back: the model looks here. */
static void note_failures(struct world *w)
{
    for (size_t i = 0; i < w->n_live; i++) {
        struct model_job *m = w->live[i];

        if (atomic_load(&m->fj->job.task.failed))
            model_drop(w, m, SAE_E_NOMEM);
    }
}

static void drop_late(struct world *w)
{
    for (size_t i = 0; i < w->n_live; i++) {
        if (!w->live[i]->dropped && is_late(w, w->live[i]))
            model_drop(w, w->live[i], SAE_E_DEADLINE_EXCEEDED);
    }
}

static void check_done(struct world *w, struct model_job *m)
{
    const struct fake_job *fj = m->fj;
    const struct saed_job *job = &fj->job;
    size_t i;

    FAKE_CHECK(job->state == SAED_JOB_DONE && fj->done_calls == 1);
    for (i = 0; i < job->task.n_rows && fj->hits[i]; i++)
        ;
    FAKE_CHECK(i == fj->n_hits && i == m->next); /* the first rows, without a gap */
    if (job->status == SAE_E_DEADLINE_EXCEEDED && !m->dropped) {
        FAKE_CHECK(is_late(w, m));
        drop_late(w); /* all of them at once, before the first is called back */
    }
    note_failures(w);
    FAKE_CHECK(job->status == (m->dropped ? m->why : SAE_OK));
    if (job->status == SAE_OK)
        FAKE_CHECK(fj->n_hits == job->task.n_rows);
    FAKE_CHECK(job->submit_ns == m->submit_ns && job->done_ns <= w->now);
    if (m->state == M_RUNNING)
        FAKE_CHECK(job->start_ns >= job->submit_ns && job->done_ns >= job->start_ns &&
                   job->largest_batch > 0);
    else
        FAKE_CHECK(job->start_ns == 0 && job->largest_batch == 0 && fj->n_hits == 0);
}

static void on_done(struct saed_job *job, void *arg)
{
    struct world *w = arg;
    struct fake_job *fj = (struct fake_job *)job;
    struct model_job *m = fj->user;
    size_t i;

    fj->done_calls++;
    check_done(w, m);
    for (i = 0; i < w->n_live && w->live[i] != m; i++)
        ;
    FAKE_CHECK(i < w->n_live);
    w->live[i] = w->live[--w->n_live];
    w->n_done++;
    if (!atomic_load(&job->task.failed))
        w->rows_hit[fj->dict_index][job->task.query.op] += fj->n_hits;
    saed_sched_cancel(w->s, job);
    fake_job_free(fj);
    free(m);
    /* A callback may call the scheduler. Not during abort: the model has dropped its jobs already.
     */
    if (w->depth == 0 && !w->aborted && !w->closing && rnd(w, 4) == 0) {
        w->depth++;
        submit(w);
        w->depth--;
    }
}

static size_t dict_rows(const struct world *w, size_t d)
{
    return queue_rows(&w->q[d * SAE_N_SIDES]) + queue_rows(&w->q[d * SAE_N_SIDES + 1]);
}

static void submit(struct world *w)
{
    static const uint64_t sizes[] = {1, 1, 3, 40, 200};
    struct sae_err err = {0};
    size_t d = rnd(w, N_DICTS), rows = 1 + rnd(w, sizes[rnd(w, 5)]), queued = dict_rows(w, d);
    enum sae_status st, want = SAE_OK;
    struct fake_job *fj;
    struct model_job *m;

    if (w->n_live == MAX_LIVE)
        return;
    fj = fake_job_create((int)w->n_submitted, d, (enum sae_op)rnd(w, SAE_N_ROW_OPS), rows);
    m = calloc(1, sizeof *m);
    FAKE_CHECK(m);
    fj->user = m;
    fj->job.done = on_done;
    fj->job.done_arg = w;
    if (rnd(w, 2))
        fj->job.deadline_ns = w->now + rnd(w, 300);
    if (rnd(w, 8) == 0)
        fj->fail_at_row = rnd(w, rows);
    *m = (struct model_job){.fj = fj, .turn_left = SAED_TURN_ROWS, .submit_ns = w->now};
    if (rows > w->cfg.max_queue_rows)
        want = SAE_E_TOO_MANY_ROWS;
    else if (w->aborted)
        want = SAE_E_DRAINING;
    else if (queued + rows > w->cfg.max_queue_rows)
        want = SAE_E_OVERLOADED;
    st = saed_sched_submit(w->s, dicts[d], &fj->job, &err);
    FAKE_CHECK(st == want && err.status == want);
    if (st != SAE_OK) {
        fake_job_free(fj);
        free(m);
        return;
    }
    struct model_queue *q = &w->q[queue_of(fj)];

    if (q->n == 0)
        w->ring[w->n_ring++] = queue_of(fj);
    q->job[q->n++] = m;
    w->live[w->n_live++] = m;
    w->n_submitted++;
}

static void cancel(struct world *w)
{
    struct model_job *m;
    size_t before = w->n_done;
    bool over;

    if (w->n_live == 0)
        return;
    m = w->live[rnd(w, w->n_live)];
    over = m->fj->n_hits == m->next; /* nothing of it is in a batch */
    model_drop(w, m, SAE_E_CANCELLED);
    saed_sched_cancel(w->s, &m->fj->job); /* m may be gone now */
    FAKE_CHECK(w->n_done == before + over);
}

static void abort_all(struct world *w)
{
    w->aborted = true;
    for (size_t i = 0; i < w->n_live; i++) {
        if (!w->live[i]->dropped && w->live[i]->next < w->live[i]->fj->job.task.n_rows)
            model_drop(w, w->live[i], SAE_E_DRAINING);
    }
    saed_sched_abort(w->s);
}

static bool step(struct world *w)
{
    bool some = saed_sched_step(w->s, rnd(w, w->cfg.n_threads));

    note_failures(w);
    return some;
}

static void check_gauges(struct world *w)
{
    bool idle = true;

    for (size_t d = 0; d < N_DICTS; d++)
        FAKE_CHECK(saed_sched_queue_rows(w->s, dicts[d]) == dict_rows(w, d));
    for (size_t i = 0; i < w->n_live; i++)
        idle = false;
    FAKE_CHECK(saed_sched_idle(w->s) == idle);
}

/* ---- schedules ------------------------------------------------------------------------------ */

static uint64_t now_ns(void *arg)
{
    return ((struct world *)arg)->now;
}

static void world_init(struct world *w, uint64_t seed)
{
    static const size_t batch[] = {1, 2, 16, 32, 48, 100, 256};
    static const uint64_t delay[] = {0, 0, 20, 100};

    *w = (struct world){.seed = seed, .rng = seed, .now = 1 + seed % 3};
    for (size_t i = 0; i < N_DICTS; i++)
        dicts[i] = fake_dict_create(i);
    w->cfg =
        (struct saed_sched_config){.n_threads = 1 + rnd(w, 4),
                                   .max_batch_rows = batch[rnd(w, 7)],
                                   .max_delay_ns = delay[rnd(w, 4)],
                                   .max_queue_rows = 60 + rnd(w, 600),
                                   .now_ns = now_ns,
                                   .now_arg = w,
                                   .observer = {.arg = w, .queued = see_queued, .rows = see_rows}};
    w->fake = (struct fake){.seed = seed,
                            .max_phases = 1 + (unsigned)rnd(w, 4),
                            .max_tiles = 1 + (unsigned)rnd(w, 6),
                            .max_rows = w->cfg.max_batch_rows,
                            .on_begin = on_begin,
                            .arg = w};
    w->cfg.compute = fake_compute(&w->fake);
    FAKE_CHECK(saed_sched_create(&w->s, &w->cfg, NULL) == SAE_OK);
}

static void move(struct world *w)
{
    uint64_t r = rnd(w, 100);

    if (r < 35)
        submit(w);
    else if (r < 43)
        cancel(w);
    else if (r < 55)
        w->now += rnd(w, 60);
    else
        step(w);
    if (!w->aborted && rnd(w, 400) == 0)
        abort_all(w);
    check_gauges(w);
}

/* Everything that is queued must come out when time passes and workers work. */
static void finish(struct world *w)
{
    while (w->n_live > 0) {
        bool some = false;

        w->now += w->cfg.max_delay_ns + 1;
        for (int i = 0; i < 200; i++)
            some |= step(w);
        check_gauges(w);
        FAKE_CHECK(some || w->n_live == 0);
    }
}

static void schedule(uint64_t seed)
{
    struct world w;
    uint64_t n_moves;
    bool clean;

    world_init(&w, seed);
    n_moves = 50 + rnd(&w, 300);
    clean = rnd(&w, 4) != 0;
    for (uint64_t i = 0; i < n_moves; i++)
        move(&w);
    if (clean)
        finish(&w);
    w.closing = true;
    for (size_t i = 0; i < w.n_live; i++) {
        if (!w.live[i]->dropped && w.live[i]->next < w.live[i]->fj->job.task.n_rows)
            model_drop(&w, w.live[i], SAE_E_DRAINING);
    }
    saed_sched_free(w.s);
    FAKE_CHECK(w.n_live == 0 && w.n_done == w.n_submitted && w.queued_seen == w.n_submitted);
    FAKE_CHECK(atomic_load(&w.fake.live) == 0);
    for (size_t i = 0; i < N_DICTS; i++)
        fake_dict_release(dicts[i]);
    for (int d = 0; d < N_DICTS; d++) {
        for (int op = 0; op < SAE_N_ROW_OPS; op++)
            FAKE_CHECK(w.rows_seen[d][op] >= w.rows_hit[d][op]);
    }
}

START_TEST(schedules_agree_with_the_model)
{
    const char *one = getenv("SCHED_SEED");

    if (one) {
        if (_i == 0)
            schedule(strtoull(one, NULL, 0));
        return;
    }
    for (uint64_t k = 0; k < N_SCHEDULES / N_GROUPS; k++) {
        uint64_t seed = (uint64_t)_i * (N_SCHEDULES / N_GROUPS) + k + 1;

        fake_seed = seed;
        schedule(seed);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sched_random");
    TCase *t = tcase_create("sched_random");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, schedules_agree_with_the_model, 0, N_GROUPS);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
