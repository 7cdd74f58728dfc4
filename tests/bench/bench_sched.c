/* bench_sched.c - what one empty job costs from submit through a batch to done.
 *
 * The compute does nothing (one phase, one tile), so all that is measured is queueing, forming,
 * waking and completing. Two ways of bringing jobs, each with 1 to 64 single-row jobs in flight:
 *   done    the done callback submits the next one: the scheduler alone, workers seldom sleep
 *   thread  done hands the job to one other thread, through a stack and an eventfd as an HTTP
 *           library does, which submits it anew: wake-ups on both ways are in it
 * Prints ns per job and rows per batch; ends by itself after some seconds.
 *
 *   bench_sched [WORKERS [MS_PER_CASE]] */
#include "server/sched/sched.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FLIGHT 64

struct slot {
    struct saed_job job; /* first */
    struct slot *next;
};

struct bench {
    struct saed_sched *s;
    struct saed_dict *dict;
    bool by_thread;
    int event;
    _Atomic(struct slot *) returned;
    _Atomic bool stop;
    _Atomic uint64_t n_jobs, n_batches;
    _Atomic int in_flight;
    struct slot slots[MAX_FLIGHT];
};

static uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the compute ---------------------------------------------------------------------------- */

static enum sae_status make(void *arg, void **out, struct sae_err *err)
{
    (void)arg;
    *out = sae_calloc(1, sizeof(int));
    return *out ? SAE_OK : sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate");
}

static void unmake(void *arg, void *p)
{
    (void)arg;
    sae_free(p);
}

static void begin(void *arg, void *batch, const struct sae_dict *dict, enum sae_side side,
                  const struct sae_slice *slices, size_t n_slices)
{
    struct bench *b = arg;

    (void)dict, (void)side, (void)slices, (void)n_slices;
    *(int *)batch = 1;
    atomic_fetch_add_explicit(&b->n_batches, 1, memory_order_relaxed);
}

static bool next_phase(void *arg, void *batch, struct sae_phase *phase)
{
    (void)arg;
    phase->n_tiles = 1;
    return (*(int *)batch)-- > 0;
}

static void run_tile(void *arg, void *batch, size_t tile, void *scratch)
{
    (void)arg, (void)batch, (void)tile, (void)scratch;
}

/* ---- jobs that go round --------------------------------------------------------------------- */

static void on_done(struct saed_job *job, void *arg);

static void submit(struct bench *b, struct slot *slot)
{
    slot->job = (struct saed_job){.done = on_done, .done_arg = b};
    slot->job.task.n_rows = 1;
    slot->job.deadline_ns = UINT64_MAX - 1; /* as every request has one */
    if (saed_sched_submit(b->s, b->dict, &slot->job, NULL) != SAE_OK)
        abort();
}

static void on_done(struct saed_job *job, void *arg)
{
    struct bench *b = arg;
    struct slot *slot = (struct slot *)job, *head;

    atomic_fetch_add_explicit(&b->n_jobs, 1, memory_order_relaxed);
    if (!b->by_thread) {
        if (atomic_load_explicit(&b->stop, memory_order_relaxed))
            atomic_fetch_sub(&b->in_flight, 1);
        else
            submit(b, slot);
        return;
    }
    head = atomic_load_explicit(&b->returned, memory_order_relaxed);
    do
        slot->next = head;
    while (!atomic_compare_exchange_weak(&b->returned, &head, slot));
    if (!head && eventfd_write(b->event, 1) != 0)
        abort();
}

/* The other thread: until all are back after stop. */
static void serve(struct bench *b)
{
    while (atomic_load(&b->in_flight) > 0) {
        eventfd_t n;
        struct slot *slot, *next;

        if (eventfd_read(b->event, &n) != 0)
            abort();
        for (slot = atomic_exchange(&b->returned, NULL); slot; slot = next) {
            next = slot->next;
            if (atomic_load_explicit(&b->stop, memory_order_relaxed))
                atomic_fetch_sub(&b->in_flight, 1);
            else
                submit(b, slot);
        }
    }
}

static void *serve_main(void *arg)
{
    serve(arg);
    return NULL;
}

static void nap(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

    nanosleep(&t, NULL);
}

static void run_case(size_t workers, int flight, bool by_thread, uint64_t ns)
{
    static struct bench b;
    struct saed_sched_config cfg = {.n_threads = workers,
                                    .max_batch_rows = 256,
                                    .max_queue_rows = 16384,
                                    .compute = {.arg = &b,
                                                .batch_create = make,
                                                .batch_free = unmake,
                                                .scratch_create = make,
                                                .scratch_free = unmake,
                                                .begin = begin,
                                                .next_phase = next_phase,
                                                .run_tile = run_tile}};
    pthread_t thread;
    uint64_t t0, t1, jobs, batches;

    b = (struct bench){.by_thread = by_thread, .in_flight = flight, .event = eventfd(0, 0)};
    if (b.event < 0 || saed_dict_create(&b.dict, "none", "none", NULL) != SAE_OK ||
        saed_sched_create(&b.s, &cfg, NULL) != SAE_OK || saed_sched_start(b.s, NULL) != SAE_OK)
        abort();
    t0 = clock_ns();
    for (int i = 0; i < flight; i++)
        submit(&b, &b.slots[i]);
    if (by_thread && pthread_create(&thread, NULL, serve_main, &b) != 0)
        abort();
    nap(ns);
    t1 = clock_ns();
    jobs = atomic_load(&b.n_jobs);
    batches = atomic_load(&b.n_batches);
    atomic_store(&b.stop, true);
    if (by_thread)
        pthread_join(thread, NULL);
    while (atomic_load(&b.in_flight) > 0)
        nap(100000);
    saed_sched_free(b.s);
    saed_dict_release(b.dict);
    close(b.event);
    printf("%-7s %7zu %7d %10.0f %12.1f\n", by_thread ? "thread" : "done", workers, flight,
           (double)(t1 - t0) / (double)(jobs ? jobs : 1),
           (double)jobs / (double)(batches ? batches : 1));
}

int main(int argc, char **argv)
{
    size_t workers = argc > 1 ? strtoul(argv[1], NULL, 10) : 2;
    uint64_t ms = argc > 2 ? strtoul(argv[2], NULL, 10) : 200;

    if (workers < 1 || workers > 1024 || ms < 1 || ms > 60000) {
        fprintf(stderr, "usage: bench_sched [WORKERS [MS_PER_CASE]]\n");
        return 2;
    }
    printf("jobs by workers in flight ns per job rows a batch\n");
    for (int by_thread = 0; by_thread < 2; by_thread++) {
        for (int flight = 1; flight <= MAX_FLIGHT; flight *= 2)
            run_case(workers, flight, by_thread, ms * 1000000u);
    }
    return 0;
}
