/* registry.h - the dictionaries that are served, by name, in the order in which they were listed.
 *
 * THREADS  any: one mutex, held for a look into the list. What is found is the finder's to
 * release, listed or not. */
#ifndef SAED_REGISTRY_H
#define SAED_REGISTRY_H

#include "server/handle.h"

struct saed_registry;

enum sae_status saed_registry_create(struct saed_registry **out, struct sae_err *err) SAE_MUST_USE;
void saed_registry_free(struct saed_registry *r); /* nothing is listed any more. NULL allowed */

/* List a dictionary that is ready, or the description of one that is offered, with a reference to
 * it. SAE_E_USAGE: its name is taken; SAE_E_NOMEM. */
enum sae_status saed_registry_add(struct saed_registry *r, struct saed_dict *d,
                                  struct sae_err *err) SAE_MUST_USE;
/* List it in the place of the one of its name; that one's reference is the caller's. NULL: there is
 * none, and it is not listed. */
struct saed_dict *saed_registry_replace(struct saed_registry *r, struct saed_dict *d);
/* Take it off the list; the list's reference is the caller's. NULL: there is none. */
struct saed_dict *saed_registry_remove(struct saed_registry *r, const char *name);
/* A reference of the caller's, or NULL. */
struct saed_dict *saed_registry_find(struct saed_registry *r, const char *name);
/* One after the other: NULL gives the first; `d`, whose reference is taken, the one after it. */
struct saed_dict *saed_registry_next(struct saed_registry *r, struct saed_dict *d);
size_t saed_registry_count(struct saed_registry *r);

#endif
