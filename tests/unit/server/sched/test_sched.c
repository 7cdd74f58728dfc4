/* test_sched.c - the scheduler driven step by step: order, turns, limits, deadlines, cancel, drain.
 *
 * A world is a scheduler over the fake compute with a clock that stands still until it is moved.
 * Every batch is written down as "dict side: job row0+n ..." and the tests compare that text. */
#include "tests/support/sched_fake.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_DICTS 2

struct observed {
    unsigned batches[SAE_N_SIDES], queued;
    size_t batch_rows[SAE_N_SIDES], op_rows[SAE_N_ROW_OPS];
    uint64_t batch_ns[SAE_N_SIDES], queued_ns;
};

struct world {
    struct fake fake;
    struct saed_sched *s;
    uint64_t now, tile_ns;
    char log[4096];
    char done[256]; /* ids in the order of done */
    struct observed seen[N_DICTS];
    struct fake_job *jobs[64];
    int n_jobs;
};

static struct saed_dict *dicts[N_DICTS];

static uint64_t world_now(void *arg)
{
    return ((struct world *)arg)->now;
}

static void SAE_PRINTF(3, 4) add(char *to, size_t cap, const char *fmt, ...)
{
    size_t n = strlen(to);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to + n, cap - n, fmt, ap);
    va_end(ap);
}

static void on_begin(void *arg, const struct sae_dict *dict, enum sae_side side,
                     const struct sae_slice *slices, size_t n_slices)
{
    struct world *w = arg;

    add(w->log, sizeof w->log, "%d%c:", (int)fake_dict_index(dict),
        side == SAE_SIDE_ENCODE ? 'e' : 'd');
    for (size_t i = 0; i < n_slices; i++)
        add(w->log, sizeof w->log, " %c%zu+%zu", ((struct fake_job *)slices[i].task)->id,
            slices[i].row0, slices[i].n_rows);
    add(w->log, sizeof w->log, ";");
}

static void on_tile(void *arg)
{
    struct world *w = arg;

    w->now += w->tile_ns;
}

static void see_batch(void *arg, const struct saed_dict *d, enum sae_side gemm, size_t rows,
                      uint64_t ns)
{
    struct observed *o = &((struct world *)arg)->seen[fake_dict_index(d->dict)];

    o->batches[gemm]++;
    o->batch_rows[gemm] += rows;
    o->batch_ns[gemm] += ns;
}

static void see_queued(void *arg, const struct saed_dict *d, uint64_t ns)
{
    struct observed *o = &((struct world *)arg)->seen[fake_dict_index(d->dict)];

    o->queued++;
    o->queued_ns += ns;
}

static void see_rows(void *arg, const struct saed_dict *d, enum sae_op op, size_t rows)
{
    ((struct world *)arg)->seen[fake_dict_index(d->dict)].op_rows[op] += rows;
}

static struct saed_sched_config world_config(struct world *w, size_t threads, size_t max_batch)
{
    *w = (struct world){.now = 1000};
    w->fake = (struct fake){.min_phases = 1,
                            .max_phases = 1,
                            .max_tiles = 1,
                            .max_rows = max_batch,
                            .on_begin = on_begin,
                            .on_tile = on_tile,
                            .arg = w};
    return (struct saed_sched_config){
        .n_threads = threads,
        .max_batch_rows = max_batch,
        .max_queue_rows = 16384,
        .now_ns = world_now,
        .now_arg = w,
        .observer = {.arg = w, .batch = see_batch, .queued = see_queued, .rows = see_rows}};
}

static void world_open(struct world *w, struct saed_sched_config *cfg)
{
    for (size_t i = 0; i < N_DICTS; i++)
        dicts[i] = fake_dict_create(i);
    cfg->compute = fake_compute(&w->fake);
    ck_assert_int_eq(saed_sched_create(&w->s, cfg, NULL), SAE_OK);
}

static void world_init(struct world *w, size_t threads, size_t max_batch)
{
    struct saed_sched_config cfg = world_config(w, threads, max_batch);

    world_open(w, &cfg);
}

static void world_fini(struct world *w)
{
    saed_sched_free(w->s);
    ck_assert_int_eq(atomic_load(&w->fake.live), 0);
    for (size_t i = 0; i < N_DICTS; i++)
        fake_dict_release(dicts[i]);
    for (int i = 0; i < w->n_jobs; i++) {
        ck_assert_int_le(w->jobs[i]->done_calls, 1);
        fake_job_free(w->jobs[i]);
    }
}

static void on_done(struct saed_job *job, void *arg)
{
    struct world *w = arg;
    struct fake_job *fj = (struct fake_job *)job;

    fj->done_calls++;
    add(w->done, sizeof w->done, "%c", fj->id);
}

static struct fake_job *job_make(struct world *w, int id, size_t dict, enum sae_op op, size_t rows)
{
    struct fake_job *fj = fake_job_create(id, dict, op, rows);

    fj->job.done = on_done;
    fj->job.done_arg = w;
    w->jobs[w->n_jobs++] = fj;
    return fj;
}

static enum sae_status job_submit(struct world *w, struct fake_job *fj, struct sae_err *err)
{
    return saed_sched_submit(w->s, dicts[fj->dict_index], &fj->job, err);
}

static struct fake_job *put(struct world *w, int id, size_t dict, enum sae_op op, size_t rows)
{
    struct fake_job *fj = job_make(w, id, dict, op, rows);

    ck_assert_int_eq(job_submit(w, fj, NULL), SAE_OK);
    return fj;
}

static struct fake_job *put_due(struct world *w, int id, size_t rows, uint64_t deadline)
{
    struct fake_job *fj = job_make(w, id, 0, SAE_OP_ENCODE, rows);

    fj->job.deadline_ns = deadline;
    ck_assert_int_eq(job_submit(w, fj, NULL), SAE_OK);
    return fj;
}

static void run(struct world *w)
{
    while (saed_sched_step(w->s, 0))
        ;
}

#define ck_log(w, text)                   \
    do {                                  \
        ck_assert_str_eq((w)->log, text); \
        (w)->log[0] = '\0';               \
    } while (0)

START_TEST(what_is_queued_is_one_batch_in_order_of_arrival)
{
    struct world w;

    world_init(&w, 1, 256);
    ck_assert(saed_sched_idle(w.s));
    ck_assert(!saed_sched_step(w.s, 0));
    put(&w, 'A', 0, SAE_OP_ENCODE, 1);
    put(&w, 'B', 0, SAE_OP_FORWARD, 3);
    put(&w, 'C', 0, SAE_OP_ENCODE, 1);
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 5);
    ck_assert(!saed_sched_idle(w.s));
    ck_assert(saed_sched_step(w.s, 0)); /* form */
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 0);
    ck_assert(!saed_sched_idle(w.s));
    ck_assert_str_eq(w.done, "");
    ck_assert(saed_sched_step(w.s, 0)); /* tile and completion */
    ck_assert(saed_sched_idle(w.s));
    ck_assert(!saed_sched_step(w.s, 0));
    ck_log(&w, "0e: A0+1 B0+3 C0+1;");
    ck_assert_str_eq(w.done, "ABC");
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(w.jobs[i]->job.status, SAE_OK);
        ck_assert_uint_eq(w.jobs[i]->job.largest_batch, 5);
        ck_assert_uint_eq(w.jobs[i]->n_hits, w.jobs[i]->job.task.n_rows);
    }
    world_fini(&w);
}
END_TEST

START_TEST(turns_that_follow_each_other_are_one_slice)
{
    struct world w;

    world_init(&w, 1, 256);
    put(&w, 'A', 0, SAE_OP_ENCODE, 300);
    run(&w);
    ck_log(&w, "0e: A0+256;0e: A256+44;");
    ck_assert_uint_eq(w.jobs[0]->job.largest_batch, 256);
    world_fini(&w);
}
END_TEST

START_TEST(a_large_job_never_makes_a_row_wait_for_all_of_it)
{
    struct world w;

    world_init(&w, 1, 256);
    put(&w, 'A', 0, SAE_OP_ENCODE, 4096);
    put(&w, 'B', 0, SAE_OP_ENCODE, 1);
    put(&w, 'C', 0, SAE_OP_ENCODE, 1);
    saed_sched_step(w.s, 0);
    ck_log(&w, "0e: A0+254 B0+1 C0+1;");
    saed_sched_step(w.s, 0);
    ck_assert_str_eq(w.done, "BC");
    put(&w, 'D', 0, SAE_OP_ENCODE, 1);
    saed_sched_step(w.s, 0);
    ck_log(&w, "0e: A254+255 D0+1;");
    /* Each single row is in the next batch that is formed, whatever is left of A. */
    for (int i = 0; i < 14; i++) {
        char want[8];

        saed_sched_step(w.s, 0);
        w.log[0] = '\0';
        put(&w, 'a' + i, 0, SAE_OP_ENCODE, 1);
        saed_sched_step(w.s, 0);
        snprintf(want, sizeof want, "%c0+1", 'a' + i);
        ck_assert_msg(strstr(w.log, want) && strstr(w.log, "A"), "%s", w.log);
    }
    run(&w);
    ck_assert_uint_eq(w.jobs[0]->n_hits, 4096);
    ck_assert_int_eq(w.jobs[0]->job.status, SAE_OK);
    world_fini(&w);
}
END_TEST

START_TEST(many_large_jobs_share_each_batch)
{
    struct world w;

    world_init(&w, 1, 128);
    put(&w, 'A', 0, SAE_OP_ENCODE, 100);
    put(&w, 'B', 0, SAE_OP_ENCODE, 40);
    put(&w, 'C', 0, SAE_OP_ENCODE, 100);
    run(&w);
    ck_log(&w, "0e: A0+64 B0+32 C0+32;0e: B32+8 C32+68 A64+36;");
    world_fini(&w);
}
END_TEST

START_TEST(full_in_mid_turn_leaves_the_job_in_front)
{
    struct world w;

    world_init(&w, 1, 48);
    put(&w, 'A', 0, SAE_OP_ENCODE, 64);
    put(&w, 'B', 0, SAE_OP_ENCODE, 80);
    run(&w);
    ck_log(&w, "0e: A0+32 B0+16;0e: B16+16 A32+32;0e: B32+48;");
    world_fini(&w);
}
END_TEST

START_TEST(batches_of_one_row_work)
{
    struct world w;

    world_init(&w, 1, 1);
    put(&w, 'A', 0, SAE_OP_ENCODE, 33);
    put(&w, 'B', 0, SAE_OP_ENCODE, 1);
    for (int i = 0; i < 64; i++)
        saed_sched_step(w.s, 0);
    w.log[0] = '\0';
    run(&w);
    ck_log(&w, "0e: B0+1;0e: A32+1;");
    world_fini(&w);
}
END_TEST

START_TEST(queues_take_turns)
{
    struct world w;

    world_init(&w, 1, 256);
    put(&w, 'A', 0, SAE_OP_ENCODE, 600);
    put(&w, 'B', 1, SAE_OP_ENCODE, 1);
    put(&w, 'C', 0, SAE_OP_DECODE, 1);
    put(&w, 'D', 1, SAE_OP_ENCODE, 300);
    run(&w);
    ck_log(&w, "0e: A0+256;1e: B0+1 D0+255;0d: C0+1;0e: A256+256;1e: D255+45;0e: A512+88;");
    world_fini(&w);
}
END_TEST

START_TEST(queue_rows_are_limited_per_dictionary_both_sides_together)
{
    struct world w;
    struct saed_sched_config cfg = world_config(&w, 1, 256);
    struct sae_err err = {0};
    struct fake_job *fj;

    cfg.max_queue_rows = 100;
    world_open(&w, &cfg);
    fj = job_make(&w, 'A', 0, SAE_OP_ENCODE, 101);
    ck_assert_int_eq(job_submit(&w, fj, &err), SAE_E_TOO_MANY_ROWS);
    ck_assert_str_eq(err.option, "--max-queue-rows");
    ck_assert_uint_eq(err.limit, 100);
    ck_assert_uint_eq(err.got, 101);
    ck_assert_int_eq(fj->job.state, SAED_JOB_IDLE);

    put(&w, 'B', 0, SAE_OP_ENCODE, 60);
    put(&w, 'C', 0, SAE_OP_DECODE, 40);
    fj = job_make(&w, 'D', 0, SAE_OP_DECODE, 1);
    err = (struct sae_err){0};
    ck_assert_int_eq(job_submit(&w, fj, &err), SAE_E_OVERLOADED);
    ck_assert_str_eq(err.option, "--max-queue-rows");
    ck_assert_uint_eq(err.limit, 100);
    ck_assert_uint_eq(err.got, 101);
    put(&w, 'E', 1, SAE_OP_ENCODE, 100); /* another dictionary has its own */

    saed_sched_step(w.s, 0); /* B is in a batch: its rows count no more */
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 40);
    ck_assert_int_eq(job_submit(&w, fj, NULL), SAE_OK);
    run(&w);
    ck_assert_int_eq(fj->job.status, SAE_OK);
    world_fini(&w);
}
END_TEST

START_TEST(late_jobs_cost_no_compute)
{
    struct world w;

    world_init(&w, 1, 256);
    put_due(&w, 'A', 1, 1500);
    put_due(&w, 'B', 1, 2000); /* exactly at its deadline: in time */
    put_due(&w, 'C', 1, 1999);
    put_due(&w, 'D', 1, 0);
    w.now = 2000;
    ck_assert(saed_sched_step(w.s, 0));
    ck_assert_str_eq(w.done, "AC");
    ck_assert_int_eq(w.jobs[0]->job.status, SAE_E_DEADLINE_EXCEEDED);
    ck_assert_int_eq(w.jobs[2]->job.status, SAE_E_DEADLINE_EXCEEDED);
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 2);
    ck_assert_uint_eq(w.seen[0].queued, 2);
    ck_assert_uint_eq(w.seen[0].queued_ns, 2000);
    run(&w);
    ck_log(&w, "0e: B0+1 D0+1;");
    ck_assert_int_eq(w.jobs[1]->job.status, SAE_OK);
    ck_assert_uint_eq(w.seen[0].queued, 4);
    ck_assert_uint_eq(w.seen[0].queued_ns, 4000);
    world_fini(&w);
}
END_TEST

START_TEST(a_job_that_was_placed_in_time_is_never_late)
{
    struct world w;

    world_init(&w, 1, 32);
    put_due(&w, 'A', 64, 1500);
    put_due(&w, 'B', 32, 1500);
    saed_sched_step(w.s, 0);
    w.now = 9000;
    run(&w);
    ck_log(&w, "0e: A0+32;0e: A32+32;");
    ck_assert_int_eq(w.jobs[0]->job.status, SAE_OK);
    ck_assert_int_eq(w.jobs[1]->job.status, SAE_E_DEADLINE_EXCEEDED);
    world_fini(&w);
}
END_TEST

START_TEST(the_delay_holds_a_batch_back)
{
    struct world w;
    struct saed_sched_config cfg = world_config(&w, 1, 8);

    cfg.max_delay_ns = 100;
    world_open(&w, &cfg);
    put(&w, 'A', 0, SAE_OP_ENCODE, 2);
    w.now = 1050;
    put(&w, 'B', 0, SAE_OP_ENCODE, 3);
    ck_assert(!saed_sched_step(w.s, 0));
    w.now = 1099;
    ck_assert(!saed_sched_step(w.s, 0));
    w.now = 1100; /* the oldest has waited long enough */
    run(&w);
    ck_log(&w, "0e: A0+2 B0+3;");

    put(&w, 'C', 0, SAE_OP_ENCODE, 7);
    ck_assert(!saed_sched_step(w.s, 0));
    put(&w, 'D', 0, SAE_OP_ENCODE, 2); /* enough rows; the ninth waits on */
    run(&w);
    ck_log(&w, "0e: C0+7 D0+1;");
    w.now = 1200;
    run(&w);
    ck_log(&w, "0e: D1+1;");

    /* The oldest counts, not the first in turn: A' goes to the back after 8 of 32. */
    put(&w, 'E', 0, SAE_OP_ENCODE, 36);
    w.now = 1250;
    put(&w, 'F', 0, SAE_OP_ENCODE, 1);
    for (int i = 0; i < 8; i++)
        saed_sched_step(w.s, 0);
    ck_log(&w, "0e: E0+8;0e: E8+8;0e: E16+8;0e: E24+8;");
    ck_assert(!saed_sched_step(w.s, 0));
    w.now = 1300;
    run(&w);
    ck_log(&w, "0e: F0+1 E32+4;");
    world_fini(&w);
}
END_TEST

START_TEST(deadlines_pass_while_the_delay_holds_back)
{
    struct world w;
    struct saed_sched_config cfg = world_config(&w, 1, 8);

    cfg.max_delay_ns = 1000;
    world_open(&w, &cfg);
    put_due(&w, 'A', 1, 1500);
    put_due(&w, 'B', 1, 1400);
    put_due(&w, 'C', 1, 5000);
    w.now = 1401;
    ck_assert(saed_sched_step(w.s, 0));
    ck_assert_str_eq(w.done, "B");
    ck_assert(!saed_sched_step(w.s, 0));
    w.now = 1501;
    run(&w);
    ck_assert_str_eq(w.done, "BA");
    ck_log(&w, "");
    world_fini(&w);
    ck_assert_str_eq(w.done, "BAC");
}
END_TEST

START_TEST(a_cancelled_job_takes_no_more_rows)
{
    struct world w;
    struct fake_job *a, *b, *c;

    world_init(&w, 1, 32);
    a = put(&w, 'A', 0, SAE_OP_ENCODE, 70);
    b = put(&w, 'B', 0, SAE_OP_ENCODE, 5);
    c = put(&w, 'C', 0, SAE_OP_ENCODE, 5);
    saed_sched_cancel(w.s, &b->job); /* queued: over at once */
    ck_assert_str_eq(w.done, "B");
    ck_assert_int_eq(b->job.status, SAE_E_CANCELLED);
    ck_assert_uint_eq(w.seen[0].queued, 1);
    saed_sched_step(w.s, 0);
    saed_sched_cancel(w.s, &a->job); /* half in a batch: over with the batch */
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 5);
    ck_assert_str_eq(w.done, "B");
    saed_sched_cancel(w.s, &a->job);
    saed_sched_step(w.s, 0);
    ck_assert_str_eq(w.done, "BA");
    ck_assert_int_eq(a->job.status, SAE_E_CANCELLED);
    saed_sched_cancel(w.s, &a->job);
    saed_sched_step(w.s, 0);
    saed_sched_cancel(w.s, &c->job); /* all in a batch */
    run(&w);
    ck_assert_str_eq(w.done, "BAC");
    ck_assert_int_eq(c->job.status, SAE_E_CANCELLED);
    ck_log(&w, "0e: A0+32;0e: C0+5;");
    ck_assert_uint_eq(w.seen[0].op_rows[SAE_OP_ENCODE], 37);
    world_fini(&w);
}
END_TEST

/* A done callback that meets the scheduler again: cancels itself and another, submits a third. */
static void done_reenters(struct saed_job *job, void *arg)
{
    struct world *w = arg;
    struct fake_job *fj = (struct fake_job *)job;

    on_done(job, arg);
    saed_sched_cancel(w->s, job);
    saed_sched_cancel(w->s, &w->jobs[1]->job);
    if (fj->id == 'A')
        put(w, 'N', 1, SAE_OP_ENCODE, 1);
}

START_TEST(done_may_call_the_scheduler)
{
    struct world w;
    struct fake_job *a;

    world_init(&w, 1, 4);
    a = job_make(&w, 'A', 0, SAE_OP_ENCODE, 4);
    a->job.done = done_reenters;
    ck_assert_int_eq(job_submit(&w, a, NULL), SAE_OK);
    put(&w, 'B', 0, SAE_OP_ENCODE, 4);
    run(&w);
    ck_assert_str_eq(w.done, "ABN");
    ck_log(&w, "0e: A0+4;1e: N0+1;");
    ck_assert_int_eq(w.jobs[0]->job.status, SAE_OK);
    ck_assert_int_eq(w.jobs[1]->job.status, SAE_E_CANCELLED);
    world_fini(&w);
}
END_TEST

START_TEST(abort_fails_what_is_queued_and_refuses_what_comes)
{
    struct world w;
    struct sae_err err = {0};

    world_init(&w, 1, 32);
    put(&w, 'A', 0, SAE_OP_ENCODE, 40);
    put(&w, 'B', 0, SAE_OP_ENCODE, 1);
    put_due(&w, 'C', 1, 5000);
    put(&w, 'D', 1, SAE_OP_DECODE, 1);
    saed_sched_step(w.s, 0);
    saed_sched_abort(w.s);
    ck_assert_str_eq(w.done, "DBC");
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 0);
    ck_assert(!saed_sched_idle(w.s));
    ck_assert_int_eq(job_submit(&w, job_make(&w, 'E', 0, SAE_OP_ENCODE, 1), &err), SAE_E_DRAINING);
    ck_assert_int_eq(err.status, SAE_E_DRAINING);
    run(&w);
    ck_assert_str_eq(w.done, "DBCA");
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(w.jobs[i]->job.status, SAE_E_DRAINING);
    ck_assert(saed_sched_idle(w.s));
    saed_sched_abort(w.s);
    world_fini(&w);
    ck_assert_str_eq(w.done, "DBCA");
}
END_TEST

START_TEST(what_is_in_a_batch_survives_the_abort)
{
    struct world w;

    world_init(&w, 1, 32);
    put(&w, 'A', 0, SAE_OP_ENCODE, 20);
    saed_sched_step(w.s, 0);
    saed_sched_abort(w.s);
    run(&w);
    ck_assert_int_eq(w.jobs[0]->job.status, SAE_OK);
    world_fini(&w);
}
END_TEST

START_TEST(free_ends_open_batches_and_fails_the_rest)
{
    struct world w;

    world_init(&w, 2, 16);
    w.fake.min_phases = w.fake.max_phases = 3;
    put(&w, 'A', 0, SAE_OP_ENCODE, 16);
    put(&w, 'B', 0, SAE_OP_ENCODE, 17);
    put(&w, 'C', 0, SAE_OP_ENCODE, 1);
    saed_sched_step(w.s, 0);
    saed_sched_step(w.s, 1);
    saed_sched_step(w.s, 1);
    ck_log(&w, "0e: A0+16;0e: B0+16;");
    saed_sched_free(w.s);
    ck_assert_str_eq(w.done, "CAB");
    ck_assert_int_eq(w.jobs[0]->job.status, SAE_OK);
    ck_assert_int_eq(w.jobs[1]->job.status, SAE_E_DRAINING);
    ck_assert_int_eq(w.jobs[2]->job.status, SAE_E_DRAINING);
    w.s = NULL;
    world_fini(&w);
}
END_TEST

START_TEST(a_failed_task_ends_with_its_status_and_the_others_do_not)
{
    struct world w;
    struct fake_job *a;

    world_init(&w, 1, 64);
    a = job_make(&w, 'A', 0, SAE_OP_ENCODE, 200);
    a->fail_at_row = 40;
    ck_assert_int_eq(job_submit(&w, a, NULL), SAE_OK);
    put(&w, 'B', 0, SAE_OP_ENCODE, 70);
    run(&w);
    ck_assert_str_eq(w.done, "AB");
    ck_log(&w, "0e: A0+32 B0+32;0e: A32+32 B32+32;0e: B64+6;");
    ck_assert_int_eq(a->job.status, SAE_E_NOMEM);
    ck_assert_int_eq(w.jobs[1]->job.status, SAE_OK);
    ck_assert_uint_eq(w.seen[0].op_rows[SAE_OP_ENCODE], 32 + 70);
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 0);
    world_fini(&w);
}
END_TEST

START_TEST(a_failure_is_seen_while_other_rows_are_in_batches)
{
    struct world w;
    struct fake_job *a;

    world_init(&w, 2, 32);
    a = put(&w, 'A', 0, SAE_OP_ENCODE, 96);
    saed_sched_step(w.s, 0);
    saed_sched_step(w.s, 1);
    ck_log(&w, "0e: A0+32;0e: A32+32;");
    atomic_store(&a->job.task.failed, SAE_E_NOMEM);
    saed_sched_step(w.s, 0);
    ck_assert_str_eq(w.done, "");
    ck_assert_uint_eq(saed_sched_queue_rows(w.s, dicts[0]), 0);
    saed_sched_step(w.s, 1);
    ck_assert_str_eq(w.done, "A");
    ck_assert_int_eq(a->job.status, SAE_E_NOMEM);
    run(&w);
    ck_log(&w, "");
    world_fini(&w);
}
END_TEST

START_TEST(a_failed_job_at_the_front_makes_no_empty_batch)
{
    struct world w;
    struct fake_job *a;

    world_init(&w, 2, 32);
    a = put(&w, 'A', 0, SAE_OP_ENCODE, 64);
    saed_sched_step(w.s, 0);
    atomic_store(&a->job.task.failed, SAE_E_NOMEM);
    ck_assert(!saed_sched_step(w.s, 1));
    run(&w);
    ck_log(&w, "0e: A0+32;");
    ck_assert_str_eq(w.done, "A");
    ck_assert_int_eq(a->job.status, SAE_E_NOMEM);
    world_fini(&w);
}
END_TEST

/* Batches of one job side by side: their times were summed, and compute was above total. */
START_TEST(time_in_two_batches_at_once_counts_once)
{
    struct world w;
    struct saed_job *a;

    world_init(&w, 2, 32);
    w.tile_ns = 10;
    a = &put(&w, 'A', 0, SAE_OP_ENCODE, 200)->job;
    w.now += 7;
    while (a->done_ns == 0)
        for (size_t worker = 0; worker < 2; worker++)
            saed_sched_step(w.s, worker);
    ck_assert_uint_eq(a->largest_batch, 32);
    ck_assert_uint_eq(a->compute_ns, a->done_ns - a->start_ns); /* never without a batch */
    ck_assert_uint_le(a->compute_ns, a->done_ns - a->submit_ns);
    world_fini(&w);
}
END_TEST

START_TEST(times_and_rows_are_told)
{
    struct world w;
    struct saed_job *a, *b;
    struct observed *o = w.seen;

    world_init(&w, 1, 64);
    w.fake.min_phases = w.fake.max_phases = 3;
    w.tile_ns = 10;
    a = &put(&w, 'A', 0, SAE_OP_ENCODE, 90)->job;
    w.now += 5;
    b = &put(&w, 'B', 0, SAE_OP_FORWARD, 40)->job;
    w.now += 7;
    run(&w);
    ck_log(&w, "0e: A0+32 B0+32;0e: A32+56 B32+8;0e: A88+2;");
    ck_assert_uint_eq(a->submit_ns, 1000);
    ck_assert_uint_eq(a->start_ns, 1012);
    ck_assert_uint_eq(a->done_ns, 1102);
    ck_assert_uint_eq(a->compute_ns, 90);
    ck_assert_uint_eq(a->largest_batch, 64);
    ck_assert_uint_eq(b->submit_ns, 1005);
    ck_assert_uint_eq(b->start_ns, 1012);
    ck_assert_uint_eq(b->done_ns, 1072);
    ck_assert_uint_eq(b->compute_ns, 60);
    ck_assert_uint_eq(o->queued, 2);
    ck_assert_uint_eq(o->queued_ns, 12 + 7);
    ck_assert_uint_eq(o->batches[SAE_SIDE_ENCODE], 3);
    ck_assert_uint_eq(o->batch_rows[SAE_SIDE_ENCODE], 130);
    ck_assert_uint_eq(o->batch_ns[SAE_SIDE_ENCODE], 20 + 20 + 30);
    ck_assert_uint_eq(o->batches[SAE_SIDE_DECODE], 2); /* the forward rows' part */
    ck_assert_uint_eq(o->batch_rows[SAE_SIDE_DECODE], 40);
    ck_assert_uint_eq(o->batch_ns[SAE_SIDE_DECODE], 20);
    ck_assert_uint_eq(o->op_rows[SAE_OP_ENCODE], 90);
    ck_assert_uint_eq(o->op_rows[SAE_OP_FORWARD], 40);

    w.seen[1] = (struct observed){0};
    put(&w, 'C', 1, SAE_OP_DECODE, 3);
    run(&w);
    ck_assert_uint_eq(w.seen[1].batches[SAE_SIDE_ENCODE], 0);
    ck_assert_uint_eq(w.seen[1].batches[SAE_SIDE_DECODE], 1);
    ck_assert_uint_eq(w.seen[1].batch_rows[SAE_SIDE_DECODE], 3);
    ck_assert_uint_eq(w.seen[1].batch_ns[SAE_SIDE_DECODE], 30);
    ck_assert_uint_eq(w.seen[1].op_rows[SAE_OP_DECODE], 3);
    world_fini(&w);
}
END_TEST

START_TEST(a_batch_without_phases_is_complete_at_once)
{
    struct world w;

    world_init(&w, 1, 64);
    w.fake.min_phases = w.fake.max_phases = 0;
    put(&w, 'A', 0, SAE_OP_ENCODE, 3);
    ck_assert(saed_sched_step(w.s, 0));
    ck_assert_str_eq(w.done, "A");
    ck_assert_uint_eq(w.seen[0].batches[SAE_SIDE_ENCODE], 1);
    ck_assert_uint_eq(w.seen[0].batch_rows[SAE_SIDE_ENCODE], 3);
    world_fini(&w);
}
END_TEST

START_TEST(helpers_come_before_new_batches_and_single_tiles_run_side_by_side)
{
    struct world w;

    world_init(&w, 2, 8);
    put(&w, 'A', 0, SAE_OP_ENCODE, 8);
    put(&w, 'B', 1, SAE_OP_ENCODE, 8);
    saed_sched_step(w.s, 0); /* one tile: nobody else is needed */
    saed_sched_step(w.s, 1);
    ck_log(&w, "0e: A0+8;1e: B0+8;");
    saed_sched_step(w.s, 1);
    saed_sched_step(w.s, 0);
    ck_assert_str_eq(w.done, "BA");

    w.fake.seed = 4; /* a phase of several tiles */
    w.fake.max_tiles = 64;
    put(&w, 'C', 0, SAE_OP_ENCODE, 8);
    put(&w, 'D', 1, SAE_OP_ENCODE, 8);
    saed_sched_step(w.s, 0);
    uint64_t tiles = atomic_load(&w.fake.n_tiles);
    for (int i = 0; i < 3; i++) {
        saed_sched_step(w.s, 1);
        ck_assert_uint_eq(atomic_load(&w.fake.n_tiles), ++tiles);
    }
    ck_log(&w, "0e: C0+8;");
    while (saed_sched_step(w.s, 1))
        ;
    ck_log(&w, "1e: D0+8;");
    ck_assert_str_eq(w.done, "BACD");
    world_fini(&w);
}
END_TEST

/* A batch in the middle of its phases keeps what it has; the next ones have the new. */
START_TEST(buffers_made_anew_are_put_to_use_between_batches)
{
    struct world w;
    struct saed_sched_config cfg = world_config(&w, 2, 8);
    struct fake_job *large;

    w.fake.max_tiles = 3;
    w.fake.min_phases = w.fake.max_phases = 3;
    world_open(&w, &cfg);
    ck_assert_int_eq(job_submit(&w, job_make(&w, 'A', 0, SAE_OP_ENCODE, 8), NULL), SAE_OK);
    ck_assert(saed_sched_step(w.s, 0));
    for (unsigned round = 0; round < 2; round++) { /* what was never used goes */
        atomic_fetch_add(&w.fake.capacity, 1);
        ck_assert_int_eq(saed_sched_renew(w.s, NULL), SAE_OK);
        ck_assert_int_eq(atomic_load(&w.fake.live), 8);
    }
    large = job_make(&w, 'B', 1, SAE_OP_ENCODE, 8);
    large->needs = 2;
    ck_assert_int_eq(job_submit(&w, large, NULL), SAE_OK);
    for (size_t i = 0; !saed_sched_idle(w.s); i++)
        (void)saed_sched_step(w.s, i % 2);
    ck_log(&w, "0e: A0+8;1e: B0+8;");
    ck_assert_str_eq(w.done, "AB");
    world_fini(&w);
}
END_TEST

START_TEST(buffers_are_made_anew_whole_or_not_at_all)
{
    enum sae_status st = SAE_E_NOMEM;
    struct world w;

    world_init(&w, 3, 8);
    for (long fault = 0; st != SAE_OK; fault++) {
        ck_assert_int_eq(atomic_load(&w.fake.live), 6);
        sae_alloc_fault(fault, false);
        st = saed_sched_renew(w.s, NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || st == SAE_E_NOMEM);
    }
    ck_assert_int_eq(atomic_load(&w.fake.live), 12);
    world_fini(&w);
}
END_TEST

/* Not while something is queued or computed. */
START_TEST(batches_rest_when_all_is_quiet)
{
    struct world w;

    world_init(&w, 3, 8);
    ck_assert(saed_sched_rest(w.s));
    ck_assert_int_eq(atomic_load(&w.fake.rested), 3);
    ck_assert_int_eq(job_submit(&w, job_make(&w, 'A', 0, SAE_OP_ENCODE, 8), NULL), SAE_OK);
    ck_assert(!saed_sched_rest(w.s));
    ck_assert(saed_sched_step(w.s, 0)); /* no row waits, a batch is open */
    ck_assert(!saed_sched_idle(w.s));
    ck_assert(!saed_sched_rest(w.s));
    while (saed_sched_step(w.s, 0))
        ;
    ck_assert_int_eq(atomic_load(&w.fake.rested), 3);
    ck_assert(saed_sched_rest(w.s));
    ck_assert_int_eq(atomic_load(&w.fake.rested), 6);
    world_fini(&w);
}
END_TEST

/* A request may be answered and its reference gone before its last batch has been told of. */
START_TEST(a_batch_holds_its_dictionary)
{
    struct world w;
    struct fake_job *fj;

    world_init(&w, 1, 8);
    fj = job_make(&w, 'A', 0, SAE_OP_ENCODE, 12);
    ck_assert_int_eq(job_submit(&w, fj, NULL), SAE_OK);
    ck_assert_uint_eq(dicts[0]->refs, 1);
    ck_assert(saed_sched_step(w.s, 0));
    ck_assert_uint_eq(dicts[0]->refs, 2);
    while (saed_sched_step(w.s, 0))
        ;
    ck_assert_uint_eq(dicts[0]->refs, 1);
    ck_assert_str_eq(w.done, "A");
    world_fini(&w);
}
END_TEST

START_TEST(creation_survives_each_failed_allocation)
{
    struct world w;
    struct saed_sched_config cfg = world_config(&w, 3, 8);
    long n;

    cfg.compute = fake_compute(&w.fake);
    for (n = 0;; n++) {
        struct saed_sched *s = NULL;
        struct sae_err err = {0};
        enum sae_status st;

        sae_alloc_fault(n, false);
        st = saed_sched_create(&s, &cfg, &err);
        sae_alloc_fault(-1, false);
        if (st == SAE_OK) {
            saed_sched_free(s);
            break;
        }
        ck_assert_int_eq(st, SAE_E_NOMEM);
        ck_assert_int_eq(err.status, SAE_E_NOMEM);
        ck_assert_ptr_null(s);
        ck_assert_int_eq(atomic_load(&w.fake.live), 0);
    }
    ck_assert_int_gt(n, 15);
    saed_sched_free(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sched");
    TCase *t = tcase_create("sched");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, what_is_queued_is_one_batch_in_order_of_arrival);
    tcase_add_test(t, turns_that_follow_each_other_are_one_slice);
    tcase_add_test(t, a_large_job_never_makes_a_row_wait_for_all_of_it);
    tcase_add_test(t, many_large_jobs_share_each_batch);
    tcase_add_test(t, full_in_mid_turn_leaves_the_job_in_front);
    tcase_add_test(t, batches_of_one_row_work);
    tcase_add_test(t, queues_take_turns);
    tcase_add_test(t, queue_rows_are_limited_per_dictionary_both_sides_together);
    tcase_add_test(t, late_jobs_cost_no_compute);
    tcase_add_test(t, a_job_that_was_placed_in_time_is_never_late);
    tcase_add_test(t, the_delay_holds_a_batch_back);
    tcase_add_test(t, deadlines_pass_while_the_delay_holds_back);
    tcase_add_test(t, a_cancelled_job_takes_no_more_rows);
    tcase_add_test(t, done_may_call_the_scheduler);
    tcase_add_test(t, abort_fails_what_is_queued_and_refuses_what_comes);
    tcase_add_test(t, what_is_in_a_batch_survives_the_abort);
    tcase_add_test(t, free_ends_open_batches_and_fails_the_rest);
    tcase_add_test(t, a_failed_task_ends_with_its_status_and_the_others_do_not);
    tcase_add_test(t, a_failure_is_seen_while_other_rows_are_in_batches);
    tcase_add_test(t, a_failed_job_at_the_front_makes_no_empty_batch);
    tcase_add_test(t, time_in_two_batches_at_once_counts_once);
    tcase_add_test(t, times_and_rows_are_told);
    tcase_add_test(t, a_batch_without_phases_is_complete_at_once);
    tcase_add_test(t, helpers_come_before_new_batches_and_single_tiles_run_side_by_side);
    tcase_add_test(t, buffers_made_anew_are_put_to_use_between_batches);
    tcase_add_test(t, buffers_are_made_anew_whole_or_not_at_all);
    tcase_add_test(t, batches_rest_when_all_is_quiet);
    tcase_add_test(t, a_batch_holds_its_dictionary);
    tcase_add_test(t, creation_survives_each_failed_allocation);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
