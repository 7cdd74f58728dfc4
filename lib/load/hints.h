/* hints.h - what a config beside a weights file says about it: so far, whether it has a k.
 *
 * config.json and cfg.json of the file's folder. They are hints: shapes and classes are never taken
 * from them. Called by dict/file.c. Holds no state: any thread. */
#ifndef SAE_HINTS_H
#define SAE_HINTS_H

#include "lib/base.h"

struct sae_hints {
    const char *k_file;  /* the config that has an integer k or top_k; NULL: none has */
    const char *k_key;   /* which of the two */
    const char *k_under; /* "" at its top, else the key of the object that holds it */
    int64_t k;
    const char *found[2]; /* configs that were read, NULL behind the last */
    char unread[160];     /* why a config tells nothing (it is no JSON, it is too large); "" */
};

/* Look beside the file at `path`. Other strings of *out are static. SAE_E_IO: a config that is no
 * regular file or cannot be opened; the text names it. */
enum sae_status sae_hints_read(struct sae_hints *out, const char *path,
                               struct sae_err *err) SAE_MUST_USE;

#endif
