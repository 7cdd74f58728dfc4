/* pt_tensor.h - a pickled tensor checked against its archive: shape, dtype, where its values lie.
 *
 * Called by pt.c for each entry of the state dict. Holds no state: any thread. */
#ifndef SAE_PT_TENSOR_H
#define SAE_PT_TENSOR_H

#include "lib/load/load.h"
#include "lib/format/pickle.h"
#include "lib/load/view.h"
#include "lib/format/zip.h"

#define SAE_PT_MAX_ROOT 1024 /* bytes of the folder's name */

/* An archive of torch.save: all entries are in one folder. */
struct sae_pt_archive {
    struct sae_zip *zip;
    char root[SAE_PT_MAX_ROOT + 1];
};

/* The entry root/path, NULL if there is none. */
const struct sae_zip_entry *sae_pt_find(const struct sae_pt_archive *a, const char *path);

struct sae_pt_tensor {
    const struct sae_zip_entry *entry; /* its storage; borrowed from the archive */
    struct sae_view view;              /* set for 1-D and 2-D tensors of accepted dtypes */
};

/* Fill t (but its name, which is set and used in messages) and *out from the value of an entry of
 * the state dict. Every offset, size and product has been checked against the archive when this
 * returns SAE_OK. SAE_E_FORMAT: the value is no tensor, uses a GLOBAL that is not on the
 * allow-list, or does not fit its storage. */
enum sae_status sae_pt_tensor_bind(const struct sae_pt_archive *a, const struct sae_pk_value *v,
                                   struct sae_tensor *t, struct sae_pt_tensor *out,
                                   struct sae_err *err) SAE_MUST_USE;

#endif
