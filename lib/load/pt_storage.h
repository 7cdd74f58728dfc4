/* pt_storage.h - the storages of an archive: what a persistent id names, and that all ids agree.
 *
 * torch.load makes a storage at the first id with its key, wherever in the pickle that stands, and
 * gives it out again at every other: so ids that differ under one key are refused, also those of
 * entries that nobody reads. Called by pt.c and pt_tensor.c. Holds no state: any thread. */
#ifndef SAE_PT_STORAGE_H
#define SAE_PT_STORAGE_H

#include "lib/dtype.h"
#include "lib/format/pickle.h"
#include "lib/format/zip.h"
#include "lib/types.h"

#define SAE_PT_MAX_ROOT 1024 /* bytes of the folder's name */

/* An archive of torch.save: all entries are in one folder. */
struct sae_pt_archive {
    struct sae_zip *zip;
    char root[SAE_PT_MAX_ROOT + 1];
};

/* The entry root/path, NULL if there is none. */
const struct sae_zip_entry *sae_pt_find(const struct sae_pt_archive *a, const char *path);

/* The dtype that the GLOBAL v names, torch.NAME; NULL: none. */
const struct sae_dtype_row *sae_pt_dtype_by_name(const struct sae_pk_value *v);

/* What the persistent id ('storage', class, key, location, numel) says. */
struct sae_pt_storage {
    const struct sae_pk_value *cls, *key, *location;
    uint64_t numel;
    const struct sae_dtype_row *type;  /* of the class; NULL: of no class in the table */
    bool untyped;                      /* the class is UntypedStorage, and numel counts bytes */
    const struct sae_zip_entry *entry; /* borrowed from the archive */
};

/* Fill *out from a PERSID. The entry is there, and has numel elements where the class tells their
 * size. SAE_E_FORMAT: `who` ("tensor w") begins the message, err->where is `where`. */
enum sae_status sae_pt_storage_parse(const struct sae_pt_archive *a, const struct sae_pk_value *id,
                                     const char *where, const char *who, struct sae_pt_storage *out,
                                     struct sae_err *err) SAE_MUST_USE;

/* Every storage that the pickle names, used or not: SAE_E_FORMAT names one that is wrong or stands
 * under two classes, sizes or places; SAE_E_NOMEM. */
enum sae_status sae_pt_storage_check_all(const struct sae_pt_archive *a, const struct sae_pickle *p,
                                         struct sae_err *err) SAE_MUST_USE;

#endif
