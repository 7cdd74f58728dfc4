/* sched.c - the scheduler's life and the calls of sched.h: create, submit, cancel, gauges.
 *
 * What the workers do is in sched/worker.c. */
#include "server/sched/state.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

/* ---- create and free ------------------------------------------------------------------------ */

/* Zeroed, for structs that are aligned to cache lines. */
static void *calloc_aligned(size_t n, size_t size)
{
    void *p = sae_alloc(n, size);

    if (p)
        memset(p, 0, n * size);
    return p;
}

/* Locks and conditions for waiting against CLOCK_MONOTONIC. */
static enum sae_status make_cond(pthread_cond_t *cond, struct sae_err *err)
{
    pthread_condattr_t attr;
    int e = pthread_condattr_init(&attr);

    if (e == 0) {
        e = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        if (e == 0)
            e = pthread_cond_init(cond, &attr);
        pthread_condattr_destroy(&attr);
    }
    if (e != 0)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot create condition variable: %s",
                           strerror(e));
    return SAE_OK;
}

/* A batch and a scratch of the compute: both, or none. */
static enum sae_status make_buffers(struct saed_sched *s, void **obj, void **scratch,
                                    struct sae_err *err)
{
    const struct saed_compute *c = &s->cfg.compute;
    enum sae_status st = c->batch_create(c->arg, obj, err);

    if (st != SAE_OK)
        return st;
    st = c->scratch_create(c->arg, scratch, err);
    if (st != SAE_OK)
        c->batch_free(c->arg, *obj);
    return st;
}

/* The batch and the worker of one thread: all of it, or nothing. */
static enum sae_status make_worker(struct saed_sched *s, size_t i, struct sae_err *err)
{
    const struct saed_compute *c = &s->cfg.compute;
    struct saed_worker *w = &s->workers[i];
    struct saed_batch *b = &s->batches[i];
    size_t rows = s->cfg.max_batch_rows;
    enum sae_status st;

    w->sched = s;
    w->index = i;
    b->slices = sae_calloc(rows, sizeof *b->slices);
    b->jobs = sae_calloc(rows, sizeof(struct saed_job *));
    if (!b->slices || !b->jobs) {
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate batch: %zu rows", rows);
        goto out;
    }
    st = make_buffers(s, &b->obj, &w->scratch, err);
    if (st != SAE_OK)
        goto out;
    st = make_cond(&w->wake, err);
    if (st != SAE_OK)
        goto out_buffers;
    TAILQ_INSERT_TAIL(&s->spare, b, link);
    s->n_made++;
    return SAE_OK;
out_buffers:
    c->scratch_free(c->arg, w->scratch);
    c->batch_free(c->arg, b->obj);
out:
    sae_free(b->slices);
    sae_free(b->jobs);
    return st;
}

/* Give the i-th batch and worker what to use next; what waited there was never used. */
static void put_fresh(struct saed_sched *s, size_t i, void *obj, void *scratch)
{
    const struct saed_compute *c = &s->cfg.compute;

    obj = atomic_exchange_explicit(&s->batches[i].fresh, obj, memory_order_acq_rel);
    scratch = atomic_exchange_explicit(&s->workers[i].fresh, scratch, memory_order_acq_rel);
    if (obj)
        c->batch_free(c->arg, obj);
    if (scratch)
        c->scratch_free(c->arg, scratch);
}

static void destroy(struct saed_sched *s)
{
    const struct saed_compute *c = &s->cfg.compute;

    while (s->n_made > 0) {
        struct saed_worker *w = &s->workers[--s->n_made];
        struct saed_batch *b = &s->batches[s->n_made];

        pthread_cond_destroy(&w->wake);
        put_fresh(s, s->n_made, NULL, NULL);
        c->scratch_free(c->arg, w->scratch);
        c->batch_free(c->arg, b->obj);
        sae_free(b->slices);
        sae_free(b->jobs);
    }
    pthread_cond_destroy(&s->ready);
    pthread_mutex_destroy(&s->lock);
    sae_free(s->workers);
    sae_free(s->batches);
    sae_free(s);
}

enum sae_status saed_sched_create(struct saed_sched **out, const struct saed_sched_config *cfg,
                                  struct sae_err *err)
{
    struct saed_sched *s = sae_calloc(1, sizeof *s);
    enum sae_status st = SAE_OK;

    assert(cfg->n_threads >= 1 && cfg->max_batch_rows >= 1);
    if (!s)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate scheduler: %zu bytes", sizeof *s);
    s->cfg = *cfg;
    if (!s->cfg.now_ns)
        s->cfg.now_ns = saed_sched_monotonic_ns;
    TAILQ_INIT(&s->ring);
    TAILQ_INIT(&s->due);
    TAILQ_INIT(&s->shared);
    TAILQ_INIT(&s->spare);
    pthread_mutex_init(&s->lock, NULL); /* cannot fail with default attributes; nor can this: */
    pthread_cond_init(&s->ready, NULL);
    s->batches = calloc_aligned(cfg->n_threads, sizeof *s->batches);
    s->workers = calloc_aligned(cfg->n_threads, sizeof *s->workers);
    if (!s->batches || !s->workers) {
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate scheduler: %zu threads",
                         cfg->n_threads);
        goto out;
    }
    for (size_t i = 0; i < cfg->n_threads && st == SAE_OK; i++)
        st = make_worker(s, i, err);
    if (st != SAE_OK)
        goto out;
    *out = s;
    s = NULL; /* handed over */
out:
    if (s)
        destroy(s);
    return st;
}

enum sae_status saed_sched_renew(struct saed_sched *s, struct sae_err *err)
{
    const struct saed_compute *c = &s->cfg.compute;
    size_t n = s->cfg.n_threads, made = 0;
    void **obj = sae_calloc(n, 2 * sizeof *obj), **scratch;
    enum sae_status st = SAE_OK;

    if (!obj)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate buffers of %zu threads", n);
    scratch = obj + n;
    while (made < n && st == SAE_OK) {
        st = make_buffers(s, &obj[made], &scratch[made], err);
        if (st == SAE_OK && c->warm)
            c->warm(c->arg, scratch[made]);
        made += st == SAE_OK;
    }
    for (size_t i = 0; i < made; i++) {
        if (st == SAE_OK) {
            put_fresh(s, i, obj[i], scratch[i]);
        } else {
            c->batch_free(c->arg, obj[i]);
            c->scratch_free(c->arg, scratch[i]);
        }
    }
    sae_free(obj);
    return st;
}

/* Workers finish the batches that are open and go home. */
static void join_workers(struct saed_sched *s)
{
    struct saed_wake wake = {.n = 0};

    pthread_mutex_lock(&s->lock);
    s->stop = true;
    saed_sched_pick(s, s->n_running, &wake);
    pthread_mutex_unlock(&s->lock);
    saed_sched_signal(&wake);
    while (s->n_running > 0)
        pthread_join(s->workers[--s->n_running].thread, NULL);
}

void saed_sched_free(struct saed_sched *s)
{
    if (!s)
        return;
    saed_sched_abort(s); /* nor may a done callback queue another */
    join_workers(s);
    /* Threads leave no batch open, but who drives by step may. */
    for (size_t i = 0; i < s->cfg.n_threads; i++) {
        while (saed_worker_unit(&s->workers[i], false))
            ;
    }
    assert(saed_sched_idle(s));
    destroy(s);
}

enum sae_status saed_sched_start(struct saed_sched *s, struct sae_err *err)
{
    sigset_t all, old;
    int e = 0;

    assert(s->n_running == 0);
    /* Signals are for the threads that expect them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (size_t i = 0; i < s->cfg.n_threads && e == 0; i++) {
        e = pthread_create(&s->workers[i].thread, NULL, saed_worker_main, &s->workers[i]);
        if (e == 0)
            s->n_running++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0) {
        sae_err_set(err, SAE_E_IO, "", "cannot start compute thread %zu of %zu: %s",
                    s->n_running + 1, s->cfg.n_threads, strerror(e));
        join_workers(s);
        s->stop = false;
        s->n_ready = 0;
        return SAE_E_IO;
    }
    pthread_mutex_lock(&s->lock);
    while (s->n_ready < s->cfg.n_threads)
        pthread_cond_wait(&s->ready, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return SAE_OK;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

void saed_sched_finish(struct saed_sched *s, struct saed_job_list *over)
{
    const struct saed_sched_observer *o = &s->cfg.observer;
    struct saed_job *job;

    while ((job = TAILQ_FIRST(over))) {
        TAILQ_REMOVE(over, job, turn);
        if (job->next_row == 0 && o->queued)
            o->queued(o->arg, job->queue->dict, saed_sched_elapsed(job->submit_ns, job->done_ns));
        job->done(job, job->done_arg);
    }
}

static enum sae_status refuse(const struct saed_sched *s, enum sae_status st, size_t queued,
                              size_t rows, struct sae_err *err)
{
    size_t max = s->cfg.max_queue_rows;

    switch (st) {
    case SAE_E_TOO_MANY_ROWS:
        return sae_err_limit(err, st, "--max-queue-rows", max, rows,
                             "cannot queue request: %zu rows, and a queue takes %zu", rows, max);
    case SAE_E_OVERLOADED:
        return sae_err_limit(
            err, st, "--max-queue-rows", max, queued + rows,
            "cannot queue request: %zu rows beside %zu that wait, and a queue takes %zu", rows,
            queued, max);
    default:
        return sae_err_set(err, SAE_E_DRAINING, "", "cannot queue request: the server is stopping");
    }
}

static enum sae_status submit(struct saed_sched *s, struct saed_dict *d, struct saed_job *job,
                              bool wakes, struct sae_err *err)
{
    struct saed_queue *q;
    struct saed_wake wake = {.n = 0};
    enum sae_status st = SAE_OK;
    size_t rows = job->task.n_rows, before, queued;
    uint64_t now;
    bool was_ripe;

    assert(job->side < SAE_N_SIDES);
    assert(rows > 0 && job->done && job->state == SAED_JOB_IDLE);
    if (rows > s->cfg.max_queue_rows)
        return refuse(s, SAE_E_TOO_MANY_ROWS, 0, rows, err);
    q = &d->queues[job->side];
    now = saed_sched_now(s);
    pthread_mutex_lock(&s->lock);
    queued = d->queued_rows;
    if (s->draining) {
        st = SAE_E_DRAINING;
    } else if (rows > s->cfg.max_queue_rows - queued) {
        st = SAE_E_OVERLOADED;
    } else {
        before = q->rows;
        was_ripe = saed_queue_is_ripe(s, q, now);
        saed_queue_add(s, q, job, now);
        if (wakes)
            saed_sched_wake_for(s, q, before, was_ripe, now, &wake);
    }
    pthread_mutex_unlock(&s->lock);
    saed_sched_signal(&wake);
    return st == SAE_OK ? SAE_OK : refuse(s, st, queued, rows, err);
}

enum sae_status saed_sched_submit(struct saed_sched *s, struct saed_dict *d, struct saed_job *job,
                                  struct sae_err *err)
{
    return submit(s, d, job, true, err);
}

enum sae_status saed_sched_enqueue(struct saed_sched *s, struct saed_dict *d, struct saed_job *job,
                                   struct sae_err *err)
{
    return submit(s, d, job, false, err);
}

void saed_sched_rouse(struct saed_sched *s)
{
    struct saed_wake wake = {.n = 0};

    pthread_mutex_lock(&s->lock);
    saed_sched_wake_any(s, &wake);
    pthread_mutex_unlock(&s->lock);
    saed_sched_signal(&wake);
}

void saed_sched_cancel(struct saed_sched *s, struct saed_job *job)
{
    struct saed_job_list over = TAILQ_HEAD_INITIALIZER(over);
    uint64_t now = saed_sched_now(s);

    pthread_mutex_lock(&s->lock);
    if (job->state == SAED_JOB_QUEUED || job->state == SAED_JOB_RUNNING)
        saed_job_fail(s, job, SAE_E_CANCELLED, now, &over);
    pthread_mutex_unlock(&s->lock);
    saed_sched_finish(s, &over);
}

void saed_sched_abort(struct saed_sched *s)
{
    struct saed_job_list over = TAILQ_HEAD_INITIALIZER(over);
    uint64_t now = saed_sched_now(s);

    pthread_mutex_lock(&s->lock);
    s->draining = true;
    saed_queue_fail_all(s, SAE_E_DRAINING, now, &over);
    pthread_mutex_unlock(&s->lock);
    saed_sched_finish(s, &over);
}

/* ---- gauges --------------------------------------------------------------------------------- */

size_t saed_sched_queue_rows(struct saed_sched *s, const struct saed_dict *d)
{
    size_t rows;

    pthread_mutex_lock(&s->lock);
    rows = d->queued_rows;
    pthread_mutex_unlock(&s->lock);
    return rows;
}

/* Locked. */
static bool is_idle(const struct saed_sched *s)
{
    return TAILQ_EMPTY(&s->ring) && s->n_busy == 0;
}

bool saed_sched_idle(struct saed_sched *s)
{
    bool idle;

    pthread_mutex_lock(&s->lock);
    idle = is_idle(s);
    pthread_mutex_unlock(&s->lock);
    return idle;
}

bool saed_sched_rest(struct saed_sched *s)
{
    const struct saed_compute *c = &s->cfg.compute;
    struct saed_batch *b;
    bool idle;

    pthread_mutex_lock(&s->lock);
    idle = is_idle(s);
    if (idle && c->batch_rest) {
        TAILQ_FOREACH(b, &s->spare, link)
        {
            c->batch_rest(c->arg, b->obj);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return idle;
}
