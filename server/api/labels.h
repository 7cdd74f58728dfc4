/* labels.h - what GET .../labels answers: {"labels": {"3": "text", "7": null}}.
 *
 * Called by op.c and op_decode.c. Pure functions, any thread. */
#ifndef SAED_LABELS_H
#define SAED_LABELS_H

#include "lib/saed.h"
#include "proto/wire.h"

/* A dictionary's labels, for answers: arg is its struct sae_dict. */
sae_label_fn saed_labels_of;
/* Bytes of the document at most; of an outline too few. */
uint64_t saed_labels_bound(const struct sae_options *asked, const struct sae_dict *d);
/* Those of asked->features, in that order, each once. SAE_E_NOMEM. */
enum sae_status saed_labels_print(struct sae_body *out, const struct sae_options *asked,
                                  const struct sae_dict *d, struct sae_err *err) SAE_MUST_USE;

#endif
