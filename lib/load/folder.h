/* folder.h - what stands in a folder, by name: which configs, which weights files.
 *
 * Names alone are looked at; opening a file tells what it is. Called by lib/dict. Immutable once
 * open, any thread. */
#ifndef SAE_FOLDER_H
#define SAE_FOLDER_H

#include "lib/base.h"

#define SAE_FOLDER_MAX_NAMES 100000u

struct sae_folder;

bool sae_folder_is(const char *path); /* a folder, or a link to one */
/* Bytes of the folder in a file's path, its last '/' included; 0: it has none. */
size_t sae_folder_bytes(const char *path);
/* The same of the folder above, where the file stands in one called "checkpoints"; else as above.
 */
size_t sae_folder_bytes_above(const char *path);
/* Does a name end as those of weights files do: .pt .pth .ckpt .bin .safetensors .npz .npy? */
bool sae_folder_is_weights(const char *name);

/* List the folder `path`; "" is the current one. On success *out is owned (sae_folder_close).
 * SAE_E_IO: it cannot be listed; SAE_E_FORMAT: it has too many names; SAE_E_NOMEM. */
enum sae_status sae_folder_open(struct sae_folder **out, const char *path,
                                struct sae_err *err) SAE_MUST_USE;
void sae_folder_close(struct sae_folder *f); /* NULL allowed */

/* "" or what ends in '/': what names are put behind. */
const char *sae_folder_path(const struct sae_folder *f);
bool sae_folder_has(const struct sae_folder *f, const char *name);
/* All names, in their order; NULL behind the last. Borrowed. */
size_t sae_folder_n_names(const struct sae_folder *f);
const char *sae_folder_name(const struct sae_folder *f, size_t i);
/* The weights files, in the order of their names: all of such a name that are no folders. */
size_t sae_folder_n_weights(const struct sae_folder *f);
const char *sae_folder_weights(const struct sae_folder *f, size_t i); /* borrowed */

#endif
