/* hints.h - what a config beside a weights file says about it: so far, whether it has a k.
 *
 * config.json and cfg.json of the file's folder; of a file in a folder "checkpoints" those of the
 * folder above as well. They are hints: shapes and classes are never taken from them. Called by
 * dict/file.c. Holds no state: any thread. */
#ifndef SAE_HINTS_H
#define SAE_HINTS_H

#include "lib/base.h"

/* Where a config stands, seen from the weights file: "beside it", "above it". */
const char *sae_hints_place(bool is_above);

#define SAE_HINTS_MAX_FILES 4

struct sae_hints {
    const char *k_file;  /* the config that has an integer k or top_k; NULL: none has */
    bool k_is_above;     /* where it stands */
    const char *k_key;   /* which of the two */
    const char *k_under; /* "" at its top, else the key of the object that holds it */
    int64_t k;
    struct {
        const char *file; /* a config that was read, NULL behind the last */
        bool is_above;
    } found[SAE_HINTS_MAX_FILES];
    /* Why one may have a k that is not known: it is no JSON, it is too large, its k is no integer;
     * "" where none is so. */
    char doubt[200];
};

/* Look beside the file at `path`. Other strings of *out are static. SAE_E_IO: a config that is no
 * regular file or cannot be opened; the text names it. */
enum sae_status sae_hints_read(struct sae_hints *out, const char *path,
                               struct sae_err *err) SAE_MUST_USE;

#endif
