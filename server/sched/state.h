/* state.h - what the files of the scheduler share: its structs and inner calls.
 *
 * sched.c        life of the scheduler, the calls of sched.h
 * sched/worker.c the workers' loop, sleeping and waking
 * sched/queue.c  queues: turns, ages, deadlines, a job's states. No locking, no callbacks, no
 * threads sched/batch.c  a batch from forming to completion: slices, phases, tiles
 *
 * Nobody else includes this. "Locked" means: the caller holds saed_sched.lock. */
#ifndef SAED_SCHED_STATE_H
#define SAED_SCHED_STATE_H

#include "server/sched/sched.h"

#include <pthread.h>
#include <stdatomic.h>

enum saed_batch_state { SAED_BATCH_FREE, SAED_BATCH_HELD, SAED_BATCH_OPEN };

/* One batch at a time, reused; lives as long as the scheduler.
 *
 * `left` hands out the tiles of the open phase: who subtracts one and met t > 0 owns tile
 * n_tiles - t. Owning a tile keeps the phase open, and what was written before `left` was stored is
 * seen by whoever draws from it. So a draw needs no generation: a straggler that comes after the
 * phase, or even after the batch was completed and formed anew, either meets t <= 0, or owns a tile
 * of what is open now like anybody else. `todo` counts tiles that are not done; who brings it to 0
 * is alone with the batch: it holds it, opens the next phase, or completes. */
struct saed_batch {
    _Alignas(64) _Atomic int64_t left;
    _Atomic size_t todo;
    size_t n_tiles;

    /* Owned by whoever holds the batch. */
    void *obj;             /* the compute's batch */
    _Atomic(void *) fresh; /* the one to use instead; NULL: none. Of saed_sched_renew */
    enum saed_batch_state state;
    enum sae_side gemm;       /* whose time it is: of the open or last phase */
    struct saed_queue *queue; /* with a reference to its dictionary */
    size_t rows, n_slices;
    struct sae_slice *slices; /* [max_batch_rows], at most one of a job */
    struct saed_job **jobs;   /* whose slice */
    uint64_t mark_ns;         /* until when time is accounted for */
    uint64_t gemm_ns[SAE_N_SIDES];
    size_t decode_rows;

    /* Guarded by the lock. */
    bool shared;                  /* in saed_sched.shared */
    TAILQ_ENTRY(saed_batch) link; /* in saed_sched.shared or, when free, in saed_sched.spare */
};

/* One compute thread (or, in tests, whoever calls saed_sched_step with its index). */
struct saed_worker {
    _Alignas(64) struct saed_sched *sched;
    size_t index;
    void *scratch;
    _Atomic(void *) fresh;  /* the one to use instead; NULL: none. Of saed_sched_renew */
    struct saed_batch *cur; /* where it draws tiles; may be stale, see saed_batch */
    pthread_t thread;
    pthread_cond_t wake; /* one sleeper each: no signal can go to another */
    /* Guarded by the lock. */
    bool woken;
    struct saed_worker *next_idle;
};

struct saed_sched {
    struct saed_sched_config cfg;
    struct saed_batch *batches;  /* [n_threads] */
    struct saed_worker *workers; /* [n_threads] */
    size_t n_made;               /* batches and workers that have all their parts */
    size_t n_running;            /* threads; changed by start and free only */

    pthread_mutex_t lock;                         /* guards all below */
    TAILQ_HEAD(saed_queue_ring, saed_queue) ring; /* queues with rows; the head's turn is next */
    struct saed_job_list due;
    TAILQ_HEAD(saed_batch_list, saed_batch)
    shared; /* open phases with tiles for several; a hint:
               `left` tells */
    struct saed_batch_list spare;
    size_t n_busy; /* batches not spare */
    bool draining; /* admission has stopped */
    bool stop;     /* form no batch; workers go home when no tile is left */
    size_t n_ready;
    pthread_cond_t ready; /* n_ready has changed; start waits */

    /* Sleepers: a stack, the last to sleep (its caches are warm) wakes first; and at most one who
     * sleeps with a timer, until alarm_ns. Who is woken is taken out by the waker. */
    struct saed_worker *idle;
    struct saed_worker *timekeeper;
    uint64_t alarm_ns;
    size_t n_waking; /* taken out, and not yet back at the lock */
};

static inline uint64_t saed_sched_now(const struct saed_sched *s)
{
    return s->cfg.now_ns(s->cfg.now_arg);
}

static inline uint64_t saed_sched_elapsed(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

/* ---- sched/queue.c: all locked -------------------------------------------------------------- */

void saed_queue_add(struct saed_sched *s, struct saed_queue *q, struct saed_job *job, uint64_t now);
/* Has a batch's worth of rows, or of waiting. */
bool saed_queue_is_ripe(const struct saed_sched *s, const struct saed_queue *q, uint64_t now);
/* The queue whose turn it is among the ripe ones, or NULL. */
struct saed_queue *saed_queue_next(const struct saed_sched *s, uint64_t now);
/* When something queued ripens or is late, UINT64_MAX for never. */
uint64_t saed_queue_alarm(const struct saed_sched *s);
/* Move rows of `q` into `b` (empty) turn by turn, and `q` to the back of the ring. */
void saed_queue_fill(struct saed_sched *s, struct saed_queue *q, struct saed_batch *b,
                     uint64_t now);
/* Take the job's waiting rows away. `over` gets it if nothing of it is in a batch. */
void saed_job_fail(struct saed_sched *s, struct saed_job *job, enum sae_status st, uint64_t now,
                   struct saed_job_list *over);
/* `rows` rows have come back from a batch. `over` gets the job if they were its last. */
void saed_job_return(struct saed_sched *s, struct saed_job *job, size_t rows, uint64_t now,
                     struct saed_job_list *over);
/* Fail what is late at `now`; what is queued at all. */
void saed_queue_expire(struct saed_sched *s, uint64_t now, struct saed_job_list *over);
void saed_queue_fail_all(struct saed_sched *s, enum sae_status st, uint64_t now,
                         struct saed_job_list *over);

/* ---- sched/batch.c ------------------------------------------------------------------------- */

/* Locked: take a spare batch and fill it from `q`; NULL when no row was left to take. */
struct saed_batch *saed_batch_form(struct saed_sched *s, struct saed_queue *q, uint64_t now);
/* Not locked: what follows for a batch just formed, up to its first phase. */
void saed_batch_launch(struct saed_sched *s, struct saed_batch *b);
/* Not locked: draw a tile of w->cur and run it with all that follows. False: none there, and
 * w->cur is NULL. */
bool saed_batch_run_one(struct saed_sched *s, struct saed_worker *w);
/* Locked: a batch that others may help with, or NULL. */
struct saed_batch *saed_batch_shared(struct saed_sched *s);

/* ---- sched/worker.c -------------------------------------------------------------------------- */

/* Workers to signal once the lock is released, so that who wakes does not meet it; those that do
 * not fit in are signalled at once. Not a list through the workers: one that wakes early, by its
 * timer, may sleep and be taken out again before its signaller has come to it. Zero it. */
struct saed_wake {
    size_t n;
    struct saed_worker *worker[8];
};
/* Locked: take up to n sleepers out. */
void saed_sched_pick(struct saed_sched *s, size_t n, struct saed_wake *wake);
/* Locked: rows have come to q, which had `before` and was ripe or not. */
void saed_sched_wake_for(struct saed_sched *s, struct saed_queue *q, size_t before, bool was_ripe,
                         uint64_t now, struct saed_wake *wake);
/* Locked: rows may have come to any queue. */
void saed_sched_wake_any(struct saed_sched *s, struct saed_wake *wake);
/* Not locked. */
void saed_sched_signal(const struct saed_wake *wake);
/* Do one unit of work. False: there is none (with `wait`: the scheduler stops). */
bool saed_worker_unit(struct saed_worker *w, bool wait);
void *saed_worker_main(void *worker); /* a thread's whole life */
uint64_t saed_sched_monotonic_ns(void *unused);

/* ---- sched.c ------------------------------------------------------------------------------- */

/* Not locked: call back for jobs that are over. */
void saed_sched_finish(struct saed_sched *s, struct saed_job_list *over);

#endif
