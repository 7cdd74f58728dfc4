/* pt_groups.h - the dicts of a pickle as groups of entries: the top one and those right below it.
 *
 * Called by pt.c. Holds no state: any thread. */
#ifndef SAE_PT_GROUPS_H
#define SAE_PT_GROUPS_H

#include "lib/load/load.h"
#include "lib/load/pt_storage.h"

#define SAE_PT_MAX_ENTRIES 65536u /* of all groups; more than any checkpoint has */

/* The key as a C string, cut at its limit, but not inside a UTF-8 sequence. False: it is none. */
bool sae_pt_key_name(const struct sae_pk_value *key, char name[SAE_TENSOR_NAME_MAX + 4]);

/* SAE_E_FORMAT names a key that `dict` has twice: Python keeps the last, other readers the first.
 * `what` begins the message. SAE_E_NOMEM. */
enum sae_status sae_pt_check_keys_differ(const struct sae_pk_value *dict, const char *what,
                                         struct sae_err *err) SAE_MUST_USE;

/* List `root`, a dict, and the dicts in it. *groups and each one's entries are owned
 * (sae_pt_groups_free), (*dicts)[g] is the dict of group g, borrowed from the pickle; the array is
 * owned (sae_free) and has room for two more. SAE_E_FORMAT: more dicts or entries than any
 * checkpoint has; SAE_E_NOMEM. */
enum sae_status sae_pt_groups_list(const struct sae_pt_archive *a, const struct sae_pk_value *root,
                                   struct sae_group **groups, const struct sae_pk_value ***dicts,
                                   size_t *n, struct sae_err *err) SAE_MUST_USE;
/* One more, of the dict's entries, called `name`; SAE_E_NOMEM. */
enum sae_status sae_pt_groups_add(const struct sae_pt_archive *a, const struct sae_pk_value *dict,
                                  const char *name, struct sae_group **groups,
                                  const struct sae_pk_value **dicts, size_t *n,
                                  struct sae_err *err) SAE_MUST_USE;
void sae_pt_groups_free(struct sae_group *groups, size_t n); /* NULL allowed */

#endif
