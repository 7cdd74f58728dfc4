/* sched_fake.h - a compute for tests of the scheduler that computes nothing and checks everything.
 *
 * It aborts when the scheduler breaks the rules of struct saed_compute: a batch begun twice, a
 * phase planned before every tile is done, a tile run twice, a scratch used by two threads, too
 * many rows, rows of a task that were there before or leave a gap, buffers smaller than a job
 * needs. How many phases and tiles a batch has is drawn from a seed. Any number of threads, as the
 * scheduler brings them. */
#ifndef SAED_TESTS_SCHED_FAKE_H
#define SAED_TESTS_SCHED_FAKE_H

#include "server/sched/sched.h"

#include <stdatomic.h>

#define FAKE_CHECK(cond) ((cond) ? (void)0 : fake_die(__FILE__, __LINE__, #cond))
extern uint64_t fake_seed; /* named when something is broken */
_Noreturn void fake_die(const char *file, int line, const char *what);

/* A job with a count for each of its rows. */
struct fake_job {
    struct saed_job job; /* first */
    int id;
    size_t dict_index;
    _Atomic unsigned char *hits; /* owned: [n_rows] */
    _Atomic size_t n_hits;
    unsigned needs;     /* capacity of the batch and scratch that compute it */
    size_t fail_at_row; /* the batch with this row says NOMEM; SIZE_MAX: none */
    _Atomic int done_calls;
    void *user;
};

struct fake_job *fake_job_create(int id, size_t dict_index, enum sae_op op, size_t n_rows);
void fake_job_free(struct fake_job *fj);

/* A handle of a dictionary that is never looked into, and its number: of a handle, of what begin is
 * given. */
struct saed_dict *fake_dict_create(size_t index);
size_t fake_dict_index(const struct sae_dict *dict);
void fake_dict_release(struct saed_dict *d);

struct fake {
    uint64_t seed;
    unsigned min_phases, max_phases; /* a batch has that many ... */
    unsigned max_tiles;              /* ... of 1 to max_tiles (at most 64) tiles */
    size_t max_rows;
    _Atomic unsigned capacity; /* of batches and scratches made from now on */
    void (*on_begin)(void *arg, const struct sae_dict *dict, enum sae_side side,
                     const struct sae_slice *slices, size_t n_slices);
    void (*on_tile)(void *arg);
    void *arg;
    _Atomic uint64_t n_batches, n_tiles;
    _Atomic int live; /* batches and scratches that exist */
    _Atomic int warmed, rested;
};

struct saed_compute fake_compute(struct fake *f);

/* splitmix64 */
uint64_t fake_random(uint64_t *state);

#endif
