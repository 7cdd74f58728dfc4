/* pt_facts.h - what stands beside the weights of a .pt, as facts.
 *
 * Called by pt.c. Holds no state: any thread. */
#ifndef SAE_PT_FACTS_H
#define SAE_PT_FACTS_H

#include "lib/format/pickle.h"
#include "lib/load/facts.h"

#define SAE_PT_MAX_FACT_DEPTH 32u
#define SAE_PT_MAX_FACTS 100000u

/* The facts of `root`, a dict, but for the tensors of `weights`, the dict that was chosen: `root`
 * or one in it. *out is owned (sae_facts_free). What occurs in several places is made once.
 * SAE_E_FORMAT: there are more, or they are deeper, than is read; SAE_E_NOMEM. */
enum sae_status sae_pt_facts(struct sae_facts **out, const struct sae_pk_value *root,
                             const struct sae_pk_value *weights, struct sae_err *err) SAE_MUST_USE;

#endif
