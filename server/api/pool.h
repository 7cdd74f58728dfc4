/* pool.h - threads for bodies that are too large to parse or print on a connection's thread.
 *
 * Two queues of callbacks, each first come first served by threads of its own: one for bodies that
 * take a hundred times as long as others, so that these do not wait for them. The node is the
 * caller's, so that queueing cannot fail; it is borrowed until the callback runs. Any thread may
 * push. */
#ifndef SAED_POOL_H
#define SAED_POOL_H

#include "lib/base.h"

/* Bodies and answers larger than this go to a codec thread: parsing or printing it takes about as
 * long as a connection's thread may be blocked, a millisecond. */
#define SAED_CODEC_BYTES (256u << 10)
/* Those larger than this go to the threads for large ones: about 20 ms of JSON. */
#define SAED_CODEC_LARGE_BYTES (4u << 20)

struct saed_codec_work {
    void (*run)(void *arg);
    void *arg;
    struct saed_codec_work *next; /* private */
};

struct saed_codec;

/* n_threads for each of the two. */
enum sae_status saed_codec_create(struct saed_codec **out, size_t n_threads,
                                  struct sae_err *err) SAE_MUST_USE;
/* Runs what is queued, then ends the threads. NULL allowed. */
void saed_codec_free(struct saed_codec *c);
/* `bytes` is the size of the body, or the bound of the answer. */
void saed_codec_push(struct saed_codec *c, struct saed_codec_work *w, uint64_t bytes);

#endif
