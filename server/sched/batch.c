/* batch.c - a batch from forming to completion.
 *
 * spare --form (locked)--> held --open--> open(phase) --last tile done--> held --> ...
 *                         |
                         +-- no more phases: complete (one locking for all its jobs) --> spare
 *
 * While a batch is held exactly one worker knows it: the one that formed it, or the one that
 * did the last tile of its phase. A phase of one tile is not announced to others: its holder runs
 * it, unless a straggler draws it first. Called by sched.c. */
#include "server/sched/state.h"

#include <assert.h>

static void batch_move(struct saed_batch *b, enum saed_batch_state to)
{
    static const bool allowed[3][3] = {
        [SAED_BATCH_FREE] = {[SAED_BATCH_HELD] = true},
        [SAED_BATCH_HELD] = {[SAED_BATCH_OPEN] = true, [SAED_BATCH_FREE] = true},
        [SAED_BATCH_OPEN] = {[SAED_BATCH_HELD] = true},
    };

    assert(allowed[b->state][to]);
    b->state = to;
}

struct saed_batch *saed_batch_form(struct saed_sched *s, struct saed_queue *q, uint64_t now)
{
    /* There is one: a batch that is not spare and has no tile to draw keeps a worker busy, there
     * are as many batches as workers, and the caller is not busy. */
    struct saed_batch *b = TAILQ_FIRST(&s->spare);

    assert(b);
    b->queue = q;
    b->gemm = q->side;
    b->rows = b->n_slices = b->decode_rows = 0;
    b->mark_ns = now;
    for (int g = 0; g < SAE_N_SIDES; g++)
        b->gemm_ns[g] = 0;
    saed_queue_fill(s, q, b, now);
    if (b->rows == 0)
        return NULL;
    saed_dict_acquire(q->dict);
    TAILQ_REMOVE(&s->spare, b, link);
    s->n_busy++;
    batch_move(b, SAED_BATCH_HELD);
    return b;
}

/* What the observer is told of a batch: a copy, since a spare batch may be formed anew at once. */
struct report {
    struct saed_dict *dict; /* the batch's reference */
    size_t rows, decode_rows, op_rows[SAE_N_ROW_OPS];
    enum sae_side side;
    uint64_t ns[SAE_N_SIDES];
};

static struct report batch_report(const struct saed_batch *b)
{
    struct report r = {.dict = b->queue->dict,
                       .rows = b->rows,
                       .decode_rows = b->decode_rows,
                       .side = b->queue->side};

    for (int g = 0; g < SAE_N_SIDES; g++)
        r.ns[g] = b->gemm_ns[g];
    for (size_t i = 0; i < b->n_slices; i++) {
        const struct sae_task *t = b->slices[i].task;

        if (!atomic_load_explicit(&t->failed, memory_order_relaxed))
            r.op_rows[t->query.op] += b->slices[i].n_rows;
    }
    return r;
}

static void observe(const struct saed_sched_observer *o, const struct report *r)
{
    if (o->batch) {
        o->batch(o->arg, r->dict, r->side, r->rows, r->ns[r->side]);
        if (r->side == SAE_SIDE_ENCODE && r->decode_rows)
            o->batch(o->arg, r->dict, SAE_SIDE_DECODE, r->decode_rows, r->ns[SAE_SIDE_DECODE]);
    }
    for (int op = 0; o->rows && op < SAE_N_ROW_OPS; op++) {
        if (r->op_rows[op])
            o->rows(o->arg, r->dict, (enum sae_op)op, r->op_rows[op]);
    }
}

/* What has passed since the last mark was for the GEMM of the phase just over. */
static uint64_t clock_gemm(struct saed_sched *s, struct saed_batch *b)
{
    uint64_t now = saed_sched_now(s);

    b->gemm_ns[b->gemm] += saed_sched_elapsed(b->mark_ns, now);
    b->mark_ns = now;
    return now;
}

static void complete(struct saed_sched *s, struct saed_batch *b)
{
    struct saed_job_list over = TAILQ_HEAD_INITIALIZER(over);
    uint64_t now = clock_gemm(s, b);
    struct report r = batch_report(b);

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < b->n_slices; i++) {
        struct saed_job *job = b->jobs[i];

        if (job->largest_batch < b->rows)
            job->largest_batch = b->rows;
        saed_job_return(s, job, b->slices[i].n_rows, now, &over);
    }
    if (b->shared) {
        TAILQ_REMOVE(&s->shared, b, link);
        b->shared = false;
    }
    batch_move(b, SAED_BATCH_FREE);
    TAILQ_INSERT_HEAD(&s->spare, b, link);
    s->n_busy--;
    pthread_mutex_unlock(&s->lock);
    observe(&s->cfg.observer, &r);
    saed_sched_finish(s, &over);
    saed_dict_release(r.dict);
}

/* From here on the batch is whoever's who draws. */
static void open_phase(struct saed_sched *s, struct saed_batch *b, const struct sae_phase *phase)
{
    struct saed_wake wake = {.n = 0};

    assert(phase->n_tiles >= 1 && phase->n_tiles <= INT64_MAX);
    b->gemm = phase->gemm;
    if (phase->gemm == SAE_SIDE_DECODE && b->decode_rows < phase->decode_rows)
        b->decode_rows = phase->decode_rows;
    b->n_tiles = phase->n_tiles;
    batch_move(b, SAED_BATCH_OPEN);
    atomic_store_explicit(&b->todo, phase->n_tiles, memory_order_relaxed);
    if (phase->n_tiles == 1 || s->cfg.n_threads == 1) {
        atomic_store_explicit(&b->left, (int64_t)phase->n_tiles, memory_order_release);
        return;
    }
    pthread_mutex_lock(&s->lock);
    if (!b->shared)
        TAILQ_INSERT_TAIL(&s->shared, b, link);
    b->shared = true;
    saed_sched_pick(s, phase->n_tiles - 1, &wake);
    atomic_store_explicit(&b->left, (int64_t)phase->n_tiles, memory_order_release);
    pthread_mutex_unlock(&s->lock);
    saed_sched_signal(&wake);
}

static void advance(struct saed_sched *s, struct saed_batch *b)
{
    const struct saed_compute *c = &s->cfg.compute;
    struct sae_phase phase = {0};

    if (c->next_phase(c->arg, b->obj, &phase))
        open_phase(s, b, &phase);
    else
        complete(s, b);
}

/* Between two uses: take what saed_sched_renew has made. It was made before anything that needs it
 * was queued, so that a look without order finds it. */
static void renew(void **used, _Atomic(void *) *fresh, void (*free_old)(void *, void *), void *arg)
{
    void *p = atomic_load_explicit(fresh, memory_order_relaxed);

    if (!p)
        return;
    p = atomic_exchange_explicit(fresh, NULL, memory_order_acq_rel);
    free_old(arg, *used);
    *used = p;
}

void saed_batch_launch(struct saed_sched *s, struct saed_batch *b)
{
    const struct saed_compute *c = &s->cfg.compute;
    const struct saed_sched_observer *o = &s->cfg.observer;
    const struct saed_queue *q = b->queue;

    renew(&b->obj, &b->fresh, c->batch_free, c->arg);
    for (size_t i = 0; o->queued && i < b->n_slices; i++) {
        const struct saed_job *job = b->jobs[i];

        if (b->slices[i].row0 == 0)
            o->queued(o->arg, q->dict, saed_sched_elapsed(job->submit_ns, job->start_ns));
    }
    c->begin(c->arg, b->obj, q->dict->dict, q->side, b->slices, b->n_slices);
    advance(s, b);
}

/* The phase is over, and the caller did its last tile. */
static void phase_over(struct saed_sched *s, struct saed_batch *b)
{
    batch_move(b, SAED_BATCH_HELD);
    clock_gemm(s, b);
    advance(s, b);
}

bool saed_batch_run_one(struct saed_sched *s, struct saed_worker *w)
{
    const struct saed_compute *c = &s->cfg.compute;
    struct saed_batch *b = w->cur;
    int64_t left = b ? atomic_fetch_sub_explicit(&b->left, 1, memory_order_acquire) : 0;

    if (left <= 0) {
        w->cur = NULL;
        return false;
    }
    renew(&w->scratch, &w->fresh, c->scratch_free, c->arg);
    c->run_tile(c->arg, b->obj, b->n_tiles - (size_t)left, w->scratch);
    if (atomic_fetch_sub_explicit(&b->todo, 1, memory_order_acq_rel) == 1)
        phase_over(s, b);
    return true;
}

struct saed_batch *saed_batch_shared(struct saed_sched *s)
{
    struct saed_batch *b;

    while ((b = TAILQ_FIRST(&s->shared))) {
        if (atomic_load_explicit(&b->left, memory_order_relaxed) > 0)
            return b;
        TAILQ_REMOVE(&s->shared, b, link);
        b->shared = false;
    }
    return NULL;
}
