/* pt_tensor.h - a pickled tensor checked against its archive: shape, dtype, where its values lie.
 *
 * Called by pt.c for each entry of the state dict, by pt_groups.c for what stands beside it. Holds
 * no state: any thread. */
#ifndef SAE_PT_TENSOR_H
#define SAE_PT_TENSOR_H

#include "lib/load/load.h"
#include "lib/load/pt_storage.h"
#include "lib/load/view.h"

struct sae_pt_tensor {
    const struct sae_zip_entry *entry; /* its storage; borrowed from the archive */
    struct sae_view view;              /* set for tensors of accepted dtypes, up to 2-D */
    uint64_t offset;                   /* its first element in the storage */
    unsigned item_bytes;
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

/* The values of a bound tensor whose view is set, as sae_load_read gives them. */
enum sae_status sae_pt_tensor_read(const struct sae_pt_archive *a, const struct sae_pt_tensor *t,
                                   float *dst, bool transpose, struct sae_err *err) SAE_MUST_USE;

/* The value of a bound tensor of no dimension, as sae_load_integer gives it. */
enum sae_status sae_pt_tensor_integer(const struct sae_pt_archive *a, const struct sae_tensor *t,
                                      const struct sae_pt_tensor *bound, int64_t *out,
                                      struct sae_err *err) SAE_MUST_USE;

/* SAE_E_FORMAT when the pickle has touched a tensor, wherever that stands: an assignment to one
 * writes into its storage, which others may share. */
enum sae_status sae_pt_check_untouched(const struct sae_pickle *p,
                                       struct sae_err *err) SAE_MUST_USE;

#endif
