/* queue.c - the queues: whose rows come next, who is late, what state a job is in.
 *
 * Plain data under the scheduler's lock: no locking, no clock, no callback of its own. Called by
 * sched.c and sched/batch.c.
 *
 * A queue with rows stands in the ring of queues and gives one batch a turn. A job with waiting
 * rows stands in two lists of its queue: by turn (who goes to the back after SAED_TURN_ROWS rows)
 * and by age (which max_delay looks at). One without a row in a batch and with a deadline also
 * stands in one list for all queues, sorted by deadline, so that being late is noticed at the cost
 * of those who are. Rows leave a job in order, so all that a batch takes of it is one slice,
 * however many turns. */
#include "server/sched/state.h"

#include <assert.h>

static void job_move(struct saed_job *job, enum saed_job_state to)
{
    static const bool allowed[4][4] = {
        [SAED_JOB_IDLE] = {[SAED_JOB_QUEUED] = true},
        [SAED_JOB_QUEUED] = {[SAED_JOB_RUNNING] = true, [SAED_JOB_DONE] = true},
        [SAED_JOB_RUNNING] = {[SAED_JOB_DONE] = true},
    };

    assert(allowed[job->state][to]);
    job->state = to;
}

static bool is_waiting(const struct saed_job *job)
{
    return !job->stop && job->next_row < job->task.n_rows;
}

/* Deadlines nearly arrive in order (arrival plus a constant), so the place is near the end. */
static void due_insert(struct saed_sched *s, struct saed_job *job)
{
    struct saed_job *at;

    TAILQ_FOREACH_REVERSE(at, &s->due, saed_job_list, due)
    {
        if (at->deadline_ns <= job->deadline_ns)
            break;
    }
    if (at)
        TAILQ_INSERT_AFTER(&s->due, at, job, due);
    else
        TAILQ_INSERT_HEAD(&s->due, job, due);
}

static void due_remove(struct saed_sched *s, struct saed_job *job)
{
    if (job->state == SAED_JOB_QUEUED && job->deadline_ns)
        TAILQ_REMOVE(&s->due, job, due);
}

void saed_queue_add(struct saed_sched *s, struct saed_queue *q, struct saed_job *job, uint64_t now)
{
    job_move(job, SAED_JOB_QUEUED);
    job->queue = q;
    job->submit_ns = now;
    job->turn_left = SAED_TURN_ROWS;
    TAILQ_INSERT_TAIL(&q->by_turn, job, turn);
    TAILQ_INSERT_TAIL(&q->by_age, job, age);
    if (job->deadline_ns)
        due_insert(s, job);
    if (q->rows == 0)
        TAILQ_INSERT_TAIL(&s->ring, q, ring);
    q->rows += job->task.n_rows;
    q->dict->queued_rows += job->task.n_rows;
}

/* `rows` rows wait no more; the job leaves the queue with its last. */
static void queue_forget(struct saed_sched *s, struct saed_job *job, size_t rows, bool last)
{
    struct saed_queue *q = job->queue;

    assert(q->rows >= rows && q->dict->queued_rows >= rows);
    q->rows -= rows;
    q->dict->queued_rows -= rows;
    if (last) {
        TAILQ_REMOVE(&q->by_turn, job, turn);
        TAILQ_REMOVE(&q->by_age, job, age);
    }
    if (q->rows == 0) {
        assert(TAILQ_EMPTY(&q->by_turn));
        TAILQ_REMOVE(&s->ring, q, ring);
    }
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

bool saed_queue_is_ripe(const struct saed_sched *s, const struct saed_queue *q, uint64_t now)
{
    if (q->rows == 0)
        return false;
    if (s->cfg.max_delay_ns == 0 || q->rows >= s->cfg.max_batch_rows)
        return true;
    return now >= add_sat(TAILQ_FIRST(&q->by_age)->submit_ns, s->cfg.max_delay_ns);
}

struct saed_queue *saed_queue_next(const struct saed_sched *s, uint64_t now)
{
    struct saed_queue *q;

    TAILQ_FOREACH(q, &s->ring, ring)
    {
        if (saed_queue_is_ripe(s, q, now))
            return q;
    }
    return NULL;
}

uint64_t saed_queue_alarm(const struct saed_sched *s)
{
    const struct saed_job *first_due = TAILQ_FIRST(&s->due);
    uint64_t alarm = first_due ? add_sat(first_due->deadline_ns, 1) : UINT64_MAX;
    struct saed_queue *q;

    TAILQ_FOREACH(q, &s->ring, ring)
    {
        uint64_t ripe = q->rows >= s->cfg.max_batch_rows
                            ? 0
                            : add_sat(TAILQ_FIRST(&q->by_age)->submit_ns, s->cfg.max_delay_ns);

        if (ripe < alarm)
            alarm = ripe;
    }
    return alarm;
}

/* `take` rows of the job at the front of its queue go into the batch. */
static void take_rows(struct saed_sched *s, struct saed_job *job, struct saed_batch *b, size_t take,
                      uint64_t now)
{
    if (job->state == SAED_JOB_QUEUED) {
        due_remove(s, job);
        job_move(job, SAED_JOB_RUNNING);
        job->start_ns = now;
    }
    /* The index may be left over from another batch: then that place is another job's. */
    if (job->slice >= b->n_slices || b->jobs[job->slice] != job) {
        job->slice = b->n_slices++;
        b->jobs[job->slice] = job;
        b->slices[job->slice] = (struct sae_slice){.task = &job->task, .row0 = job->next_row};
    }
    if (job->rows_out == 0)
        job->compute_from_ns = now;
    b->slices[job->slice].n_rows += take;
    b->rows += take;
    job->next_row += take;
    job->rows_out += take;
    job->turn_left -= take;
}

void saed_queue_fill(struct saed_sched *s, struct saed_queue *q, struct saed_batch *b, uint64_t now)
{
    struct saed_job_list none = TAILQ_HEAD_INITIALIZER(none);
    struct saed_job *job;

    TAILQ_REMOVE(&s->ring, q, ring);
    TAILQ_INSERT_TAIL(&s->ring, q, ring);
    while (b->rows < s->cfg.max_batch_rows && (job = TAILQ_FIRST(&q->by_turn))) {
        size_t rest = job->task.n_rows - job->next_row;
        size_t take = s->cfg.max_batch_rows - b->rows;
        int failed = atomic_load_explicit(&job->task.failed, memory_order_relaxed);

        if (failed) { /* rows of it are in a batch still: it ends with them */
            saed_job_fail(s, job, (enum sae_status)failed, now, &none);
            continue;
        }
        if (take > rest)
            take = rest;
        if (take > job->turn_left)
            take = job->turn_left;
        take_rows(s, job, b, take, now);
        queue_forget(s, job, take, take == rest);
        if (take < rest && job->turn_left == 0) {
            TAILQ_REMOVE(&q->by_turn, job, turn);
            TAILQ_INSERT_TAIL(&q->by_turn, job, turn);
            job->turn_left = SAED_TURN_ROWS;
        }
    }
    assert(TAILQ_EMPTY(&none));
}

static void job_over(struct saed_job *job, uint64_t now, struct saed_job_list *over)
{
    job_move(job, SAED_JOB_DONE);
    job->done_ns = now;
    TAILQ_INSERT_TAIL(over, job, turn);
}

void saed_job_fail(struct saed_sched *s, struct saed_job *job, enum sae_status st, uint64_t now,
                   struct saed_job_list *over)
{
    if (job->status == SAE_OK)
        job->status = st;
    if (is_waiting(job)) {
        due_remove(s, job);
        queue_forget(s, job, job->task.n_rows - job->next_row, true);
    }
    job->stop = true;
    if (job->rows_out == 0)
        job_over(job, now, over);
}

void saed_job_return(struct saed_sched *s, struct saed_job *job, size_t rows, uint64_t now,
                     struct saed_job_list *over)
{
    int failed = atomic_load_explicit(&job->task.failed, memory_order_relaxed);

    assert(job->rows_out >= rows);
    job->rows_out -= rows;
    if (job->rows_out == 0)
        job->compute_ns += saed_sched_elapsed(job->compute_from_ns, now);
    if (failed && !job->stop)
        saed_job_fail(s, job, (enum sae_status)failed, now, over);
    else if (job->rows_out == 0 && !is_waiting(job))
        job_over(job, now, over);
}

void saed_queue_expire(struct saed_sched *s, uint64_t now, struct saed_job_list *over)
{
    struct saed_job *job;

    while ((job = TAILQ_FIRST(&s->due)) && now > job->deadline_ns)
        saed_job_fail(s, job, SAE_E_DEADLINE_EXCEEDED, now, over);
}

void saed_queue_fail_all(struct saed_sched *s, enum sae_status st, uint64_t now,
                         struct saed_job_list *over)
{
    struct saed_queue *q;

    while ((q = TAILQ_FIRST(&s->ring)))
        saed_job_fail(s, TAILQ_FIRST(&q->by_age), st, now, over);
    assert(TAILQ_EMPTY(&s->due));
}
