/* handle.h - a dictionary that is served: what it is called, what it computes, what waits for it.
 *
 * Counted: the registry holds one reference while it is listed, each request that found it one
 * until its end, each batch one until it is complete. So one that is dropped goes when the last of
 * these has, and nobody waits for that.
 *
 * THREADS  immutable once it is ready, but for the count (atomic) and the queues. */
#ifndef SAED_HANDLE_H
#define SAED_HANDLE_H

#include "lib/base.h"
#include "lib/saed.h"

#include <stdatomic.h>
#include <sys/queue.h>

struct saed_dict;
struct saed_job;
struct saed_offer;
struct saed_series;
TAILQ_HEAD(saed_job_list, saed_job);

/* One side of a dictionary. Guarded by the scheduler's lock. */
struct saed_queue {
    struct saed_job_list by_turn; /* whose rows come next */
    struct saed_job_list by_age;  /* the same jobs, oldest first */
    size_t rows;                  /* not yet in a batch */
    struct saed_dict *dict;       /* whose it is */
    enum sae_side side;
    TAILQ_ENTRY(saed_queue) ring; /* in saed_sched.ring while rows > 0 */
};

enum saed_dict_state {
    SAED_DICT_LOADING,
    SAED_DICT_OFFERED, /* a description: its dictionary is an outline */
    SAED_DICT_READY,
    SAED_DICT_FAILED
};

struct saed_dict {
    _Atomic size_t refs;
    char *name, *source; /* owned; as given */
    char *shown;         /* owned: the source as a line would have it */

    /* Set by who loads it (loading.c). */
    uint64_t stamp;          /* of the source when it was first opened (sae_draft_stamp); 0: none */
    uint64_t resident_bytes; /* what it takes in memory, its engine's part with it */
    uint64_t load_ns;        /* that loading took; 0 where nobody asked */
    enum saed_dict_state state;
    struct sae_err err;               /* failed: why */
    struct sae_dict *dict;            /* owned; NULL: loading, failed */
    const struct sae_dict_info *info; /* of it */
    struct saed_series *series;       /* a reference: its metrics; NULL: not counted */
    struct saed_offer *offer;         /* of what is offered, borrowed to the end; else NULL */

    struct saed_queue queues[SAE_N_SIDES];
    size_t queued_rows; /* both sides; guarded by the scheduler's lock */

    uint64_t order; /* of listing; guarded by the registry's lock */
};

/* Loading, with one reference, the caller's. */
enum sae_status saed_dict_create(struct saed_dict **out, const char *name, const char *source,
                                 struct sae_err *err) SAE_MUST_USE;
struct saed_dict *saed_dict_acquire(struct saed_dict *d); /* d */
void saed_dict_release(struct saed_dict *d);              /* NULL allowed */

#endif
