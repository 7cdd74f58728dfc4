/* pt_tensor.h - a pickled tensor checked against its archive: shape, dtype, where its values lie.
 *
 * Called by pt.c for each entry of the state dict, by pt_groups.c for what stands beside it. Holds
 * no state: any thread. */
#ifndef SAE_PT_TENSOR_H
#define SAE_PT_TENSOR_H

#include "lib/load/load.h"
#include "lib/load/pt_storage.h"
#include "lib/load/origin.h"

struct sae_pt_tensor {
    const struct sae_zip_entry *entry; /* its storage; borrowed from the archive */
    struct sae_view view;              /* set for dtypes that are read, up to 2-D */
};

/* Whether v is a call that gives a tensor, as far as PyTorch's own names tell. */
bool sae_pt_makes_tensor(const struct sae_pk_value *v);

/* Fill t (but its name, which is set and used in messages) and *out from the value of an entry of
 * the state dict. Every offset, size and product has been checked against the archive when this
 * returns SAE_OK. SAE_E_FORMAT: the value is no tensor, uses a GLOBAL that is not on the
 * allow-list, was touched once it was made, or does not fit its storage. */
enum sae_status sae_pt_tensor_bind(const struct sae_pt_archive *a, const struct sae_pk_value *v,
                                   struct sae_tensor *t, struct sae_pt_tensor *out,
                                   struct sae_err *err) SAE_MUST_USE;

/* Where the values of a bound tensor are. */
void sae_pt_tensor_origin(const struct sae_pt_archive *a, const struct sae_pt_tensor *t,
                          struct sae_origin *out);

/* SAE_E_FORMAT when the pickle has touched a tensor, wherever that stands: an assignment to one
 * writes into its storage, which others may share. */
enum sae_status sae_pt_check_untouched(const struct sae_pickle *p,
                                       struct sae_err *err) SAE_MUST_USE;

#endif
