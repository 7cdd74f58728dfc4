/* worker.c - the workers' loop, and how they sleep and are woken.
 *
 * Workers look for work in this order: a tile of the batch they were at (no lock), a tile of a
 * batch that others opened, a batch to form. One that finds nothing sleeps on its own condition
 * variable.
 *
 * No wake-up is lost, because all that makes work happens under the lock and one rule holds
 * whenever the lock is free: while a ripe queue and a sleeper exist, some worker that is awake has
 * yet to look for work. Submit wakes one when a queue turns ripe or has
 * another batch's worth, or the caller of enqueue owes a rouse; a worker that looked and found
 * something passes the wake-up on if a ripe queue is left. An open phase wakes its helpers itself.
 * With max_delay there are queues that ripen by time, and deadlines that pass, while all sleep:
 * then one sleeper, the timekeeper, has a timer for the earliest, and submit wakes it when an
 * earlier one comes.
 *
 * Nobody spins before sleeping: on shared and virtual CPUs it takes time from the threads that
 * bring work. Signals are sent after unlocking, so that who wakes does not meet the lock. */
#include "server/clock.h"
#include "server/sched/state.h"

#include <assert.h>
#include <stdio.h>

uint64_t saed_sched_monotonic_ns(void *arg)
{
    (void)arg;
    return saed_now_ns();
}

/* ---- sleeping and waking -------------------------------------------------------------------- */

/* Locked: w, no longer among the sleepers, is to wake. */
static void take_out(struct saed_sched *s, struct saed_worker *w, struct saed_wake *wake)
{
    assert(!w->woken);
    w->woken = true;
    s->n_waking++;
    if (wake->n < SAE_COUNTOF(wake->worker))
        wake->worker[wake->n++] = w;
    else
        pthread_cond_signal(&w->wake);
}

static void take_out_timekeeper(struct saed_sched *s, struct saed_wake *wake)
{
    struct saed_worker *w = s->timekeeper;

    s->timekeeper = NULL;
    take_out(s, w, wake);
}

void saed_sched_pick(struct saed_sched *s, size_t n, struct saed_wake *wake)
{
    for (; n > 0 && (s->idle || s->timekeeper); n--) {
        struct saed_worker *w = s->idle;

        if (!w) {
            take_out_timekeeper(s, wake);
            continue;
        }
        s->idle = w->next_idle;
        take_out(s, w, wake);
    }
}

void saed_sched_signal(const struct saed_wake *wake)
{
    for (size_t i = 0; i < wake->n; i++)
        pthread_cond_signal(&wake->worker[i]->wake);
}

static struct timespec monotonic_after(uint64_t ns)
{
    uint64_t at = saed_sched_monotonic_ns(NULL) +
                  (ns < 3600 * (uint64_t)SAED_SECOND_NS ? ns : 3600 * (uint64_t)SAED_SECOND_NS);

    return (struct timespec){.tv_sec = (time_t)(at / SAED_SECOND_NS),
                             .tv_nsec = (long)(at % SAED_SECOND_NS)};
}

static void wake_up(struct saed_sched *s, struct saed_worker *w)
{
    w->woken = false;
    s->n_waking--;
}

/* Locked. Returns when woken, when something may have ripened or be late, or for no reason. */
static void sleep_idle(struct saed_sched *s, struct saed_worker *w)
{
    uint64_t alarm = s->timekeeper ? UINT64_MAX : saed_queue_alarm(s);

    if (alarm == UINT64_MAX) {
        w->next_idle = s->idle;
        s->idle = w;
        while (!w->woken)
            pthread_cond_wait(&w->wake, &s->lock);
        wake_up(s, w);
        return;
    }
    struct timespec until = monotonic_after(saed_sched_elapsed(saed_sched_now(s), alarm));

    s->timekeeper = w;
    s->alarm_ns = alarm;
    pthread_cond_timedwait(&w->wake, &s->lock, &until);
    if (w->woken)
        wake_up(s, w);
    else
        s->timekeeper = NULL;
}

/* Locked: the caller has found work. Somebody must wake if there is more in the queues. */
static void pass_on(struct saed_sched *s, struct saed_wake *wake)
{
    uint64_t now;

    if (TAILQ_EMPTY(&s->ring) || (!s->idle && !s->timekeeper))
        return;
    now = s->cfg.max_delay_ns ? saed_sched_now(s) : 0;
    if (saed_queue_next(s, now) || (!s->timekeeper && s->n_waking == 0))
        saed_sched_pick(s, 1, wake);
}

void saed_sched_wake_for(struct saed_sched *s, struct saed_queue *q, size_t before, bool was_ripe,
                         uint64_t now, struct saed_wake *wake)
{
    size_t batch = s->cfg.max_batch_rows;

    if (saed_queue_is_ripe(s, q, now)) {
        if (!was_ripe || before / batch != q->rows / batch)
            saed_sched_pick(s, 1, wake);
    } else if (!s->timekeeper) {
        if (s->n_waking == 0) /* else who is on the way will set the timer, or pass that on */
            saed_sched_pick(s, 1, wake);
    } else if (saed_queue_alarm(s) < s->alarm_ns) {
        take_out_timekeeper(s, wake);
    }
}

void saed_sched_wake_any(struct saed_sched *s, struct saed_wake *wake)
{
    if (TAILQ_EMPTY(&s->ring))
        return;
    if (!s->timekeeper || saed_queue_next(s, saed_sched_now(s))) {
        if (s->n_waking == 0) /* else who is on the way will look, and pass on or set the timer */
            saed_sched_pick(s, 1, wake);
    } else if (saed_queue_alarm(s) < s->alarm_ns) {
        take_out_timekeeper(s, wake);
    }
}

/* ---- workers -------------------------------------------------------------------------------- */

/* Locked; unlocks for callbacks. Fail what is late; false if nothing is. */
static bool expire(struct saed_sched *s, uint64_t now)
{
    struct saed_job_list over = TAILQ_HEAD_INITIALIZER(over);

    saed_queue_expire(s, now, &over);
    if (TAILQ_EMPTY(&over))
        return false;
    pthread_mutex_unlock(&s->lock);
    saed_sched_finish(s, &over);
    pthread_mutex_lock(&s->lock);
    return true;
}

enum found { FOUND_NOTHING, FOUND_LATE, FOUND_TILES, FOUND_BATCH };

/* Locked; may unlock for callbacks. Look once: who may still take a tile gets w->cur, a batch that
 * was formed goes to *formed. */
static enum found look(struct saed_sched *s, struct saed_worker *w, struct saed_batch **formed)
{
    struct saed_batch *b = saed_batch_shared(s);
    struct saed_queue *q;
    uint64_t now;

    if (b) {
        w->cur = b;
        return FOUND_TILES;
    }
    if (s->stop || TAILQ_EMPTY(&s->ring))
        return FOUND_NOTHING;
    now = saed_sched_now(s);
    if (expire(s, now))
        return FOUND_LATE;
    while ((q = saed_queue_next(s, now))) {
        b = saed_batch_form(s, q, now);
        if (b) {
            *formed = b;
            w->cur = b;
            return FOUND_BATCH;
        }
    }
    return FOUND_NOTHING;
}

bool saed_worker_unit(struct saed_worker *w, bool wait)
{
    struct saed_sched *s = w->sched;
    struct saed_batch *formed = NULL;
    enum found found;

    while (!saed_batch_run_one(s, w)) {
        struct saed_wake wake = {.n = 0};

        pthread_mutex_lock(&s->lock);
        found = look(s, w, &formed);
        while (found == FOUND_NOTHING && wait && !s->stop) {
            sleep_idle(s, w);
            found = look(s, w, &formed);
        }
        if (found == FOUND_TILES || found == FOUND_BATCH)
            pass_on(s, &wake);
        pthread_mutex_unlock(&s->lock);
        saed_sched_signal(&wake);
        if (found == FOUND_BATCH)
            saed_batch_launch(s, formed);
        if (found != FOUND_TILES)
            return found != FOUND_NOTHING;
    }
    return true;
}

bool saed_sched_step(struct saed_sched *s, size_t w)
{
    assert(w < s->cfg.n_threads && s->n_running == 0);
    return saed_worker_unit(&s->workers[w], false);
}

void *saed_worker_main(void *arg)
{
    struct saed_worker *w = arg;
    struct saed_sched *s = w->sched;
    const struct saed_compute *c = &s->cfg.compute;
    char name[16];

    snprintf(name, sizeof name, "saed-comp-%u", (unsigned)w->index % 100000);
    pthread_setname_np(pthread_self(), name);
    if (c->warm)
        c->warm(c->arg, w->scratch);
    sae_hot_thread();
    pthread_mutex_lock(&s->lock);
    s->n_ready++;
    pthread_cond_signal(&s->ready);
    pthread_mutex_unlock(&s->lock);
    while (saed_worker_unit(w, true))
        ;
    return NULL;
}
