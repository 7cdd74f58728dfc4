/* sched.h - queues, batches, tiles, workers, deadlines: concurrent requests become single GEMMs.
 *
 * Knows neither HTTP nor engines: compute comes through `struct saed_compute` (lib's batches in the
 * daemon, a fake in tests) and time through a function, so tests drive it step by step.
 *
 * THREADS  n compute threads (workers) made by saed_sched_start; any thread may submit and
 *          cancel. One mutex guards queues, job and batch states. It is never held over compute or
 *          over a done callback.
 *
 * JOB      idle --submit--> queued --rows taken--> running (rows left stay queued) --> done
 *                             |                        |
 *                             +-- cancel, deadline, drain: done, at once if no row is in a batch,
 *                                 else when the rows that are in batches have come back
 *          `done` runs exactly once for every submitted job, outside the lock, on a worker or on
 * the thread that cancels or fails it. After it the scheduler never touches the job again.
 *
 * BATCH    free --form--> open(phase 0) -> ... -> open(phase k) -> complete -> free
 *          From form to complete it holds its dictionary.
 *          In a phase workers take tiles by an atomic counter; who finishes the last tile opens the
 *          next phase; who finds no next phase completes the batch's jobs.
 *
 * QUEUES   per dictionary two: encode side (encode, forward) and decode side. Queues with work take
 *          turns, one batch each. Inside a queue: order of arrival, at most SAED_TURN_ROWS rows of
 * a job a turn; who has had its turn goes to the back; a batch that is full in mid-turn leaves the
 * job at the front with the rest of its turn. */
#ifndef SAED_SCHED_H
#define SAED_SCHED_H

#include "server/handle.h"

#define SAED_TURN_ROWS 32

enum saed_job_state { SAED_JOB_IDLE, SAED_JOB_QUEUED, SAED_JOB_RUNNING, SAED_JOB_DONE };

/* One request in the scheduler. Zero it, fill the upper part, submit. Owned by its request,
 * borrowed by the scheduler from submit until done; guarded by the scheduler's lock in between,
 * readable by its owner after done. */
struct saed_job {
    struct sae_task task; /* prepared by the caller */
    enum sae_side side;
    uint64_t deadline_ns; /* must have its first rows in a batch by then; 0: none */
    void (*done)(struct saed_job *job, void *arg);
    void *done_arg;

    /* Filled by the scheduler. */
    enum sae_status status; /* SAE_OK, or DEADLINE_EXCEEDED, CANCELLED, DRAINING, NOMEM */
    uint64_t submit_ns, start_ns, done_ns; /* queued; first rows in a batch; complete */
    uint64_t compute_ns; /* time in which a batch that it rode in was computed, however many were */
    size_t largest_batch; /* rows of the largest batch it rode in */

    /* Private to sched*.c. */
    enum saed_job_state state;
    struct saed_queue *queue;
    TAILQ_ENTRY(saed_job) turn; /* its queue by turns while rows wait; then the list of the done */
    TAILQ_ENTRY(saed_job) age;  /* its queue by submission, while rows wait */
    TAILQ_ENTRY(saed_job) due;  /* all queues by deadline, while no row is placed */
    size_t next_row, rows_out, turn_left; /* rows_out: rows in batches not yet complete */
    uint64_t compute_from_ns;             /* since when rows_out is not 0 */
    size_t slice;                         /* index in the batch that is being formed */
    bool stop;                            /* cancelled or failed: take no more rows */
};

/* The compute behind the scheduler. Same meaning and threads as the functions of lib/saed.h. */
struct saed_compute {
    void *arg;
    enum sae_status (*batch_create)(void *arg, void **batch, struct sae_err *err);
    void (*batch_free)(void *arg, void *batch);
    void (*batch_rest)(void *arg, void *batch); /* of one that is complete; may be NULL */
    enum sae_status (*scratch_create)(void *arg, void **scratch, struct sae_err *err);
    void (*scratch_free)(void *arg, void *scratch);
    void (*warm)(void *arg, void *scratch); /* on each worker before start returns; may be NULL */
    void (*begin)(void *arg, void *batch, const struct sae_dict *dict, enum sae_side side,
                  const struct sae_slice *slices, size_t n_slices);
    bool (*next_phase)(void *arg, void *batch, struct sae_phase *phase);
    void (*run_tile)(void *arg, void *batch, size_t tile, void *scratch);
};

/* Told what happened, for metrics; called outside the lock and before the done callbacks concerned,
 * on workers (`queued` also on the thread that cancels or fails a job). Each may be NULL. */
struct saed_sched_observer {
    void *arg;
    /* once a batch and GEMM (a forward batch reports its decode part apart, with its rows) */
    void (*batch)(void *arg, const struct saed_dict *d, enum sae_side gemm, size_t rows,
                  uint64_t ns);
    /* once a job, when its first rows are placed or it fails before that */
    void (*queued)(void *arg, const struct saed_dict *d, uint64_t ns);
    /* rows that a batch computed, once a batch and operation (rows of a task that failed not
     * counted) */
    void (*rows)(void *arg, const struct saed_dict *d, enum sae_op op, size_t rows);
};

struct saed_sched_config {
    size_t n_threads;
    size_t max_batch_rows;
    uint64_t max_delay_ns;
    size_t max_queue_rows;         /* per dictionary, both sides together */
    uint64_t (*now_ns)(void *arg); /* NULL: CLOCK_MONOTONIC */
    void *now_arg;
    struct saed_compute compute;
    struct saed_sched_observer observer;
};

struct saed_sched;

/* No thread yet. */
enum sae_status saed_sched_create(struct saed_sched **out, const struct saed_sched_config *cfg,
                                  struct sae_err *err) SAE_MUST_USE;
/* Start the workers, warmed up, or fail with none left running. */
enum sae_status saed_sched_start(struct saed_sched *s, struct sae_err *err) SAE_MUST_USE;
/* The compute's batches and scratch have grown: make all of them anew. Each is put to use between
 * two batches, and the old one freed; who has called this may submit what they were too small for.
 * SAE_E_NOMEM: all is as it was. One thread at a time. */
enum sae_status saed_sched_renew(struct saed_sched *s, struct sae_err *err) SAE_MUST_USE;
/* Let batches go of what they keep from use to use, unless something is queued or computed: false
 * then. Holds the lock meanwhile, so it is for when all is quiet. */
bool saed_sched_rest(struct saed_sched *s);
/* Stop and join the workers, fail what is still queued as DRAINING, free. NULL allowed. */
void saed_sched_free(struct saed_sched *s);

/* Queue a job whose task has at least one row, of a dictionary that the caller holds until done. On
 * SAE_OK done will run (perhaps before this returns). Otherwise the job is untouched and done never
 * runs: SAE_E_TOO_MANY_ROWS (more rows than max_queue_rows), SAE_E_OVERLOADED (queue full),
 * SAE_E_DRAINING (admission stopped). */
enum sae_status saed_sched_submit(struct saed_sched *s, struct saed_dict *d, struct saed_job *job,
                                  struct sae_err *err) SAE_MUST_USE;
/* The same without waking anybody: compute threads that are awake take the rows as they come to
 * them, sleepers when the caller calls saed_sched_rouse, which it owes soon. For who is about to
 * queue more: it saves a batch of the first row alone. */
enum sae_status saed_sched_enqueue(struct saed_sched *s, struct saed_dict *d, struct saed_job *job,
                                   struct sae_err *err) SAE_MUST_USE;
void saed_sched_rouse(struct saed_sched *s);
/* The client has gone: the job's remaining rows cost no compute. Done runs as CANCELLED (in this
 * call if nothing of it is in a batch). Harmless on a job that is done. The caller guarantees that
 * the job's memory is still there. */
void saed_sched_cancel(struct saed_sched *s, struct saed_job *job);

/* Fail everything that is queued (status DRAINING) and refuse what comes: the drain's timeout. */
void saed_sched_abort(struct saed_sched *s);

/* Gauges, read under the lock. */
size_t saed_sched_queue_rows(struct saed_sched *s, const struct saed_dict *d);
/* Nothing queued, nothing in a batch; the last done callbacks may still be running. */
bool saed_sched_idle(struct saed_sched *s);

/* Tests: do one unit of work as worker `w` (fail what is late, or form a batch up to its first
 * phase, or run a tile and what follows from its being the last), without blocking. False when
 * there is nothing to do now. This is what the threads do in a loop; not to be called once they
 * run. */
bool saed_sched_step(struct saed_sched *s, size_t w);

#endif
