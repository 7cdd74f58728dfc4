/* pt_prefix.h - the entries of a pickle whose names begin alike, in whatever dicts they stand, as
 * one dict: names of dicts in dicts are joined by '.'. And those beside them, on the way there.
 *
 * Called by pt.c. Immutable once made, any thread. */
#ifndef SAE_PT_PREFIX_H
#define SAE_PT_PREFIX_H

#include "lib/format/pickle.h"

#define SAE_PT_MAX_NAME 1024 /* bytes of a joined name */

struct sae_pt_prefixed {
    struct sae_pk_value dict; /* names without the prefix; values are borrowed from the pickle */
    struct sae_pk_value *keys;
    char *text;
    bool is_nested; /* some are from below the top */
};

/* On success *out is to be freed. SAE_E_FORMAT: a dict on the way has a key twice, or they are more
 * or deeper than any checkpoint's; SAE_E_NOMEM. */
enum sae_status sae_pt_prefixed_make(struct sae_pt_prefixed *out, const struct sae_pk_value *root,
                                     const char *prefix, struct sae_err *err) SAE_MUST_USE;
/* The same of those on the way to the prefix that do not begin so, under their whole names. */
enum sae_status sae_pt_way_make(struct sae_pt_prefixed *out, const struct sae_pk_value *root,
                                const char *prefix, struct sae_err *err) SAE_MUST_USE;
void sae_pt_prefixed_free(struct sae_pt_prefixed *p); /* zeroes allowed */

#endif
