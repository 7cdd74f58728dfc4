/* pool.h - threads for bodies that are too large to parse or print on a connection's thread.
 *
 * Two queues of callbacks, each first come first served by threads of its own: one for bodies that
 * take a hundred times as long as others, so that these do not wait for them. The node is the
 * caller's, so that queueing cannot fail; it is borrowed until the callback runs. Any thread may
 * push. */
#ifndef SAED_POOL_H
#define SAED_POOL_H

#include "lib/base.h"

/* Bodies and answers larger than this go to a pool thread: parsing or printing it takes about as
 * long as a connection's thread may be blocked, a millisecond. */
#define SAED_POOL_BYTES (256u << 10)
/* Those larger than this go to the threads for large ones: about 20 ms of JSON. */
#define SAED_POOL_LARGE_BYTES (4u << 20)

struct saed_pool_work {
    void (*run)(void *arg);
    void *arg;
    struct saed_pool_work *next; /* private */
};

struct saed_pool;

/* n_threads for each of the two. */
enum sae_status saed_pool_create(struct saed_pool **out, size_t n_threads,
                                 struct sae_err *err) SAE_MUST_USE;
/* Runs what is queued, then ends the threads. NULL allowed. */
void saed_pool_free(struct saed_pool *p);
/* `bytes` is the size of the body, or the bound of the answer. */
void saed_pool_push(struct saed_pool *p, struct saed_pool_work *w, uint64_t bytes);

#endif
