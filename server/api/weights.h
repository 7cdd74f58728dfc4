/* weights.h - what weights answers: parts of a dictionary, as tensors.
 *
 * In two steps, so that the answer's bytes are known before any of it is copied. Owned by the one
 * request that it belongs to; called by op.c and op_decode.c. */
#ifndef SAED_WEIGHTS_H
#define SAED_WEIGHTS_H

#include "lib/saed.h"
#include "proto/wire.h"

struct saed_weights {
    struct sae_lead leads[SAE_N_WEIGHTS]; /* the tensors' */
    uint64_t bytes;                       /* of all values, as f32 */
    float *values;                        /* owned; NULL until they are copied */
};

/* The tensors that are asked for of `d`, which may be an outline, into *a, without their values;
 * their leading dimensions are borrowed from *w. SAE_E_NOT_LOADED, SAE_E_BAD_OPTION: it has not one
 * of them. */
enum sae_status saed_weights_plan(struct saed_weights *w, struct sae_answer *a,
                                  const struct sae_weights *asked, const struct sae_dict *d,
                                  const char *name, struct sae_err *err) SAE_MUST_USE;
/* Their values, of the dictionary that it was planned for. SAE_E_NOMEM. */
enum sae_status saed_weights_copy(struct saed_weights *w, struct sae_answer *a,
                                  const struct sae_weights *asked, const struct sae_dict *d,
                                  struct sae_err *err) SAE_MUST_USE;
void saed_weights_fini(struct saed_weights *w);

#endif
