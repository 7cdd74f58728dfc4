/* fit.h - how many rows the limits leave room for: for a refusal, and for who asks before.
 *
 * Pure functions of what they are given; any thread. */
#ifndef SAED_FIT_H
#define SAED_FIT_H

#include "proto/wire.h"
#include "server/api/op.h"

/* A request of n_rows, all of whose bytes grow with its rows. All is borrowed for the call. */
struct saed_fit {
    const struct sae_task *task; /* planned */
    const struct sae_answer *answer;
    enum sae_media out;
    uint64_t n_rows;
    uint64_t
        held_bytes; /* of the request and of its sparse entries, beside the answer and the task */
};

/* The outputs of a planned task as the answer's tensors, with the data that they have by now. */
void saed_fit_answer(const struct sae_task *t, struct sae_answer *a);

/* The most rows, n_rows at most, for which the answer is within max_response_bytes, and with all
 * that is held beside it within max_inflight_bytes. */
uint64_t saed_fit_rows(const struct saed_fit *f, const struct saed_opts *o);

/* The limit on a body of form `in`, and the option that it is. */
uint64_t saed_fit_body(enum sae_media in, const struct saed_opts *o, const char **option);

/* Rows that every limit leaves room for in an operation without options: a body of form `in`,
 * answered alike. JSON is taken to have 16 bytes a number. top_k > 0: with that option, a body of
 * rows and the answer in safetensors (encode and forward). */
uint64_t saed_fit_most(const struct saed_dict *d, enum sae_op op, enum sae_media in, uint64_t top_k,
                       const struct saed_opts *o);

#endif
